"""What may drive the arm in a closed-loop start. Each function builds its agent in the process that uses it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from training.closed_loop import Agent
from visarl.bundle import Bundle, load_bundle, load_part
from visarl.config import ESTIMATED, PolicyConfig, from_dict
from visarl.contract import get_contract
from visarl.data.annotations import Click, render
from visarl.data.episodes import EpisodeFile
from visarl.errors import ConfigError
from visarl.estimators import load_estimators
from visarl.inference import EncoderModel, Perception, Policy
from visarl.models.lstm_policy import Doer, LSTMPolicy
from visarl.normalisation import Normalisation
from visarl.robot.interfaces import ArmState, Frame
from visarl.sim.modalities import modality_pictures
from visarl.sim.tabletop import SceneTruth, Simulator

Sees = Literal["state", "nothing"]
"""What a diagnostic is told beside proprioception: where object and goal truly are, or nothing."""

Maps = Literal["predicted", "oracle", "shuffled"]
"""Whose saliency maps an agent looks at: the bundle's model's; where the simulator knows things to be (what a perfect
model would give); those of a frame drawn at random from the demonstrations (what maps without meaning give)."""


class BundleAgent(Agent):
    """A bundle as the graph runs it: picture → saliency → embedding → action."""

    def __init__(
        self, bundle: Path, engine: str = "auto", estimators: Sequence[str] = (), smoothing: float = 0.0
    ) -> None:
        """
        Args:
            estimators: of depth or normals, see `visarl.estimators`. What the encoder sees and none of them makes, the
                simulator renders, as `visarl simulate` does.
            smoothing: see `visarl.inference.SaliencyModel`.
        """
        loaded = load_bundle(bundle)
        config = loaded.config
        made = dict(load_estimators(estimators))
        wanted = config.encoder.inputs if config.needs_encoder else ()
        self._senses = [name for name in wanted if name in ESTIMATED and name not in made]
        self._sensed: dict[str, NDArray[np.uint8]] = {}
        made |= {name: lambda _, sense=name: self._sensed[sense] for name in self._senses}  # type: ignore[misc]
        self._preprocess = config.preprocess
        self._perception = Perception(loaded, engine=engine, threads=1, estimators=made, smoothing=smoothing)
        self._policy = Policy(loaded)

    def reset(self) -> None:
        self._perception.reset()
        self._policy.reset()

    def look(self, simulator: Simulator) -> None:
        self._sensed = modality_pictures(simulator, self._senses, self._preprocess)

    def act(self, frame: Frame, state: ArmState, truth: SceneTruth) -> NDArray[np.float64]:
        embedding, _ = self._perception.perceive(frame.image)
        return self._policy.act(embedding, state.proprioception())


class GivenMapsAgent(Agent):
    """A bundle whose maps come from elsewhere than its own model: the controls of a study."""

    def __init__(self, bundle: Path, maps: Maps, episodes: Path, engine: str = "auto") -> None:
        """
        Args:
            bundle: whose encoder and policy.
            maps: oracle or shuffled.
            episodes: labelled episode file of the task; shuffled maps are drawn from it.
        """
        if maps == "predicted":
            raise ConfigError("maps 'predicted': this agent is given maps from elsewhere; use a BundleAgent")
        self._bundle = load_bundle(bundle)
        self._encoder = EncoderModel(self._bundle, engine=engine, threads=1)
        self._policy = Policy(self._bundle)
        self._pool = _pool(episodes) if maps == "shuffled" else None

    def reset(self) -> None:
        self._policy.reset()
        self._rng: np.random.Generator | None = None

    def act(self, frame: Frame, state: ArmState, truth: SceneTruth) -> NDArray[np.float64]:
        if self._pool is None:
            maps = true_maps(truth, self._bundle)
        else:
            if self._rng is None:  # by the scene: a start's outcome must not depend on which came before it
                self._rng = np.random.default_rng([truth.seed, 3])
            maps = self._pool[self._rng.integers(len(self._pool))].astype(np.float32) / 255
        return self._policy.act(self._encoder.embed(frame.image, maps), state.proprioception())


def true_maps(truth: SceneTruth, bundle: Bundle) -> NDArray[np.float32]:
    """What a perfect saliency model would say: a click's Gaussian at each visible role, (R, S, S)."""
    config, (left, top, width, height) = bundle.config.saliency, bundle.config.preprocess.crop
    clicks = []
    for role in config.roles:
        if role in truth.uv and truth.visible[role]:
            u, v = truth.uv[role]
            clicks.append(Click((u - left) / width, (v - top) / height, role))
    inside = [click for click in clicks if 0 <= click.u < 1 and 0 <= click.v < 1]
    return render(inside, config.roles, config.image_size, config.sigma)


def _pool(episodes: Path) -> NDArray[np.uint8]:
    with EpisodeFile(episodes) as file:
        return np.concatenate([file.load(demo, ["saliency"])["saliency"] for demo in file.demos])


class DiagnosticAgent(Agent):
    """The policy without pictures: on the true positions of things, or on proprioception alone."""

    def __init__(self, part: Path) -> None:
        weights, description = load_part(part)
        self._roles: list[str] = description["roles"]
        self._normalisation = Normalisation(**description["normalisation"])
        self._contract = get_contract(description["arm"])
        sizes = self._normalisation.state_dim, len(self._contract.action)
        model = LSTMPolicy(from_dict(PolicyConfig, description["policy"]), *sizes).eval()
        model.load_state_dict(weights)
        self._doer = Doer(model)

    def reset(self) -> None:
        self._doer.reset()

    def act(self, frame: Frame, state: ArmState, truth: SceneTruth) -> NDArray[np.float64]:
        seen = np.concatenate([truth.positions[role] for role in self._roles] or [np.zeros(0)])
        inputs = torch.from_numpy(self._normalisation.state(seen, state.proprioception(), self._contract))
        return self._normalisation.action(self._doer.act(inputs).numpy())
