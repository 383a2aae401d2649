"""Closed-loop starts in this process: the simulator waits for the agent, but the agent's latency counts."""

from __future__ import annotations

import multiprocessing
import multiprocessing.util
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from typing import Protocol

import numpy as np
import torch
import torch._dynamo  # before the simulator: loaded lazily by an optimiser, after MuJoCo's EGL, it crashes the process
from numpy.typing import NDArray

from visarl.contract import CONTROL_RATE_HZ
from visarl.errors import ConfigError, SimulationError
from visarl.robot.interfaces import ArmState, Frame
from visarl.sim.perturb import Perturbation
from visarl.sim.rollout import bounded
from visarl.sim.tabletop import SceneTruth, Simulator

LATENCY_S = 0.05
"""From a camera frame's stamp to its action's effect, as the graph has it."""

STAY_S = 2.0
"""So long a policy goes on after it has succeeded, as a person does not stop it at once: final success is what is left
then. [s]"""


class Agent(Protocol):
    """What drives the arm: a bundle, or one of the diagnostics."""

    def reset(self) -> None:
        """Forget the last episode."""

    def look(self, simulator: Simulator) -> None:
        """Before each `act`: see what no camera gives and a sensor of the simulator does. Most agents need nothing."""

    def act(self, frame: Frame, state: ArmState, truth: SceneTruth) -> NDArray[np.float64]:
        """The contract's action (7,), physical units. Only diagnostics may look at `truth`."""


@dataclass(frozen=True)
class Start:
    """How one start ended."""

    seed: int
    success: bool
    """At any time."""
    success_final: bool
    """Still `STAY_S` later; where nobody went on so long, the same as `success`."""
    seconds: float
    """Simulated, until success or the limit."""
    steps: int
    """Actions sent until then."""


def run_start(
    simulator: Simulator,
    agent: Agent,
    seed: int,
    latency_s: float = LATENCY_S,
    limit_s: float | None = None,
    stopped: Callable[[], bool] = lambda: False,
    stay_s: float = 0.0,
) -> Start:
    """One episode from a fresh scene, perturbed as the simulator's are, until success or the limit.

    An action answers the frame at the period's start and takes effect `latency_s` later; until then the arm follows the
    one before, as it does on the graph.

    Args:
        limit_s: simulated time after which the start has failed [s]; None takes the task's.
        stay_s: simulated time for which the agent goes on after success [s].
    """
    period = 1.0 / CONTROL_RATE_HZ
    if not 0 <= latency_s < period:
        raise ConfigError(f"latency {latency_s} s: expected 0 up to the control period, {period} s")
    simulator.reset(seed=seed)
    agent.reset()
    limit_s = simulator.task.limit_s if limit_s is None else limit_s
    steps = 0

    def step() -> bool:
        image, truth, stamp_ns = simulator.render_with_truth()
        agent.look(simulator)
        action = bounded(simulator, agent.act(Frame(image, stamp_ns), simulator.state(), truth))
        simulator.advance(latency_s)
        simulator.command(action[:6] * CONTROL_RATE_HZ, float(action[6]))
        simulator.advance(period - latency_s)
        return simulator.truth().success

    success = False
    while not success and simulator.time_s < limit_s - period / 2 and not stopped():
        success = step()
        steps += 1
    seconds, final = round(simulator.time_s, 3), success
    for _ in range(round(stay_s / period) if success else 0):
        final = step()
    return Start(seed, success, final, seconds, steps)


AgentFactory = Callable[[], Agent]
"""Builds the agent inside the worker process; it must be picklable (a partial of a module's function)."""


def run_starts(
    make_agent: AgentFactory,
    task: str,
    seeds: Sequence[int],
    *,
    latency_s: float = LATENCY_S,
    limit_s: float | None = None,
    stay_s: float = 0.0,
    workers: int = 2,
    perturbation: Perturbation = "none",
    on_start: Callable[[Start], None] | None = None,
) -> list[Start]:
    """Several starts, shared among worker processes; in the order of `seeds`. The result does not depend on `workers`.

    Args:
        perturbation: of the scenes' looks, beside those of the demonstrations.
        on_start: called in this process as each start ends.

    Raises:
        what `make_agent` and the simulator raise, also in a worker; SimulationError: a worker died.
    """
    workers = max(1, min(workers, len(seeds)))
    results: list[Start] = []

    def collect(start: Start) -> None:
        results.append(start)
        if on_start is not None:
            on_start(start)

    if workers == 1:
        agent, simulator = make_agent(), Simulator(task, perturbation=perturbation)
        try:
            for seed in seeds:
                collect(run_start(simulator, agent, seed, latency_s, limit_s, stay_s=stay_s))
        finally:
            simulator.close()
    else:
        # Fresh interpreters: a fork would inherit torch's threads and the renderer's context.
        context = multiprocessing.get_context("spawn")
        stop = context.Event()
        with ProcessPoolExecutor(workers, context, _set_up_worker, (make_agent, task, perturbation, stop)) as pool:
            try:
                # Ctrl-C reaches all processes of a terminal. The workers, which inherit this mask, leave it to us.
                before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
                try:
                    futures = [pool.submit(_work, seed, latency_s, limit_s, stay_s) for seed in seeds]
                finally:
                    signal.pthread_sigmask(signal.SIG_SETMASK, before)
                for future in as_completed(futures):
                    collect(future.result())
            except BrokenProcessPool as error:
                raise SimulationError(
                    f"a process of the evaluation died ({error}); is there memory for {workers}? --workers 1 runs the "
                    "starts in this one"
                ) from error
            finally:
                stop.set()
                pool.shutdown(cancel_futures=True)
    order = {seed: i for i, seed in enumerate(seeds)}
    return sorted(results, key=lambda start: order[start.seed])


_mine: tuple[Agent, Simulator, Event] | Exception
"""A worker's agent and simulator, as loading them takes longer than an episode; or why it has none."""


def _set_up_worker(make_agent: AgentFactory, task: str, perturbation: Perturbation, stop: Event) -> None:
    global _mine
    torch.set_num_threads(1)  # the workers share the cores
    try:
        agent, simulator = make_agent(), Simulator(task, perturbation=perturbation)
    except Exception as error:
        _mine = error  # raised here it would break the pool, which does not tell why
        return
    _mine = agent, simulator, stop
    multiprocessing.util.Finalize(None, simulator.close, exitpriority=10)  # a worker runs no atexit functions


def _work(seed: int, latency_s: float, limit_s: float | None, stay_s: float) -> Start:
    if isinstance(_mine, Exception):
        raise _mine
    agent, simulator, stop = _mine
    return run_start(simulator, agent, seed, latency_s, limit_s, stop.is_set, stay_s)
