"""An episode in lockstep: the simulator waits for each action, so the result depends on the seed alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visarl.contract import CONTROL_RATE_HZ
from visarl.errors import ContractError
from visarl.robot.interfaces import ArmState, Frame
from visarl.sim.tabletop import SceneTruth, Simulator

Act = Callable[[Frame | None, ArmState, SceneTruth], NDArray[np.float64]]
"""(frame, state, truth) to the contract's action, (7,), physical units per control period."""


@dataclass(frozen=True)
class Outcome:
    """How an episode ended."""

    success: bool
    success_ever: bool
    steps: int
    seconds: float
    """Simulated."""


def lockstep(
    simulator: Simulator,
    act: Act,
    limit_s: float | None = None,
    on_step: Callable[[Frame | None, ArmState, SceneTruth, NDArray[np.float64]], Any] | None = None,
    pictures: bool = True,
) -> Outcome:
    """Run one episode from the scene's present state until success or the limit.

    Args:
        act: expert or policy; without `pictures` its frame is None.
        limit_s: simulated time after which the episode has failed [s]; None takes the task's.
        on_step: called with what `act` saw and what it answered, before the motion.

    Raises:
        ContractError: an action of the wrong size, or NaN.
    """
    period = 1.0 / CONTROL_RATE_HZ
    limit_s = simulator.task.limit_s if limit_s is None else limit_s
    steps = 0
    while simulator.time_s < limit_s - period / 2:
        frame = None
        if pictures:
            image, truth, stamp_ns = simulator.render_with_truth()
            frame = Frame(image, stamp_ns)
        else:
            truth = simulator.truth()
        state = simulator.state()
        action = bounded(simulator, act(frame, state, truth))
        if on_step is not None:
            on_step(frame, state, truth, action)
        simulator.command(action[:6] * CONTROL_RATE_HZ, float(action[6]))
        simulator.advance(period)
        steps += 1
        if simulator.truth().success:
            break
    truth = simulator.truth()
    return Outcome(truth.success, truth.success_ever, steps, simulator.time_s)


def bounded(simulator: Simulator, action: NDArray[np.float64]) -> NDArray[np.float64]:
    """`action` within the contract: translation and rotation each scaled as one vector, as the arm node does."""
    spec = simulator.contract.action
    action = np.array(action, dtype=np.float64)
    if action.shape != (len(spec),) or not np.isfinite(action).all():
        raise ContractError(f"{spec.name}: expected {len(spec)} finite numbers, found {action}")
    for part in (slice(0, 3), slice(3, 6)):
        action[part] /= max(1.0, float(np.abs(action[part] / spec.high[part]).max()))
    action[6] = np.clip(action[6], spec.low[6], spec.high[6])
    return action
