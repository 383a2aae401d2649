"""Episode files as the arrays that training reads."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from training import maps
from visarl.config import PreprocessConfig, SaliencyConfig
from visarl.data.episodes import EpisodeFile
from visarl.errors import DataError
from visarl.preprocess import resize, shrink
from visarl.training_options import Maps

SALIENCY = maps.SALIENCY
CACHE = ".frames"
"""Ending of the folder beside an episode file that keeps its frames decoded and shrunk."""
_DEVICE_SHARE = 0.25
"""Of a GPU's free memory, for frames."""


def taught(path: Path, preprocess: PreprocessConfig | None = None) -> EpisodeFile:
    """The episode file, open, to be trained on.

    Raises:
        DataError: it cannot be used (see `EpisodeFile`), or it is one to test on.
    """
    episodes = EpisodeFile(path, preprocess)
    if episodes.for_evaluation:
        episodes.close()
        raise DataError(
            f"{path}: is to test on, `visarl simulate --evaluation` made it, and nothing may be trained on its scenes; "
            "give one made without --evaluation, or converted from demonstrations"
        )
    return episodes


ESTIMATOR = "estimator"
"""Attribute of depth or normals that a function of the picture has made; the simulator's have none."""


def require_modality(episodes: EpisodeFile, label: str, name: str, group: h5py.Group | None = None) -> None:
    """
    Args:
        label: of the demo, or of all its frames.
        group: where the pictures are; None takes the demo's control steps.

    Raises:
        DataError: the file has no depth, or no normals, beside these pictures.
    """
    if name not in (episodes.file["data"][label]["obs"] if group is None else group):
        raise DataError(
            f"{episodes.path}: {label} has no {name}; `visarl simulate --modalities {name}` records it, "
            f"`visarl label --estimators {name}=package.module:function` estimates it"
        )


def picture_sets(episodes: EpisodeFile) -> Iterator[tuple[str, h5py.Group]]:
    """(name, group with `image`) of everything that has pictures: every camera frame where the file has them, beside
    the frames of the control steps."""
    for demo in episodes.demos:
        yield demo, episodes.file["data"][demo]["obs"]
        if episodes.has_frames:
            yield f"{demo} (every frame)", episodes.file["frames"][demo]


@dataclass(frozen=True)
class Wanted:
    """Which frames a pretraining reads, and how."""

    modalities: tuple[str, ...]
    size: int
    """Side at which they are kept [pixels]."""
    maps: Maps = "predicted"
    """Whose saliency maps."""
    saliency: SaliencyConfig = SaliencyConfig()
    """Of oracle maps; their roles are those of the file."""
    seed: int = 0
    """Of shuffled maps."""


class Frames:
    """All frames of some episode files as bytes, decoded and shrunk: mapped from disk, or on a GPU with room for them.

    A modality's frames are (N, s, s, 3) for rgb and normals, (N, s, s) for saliency (the maximum over the roles, so
    that files of tasks with other roles go together) and depth.
    """

    def __init__(self, paths: Sequence[Path], preprocess: PreprocessConfig, wanted: Wanted) -> None:
        """
        Raises:
            DataError: no pictures, a modality that a file does not have, or a file to test on.
        """
        files = [_arrays(path, preprocess, wanted) for path in paths]
        self._arrays = {name: [arrays[name] for arrays in files] for name in wanted.modalities}
        lengths = [len(array) for array in next(iter(self._arrays.values()))]
        self._ends = np.cumsum(lengths)
        if not len(self):
            raise DataError(f"no pictures in {', '.join(map(str, paths))}")
        self._resident: dict[str, torch.Tensor] = {}

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def bytes(self) -> int:
        return sum(array.nbytes for arrays in self._arrays.values() for array in arrays)

    def digest(self) -> str:
        """Short hash of all that is in them."""
        hasher = hashlib.sha256()
        for name, arrays in self._arrays.items():
            for array in arrays:
                hasher.update(f"{name}{array.shape}".encode())
                hasher.update(np.ascontiguousarray(array).data)
        return hasher.hexdigest()[:16]

    def to(self, device: torch.device) -> Frames:
        """Keep them on the device if they are small beside its free memory; a GPU need not wait for the disk then."""
        if device.type == "cuda" and self.bytes < _DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
            everything = np.arange(len(self))
            self._resident = {name: self._gather(name, everything).to(device) for name in self._arrays}
        return self

    def batch(self, chosen: NDArray[np.int64], device: torch.device) -> dict[str, torch.Tensor]:
        """The frames `chosen` (B,) of each modality, uint8 on the device."""
        if self._resident:
            index = torch.from_numpy(chosen).to(device)
            return {name: frames[index] for name, frames in self._resident.items()}
        return {name: self._gather(name, chosen).to(device) for name in self._arrays}

    def _gather(self, name: str, chosen: NDArray[np.int64]) -> torch.Tensor:
        arrays = self._arrays[name]
        files = np.searchsorted(self._ends, chosen, side="right")
        found = np.empty((len(chosen), *arrays[0].shape[1:]), np.uint8)
        for number in np.unique(files):
            rows = files == number
            found[rows] = arrays[number][chosen[rows] - (self._ends[number] - len(arrays[number]))]
        return torch.from_numpy(found)


