"""From stamps to control steps: which frame and which arm state belong to which action. Pure; all stamps in ns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visarl.contract import CONTROL_RATE_HZ
from visarl.errors import DataError

MAX_FRAME_AGE_S = 0.2
"""A demonstrator whose newest frame was older than this acted on something else: the camera hung. An action that
names its frame may be as late as it likes; the pair is true all the same."""
MAX_STATE_ERROR_S = 0.1
"""An arm state further than this from its frame is another moment's."""
MAX_STALE_SHARE = 0.1
"""Steps without a fresh frame or state are left out; more than this share of them, and the recording is bad."""
RATE_SLACK = 0.25
"""How far the median period of the actions may be from the control period, as a share of it."""
IDLE_SHARE = 0.02
"""An action whose every number is within this share of its bound moves nothing."""
KEEP_IDLE = 1
"""Idle steps kept at each end, so that the demonstration begins and ends at rest."""

Stamps = NDArray[np.int64]


@dataclass(frozen=True)
class Steps:
    """The control steps of one episode, T of them."""

    stamp: Stamps
    """(T,) of the actions."""
    action: NDArray[np.float64]
    """(T, A) as they were sampled."""
    frame_stamp: Stamps
    """(T,) of the frame that each action answers."""
    state: NDArray[np.int64]
    """(T,) index of the arm state nearest to that frame."""
    state_stamp: Stamps
    gaps: int
    """Pauses between neighbours longer than one and a half periods."""
    unpaired: int
    """Actions from before the first frame, left out."""
    stale: int
    """Actions without a fresh frame or state, left out."""

    def __len__(self) -> int:
        return len(self.stamp)

    @property
    def frame_age_ms(self) -> NDArray[np.float64]:
        """(T,) from the frame to its action."""
        return (self.stamp - self.frame_stamp) / 1e6

    @property
    def state_error_ms(self) -> NDArray[np.float64]:
        """(T,) distance of the arm state from the frame."""
        return np.abs(self.state_stamp - self.frame_stamp) / 1e6

    def keep(self, first: int, last: int) -> Steps:
        """The steps from `first` up to, not including, `last`."""
        part = slice(first, last)
        return Steps(
            self.stamp[part],
            self.action[part],
            self.frame_stamp[part],
            self.state[part],
            self.state_stamp[part],
            _gaps(self.stamp[part]),
            self.unpaired,
            self.stale,
        )


def nearest(stamps: Stamps, wanted: Stamps) -> NDArray[np.int64]:
    """For each of `wanted` the index of the nearest of `stamps`, which need not be in order; the earlier one on a tie.

    `stamps` must not be empty.
    """
    order = np.argsort(stamps, kind="stable")
    ordered = stamps[order]
    right = np.clip(np.searchsorted(ordered, wanted), 1, max(len(ordered) - 1, 1))
    left = right - 1
    right = np.minimum(right, len(ordered) - 1)
    closer = np.where(np.abs(ordered[right] - wanted) < np.abs(ordered[left] - wanted), right, left)
    return np.asarray(order[closer], dtype=np.int64)


def newest_before(stamps: Stamps, wanted: Stamps) -> Stamps:
    """For each of `wanted` the newest of `stamps` that is not after it; -1 where all are."""
    ordered = np.sort(stamps)
    index = np.searchsorted(ordered, wanted, side="right") - 1
    return np.where(index >= 0, ordered[np.maximum(index, 0)], -1)


