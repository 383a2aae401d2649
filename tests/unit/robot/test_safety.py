from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from visarl.contract import get_contract
from visarl.errors import ConfigError
from visarl.robot.interfaces import EXPIRY_S
from visarl.robot.safety import NOBODY, POLICY, TELEOP, Arbiter, Command, Limiter, Limits

LIMITS = Limits()
INSIDE = np.array([0.45, 0.0, 0.2])
NOW_NS = 1_700_000_000_000_000_000
TICK_S = 0.02
SLACK = 1e-9

any_twist = arrays(np.float64, 6, elements=st.floats(-5.0, 5.0))
any_place = arrays(np.float64, 3, elements=st.floats(-1.5, 1.5))


def command(source: str = POLICY, sequence: int = 1, **changes) -> Command:
    made = Command(
        source, sequence, NOW_NS, "base_link", np.array([0.05, 0.0, 0.0, 0.0, 0.0, 0.0]), 0.5, NOW_NS, "bundle"
    )
    return dataclasses.replace(made, **changes)


def arbiter(enabled: bool = True) -> Arbiter:
    made = Arbiter(get_contract("jaco2"), bundle="bundle")
    made.enable_policy(enabled)
    return made


@given(st.lists(st.tuples(any_twist, any_place, st.floats(0.0, 0.1)), min_size=1, max_size=20))
def test_no_wish_whatsoever_breaks_a_cap(wishes) -> None:
    limiter = Limiter(LIMITS)
    low, high = np.array(LIMITS.workspace_low), np.array(LIMITS.workspace_high)
    for wish, place, dt in wishes:
        before = limiter.twist
        twist, _ = limiter.limit(wish, place, dt)
        assert np.isfinite(twist).all()
        assert np.linalg.norm(twist[:3]) <= LIMITS.linear_speed + SLACK
        assert np.linalg.norm(twist[3:]) <= LIMITS.angular_speed + SLACK
        after = place + twist[:3] * LIMITS.lookahead
        # Inside the box after the lookahead, or, from outside, not farther outside.
        assert (after <= np.maximum(high, place) + SLACK).all()
        assert (after >= np.minimum(low, place) - SLACK).all()
        assert np.linalg.norm((twist - before)[3:]) <= LIMITS.angular_acceleration * dt + SLACK
        # Acceleration bounds every axis that the box did not brake.
        free = np.abs(twist[:3] - before[:3]) <= LIMITS.linear_acceleration * dt + SLACK
        braked = np.abs(twist[:3]) < np.abs(before[:3]) + SLACK
        returning = np.sign(twist[:3]) != np.sign(before[:3])
        assert (free | braked | returning).all()


@given(any_twist)
def test_a_capped_motion_keeps_its_direction(wish) -> None:
    twist, reasons = Limiter(dataclasses.replace(LIMITS, linear_acceleration=1e3, angular_acceleration=1e3)).limit(
        wish, INSIDE, 0.1
    )
    assert np.allclose(twist * np.linalg.norm(wish), wish * np.linalg.norm(twist), atol=1e-6)
    fast = np.linalg.norm(wish[:3]) > LIMITS.linear_speed or np.linalg.norm(wish[3:]) > LIMITS.angular_speed
    assert bool(reasons) == bool(fast) or np.isclose(np.linalg.norm(twist), np.linalg.norm(wish))


@given(any_place, any_twist)
def test_the_way_back_into_the_box_is_open(place, wish) -> None:
    limiter = Limiter(dataclasses.replace(LIMITS, linear_acceleration=1e3, angular_acceleration=1e3))
    middle = (np.array(LIMITS.workspace_low) + np.array(LIMITS.workspace_high)) / 2
    back = middle - place
    wish = np.concatenate([0.1 * back / max(np.linalg.norm(back), 1e-9), np.zeros(3)])
    twist, _ = limiter.limit(wish, place, 0.1)
    outside = (place < LIMITS.workspace_low) | (place > LIMITS.workspace_high)
    assert np.allclose(twist[:3][outside], wish[:3][outside])


