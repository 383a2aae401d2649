"""Many jobs that build on one another, several at a time: in local processes, or on a Ray cluster.

Each job leaves a marker as a pipeline's stage does, so that a study goes on where it was interrupted, whoever did the
first half. Machines of a cluster share the study's folder.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from training.common import track
from training.stages import Stage
from visarl.errors import ConfigError, VisarlError

ATTEMPTS = 3
"""A worker that was killed (memory, a lost machine) is no fault of the job: it is tried again so often."""

Figures = dict[str, dict[str, Any]]
"""By job name: what it returned."""


class StudyError(VisarlError):
    """A study cannot go on."""


@dataclass(frozen=True)
class Job:
    """One piece of work, done in a process of its own."""

    name: str
    """May contain slashes; unique in the study."""
    function: str
    """`module:function`, called with `fresh` (an earlier attempt with other settings has to be thrown away) and the
    arguments; returns the job's figures, plain values."""
    arguments: Mapping[str, Any]
    """Picklable; paths and counts of threads too."""
    settings: Mapping[str, Any]
    """Plain values: all that the result depends on."""
    after: tuple[str, ...] = ()
    """Jobs or stages that have to be done before, and whose change means doing this one again."""
    seconds: float = 60.0
    """What it takes about, on one core: for the estimate."""


class Executor(Protocol):
    """Where jobs run."""

    slots: int
    """Jobs at a time."""

    def submit(self, function: Any, *arguments: Any) -> Future[Any]: ...
    def close(self) -> None: ...


@dataclass
class Plan:
    """The jobs of a study, in an order in which each comes after those that it builds on."""

    folder: Path
    """Receives markers and logs."""
    jobs: list[Job]
    before: Mapping[str, Stage] = field(default_factory=dict)
    """Stages that were done before the jobs began."""

    def __post_init__(self) -> None:
        self.stages: dict[str, Stage] = dict(self.before)
        for job in self.jobs:
            missing = [name for name in job.after if name not in self.stages]
            if missing or job.name in self.stages:
                raise ConfigError(f"job {job.name}: listed twice, or before {', '.join(missing)}")
            after = [self.stages[name] for name in job.after]
            self.stages[job.name] = Stage(self.folder / "stages", job.name, dict(job.settings), after)

    def done(self) -> Figures:
        """Figures of the jobs whose markers are valid."""
        found = {job.name: self.stages[job.name].done() for job in self.jobs}
        return {name: dict(marker["figures"]) for name, marker in found.items() if marker is not None}

    def seconds_left(self) -> float:
        """What the jobs that are not done would take on one core."""
        done = self.done()
        return sum(job.seconds for job in self.jobs if job.name not in done)


def run(plan: Plan, executor: Executor) -> Figures:
    """Do what is not done; the figures of all jobs.

    A job that fails does not stop those that do not need it.

    Raises:
        StudyError: jobs failed; the message names the first, its error and its log.
    """
    figures = plan.done()
    waiting = {job.name: job for job in plan.jobs if job.name not in figures}
    running: dict[Future[Any], Job] = {}
    attempts: dict[str, int] = {}
    failed: dict[str, str] = {}
    known = set(figures) | set(plan.before)
    expected = {job.name: job.seconds for job in plan.jobs if job.name not in figures}
    began, foreseen = time.monotonic(), sum(expected.values())
    with track(len(plan.jobs), "jobs") as progress:
        bar = progress.task_ids[0]
        progress.update(bar, completed=len(figures))
        while waiting or running:
            ready = [job for job in waiting.values() if all(name in known for name in job.after)]
            for job in ready[: executor.slots - len(running)]:
                del waiting[job.name]
                attempts[job.name] = attempts.get(job.name, 0) + 1
                stage, log = plan.stages[job.name], plan.folder / "logs" / f"{job.name}.log"
                running[executor.submit(execute, stage, log, job.function, dict(job.arguments))] = job
            if not running:
                break  # the others wait for one that failed
            progress.update(bar, note=", ".join(job.name for job in running.values()))
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job = running.pop(future)
                error = future.exception()
                if error is None:
                    figures[job.name] = future.result()
                    known.add(job.name)
                    progress.advance(bar)
                    del expected[job.name]
                    left = sum(expected.values())
                    if not progress.console.is_terminal and left < foreseen:  # a log gets lines instead of a bar
                        hours = (time.monotonic() - began) * left / (foreseen - left) / 3600
                        done = f"[{len(figures)}/{len(plan.jobs)}] {job.name}: done"
                        progress.console.print(f"{done}, about {hours:.1f} h left for the jobs")
                elif _lost(error) and attempts[job.name] < ATTEMPTS:
                    waiting[job.name] = job
                    progress.console.print(f"{job.name}: its process was lost ({error or type(error).__name__}); again")
                else:
                    failed[job.name] = str(error) or type(error).__name__
                    progress.console.print(f"{job.name}: failed: {failed[job.name]}")
    if failed:
        name, why = next(iter(failed.items()))
        raise StudyError(
            f"{len(failed)} of {len(plan.jobs)} jobs failed, {len(waiting)} wait for them. {name}: {why}; see "
            f"{plan.folder / 'logs' / name}.log. The same command goes on with what is missing"
        )
    return figures


