"""Episode files: HDF5 in robomimic's schema, with stamps, physical units and our contract beside it.

/data                 total, env_args; visarl_contract, arm, preprocess (fingerprint), preprocess_config; of
                      `visarl simulate` also seeds, policy, perturbation, disturbance, commit, evaluation (to test on)
/data/demo_<i>        num_samples; task, bag, label and how well the stamps agreed
    actions           (T, A) float32 in [-1, 1]       actions_physical  (T, A) float32 [m, rad] a period
    stamp             (T,) int64 [ns] of the action   rewards, dones (T,)   states (T, D)
    obs/image         (T, S, S, 3) uint8 RGB          obs/proprioception (T, D) float32
    obs/depth         (T, S, S) uint8 and obs/normals (T, S, S, 3) uint8, where `visarl simulate` was told to
    obs/image_stamp, obs/state_stamp (T,) int64 [ns]
    truth/            simulator only: positions (T, N, 3) [m], uv (T, N, 2) shares of obs/image, visible (T, N);
                      attribute names
/frames/demo_<i>      every camera frame, where asked for: image (F, S, S, 3) uint8, stamp (F,)
/mask/<name>          names of the demos for training and validation
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from visarl.config import PreprocessConfig, from_dict, to_dict
from visarl.contract import CONTROL_RATE_HZ, VERSION, ArmContract, get_contract
from visarl.data.bags import PARTIAL
from visarl.errors import DataError, suggest

MARGIN_BYTES = 1 << 20
"""Room for HDF5's own tables beside the data."""

NUMBERS_BYTES = 1000
"""Upper bound of what a step takes beside its pictures."""

GYM_ENVIRONMENT = 2
"""robomimic's `env_type` of an environment that is no simulator of its own."""


def normalise(actions: ArrayLike, contract: ArmContract) -> NDArray[np.float64]:
    """Physical actions (..., A) as shares of the contract's bounds, not clipped."""
    low, high = contract.action.low, contract.action.high
    return 2 * (np.asarray(actions, dtype=np.float64) - low) / (high - low) - 1


def demo_number(name: str) -> int:
    """robomimic's order of the demos."""
    return int(name[5:])