@given(
    st.lists(st.sampled_from(["policy", "teleop", "silence", "stop", "clear", "enable", "disable"]), max_size=60),
    st.randoms(use_true_random=False),
)
def test_whatever_happens_the_rules_hold(events, random) -> None:
    judge, now_s = arbiter(enabled=False), 100.0
    last_heard = {POLICY: -np.inf, TELEOP: -np.inf}
    for sequence, event in enumerate(events, start=1):
        now_s += random.choice([0.001, TICK_S, 0.1, 0.3])
        if event in (POLICY, TELEOP):
            twist = np.array([random.uniform(-1, 1) for _ in range(6)])
            if not judge.offer(command(event, sequence, twist=twist), NOW_NS, now_s):
                last_heard[event] = now_s
        elif event == "stop":
            judge.stop("test")
            last_heard = {POLICY: -np.inf, TELEOP: -np.inf}  # a stop forgets every set-point
        elif event == "clear":
            judge.clear()
        elif event in ("enable", "disable"):
            judge.enable_policy(event == "enable")
            last_heard[POLICY] = -np.inf  # and so does the gate, opened or closed, with the policy's
        decision = judge.step(INSIDE, now_s)
        if judge.stopped:
            assert not decision.twist.any() and decision.gripper == 0.0 and not judge.policy_enabled
        if decision.command is not None:
            assert now_s - last_heard[decision.command.source] <= EXPIRY_S
            assert decision.command.source == decision.source
            assert decision.source == TELEOP or judge.policy_enabled
            assert decision.source != POLICY or now_s - last_heard[TELEOP] > EXPIRY_S
        else:
            assert decision.gripper == 0.0


def drive(judge: Arbiter, start_s: float, seconds: float) -> list:
    return [judge.step(INSIDE, start_s + i * TICK_S) for i in range(1, int(seconds / TICK_S) + 1)]


def test_a_set_point_expires_and_ramps_to_zero() -> None:
    judge = arbiter()
    assert judge.offer(command(), NOW_NS, 10.0) == ()
    before = drive(judge, 10.0, 0.14)
    assert before[-1].twist[0] == pytest.approx(0.05)
    after = drive(judge, 10.14, 0.3)
    speeds = [decision.twist[0] for decision in after]
    assert speeds[-1] == 0.0 and after[-1].source == NOBODY
    assert any("expired" in reason for decision in after for reason in decision.reasons)
    assert all(a >= b for a, b in zip(speeds, speeds[1:], strict=False))


def test_a_person_takes_over_through_rest() -> None:
    judge = arbiter()
    judge.offer(command(), NOW_NS, 10.0)
    drive(judge, 10.0, 0.1)
    judge.offer(command(TELEOP, twist=np.array([-0.05, 0, 0, 0, 0, 0.0])), NOW_NS, 10.1)
    decisions = drive(judge, 10.1, 0.14)
    speeds = [decision.twist[0] for decision in decisions]
    assert 0.0 in np.abs(np.array(speeds)).round(9) and speeds[-1] == pytest.approx(-0.05)
    assert all(d.source != TELEOP or d.twist[0] <= 0 for d in decisions)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"twist": np.array([np.nan, 0, 0, 0, 0, 0])}, "finite"),
        ({"twist": np.array([np.inf, 0, 0, 0, 0, 0])}, "finite"),
        ({"twist": np.zeros(5)}, "6 finite numbers"),
        ({"gripper": float("nan")}, "gripper"),
        ({"gripper": 1.5}, "gripper 1.5"),
        ({"stamp_ns": NOW_NS - 400_000_000}, "0.400 s old"),
        ({"stamp_ns": NOW_NS + 400_000_000}, "in the future"),
        ({"observed_ns": NOW_NS - 600_000_000}, "camera frame is 0.600 s old"),
        ({"observed_ns": 0}, "camera frame"),
        ({"frame": "tool_frame"}, "tool_frame"),
        ({"source": "nobody"}, "unknown"),
        ({"bundle": "other"}, "'other'"),
    ],
)
def test_refusals_say_why(changes, said) -> None:
    judge = arbiter()
    reasons = judge.offer(command(**changes), NOW_NS, 10.0)
    assert said in "; ".join(reasons)
    assert not judge.step(INSIDE, 10.02).twist.any()


