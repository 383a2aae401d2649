from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from visarl.contract import CONTRACTS, CONTROL_RATE_HZ, get_contract
from visarl.errors import ContractError

MESSAGES = Path(__file__).parents[2] / "ros2_ws" / "src" / "visarl_msgs" / "msg"


def test_sizes_follow_from_the_names():
    jaco = get_contract("jaco2")
    assert len(jaco.proprioception) == 2 * jaco.joints + jaco.fingers == 15
    assert len(jaco.action) == 7
    assert len(set(jaco.proprioception.names)) == 15 and len(set(jaco.action.names)) == 7
    assert jaco.proprioception.names[6] == "joint_1_velocity" and jaco.action.names[6] == "gripper_speed"


def test_an_action_is_the_motion_of_one_period():
    jaco = get_contract("jaco2")
    np.testing.assert_allclose(jaco.action.high[:6] * CONTROL_RATE_HZ, jaco.max_twist)
    np.testing.assert_allclose(jaco.max_twist[:3], 0.2)  # rated Cartesian speed [m/s]


@pytest.mark.parametrize("name", CONTRACTS)
def test_bounds_are_ordered_and_validate_themselves(name):
    for spec in (CONTRACTS[name].proprioception, CONTRACTS[name].action):
        assert (spec.low < spec.high).all()
        np.testing.assert_array_equal(spec.validate(spec.low), spec.low)
        np.testing.assert_array_equal(spec.validate(spec.high.astype(np.float32)), spec.high.astype(np.float32))


def test_a_wrong_vector_is_named():
    action = get_contract("jaco2").action
    with pytest.raises(ContractError, match=r"action: expected shape \(7,\), found \(6,\)"):
        action.validate(np.zeros(6))
    with pytest.raises(ContractError, match="action.delta_z: expected a finite number"):
        action.validate([0, 0, np.nan, 0, 0, 0, 0])
    with pytest.raises(ContractError, match=r"action.gripper_speed: expected \[-1, 1\].*found 2"):
        action.validate([0, 0, 0, 0, 0, 0, 2])


def test_an_unknown_arm_gets_a_suggestion():
    with pytest.raises(ContractError, match="did you mean 'jaco2'"):
        get_contract("jaco")


def fields(name: str) -> dict[str, str]:
    """Field name to type, from the message's definition."""
    text = re.sub(r"#.*", "", (MESSAGES / f"{name}.msg").read_text())
    return {parts[1]: parts[0] for line in text.splitlines() if len(parts := line.split()) == 2}


def test_messages_can_carry_the_contract():
    state, action, embedding = fields("ArmState"), fields("ArmAction"), fields("Embedding")
    for part in ("position", "velocity", "fingers"):
        assert state[part] == "float64[]"
    assert {"header", "sequence", "source"} <= set(action)
    assert "geometry_msgs/Twist" in action.values() and action["gripper"] == "float64"
    assert embedding["data"] == "float32[]" and embedding["bundle"] == "string"
