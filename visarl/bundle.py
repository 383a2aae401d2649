"""A bundle: the folder that travels from training to the robot. All that defines the function from frame to action.

`bundle.json` holds the configuration, the normalisation, metrics, provenance and the hash of every file of weights;
the weights are safetensors, never pickles. Whatever does not fit is refused, with a sentence that says what to do.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from visarl.aim import SCALES, Tracker, aim
from visarl.config import ModelConfig, from_dict, to_dict
from visarl.contract import VERSION, ArmContract, get_contract
from visarl.errors import BundleError, ConfigError, ContractError
from visarl.preprocess import fingerprint
from visarl.robot.kinematics import tool_position

if TYPE_CHECKING:  # a launcher reads a bundle's id and task without torch
    from torch import Tensor

BUNDLE_FILE, CARD_FILE = "bundle.json", "README.md"
PARTS = ("saliency", "encoder", "readout", "policy")
CLIP = 10.0
"""Normalised observations are cut here: a keypoint that gets lost must not drown all else."""

AIM_SIZE = 2 * (1 + len(SCALES))

_DESCRIPTION = "visarl"  # key of a part's description in the safetensors metadata


@dataclass(frozen=True, eq=False)
class Normalisation:
    """What the policy sees has zero mean and unit deviation; what it says is in [-1, 1]."""

    proprioception_mean: NDArray[np.float64]
    proprioception_std: NDArray[np.float64]
    embedding_mean: NDArray[np.float64]
    embedding_std: NDArray[np.float64]
    tool_mean: NDArray[np.float64]
    """(3,) of the pinch point that follows from the joint positions [m]"""
    tool_std: NDArray[np.float64]
    action_scale: NDArray[np.float64]
    """Physical action = policy's output * scale."""
    camera: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """(12,) projection of the base frame into the picture (`visarl.aim`); empty where the readout has no keypoints"""
    targets: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """(K,) where in the embedding the keypoints to aim at begin, each x, y, confidence"""

    def __post_init__(self) -> None:
        for item in fields(self):
            value = np.asarray(getattr(self, item.name), dtype=np.float64)
            object.__setattr__(self, item.name, value)  # the dataclass is frozen for everybody else
            if value.ndim != 1 or not np.isfinite(value).all():
                raise ContractError(f"normalisation.{item.name}: expected finite numbers in a row, found {value}")
            if item.name.endswith(("std", "scale")) and (value <= 0).any():
                raise ContractError(f"normalisation.{item.name}: expected numbers above 0, found {value}")
        if len(self.camera) != (12 if len(self.targets) else 0):
            raise ContractError(f"normalisation.camera: expected 12 numbers if there are targets, found {self.camera}")
        for name in ("proprioception", "embedding", "tool"):
            sizes = len(getattr(self, f"{name}_mean")), len(getattr(self, f"{name}_std"))
            if sizes[0] != sizes[1]:
                raise ContractError(f"normalisation: {sizes[0]} means but {sizes[1]} deviations of the {name}")

    @property
    def state_dim(self) -> int:
        """Length of the policy's input."""
        known = self.embedding_dim + len(self.proprioception_mean) + len(self.tool_mean)
        return known + AIM_SIZE * len(self.targets)

    @property
    def embedding_dim(self) -> int:
        """How much of the embedding the policy sees: where it has targets, not the effector's keypoint before them.

        The joints tell better where the hand is: in new scenes the predicted peak is off by up to a few centimetres,
        and a policy that saw it would follow it.
        """
        return len(self.embedding_mean) - self._skipped

    @property
    def _skipped(self) -> int:
        return int(self.targets[0]) if len(self.targets) else 0

    def state(self, embedding: ArrayLike, proprioception: ArrayLike, contract: ArmContract) -> NDArray[np.float32]:
        """(..., E) and (..., P) as the policy's input (..., state_dim): normalised, cut at `CLIP`.

        Behind embedding and proprioception stands what follows from them by known geometry, which ten demonstrations
        are too few to learn: where the joints put the hand (3), and from there to each keypoint (6 each).
        """
        embedding, tool = np.asarray(embedding, dtype=np.float64), tool_position(contract, proprioception)
        parts = (
            ((embedding - self.embedding_mean) / self.embedding_std)[..., self._skipped :],
            (np.asarray(proprioception, dtype=np.float64) - self.proprioception_mean) / self.proprioception_std,
            (tool - self.tool_mean) / self.tool_std,
            *(aim(self.camera, tool, embedding[..., i : i + 3]) for i in self.targets.astype(int)),
        )
        return np.concatenate(parts, axis=-1).clip(-CLIP, CLIP).astype(np.float32)

    def track(
        self, tracker: Tracker, embedding: ArrayLike, proprioception: ArrayLike, contract: ArmContract
    ) -> NDArray[np.float64]:
        """(E,) with the keypoints that are aimed at where `tracker` believes them; one call a control period."""
        embedding = np.array(embedding, dtype=np.float64)
        if len(self.targets):
            index = self.targets.astype(int)[:, None] + np.arange(3)
            embedding[index] = tracker.update(tool_position(contract, proprioception), embedding[index])
        return embedding

    def action(self, output: ArrayLike) -> NDArray[np.float64]:
        """The policy's output (..., A) in physical units; what leaves [-1, 1] is cut."""
        return np.asarray(output, dtype=np.float64).clip(-1.0, 1.0) * self.action_scale