def test_the_policy_waits_for_its_gate_and_a_person_does_not() -> None:
    judge = arbiter(enabled=False)
    assert judge.offer(command(), NOW_NS, 10.0) == ("policy is not enabled",)
    assert judge.offer(command(TELEOP, observed_ns=0, bundle=""), NOW_NS, 10.0) == ()


def test_repeats_are_refused_until_the_source_was_silent() -> None:
    judge = arbiter()
    assert judge.offer(command(sequence=7), NOW_NS, 10.0) == ()
    assert "sequence" in judge.offer(command(sequence=7), NOW_NS, 10.05)[0]
    assert judge.offer(command(sequence=1), NOW_NS, 10.3) == ()


def test_a_stop_stays_until_cleared_and_closes_the_gate() -> None:
    judge = arbiter()
    judge.offer(command(), NOW_NS, 10.0)
    drive(judge, 10.0, 0.1)
    judge.stop("button")
    assert not judge.step(INSIDE, 10.11).twist.any()
    assert "stopped: button" in judge.offer(command(sequence=2), NOW_NS, 10.12)
    assert judge.enable_policy(True)
    judge.clear()
    assert not judge.policy_enabled and not judge.step(INSIDE, 10.2).twist.any()


def test_an_arm_that_measures_nonsense_is_stopped() -> None:
    judge = arbiter()
    judge.offer(command(), NOW_NS, 10.0)
    decision = judge.step(np.array([np.nan, 0, 0]), 10.01)
    assert not decision.twist.any() and "not finite" in judge.stopped


def test_a_bench_may_tighten_but_not_loosen() -> None:
    assert LIMITS.tightened(linear_speed=0.1).linear_speed == 0.1
    with pytest.raises(ConfigError, match="only tighten"):
        LIMITS.tightened(linear_speed=0.3)
    with pytest.raises(ConfigError, match="only tighten"):
        LIMITS.tightened(workspace_low=(0.15, -0.45, 0.0))
    with pytest.raises(ConfigError, match="did you mean 'linear_speed'"):
        LIMITS.tightened(linear_sped=0.1)


@pytest.mark.parametrize(("name", "value"), [("workspace_low", (0.2, -0.4)), ("linear_speed", (0.1, 0.1))])
def test_a_limit_of_the_wrong_length_is_named(name, value) -> None:
    with pytest.raises(ConfigError, match=rf"limits\.{name}: expected (3 numbers|a number), found \(.*\)"):
        LIMITS.tightened(**{name: value})


def test_an_answer_to_a_frame_from_before_the_gate_opened_is_refused() -> None:
    judge = arbiter(enabled=False)
    judge.enable_policy(True, NOW_NS)
    reasons = judge.offer(command(observed_ns=NOW_NS - 20_000_000), NOW_NS, 10.0)
    assert reasons == ("camera frame is from 0.020 s before the policy was enabled",)
    assert judge.offer(command(TELEOP, observed_ns=NOW_NS - 20_000_000), NOW_NS, 10.0) == ()
    assert judge.offer(command(observed_ns=NOW_NS), NOW_NS, 10.0) == ()
    # Closed and opened again within one control period: the command on its way is of the time before.
    judge.enable_policy(False, NOW_NS + 10_000_000)
    judge.enable_policy(True, NOW_NS + 20_000_000)
    assert judge.offer(command(sequence=2, observed_ns=NOW_NS), NOW_NS + 20_000_000, 10.02)
    assert judge.offer(command(sequence=3, observed_ns=NOW_NS + 20_000_000), NOW_NS + 20_000_000, 10.02) == ()