def execute(stage: Stage, log: Path, function: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """In a worker: one job, with everything that it prints in its log. Errors cross as text, whatever they hold."""
    module, name = function.split(":")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", buffering=1) as file, ExitStack() as restored:
        for stream in (1, 2):
            kept = os.dup(stream)
            restored.callback(_restore, kept, stream)
            os.dup2(file.fileno(), stream)
        try:
            work = getattr(importlib.import_module(module), name)
            return dict(stage.run(lambda fresh: work(fresh=fresh, **arguments))["figures"])
        except VisarlError as error:
            raise StudyError(str(error)) from None
        except Exception as error:
            traceback.print_exc()
            raise StudyError(f"{type(error).__name__}: {error}") from None


def _restore(kept: int, stream: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(kept, stream)
    os.close(kept)


def _lost(error: BaseException) -> bool:
    return isinstance(error, BrokenProcessPool) or type(error).__name__ in ("WorkerCrashedError", "NodeDiedError")


class LocalProcesses:
    """Worker processes on this machine, a thread each."""

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise ConfigError(f"workers: expected at least 1, found {workers}")
        self.slots = workers
        self._pool = self._open()

    def _open(self) -> ProcessPoolExecutor:
        # Fresh interpreters: a fork would inherit torch's threads and the renderer's context.
        return ProcessPoolExecutor(self.slots, multiprocessing.get_context("spawn"), _set_up_worker)

    def submit(self, function: Any, *arguments: Any) -> Future[Any]:
        # Ctrl-C reaches all processes of a terminal. The workers, which inherit this mask, leave it to us.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return self._pool.submit(function, *arguments)
        except BrokenProcessPool:  # one worker's death ends the whole pool
            self._pool.shutdown(cancel_futures=True)
            self._pool = self._open()
            return self._pool.submit(function, *arguments)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def close(self) -> None:
        """End the workers now; what they were doing is done again, from its last checkpoint, by the next run."""
        for process in list((self._pool._processes or {}).values()):
            process.terminate()
        self._pool.shutdown(cancel_futures=True)


def _set_up_worker() -> None:
    import torch
    import torch._dynamo  # before the simulator, see training.closed_loop

    torch.set_num_threads(1)  # the workers share the cores


class Ray:
    """Workers on a Ray cluster that is running (`ray start`), each with one core.

    Raises:
        ConfigError: Ray is not installed, or no cluster answers at the address.
    """

    def __init__(self, address: str) -> None:
        try:
            import ray
        except ImportError as error:
            raise ConfigError("ray: not installed; pip install -e '.[cluster]' on every machine") from error
        try:
            ray.init(address=address, log_to_driver=False)
        except Exception as error:  # each way of not answering has an exception of its own
            raise ConfigError(f"ray: no cluster at {address!r} ({error}); `ray start --head` begins one") from error
        self._ray = ray
        self._call = ray.remote(_remotely).options(num_cpus=1, max_retries=ATTEMPTS)
        self.slots = max(1, int(ray.cluster_resources().get("CPU", 1)))

    def submit(self, function: Any, *arguments: Any) -> Future[Any]:
        return self._call.remote(function, *arguments).future()

    def close(self) -> None:
        self._ray.shutdown()


def _remotely(function: Any, *arguments: Any) -> Any:
    _set_up_worker()
    return function(*arguments)


def executor(workers: int | None, ray: str | None) -> Executor:
    """Local processes, one a core where no number is given, or the cluster at an address."""
    if ray is not None:
        return Ray(ray)
    return LocalProcesses((os.cpu_count() or 1) if workers is None else workers)


def estimate(plan: Plan, slots: int, others_s: float = 0.0) -> str:
    """A sentence on what is left to do, for a person who decides whether to begin.

    Args:
        others_s: of what runs alone, beside the jobs [s].
    """
    left = plan.seconds_left()
    undone = len(plan.jobs) - len(plan.done())
    hours = (left / slots + others_s) / 3600
    return f"{undone} of {len(plan.jobs)} jobs to do, about {hours:.1f} h with {slots} at a time"
