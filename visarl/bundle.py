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
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visarl.config import ModelConfig, from_dict, to_dict
from visarl.contract import VERSION, ArmContract, get_contract
from visarl.errors import BundleError, ConfigError, ContractError
from visarl.normalisation import Normalisation
from visarl.preprocess import fingerprint

if TYPE_CHECKING:  # a launcher reads a bundle's id and task without torch
    from torch import Tensor

BUNDLE_FILE, CARD_FILE = "bundle.json", "README.md"
PARTS = ("saliency", "encoder", "readout", "policy")
_DESCRIPTION = "visarl"  # key of a part's description in the safetensors metadata


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
    needed = needed_parts(config)
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


def needed_parts(config: ModelConfig) -> set[str]:
    """The parts without which a bundle of this configuration cannot run."""
    idle = {"saliency": not config.needs_saliency, "encoder": not config.needs_encoder}
    return {part for part in PARTS if not idle.get(part, False)}


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
        normalisation = Normalisation(**content["normalisation"])
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
    """One model's weights in a file of their own, with a description in plain JSON values. Atomic.

    Raises:
        BundleError: the disk is full; the file that was there stays.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, tensor in weights.items():
        tensor = tensor.detach().cpu().contiguous().clone()  # safetensors refuses tensors that share memory
        # Vectors stay: they are small, and the variances of batch norms leave the range of 16 bits.
        if half and tensor.dtype == torch.float32 and tensor.ndim >= 2 and (tensor.abs() < 6e4).all():
            tensor = tensor.half()
        tensors[name] = tensor
    partial = path.with_name(path.name + ".partial")
    try:
        save_file(tensors, partial, metadata={_DESCRIPTION: json.dumps(dict(description), sort_keys=True)})
        os.replace(partial, path)
    except (SafetensorError, OSError) as error:
        partial.unlink(missing_ok=True)
        raise BundleError(f"{path}: not written ({error}); make room and give the same command again") from error


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
            if part not in needed_parts(config):
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