def resample(
    stamps: Stamps, actions: NDArray[np.float64], observed: Stamps, rate_hz: float = CONTROL_RATE_HZ
) -> tuple[Stamps, NDArray[np.float64], Stamps]:
    """Commands of any rate as one action a control period: (stamps, actions (T, A), observed).

    At the control rate they stay as they are. A faster stream, such as a joystick's, is averaged over whole periods.

    Raises:
        DataError: fewer than two commands, or a rate that no number of commands a period gives.
    """
    order = np.argsort(stamps, kind="stable")
    stamps, actions, observed = stamps[order], actions[order], observed[order]
    if len(stamps) < 2:
        raise DataError(f"expected a stream of actions, found {len(stamps)}")
    period = float(np.median(np.diff(stamps))) / 1e9
    group = round(1 / (rate_hz * period)) if period > 0 else 0
    if group < 1 or abs(group * period * rate_hz - 1) > RATE_SLACK:
        found = f"{1 / period:.1f} Hz" if period > 0 else "all with one stamp"
        raise DataError(f"expected actions at {rate_hz:g} Hz or a multiple of it, found {found}; record again")
    if group == 1:
        return stamps, actions, observed
    count = len(stamps) // group
    starts = np.arange(count) * group
    mean = actions[: count * group].reshape(count, group, -1).mean(axis=1)
    return stamps[starts], mean, observed[starts]


def align(
    stamps: Stamps,
    actions: NDArray[np.float64],
    observed: Stamps,
    frames: Stamps,
    states: Stamps,
    rate_hz: float = CONTROL_RATE_HZ,
) -> Steps:
    """Pair actions with frames and states by time. Nothing needs to come in order.

    An action that names the frame it answers (`observed`, else 0) is paired with that frame, any other with the
    newest frame before it. The state is the one nearest to the frame, as on the robot.

    Raises:
        DataError: nothing to pair, or too many actions without a fresh frame or state.
    """
    for name, found in (("camera frames", frames), ("arm states", states)):
        if not len(found):
            raise DataError(f"expected {name}, found none")
    stamps, actions, observed = resample(stamps, actions, observed, rate_hz)
    known = np.isin(observed, frames)
    # Whose frame the bag lost gets the one before it, never one that the demonstrator had not seen yet.
    frame = np.where(known, observed, newest_before(frames, np.where(observed > 0, observed, stamps)))
    paired = frame >= 0
    stamps, actions, frame, known = stamps[paired], actions[paired], frame[paired], known[paired]
    if not len(stamps):
        raise DataError("every action is from before the first camera frame: do the clocks of the machines agree?")
    state = nearest(states, frame)
    age_s = np.where(known, 0.0, (stamps - frame) / 1e9)
    error_s = np.abs(states[state] - frame) / 1e9
    fresh = (age_s <= MAX_FRAME_AGE_S) & (error_s <= MAX_STATE_ERROR_S)
    stale = int(np.sum(~fresh))
    if stale > MAX_STALE_SHARE * len(fresh):
        raise DataError(
            f"{stale} of {len(fresh)} actions have no fresh frame (oldest {age_s.max() * 1e3:.0f} ms, expected at most "
            f"{MAX_FRAME_AGE_S * 1e3:.0f}) or no arm state near it (farthest {error_s.max() * 1e3:.0f} ms, expected at "
            f"most {MAX_STATE_ERROR_S * 1e3:.0f}): the camera or the arm stopped reporting, or the clocks of the "
            "machines differ"
        )
    stamps, actions, frame, state = stamps[fresh], actions[fresh], frame[fresh], state[fresh]
    gaps = _gaps(stamps, rate_hz)
    return Steps(stamps, actions, frame, state, states[state], gaps, int(np.sum(~paired)), stale)


def _gaps(stamps: Stamps, rate_hz: float = CONTROL_RATE_HZ) -> int:
    return int(np.sum(np.diff(stamps) > 1.5e9 / rate_hz))


def active_range(normalised: NDArray[np.float64]) -> tuple[int, int]:
    """First and last + 1 of the steps to keep when idle ends are cut; `normalised`: (T, A) in [-1, 1].

    (0, 0) where nothing moves at all.
    """
    moving = np.flatnonzero(np.abs(normalised).max(axis=1) > IDLE_SHARE)
    if not moving.size:
        return 0, 0
    return max(0, int(moving[0]) - KEEP_IDLE), min(len(normalised), int(moving[-1]) + 1 + KEEP_IDLE)