@dataclass(frozen=True, eq=False)
class Bundle:
    """A verified bundle. The weights are read when asked for."""

    folder: Path
    id: str
    """12 hex digits of all that defines the function, so not of metrics, provenance and card."""
    config: ModelConfig
    task: str
    normalisation: Normalisation
    metrics: dict[str, Any]
    provenance: dict[str, Any]

    @property
    def contract(self) -> ArmContract:
        return get_contract(self.config.arm)

    def weights(self, part: str) -> dict[str, Tensor]:
        """The state dict of a part, float32 however it is stored.

        Raises:
            BundleError: the bundle has no such part.
        """
        weights, _ = load_part(self.folder / f"{part}.safetensors")
        return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}


def save_bundle(
    folder: Path,
    *,
    config: ModelConfig,
    task: str,
    parts: Mapping[str, Mapping[str, Tensor]],
    normalisation: Normalisation,
    metrics: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    card: str = "",
    half: bool = False,
) -> Bundle:
    """Write a bundle and read it back. Either all of it is there afterwards or what was there before.

    Args:
        folder: replaced if it is a bundle.
        parts: state dicts of encoder, readout and policy, and of saliency where the configuration needs it.
        metrics, provenance: plain JSON values: what was measured; command, commit, seed, duration.
        card: the README; one line without it.
        half: store matrices in 16 bits.

    Raises:
        BundleError: a part is missing or unknown, or `folder` is something else than a bundle.
    """
    folder = Path(folder).resolve()
    needed = set(PARTS) - (set() if config.needs_saliency else {"saliency"})
    if not needed <= set(parts) <= set(PARTS):
        raise BundleError(f"{folder}: a bundle needs the parts {sorted(needed)}, given {sorted(parts)}")
    if folder.exists() and not (folder / BUNDLE_FILE).exists() and any(folder.iterdir()):
        raise BundleError(f"{folder} is no bundle and not empty, so it is not replaced; choose another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for name, weights in parts.items():
            save_part(new / f"{name}.safetensors", weights, {}, half=half)
        content = {
            "contract": VERSION,
            "arm": config.arm,
            "task": task,
            "config": to_dict(config),
            "preprocess": fingerprint(config.preprocess),
            "normalisation": {f.name: getattr(normalisation, f.name).tolist() for f in fields(Normalisation)},
            "metrics": dict(metrics or {}),
            "provenance": dict(provenance or {}),
            "files": {f"{name}.safetensors": _sha256(new / f"{name}.safetensors") for name in sorted(parts)},
        }
        content["id"] = _identity(content)
        (new / BUNDLE_FILE).write_text(json.dumps(content, indent=1) + "\n")
        (new / CARD_FILE).write_text(card or f"# A ViSaRL bundle for {task}\n")
        new.chmod(0o755)  # mkdtemp's folder is for the owner alone
        load_bundle(new)
        _exchange(new, folder)
    finally:
        if new.exists():
            shutil.rmtree(new)
    return load_bundle(folder)


def _exchange(new: Path, folder: Path) -> None:
    """Put `new` where `folder` is, or leave everything as it was: also when interrupted between the two moves."""
    if not folder.exists():
        os.replace(new, folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent)) / folder.name
    try:
        os.replace(folder, old)
        os.replace(new, folder)
    except BaseException:
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        raise
    finally:
        if folder.exists():
            shutil.rmtree(old.parent)


