"""The definitions that a bag carries are those that ROS has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from visarl.data.messages import PACKAGE, definition, definitions_folder, typestore
from visarl.errors import DataError

SOURCES = Path(__file__).parents[3] / "ros2_ws" / "src" / PACKAGE / "msg"


@pytest.mark.parametrize(
    ("msgtype", "digest"),
    [
        ("std_msgs/msg/String", "RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18"),
        ("sensor_msgs/msg/CompressedImage", "RIHS01_15640771531571185e2efc8a100baf923961a4d15d5569652e6cb6691e8e371a"),
    ],
)
def test_the_hash_is_the_one_that_ros_publishes(msgtype: str, digest: str) -> None:
    """As in share/PACKAGE/msg/TYPE.json of an installation: a peer that plays the bag compares it."""
    assert definition(msgtype)[1] == digest


@pytest.mark.parametrize("name", sorted(path.stem for path in SOURCES.glob("*.msg")))
def test_each_of_our_types_is_known_and_explains_itself(name: str) -> None:
    msgtype = f"{PACKAGE}/msg/{name}"
    text, digest = definition(msgtype)
    alone = get_typestore(Stores.EMPTY)
    alone.register(get_types_from_msg(text, msgtype))
    assert alone.fielddefs[msgtype] == typestore().fielddefs[msgtype]
    assert alone.hash_rihs01(msgtype) == digest, "all that it contains is in the text, down to the last field"


def test_a_sourced_workspace_goes_before_the_source_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "install" / "share" / PACKAGE / "msg"
    prefixes = os.pathsep.join(["", "/opt/ros/jazzy", str(tmp_path / "install")])
    monkeypatch.setenv("AMENT_PREFIX_PATH", prefixes)
    installed.mkdir(parents=True)
    assert definitions_folder() == SOURCES, "a package without messages has been built halfway"
    (installed / "ArmState.msg").write_text("string arm\n")
    assert definitions_folder() == installed
    monkeypatch.delenv("AMENT_PREFIX_PATH")
    assert definitions_folder() == SOURCES


def test_a_mistyped_type_gets_a_suggestion() -> None:
    with pytest.raises(DataError, match="no definition of the message type 'visarl_msgs/msg/ArmStat'; did you mean"):
        definition("visarl_msgs/msg/ArmStat")