class EpisodeFile:
    """An episode file, open for reading; `edit` opens one for adding observations. A context manager.

    Raises:
        DataError: missing, damaged, not ours, of another contract, or, where `preprocess` is given, made with another
            preprocessing.
    """

    def __init__(self, path: Path, preprocess: PreprocessConfig | None = None, mode: str = "r") -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise DataError(f"{self.path}: no such episode file; `visarl convert` makes one from bags")
        if self.path.is_dir():
            raise DataError(
                f"{self.path}: is a folder; expected an episode file, which `visarl convert` makes from bags"
            )
        try:
            self.file = h5py.File(self.path, mode)
        except OSError as error:
            raise DataError(f"{self.path}: not a readable HDF5 file ({error}); convert the bags again") from error
        try:
            self._validate(preprocess)
        except (KeyError, IndexError, AttributeError, ValueError, TypeError) as error:
            self.file.close()
            raise DataError(
                f"{self.path}: damaged or incomplete ({type(error).__name__}: {error}); convert the bags again"
            ) from error
        except BaseException:
            self.file.close()
            raise

    def _validate(self, preprocess: PreprocessConfig | None) -> None:
        attributes = self.file["data"].attrs if "data" in self.file else {}
        if "visarl_contract" not in attributes:
            raise DataError(f"{self.path}: expected an episode file of `visarl convert`, found another HDF5 file")
        version = int(attributes["visarl_contract"])
        if version != VERSION:
            raise DataError(
                f"{self.path}: expected contract version {VERSION}, found {version}; convert the bags again"
            )
        self.contract: ArmContract = get_contract(str(attributes["arm"]))
        self.preprocess: PreprocessConfig = from_dict(PreprocessConfig, json.loads(attributes["preprocess_config"]))
        from visarl.preprocess import fingerprint  # imports OpenCV

        expected = fingerprint(preprocess or self.preprocess)
        if attributes["preprocess"] != expected:
            raise DataError(
                f"{self.path}: its pictures were made by the preprocessing {attributes['preprocess']} "
                f"({to_dict(self.preprocess)}), expected {expected} ({to_dict(preprocess or self.preprocess)}); "
                "convert the bags again"
            )
        if not self.demos:
            raise DataError(f"{self.path}: holds no episode; convert the bags again")
        for demo in self.demos:
            self._validate_lengths(demo)
            sizes = {name: self.file["data"][demo][name].shape[1] for name in ("actions", "actions_physical")}
            sizes["proprioception"] = self.file["data"][demo]["obs/proprioception"].shape[1]
            wanted = {"actions": len(self.contract.action), "actions_physical": len(self.contract.action)}
            wanted["proprioception"] = len(self.contract.proprioception)
            if sizes != wanted:
                raise DataError(f"{self.path}: {demo}: expected {wanted} numbers a step, found {sizes}")

    def _validate_lengths(self, demo: str) -> None:
        """That pictures are there, and that every number of the demo belongs to a step."""
        group = self.file["data"][demo]
        steps = int(group.attrs["num_samples"])
        rows = {
            name: len(item) for name, item in (*group.items(), *group["obs"].items()) if isinstance(item, h5py.Dataset)
        }
        wrong = {name: found for name, found in {"image": 0, **rows}.items() if found != steps}
        if wrong:
            raise DataError(
                f"{self.path}: {demo}: expected {steps} steps of everything, found {wrong}; convert the bags again"
            )

    def __enter__(self) -> EpisodeFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.file.close()

    @property
    def demos(self) -> list[str]:
        """Names in robomimic's order, `demo_0` first."""
        return sorted(self.file["data"], key=demo_number)

    @property
    def for_evaluation(self) -> bool:
        """Whether it shows scenes that nothing may be trained on (`visarl simulate --evaluation`)."""
        return bool(self.file["data"].attrs.get("evaluation", False))

    @property
    def total(self) -> int:
        """Control steps in all demos."""
        return int(self.file["data"].attrs["total"])

    def attributes(self, demo: str) -> dict[str, Any]:
        """What is known of a demo: task, bag, label, alignment."""
        return dict(self._demo(demo).attrs)

    def mask(self, name: str) -> list[str]:
        """Demos of the split `name`, `train` or `valid`."""
        masks = self.file.get("mask", {})
        if name not in masks:
            raise DataError(f"{self.path}: no split {name!r}; {suggest(name, masks)}")
        return [value.decode() for value in masks[name][:]]

    def observations(self, demo: str) -> list[str]:
        """Keys below obs/."""
        return sorted(self._demo(demo)["obs"])

    def load(self, demo: str, keys: Iterable[str] | None = None) -> dict[str, Any]:
        """One demo as arrays: everything of the file's description, obs/ without its prefix, and, where the demo has
        it, `truth`: dict of `names` (tuple), `positions`, `uv`, `visible`.

        `keys`: only these, to leave pictures on the disk.
        """
        group = self._demo(demo)
        datasets = {name: item for name, item in group.items() if isinstance(item, h5py.Dataset)}
        datasets.update(group["obs"])
        known = [*datasets, *(["truth"] if "truth" in group else [])]
        wanted = known if keys is None else list(keys)
        for key in wanted:
            if key not in known:
                raise DataError(f"{self.path}: {demo} has no {key!r}; {suggest(key, known)}")
        loaded: dict[str, Any] = {key: datasets[key][:] for key in wanted if key != "truth"}
        if "truth" in wanted:
            truth = group["truth"]
            loaded["truth"] = {
                "names": tuple(json.loads(truth.attrs["names"])),
                **{name: truth[name][:] for name in ("positions", "uv", "visible")},
            }
        return loaded

    def dataset(self, demo: str, key: str) -> h5py.Dataset:
        """One observation left on the disk, for reading a slice at a time."""
        group = self._demo(demo)["obs"]
        if key not in group:
            raise DataError(f"{self.path}: {demo} has no observation {key!r}; {suggest(key, group)}")
        return group[key]

    def frames(self, demo: str) -> tuple[h5py.Dataset, NDArray[np.int64]]:
        """Every camera frame of a demo: (F, S, S, 3) uint8 on the disk, and stamps (F,)."""
        if "frames" not in self.file or demo not in self.file["frames"]:
            raise DataError(f"{self.path}: holds the frames of the control steps only; convert with --every-frame")
        group = self.file["frames"][demo]
        return group["image"], group["stamp"][:]

    @property
    def has_frames(self) -> bool:
        """Whether `frames` works."""
        return "frames" in self.file

    def add_observation(self, demo: str, key: str, shape: tuple[int, ...], dtype: Any) -> h5py.Dataset:
        """A new or replaced dataset obs/`key` of shape (T, *shape), stored step by step, for the caller to fill.

        Only in a file that `edit` opened. Raises OSError, which `edit` explains, if the disk has no room for it.
        """
        return self.add_rows(self._demo(demo)["obs"], key, (int(self._demo(demo).attrs["num_samples"]), *shape), dtype)

    def add_rows(self, group: h5py.Group, key: str, shape: tuple[int, ...], dtype: Any) -> h5py.Dataset:
        """The same for any group of the file, such as one below /frames; the rows count in `shape`."""
        reserve(self.file, math.prod(shape) * np.dtype(dtype).itemsize)
        if key in group:
            del group[key]
        return new_dataset(group, key, shape, dtype)

    def _demo(self, demo: str) -> h5py.Group:
        if demo not in self.file["data"]:
            raise DataError(f"{self.path}: no demo {demo!r}; {suggest(demo, self.file['data'])}")
        return self.file["data"][demo]