def load_bundle(folder: Path | str, arm: str | None = None) -> Bundle:
    """Read and verify a bundle.

    Args:
        folder: the bundle.
        arm: name of the arm that it shall drive; any without it.

    Raises:
        BundleError: missing, damaged, or made under another contract, preprocessing or arm.
    """
    folder = Path(folder)
    path = folder / BUNDLE_FILE
    if not path.is_file():
        raise BundleError(f"{folder} is no bundle: it has no {BUNDLE_FILE}; give the folder that training wrote")
    try:
        content = json.loads(path.read_text())
        version = content["contract"]
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path}: damaged ({error!r}); copy the bundle again") from error
    if version != VERSION:
        raise BundleError(
            f"{folder}: made under contract version {version}, this is version {VERSION}; "
            "train it again, or use the ViSaRL version that made it"
        )
    try:
        config = from_dict(ModelConfig, content["config"], "config")
        normalisation = Normalisation(**{f.name: content["normalisation"][f.name] for f in fields(Normalisation)})
        bundle = Bundle(
            folder=folder,
            id=_identity(content),
            config=config,
            task=content["task"],
            normalisation=normalisation,
            metrics=content["metrics"],
            provenance=content["provenance"],
        )
        made_for, expected_print, files = content["arm"], content["preprocess"], dict(content["files"])
        contract = bundle.contract
    except (ConfigError, ContractError) as error:
        raise BundleError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path}: damaged or incomplete ({error!r}); copy the bundle again") from error
    if made_for != config.arm or (arm is not None and arm != made_for):
        raise BundleError(
            f"{folder}: made for the arm {made_for!r}, asked to drive {arm or config.arm!r}; "
            "choose a bundle that was trained on that arm"
        )
    if fingerprint(config.preprocess) != expected_print:
        raise BundleError(
            f"{folder}: its pictures were prepared as {expected_print}, this version prepares them as "
            f"{fingerprint(config.preprocess)}; train it again, or use the ViSaRL version that made it"
        )
    _check_sizes(bundle, contract)
    _check_files(folder, files, config)
    if content.get("id") != bundle.id:
        # The normalisation scales what the arm is told: a figure in it must not change unnoticed.
        raise BundleError(
            f"{path}: changed since it was written: its id is {content.get('id')!r}, its content has the id "
            f"{bundle.id!r}; copy the bundle again, or train it again"
        )
    return bundle


def save_part(path: Path, weights: Mapping[str, Tensor], description: Mapping[str, Any], half: bool = False) -> None:
    """One model's weights in a file of their own, with a description in plain JSON values. Atomic."""
    import torch
    from safetensors.torch import save_file

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, tensor in weights.items():
        tensor = tensor.detach().cpu().contiguous().clone()  # safetensors refuses tensors that share memory
        # Vectors stay: they are small, and the variances of batch norms leave the range of 16 bits.
        if half and tensor.dtype == torch.float32 and tensor.ndim >= 2 and tensor.abs().max() < 6e4:
            tensor = tensor.half()
        tensors[name] = tensor
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial, metadata={_DESCRIPTION: json.dumps(dict(description), sort_keys=True)})
    os.replace(partial, path)


def load_part(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights as they are stored, and the description.

    Raises:
        BundleError: no such file, a damaged one, or one that this project did not write.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if path.is_dir():
        raise BundleError(f"{path}: is a folder; expected the file of one part in it, NAME.safetensors")
    if not path.is_file():
        raise BundleError(f"{path}: no such file; train this part, or correct its folder")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (SafetensorError, OSError) as error:
        raise BundleError(f"{path}: damaged ({error}); train this part again or copy it again") from error
    if _DESCRIPTION not in metadata:
        raise BundleError(f"{path}: not written by ViSaRL (no description); give a file that training wrote")
    return weights, json.loads(metadata[_DESCRIPTION])


def _check_sizes(bundle: Bundle, contract: ArmContract) -> None:
    n = bundle.normalisation
    for name, found, expected in (
        ("proprioception", len(n.proprioception_mean), len(contract.proprioception)),
        ("action", len(n.action_scale), len(contract.action)),
    ):
        if found != expected:
            raise BundleError(
                f"{bundle.folder}: its {name} has {found} numbers, the arm {contract.name!r} has {expected}; "
                "train it again"
            )


def _check_files(folder: Path, files: dict[str, str], config: ModelConfig) -> None:
    for part in PARTS:
        name = f"{part}.safetensors"
        if name not in files:
            if part == "saliency" and not config.needs_saliency:
                continue
            raise BundleError(f"{folder}: {BUNDLE_FILE} lists no {name}; copy the bundle again")
        if not (folder / name).is_file():
            raise BundleError(f"{folder}: {name} is missing; copy the whole bundle again")
        if (found := _sha256(folder / name)) != files[name]:
            raise BundleError(
                f"{folder}: {name} is damaged or was exchanged: expected sha256 {files[name][:12]}…, found "
                f"{found[:12]}…; copy the bundle again"
            )


def _identity(content: Mapping[str, Any]) -> str:
    function = {key: value for key, value in content.items() if key not in ("id", "metrics", "provenance")}
    return hashlib.sha256(json.dumps(function, sort_keys=True).encode()).hexdigest()[:12]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
