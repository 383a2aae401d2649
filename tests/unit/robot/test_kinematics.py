"""The known geometry against the simulator's model of the arm."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from visarl.contract import get_contract
from visarl.errors import ContractError
from visarl.robot.kinematics import tool_position
from visarl.sim.tabletop import Simulator


def test_the_tool_is_where_the_simulator_has_it():
    simulator = Simulator("pick_red_block", 0)
    try:
        states = []
        for seed in range(8):
            simulator.reset(seed=seed)
            simulator.command(np.array([0.03, 0.08, -0.05, 0.2, -0.1, 0.4]), 0.0)
            simulator.advance(0.1 * seed)
            states.append(simulator.state())
    finally:
        simulator.close()
    found = tool_position(simulator.contract, np.stack([state.proprioception() for state in states]))
    expected = np.stack([state.tool_position for state in states])
    # The simulator reports the tool as of the start of its last 2 ms step.
    np.testing.assert_allclose(found, expected, atol=5e-4)
    assert np.ptp(expected, axis=0).min() > 0.02  # they were different places


def test_an_arm_without_geometry_is_named():
    arm = dataclasses.replace(get_contract("jaco2"), name="jaco3")
    with pytest.raises(ContractError, match="'jaco3'.*did you mean 'jaco2'"):
        tool_position(arm, np.zeros(15))
