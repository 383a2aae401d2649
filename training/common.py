"""What every training script needs around its loop: seeds, device, checkpoints, progress, curves."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import platform
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
import torch._dynamo  # now, not lazily in the first optimiser: after MuJoCo's EGL that would crash the process
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from visarl.data.files import writable, write_text
from visarl.errors import ConfigError, VisarlError, out_of_memory
from visarl.training_options import Training

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_NOT_THE_RESULT = ("out", "checkpoint_every", "restart", "device", "threads", "episodes", "bags", "clicks")
"""Options that may differ between the two halves of an interrupted run; inputs are compared by content instead."""

_POSITIVE = (
    "iterations", "saliency_iterations", "encoder_iterations", "policy_iterations", "batch", "lr", "threads", "scenes",
    "every", "demos", "frames", "workers",
)  # fmt: skip
_NOT_NEGATIVE = (
    "seed", "pretraining", "weight_decay", "soft", "jitter", "shapes", "noise", "embedding_noise", "goal_shift",
    "holdout", "select", "diagnostic_starts", "test_demos", "disturbance",
)  # fmt: skip
_SHARES = ("lookalikes", "disguised", "covered", "warmup", "crop")


class TrainingError(VisarlError):
    """A training that cannot go on."""


class Stateful(Protocol):
    """A module, an optimiser or a schedule."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: Any) -> Any: ...


def console() -> Console:
    """Where progress goes: stderr, so that stdout keeps to results."""
    return Console(stderr=True, highlight=False)


def pick_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one.

    Raises:
        ConfigError: CUDA is asked for and absent.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: cuda was asked for, but torch finds no CUDA device; use --device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def prepare(options: Training) -> torch.device:
    """Seed the initial weights, set the threads, choose the device.

    Raises:
        ConfigError: CUDA is asked for and absent, or an option is out of range.
        DataError: `out` cannot be written.
    """
    check_ranges(options)
    writable(options.out, folder=True)
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    return pick_device(options.device)


def check_ranges(options: Any) -> None:
    """
    Raises:
        ConfigError: a number among the options is out of range.
    """
    for name in _POSITIVE:
        value = getattr(options, name, 1)
        if not value > 0:
            raise ConfigError(f"{name}: expected more than 0, found {value}")
    for name in _NOT_NEGATIVE:
        value = getattr(options, name, 0)
        if value is not None and not value >= 0:
            raise ConfigError(f"{name}: expected 0 or more, found {value}")
    for name in _SHARES:
        value = getattr(options, name, 0)
        if not 0 <= value <= 1:
            raise ConfigError(f"{name}: expected a share, 0 to 1, found {value}")


def iteration_rng(seed: int, iteration: int) -> np.random.Generator:
    """The random numbers of one iteration.

    They depend on seed and iteration alone: a resumed run draws what the uninterrupted one would have drawn, with no
    generator state to save.
    """
    return np.random.default_rng([seed, iteration])


def iteration_generator(seed: int, iteration: int) -> torch.Generator:
    """The same for torch, on the CPU."""
    return torch.Generator().manual_seed(int(iteration_rng(seed, iteration).integers(2**62)))


def digest(*arrays: NDArray[Any]) -> str:
    """Short hash of the data that a run trains on."""
    hasher = hashlib.sha256()
    for array in arrays:
        hasher.update(f"{array.dtype}{array.shape}".encode())
        hasher.update(np.ascontiguousarray(array).data)
    return hasher.hexdigest()[:16]