def _arrays(path: Path, preprocess: PreprocessConfig, wanted: Wanted) -> dict[str, NDArray[np.uint8]]:
    """One file's frames by modality, from its cache where they are in it."""
    with taught(path, preprocess) as episodes:
        content = _file_digest(path)
        # Of the frames between the control steps nothing but the picture and its predicted maps is known.
        every = episodes.has_frames and set(wanted.modalities) <= {"rgb", SALIENCY} and wanted.maps == "predicted"
        found = {}
        for name in wanted.modalities:
            if name == SALIENCY and wanted.maps != "predicted":
                facts = f"{wanted.maps} {wanted.seed} {wanted.saliency}"
                key = f"{wanted.maps}-{hashlib.sha256(facts.encode()).hexdigest()[:8]}"
            else:
                key = f"{name}-every" if every else name
            keep = Path(f"{path}{CACHE}") / f"{content}-{key}-{wanted.size}.npy"
            found[name] = _cached(keep, partial(_decode, episodes, name, wanted, every))
        return found


def _cached(path: Path, make: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """The array in `path`, mapped; made and written where it is not there yet. Frames of another content go."""
    if not path.exists():
        array = make()
        part = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            path.parent.mkdir(exist_ok=True)
            with part.open("wb") as stream:
                np.save(stream, array)
            part.replace(path)
            for old in path.parent.glob("*.npy"):
                if old.name.split("-")[0] != path.name.split("-")[0]:
                    old.unlink(missing_ok=True)
        except OSError:  # a folder that cannot be written, or a full disk: this run has them in memory
            with contextlib.suppress(OSError):
                part.unlink()
            return array
    return np.asarray(np.load(path, mmap_mode="r"))


def _decode(episodes: EpisodeFile, name: str, wanted: Wanted, every: bool) -> NDArray[np.uint8]:
    frames: list[NDArray[np.uint8]] = []
    size = wanted.size
    for label, group in picture_sets(episodes):
        if every != label.endswith(")"):
            continue  # the control steps' frames are among every frame
        if name == "rgb":
            frames.extend(shrink(picture, size) for picture in group["image"])
        elif name == SALIENCY:
            frames.extend(resize(of_roles.max(axis=0), size) for of_roles in _maps(episodes, label, group, wanted))
        else:
            require_modality(episodes, label, name, group)
            frames.extend(resize(picture, size) for picture in group[name])
    return np.stack(frames) if frames else np.zeros((0, size, size), np.uint8)


def _maps(episodes: EpisodeFile, label: str, group: h5py.Group, wanted: Wanted) -> NDArray[np.uint8]:
    if wanted.maps != "predicted":
        config = wanted.saliency
        if wanted.maps == "oracle":
            config = replace(config, roles=maps.true_roles(episodes, label))
        return maps.maps_for(episodes, label, wanted.maps, config, wanted.seed)
    if SALIENCY not in group:
        raise DataError(f"{episodes.path}: {label} has no saliency maps; run `visarl label` on the file first")
    return np.asarray(group[SALIENCY][:])


def _file_digest(path: Path) -> str:
    hasher = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest()[:16]
