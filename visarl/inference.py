"""From a camera frame to an action, as on the robot: picture → saliency maps → embedding → action.

Training, labelling, evaluation and the nodes all use this code, so that what was learnt is what runs.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from visarl.bundle import Bundle
from visarl.config import ESTIMATED, MODALITY_CHANNELS
from visarl.engines import make_engine
from visarl.errors import BundleError, ConfigError, ContractError
from visarl.estimators import Estimator, require
from visarl.models.lstm_policy import Doer, LSTMPolicy
from visarl.models.multimae import Encoder
from visarl.models.readout import Readout
from visarl.models.saliency import Predict, build_saliency
from visarl.preprocess import crop, modality_input, saliency_input, shrink, to_input, unit_maps
from visarl.tracking import Tracker


class SaliencyModel:
    """Camera frames to saliency maps."""

    def __init__(self, bundle: Bundle, engine: str = "auto", threads: int = 1, smoothing: float = 0.0) -> None:
        """
        Args:
            bundle: whose model.
            engine: one of `engines.ENGINES`.
            threads: of the engine. Torch has one pool a process: the last setting counts for all.
            smoothing: share of the maps before that `follow` keeps: steadier maps, which lag behind.

        Raises:
            BundleError: the bundle has no saliency model, or weights that do not fit its configuration.
            ConfigError: no such engine, or it is not installed; a share out of range.
        """
        if not 0 <= smoothing < 1:
            raise ConfigError(f"smoothing: expected a share of at least 0 and less than 1, found {smoothing}")
        self._smoothing = smoothing
        self.reset()
        self._preprocess, self._config = bundle.config.preprocess, bundle.config.saliency
        model = Predict(load_module(build_saliency(self._config), bundle, "saliency"))
        size = self._config.image_size
        self._run = make_engine(model, [(3, size, size)], engine, threads, f"{bundle.id}-saliency")

    def saliency(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Camera frame (H, W, 3) uint8 RGB → maps (roles, S, S) in [0, 1]; with smoothing, of a video's next frame.

        Raises:
            ContractError: a frame of another size or encoding.
        """
        return self.follow(self.saliency_batch(crop(image, self._preprocess)[None]))[0]

    def reset(self) -> None:
        """Another video begins."""
        self._before: NDArray[np.float32] | None = None

    def follow(self, maps: NDArray[np.float32]) -> NDArray[np.float32]:
        """The next frame's maps (1, roles, S, S), mixed with what was before."""
        if self._smoothing and self._before is not None:
            maps = (self._smoothing * self._before + (1 - self._smoothing) * maps).astype(np.float32)
        self._before = maps
        return maps

    def saliency_batch(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Cropped pictures (N, s, s, 3) uint8 → maps (N, roles, S, S)."""
        small = np.stack([shrink(picture, self._config.image_size) for picture in pictures])
        return self._run(to_input(small)).numpy()


class EncoderModel:
    """Camera frames and their saliency maps to embeddings."""

    def __init__(
        self,
        bundle: Bundle,
        engine: str = "auto",
        threads: int = 1,
        estimators: Mapping[str, Estimator] | None = None,
    ) -> None:
        """As `SaliencyModel`.

        Args:
            estimators: of the modalities beside rgb and saliency that the encoder sees, see `visarl.estimators`.

        Raises:
            ConfigError: one of them is missing.
        """
        config = bundle.config
        self._estimators = dict(estimators or {})
        require(config.encoder.inputs, self._estimators)
        self._preprocess, self._config, self._roles = config.preprocess, config.encoder, config.saliency.roles
        self.needs_saliency = config.needs_saliency
        self._needs_encoder = config.needs_encoder
        readout = Readout(config.readout, config.saliency.roles, config.encoder, config.saliency.sigma)
        self._readout = load_module(readout, bundle, "readout")
        size = config.encoder.image_size
        shapes = [(MODALITY_CHANNELS[name], size, size) for name in config.encoder.inputs]
        if self._needs_encoder:
            encoder = load_module(Encoder(config.encoder), bundle, "encoder")
            self._run = make_engine(encoder, shapes, engine, threads, f"{bundle.id}-encoder")

    @property
    def dim(self) -> int:
        """Length of the embedding."""
        return self._readout.dim

    def embed(self, image: NDArray[np.uint8], maps: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Camera frame (H, W, 3) uint8 RGB and its maps (roles, S, S) → embedding (dim,).

        Args:
            image: the frame.
            maps: of the same frame; not looked at if the encoder sees no saliency.

        Raises:
            ContractError: a frame of another size or encoding, or maps that are missing, misshapen or not finite.
        """
        batch = None if maps is None else np.asarray(maps)[None]
        return self.embed_batch(crop(image, self._preprocess)[None], batch)[0]

    def embed_batch(self, pictures: NDArray[np.uint8], maps: NDArray[Any] | None = None) -> NDArray[np.float32]:
        """Cropped pictures (N, s, s, 3) uint8 and maps (N, roles, S, S), float32 or uint8 → embeddings (N, dim)."""
        points, tokens = None, None
        if self.needs_saliency:
            maps = self._check_maps(maps, len(pictures))
            points = torch.from_numpy(unit_maps(maps))
        if self._needs_encoder:
            tokens = self._tokens(pictures, maps)
        with torch.inference_mode():
            return self._readout(tokens, points).numpy()

    def _tokens(self, pictures: NDArray[np.uint8], maps: NDArray[Any] | None) -> Tensor:
        size = self._config.image_size
        inputs = {"rgb": to_input(np.stack([shrink(picture, size) for picture in pictures]))}
        if maps is not None and self.needs_saliency:
            inputs["saliency"] = saliency_input(maps, size)
        for name in self._config.inputs:
            if name in ESTIMATED:
                estimated = np.stack([self._estimators[name](picture) for picture in pictures])
                inputs[name] = modality_input(name, estimated, size)
        return self._run(*(inputs[name] for name in self._config.inputs))

    def _check_maps(self, maps: NDArray[Any] | None, count: int) -> NDArray[Any]:
        expected = (count, len(self._roles))
        if maps is None or maps.ndim != 4 or maps.shape[:2] != expected or maps.shape[2] != maps.shape[3]:
            found = "none" if maps is None else str(maps.shape)
            raise ContractError(f"saliency maps: expected one for each of {self._roles}, (N, R, S, S), found {found}")
        if not np.isfinite(maps).all():
            raise ContractError("saliency maps: expected finite numbers, found NaN or Inf")
        return maps


class Perception:
    """Both models on one frame: what the fused node and the evaluation run."""

    def __init__(
        self,
        bundle: Bundle,
        engine: str = "auto",
        threads: int = 1,
        estimators: Mapping[str, Estimator] | None = None,
        smoothing: float = 0.0,
    ) -> None:
        """As `SaliencyModel` and `EncoderModel`."""
        self._preprocess = bundle.config.preprocess
        self._saliency = SaliencyModel(bundle, engine, threads, smoothing) if bundle.config.needs_saliency else None
        self._encoder = EncoderModel(bundle, engine, threads, estimators)

    def reset(self) -> None:
        """Another video begins."""
        if self._saliency is not None:
            self._saliency.reset()

    def perceive(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Camera frame (H, W, 3) uint8 RGB → embedding (dim,) and maps (roles, S, S), None if nobody needs them.

        Raises:
            ContractError: a frame of another size or encoding.
        """
        pictures = crop(image, self._preprocess)[None]
        maps = None if self._saliency is None else self._saliency.follow(self._saliency.saliency_batch(pictures))
        return self._encoder.embed_batch(pictures, maps)[0], None if maps is None else maps[0]


class Policy:
    """Embeddings and proprioception to actions. Remembers the episode; `reset` forgets it."""

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        """
        Raises:
            BundleError: weights that do not fit the configuration.
        """
        torch.set_num_threads(threads)
        self._normalisation, self._contract = bundle.normalisation, bundle.contract
        self._dim = len(bundle.normalisation.embedding_mean)
        state_dim = bundle.normalisation.state_dim
        model = LSTMPolicy(bundle.config.policy, state_dim, len(self._contract.action))
        self._doer = Doer(load_module(model, bundle, "policy"))
        self.reset()

    def reset(self) -> None:
        """Forget: an episode begins."""
        self._doer.reset()
        self._tracker = Tracker(self._normalisation.camera)

    def act(self, embedding: ArrayLike, proprioception: ArrayLike) -> NDArray[np.float64]:
        """The action (7,) of this control period in physical units, within the contract's bounds.

        A refused observation leaves the memory as it was.

        Raises:
            ContractError: another size, NaN or Inf, a proprioception outside the contract's bounds, or a hand where the
                camera cannot see it.
        """
        proprioception = self._contract.proprioception.validate(proprioception)
        embedding = np.asarray(embedding, dtype=np.float64)
        if embedding.shape != (self._dim,):
            raise ContractError(
                f"embedding: expected {self._dim} numbers, found shape {embedding.shape}; "
                "encoder and policy must run the same bundle"
            )
        if not np.isfinite(embedding).all():
            raise ContractError("embedding: expected finite numbers, found NaN or Inf")
        tracker = copy.copy(self._tracker)
        embedding = self._normalisation.track(tracker, embedding, proprioception, self._contract)
        state = self._normalisation.state(embedding, proprioception, self._contract)
        if not np.isfinite(state).all():  # the memory would never get rid of it
            raise ContractError(
                "policy input: expected finite numbers, found NaN; the hand is where no picture shows it, in the plane "
                "of the lens: move the arm back before the camera"
            )
        self._tracker = tracker
        action = self._normalisation.action(self._doer.act(torch.from_numpy(state)).numpy())
        return action.clip(self._contract.action.low, self._contract.action.high)


def load_module(module: Any, bundle: Bundle, part: str) -> Any:
    """`module` with the weights of the bundle's `part`, ready for use.

    Raises:
        BundleError: they are missing, or do not fit the configuration.
    """
    try:
        module.load_state_dict(bundle.weights(part))
    except RuntimeError as error:
        raise BundleError(f"{bundle.folder}: {part} does not fit the bundle's configuration: {error}") from error
    return module.eval().requires_grad_(False)