def write_json(path: Path, values: Any) -> None:
    """Atomically: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(values, indent=2) + "\n")


def track(total: int, title: str) -> Progress:
    """A progress bar with the time left; `Run` and the longer loops use it."""
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
        console=console(), refresh_per_second=2,
    )  # fmt: skip
    progress.add_task(title, total=total, note="")
    return progress


class Run:
    """A training loop's surroundings.

    Iterating gives the iterations still to do. Around them: a checkpoint every so often and at the end, a progress bar
    with the time left, TensorBoard curves. A run that finds a checkpoint goes on from it. A run whose numbers break, or
    that runs out of memory, ends in a `TrainingError` and keeps its last checkpoint.

        with Run("encoder", options, iterations, {"model": model, "optimiser": optimiser}, settings) as run:
            for iteration in run:
                ...
                run.check(loss, iteration)  # before the step, so that no weight is spoiled
                run.log(iteration, loss=loss)
    """

    def __init__(
        self,
        title: str,
        options: Training,
        iterations: int,
        state: Mapping[str, Stateful],
        settings: Mapping[str, Any],
        fabric: Fabric | None = None,
    ) -> None:
        """
        Args:
            settings: what the result depends on beside the options (model configuration, digest of the data).
            fabric: where several processes train together; the first one writes.

        Raises:
            ConfigError: `out` holds a checkpoint of a run with other settings, or the processes do not share `out`.
        """
        self.title, self.iterations, self.state = title, iterations, state
        self.leads = fabric is None or fabric.is_global_zero
        self.every = max(1, options.checkpoint_every)
        self.folder = options.out
        self.path = options.out / "checkpoint.pt"
        own = {k: v for k, v in dataclasses.asdict(options).items() if k not in _NOT_THE_RESULT}
        self.settings = json.loads(json.dumps({**own, **settings}, default=str))
        self.start = 0
        self._batch = "half the --batch, or " if hasattr(options, "batch") else ""
        if options.restart and self.leads:
            self.path.unlink(missing_ok=True)
            shutil.rmtree(options.out / "tensorboard", ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        if fabric is not None:
            fabric.barrier()
        if self.path.exists():
            self._load()
        if fabric is not None and fabric.world_size > 1:
            starts = fabric.all_gather(torch.tensor(self.start))
            if (starts != starts[0]).any():
                raise ConfigError(
                    f"{self.path}: the processes find checkpoints of the iterations {starts.tolist()}; --out must be a "
                    "folder that all machines share"
                )

    def _load(self) -> None:
        try:
            saved = torch.load(self.path, map_location="cpu", weights_only=True)
            theirs = json.loads(saved["settings"])
        except Exception as error:  # what a damaged archive raises is any exception at all
            raise ConfigError(
                f"{self.path}: not a readable checkpoint ({type(error).__name__}: {error}); --restart begins anew"
            ) from error
        changed = [key for key in {**theirs, **self.settings} if theirs.get(key) != self.settings.get(key)]
        if changed:
            listed = ", ".join(f"{key} was {theirs.get(key)!r}, is {self.settings.get(key)!r}" for key in changed)
            raise ConfigError(
                f"{self.path}: this run began with other settings ({listed}); choose another folder or say --restart"
            )
        for name, part in self.state.items():
            part.load_state_dict(saved["state"][name])
        self.start = int(saved["iteration"])

    def save(self, iteration: int) -> None:
        """Checkpoint after `iteration` iterations, atomically.

        Raises:
            TrainingError: a number is no longer finite, or the disk is full; the checkpoint before stays.
        """
        if not self.leads:
            return
        for name, value in self.state.items():
            spoiled = [key for key, number in _tensors(value.state_dict()) if not torch.isfinite(number).all()]
            if spoiled:
                raise self._broken(f"{name}.{spoiled[0]} is no longer finite after iteration {iteration}")
        part = self.path.with_suffix(".partial")
        state = {name: value.state_dict() for name, value in self.state.items()}
        try:
            torch.save({"iteration": iteration, "settings": json.dumps(self.settings), "state": state}, part)
            os.replace(part, self.path)
        except (OSError, RuntimeError) as error:  # torch's own writer raises the latter
            part.unlink(missing_ok=True)
            raise TrainingError(
                f"{self.path}: not written after iteration {iteration} ({str(error).splitlines()[0]}); make room and "
                "give the same command again: it goes on from the checkpoint before"
            ) from error

    def __enter__(self) -> Run:
        self.progress = track(self.iterations, self.title)
        if self.leads:
            self.curves = SummaryWriter(str(self.folder / "tensorboard"), purge_step=self.start)
            if self.progress.console.is_terminal:
                self.progress.start()
        return self

    def __iter__(self) -> Iterator[int]:
        task = self.progress.task_ids[0]
        self.progress.update(task, completed=self.start)
        shown = -1
        for iteration in range(self.start, self.iterations):
            yield iteration
            done = iteration + 1
            self.progress.update(task, completed=done)
            tenth = 10 * done // self.iterations
            if self.leads and not self.progress.console.is_terminal and tenth != shown:
                shown = tenth  # a log file gets a line every tenth instead of a bar
                self._line(done)
            if done % self.every == 0 or done == self.iterations:
                self.save(done)

    def check(self, loss: torch.Tensor | float, iteration: int) -> None:
        """
        Raises:
            TrainingError: the loss is NaN or infinite.
        """
        value = float(loss.detach() if isinstance(loss, torch.Tensor) else loss)
        if not math.isfinite(value):
            raise self._broken(f"the loss is {value} in iteration {iteration}")

    def _broken(self, what: str) -> TrainingError:
        kept = f"the last checkpoint, {self.path}, is whole; " if self.path.exists() else ""
        return TrainingError(
            f"{self.title}: {what}; {kept}check the data for broken values, or begin anew with a lower rate: "
            "--restart --lr with a third of the present one"
        )

    def _line(self, done: int) -> None:
        bar = self.progress.tasks[0]
        left = "" if bar.time_remaining is None else f", {bar.time_remaining:.0f} s left"
        print(f"{self.title}: {done}/{self.iterations}{left} {bar.fields['note']}", file=sys.stderr, flush=True)

    def log(self, iteration: int, **values: float) -> None:
        """Curves for TensorBoard, and beside the bar."""
        if not self.leads:
            return
        for name, value in values.items():
            self.curves.add_scalar(f"{self.title}/{name}", value, iteration)
        self.progress.update(
            self.progress.task_ids[0], note=" ".join(f"{name} {value:.4g}" for name, value in values.items())
        )

    def show(self, iteration: int, **pictures: NDArray[np.uint8]) -> None:
        """Pictures (height, width, 3) for TensorBoard."""
        if self.leads:
            for name, picture in pictures.items():
                self.curves.add_image(f"{self.title}/{name}", picture, iteration, dataformats="HWC")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.leads:
            if self.progress.console.is_terminal:
                self.progress.stop()
            self.curves.close()
        if kind is KeyboardInterrupt and self.leads:
            what = f"; the same command goes on from {self.path}"
            if not self.path.exists():
                what = f" before its first checkpoint, which is due after {self.every} iterations: the same "
                what += "command begins anew"
            console().print(f"{self.title}: interrupted{what}")
        if error is not None and out_of_memory(error):
            # Another batch is another run: its checkpoints would not be taken up.
            what = (str(error).splitlines() or [type(error).__name__])[0]
            raise TrainingError(
                f"{self.title}: out of memory ({what}); close what else uses it and give the same command again: it "
                f"goes on from its checkpoint; or begin anew: --restart, {self._batch}models of a smaller --preset"
            ) from error


def _tensors(state: Any, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """The floating-point numbers of a state, by name."""
    if isinstance(state, torch.Tensor) and state.is_floating_point():
        yield name, state
    for key, value in state.items() if isinstance(state, Mapping) else ():
        yield from _tensors(value, f"{name}.{key}" if name else str(key))


def provenance(seed: int, seconds: float, made_by: str) -> dict[str, Any]:
    """How a result came about: command, commit, seed, duration, versions; no folder of this machine.

    Args:
        made_by: the commit when the work began; at its end the tree may hold another.
    """
    return {
        "command": command(sys.argv),
        "commit": made_by,
        "seed": seed,
        "seconds": round(seconds, 1),
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {_gpu()}",
    }


def command(words: Sequence[str]) -> str:
    """The command line to repeat, with the program's name alone and absolute paths as seen from the working folder;
    of a path outside it, the last part."""
    return shlex.join([Path(words[0]).name, *(_portable(word) for word in words[1:])])


def _portable(word: str) -> str:
    option, equals, value = word.rpartition("=")
    path = Path(value)
    if not path.is_absolute():
        return word
    here = Path.cwd()
    return option + equals + (str(path.relative_to(here)) if path.is_relative_to(here) else path.name)


def _gpu() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