def new_dataset(group: h5py.Group, key: str, shape: tuple[int, ...], dtype: Any) -> h5py.Dataset:
    """A dataset stored and compressed step by step, so that one step can be read without its neighbours."""
    # LZF: training reads far more often than conversion writes, and it is the cheapest to undo.
    return group.create_dataset(key, shape, dtype=dtype, chunks=(1, *shape[1:]), compression="lzf")


def reserve(file: h5py.File, byte_count: int) -> None:
    """Claim room for that much more data, before HDF5 needs it: the library crashes where a write fails.

    What is claimed too much is given back when the file is closed.

    Raises:
        OSError: the disk has no room.
    """
    with open(file.filename, "r+b") as stream:
        os.posix_fallocate(stream.fileno(), 0, file.id.get_filesize() + byte_count + MARGIN_BYTES)


@contextmanager
def create(path: Path) -> Iterator[h5py.File]:
    """A new HDF5 file that becomes `path` if the block succeeds; otherwise the old file stays as it was.

    Raises:
        DataError: the folder cannot be written or the disk is full.
    """
    with replacing(path) as temporary:
        with temporary.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, MARGIN_BYTES)
        with h5py.File(temporary, "w") as file:
            reserve(file, 0)
            yield file


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path that becomes `path` if the block succeeds; otherwise the old file stays as it was.

    Raises:
        DataError: the folder cannot be written or the disk is full.
    """
    temporary = path.with_name(path.name + PARTIAL)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise DataError(f"{path}: not written, {error.strerror or error}; make room or use another folder") from error
    finally:
        with suppress(OSError):  # where a file takes the folder's place, or nothing may be written
            temporary.unlink()


@contextmanager
def edit(path: Path, preprocess: PreprocessConfig | None = None) -> Iterator[EpisodeFile]:
    """An episode file to add observations to. HDF5 does not survive a kill while writing: a copy is edited, and
    replaces the file at the end."""
    EpisodeFile(path, preprocess).close()
    with replacing(path) as temporary:
        shutil.copyfile(path, temporary)
        with EpisodeFile(temporary, preprocess, mode="r+") as episodes:
            yield episodes
        h5py.File(temporary, "r+").close()  # gives back what `reserve` claimed unseen by the handle that was open


def write_header(file: h5py.File, contract: ArmContract, preprocess: PreprocessConfig) -> h5py.Group:
    """The group /data with what a reader checks first; `finish` adds the rest."""
    from visarl.preprocess import fingerprint

    data = file.create_group("data")
    data.attrs["visarl_contract"] = VERSION
    data.attrs["arm"] = contract.name
    data.attrs["preprocess"] = fingerprint(preprocess)
    data.attrs["preprocess_config"] = json.dumps(to_dict(preprocess))
    return data


def write_steps(
    group: h5py.Group,
    contract: ArmContract,
    *,
    stamps: ArrayLike,
    actions: ArrayLike,
    states: ArrayLike,
    image_stamps: ArrayLike,
    state_stamps: ArrayLike,
    success: bool,
) -> None:
    """All of a demo but its pictures and its truth, T steps.

    Args:
        group: the demo's, new.
        actions: (T, A) physical; cut to the contract's bounds.
        states: (T, D) proprioception.
        stamps, image_stamps, state_stamps: (T,) [ns].
    """
    wanted = np.asarray(actions, dtype=np.float64)
    steps = len(wanted)
    end = np.zeros(steps, np.float32)
    end[-1] = 1.0
    group.attrs["num_samples"] = steps
    group["actions"] = np.clip(normalise(wanted, contract), -1, 1).astype(np.float32)
    group["actions_physical"] = np.clip(wanted, contract.action.low, contract.action.high).astype(np.float32)
    group["rewards"] = end * float(success)
    group["dones"] = end.astype(np.int64)
    for key in ("states", "obs/proprioception"):
        group[key] = np.asarray(states, dtype=np.float32)
    for key, found in (("stamp", stamps), ("obs/image_stamp", image_stamps), ("obs/state_stamp", state_stamps)):
        group[key] = np.asarray(found, dtype=np.int64)


def write_truth(
    group: h5py.Group,
    preprocess: PreprocessConfig,
    *,
    names: Iterable[str],
    positions: ArrayLike,
    uv: ArrayLike,
    visible: ArrayLike,
) -> None:
    """What the simulator knew of a demo's T steps, of N things.

    Args:
        group: the demo's.
        positions: (T, N, 3) [m].
        uv: (T, N, 2), shares of the camera's frame; they are kept as shares of the cropped picture.
        visible: (T, N).
    """
    truth = group.create_group("truth")
    left, top, width, height = preprocess.crop
    truth.attrs["names"] = json.dumps(list(names))
    truth["positions"] = np.asarray(positions, dtype=np.float32)
    truth["uv"] = ((np.asarray(uv, dtype=np.float64) - [left, top]) / [width, height]).astype(np.float32)
    truth["visible"] = np.asarray(visible, dtype=bool)


def finish(file: h5py.File, validation_share: float) -> None:
    """Totals, environment and the split into training and validation, once all demos are in."""
    data = cast(h5py.Group, file["data"])
    demos = sorted(data, key=demo_number)
    tasks = sorted({str(data[demo].attrs["task"]) for demo in demos})
    data.attrs["total"] = sum(int(data[demo].attrs["num_samples"]) for demo in demos)
    data.attrs["env_args"] = json.dumps(
        {
            "env_name": ",".join(tasks),
            "env_type": GYM_ENVIRONMENT,
            "env_kwargs": {"control_rate_hz": CONTROL_RATE_HZ, "arm": str(data.attrs["arm"])},
        }
    )
    # At least one of each where there are two demos; spread over the session, in which light and habit drift.
    count = min(len(demos) - 1, max(1, round(validation_share * len(demos)))) if validation_share > 0 else 0
    valid = {demos[int((i + 0.5) * len(demos) / count)] for i in range(count)}
    for name, chosen in (("train", [d for d in demos if d not in valid]), ("valid", sorted(valid, key=demo_number))):
        file.create_dataset(f"mask/{name}", data=np.array([d.encode() for d in chosen], dtype="S16"))
