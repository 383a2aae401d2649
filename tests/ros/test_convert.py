from __future__ import annotations

import numpy as np
import pytest
from sensor_msgs.msg import Image

from visarl.contract import get_contract
from visarl.errors import ContractError
from visarl.robot.interfaces import ArmState
from visarl.robot.safety import Command
from visarl.ros import convert

PICTURE = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


def test_an_image_goes_there_and_back_without_a_copy_of_the_message() -> None:
    message = convert.array_to_image(PICTURE, "rgb8", 1_500_000_007, "camera")
    view = convert.image_to_array(message)
    assert (view == PICTURE).all() and not view.flags.writeable
    message.data[0] = 99
    assert view[0, 0, 0] == 99
    assert convert.from_time(message.header.stamp) == 1_500_000_007


def test_maps_keep_their_channels() -> None:
    maps = np.random.default_rng(0).random((5, 5, 2), dtype=np.float32)
    message = convert.array_to_image(maps, "32FC2", 1, "camera")
    assert (convert.image_to_array(message) == maps).all()


@pytest.mark.parametrize("padding", [0, 5])
def test_rows_may_be_padded_and_channels_swapped(padding: int) -> None:
    message = Image(height=4, width=6, encoding="bgr8", step=6 * 3 + padding)
    rows = np.zeros((4, 6 * 3 + padding), np.uint8)
    rows[:, : 6 * 3] = PICTURE[:, :, ::-1].reshape(4, -1)
    message.data = rows.tobytes()
    assert (convert.image_to_rgb(message) == PICTURE).all()


def test_grey_becomes_rgb() -> None:
    message = convert.array_to_image(PICTURE[:, :, 0].copy(), "mono8", 1, "camera")
    assert (convert.image_to_rgb(message) == PICTURE[:, :, :1]).all()


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (Image(height=4, width=6, encoding="yuv422_yuy2", step=12, data=bytes(48)), "yuv422_yuy2"),
        (Image(height=4, width=6, encoding="rgb8", step=18, data=bytes(10)), "expected 72 bytes, found 10"),
        (Image(height=4, width=6, encoding="rgb8", step=3, data=bytes(72)), "step of 3"),
        (Image(height=0, width=0, encoding="rgb8"), "0x0"),
    ],
)
def test_what_cannot_be_read_says_why(message: Image, said: str) -> None:
    with pytest.raises(ContractError, match=said):
        convert.image_to_array(message)


def test_depth_is_no_camera_frame() -> None:
    with pytest.raises(ContractError, match="8 bits"):
        convert.image_to_rgb(convert.array_to_image(np.zeros((4, 4, 1), np.float32), "32FC1", 1, "camera"))


def test_commands_and_states_survive_the_wire() -> None:
    command = Command("policy", 7, 123, "base_link", np.arange(6.0), -0.5, 99, "abc")
    back = convert.message_to_command(convert.command_to_message(command), "policy")
    assert (back.twist == command.twist).all()
    assert (back.sequence, back.stamp_ns, back.observed_ns, back.bundle) == (7, 123, 99, "abc")
    contract = get_contract("jaco2")
    rng = np.random.default_rng(1)
    state = ArmState(5, rng.random(contract.joints), rng.random(contract.joints), rng.random(contract.fingers),
                     rng.random(3), rng.random(4))  # fmt: skip
    again = convert.message_to_state(convert.state_to_message(state, "jaco2"))
    assert np.allclose(again.proprioception(), state.proprioception())
    assert np.allclose(again.tool_quaternion, state.tool_quaternion)


def test_a_message_cannot_claim_to_be_a_person() -> None:
    message = convert.command_to_message(Command("teleop", 1, 1, "base_link", np.zeros(6), 0.0))
    assert convert.message_to_command(message, "policy").source == "policy"
