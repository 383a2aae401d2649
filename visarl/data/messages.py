"""Message definitions that a bag carries with it, so that it can be read where no ROS is installed.

Only writing needs this module: a reader takes the definitions out of the bag.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from visarl.errors import DataError, suggest

PACKAGE = "visarl_msgs"


def definitions_folder() -> Path:
    """Folder with our `.msg` files: the installed package's on a robot, else the source tree's.

    Raises:
        DataError: neither is there.
    """
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)  # where a sourced workspace is installed
    places = [Path(prefix) / "share" / PACKAGE / "msg" for prefix in prefixes if prefix]
    places.append(Path(__file__).resolve().parents[2] / "ros2_ws" / "src" / PACKAGE / "msg")
    for place in places:
        if any(place.glob("*.msg")):
            return place
    raise DataError(
        f"no definitions of {PACKAGE} in {', '.join(map(str, places))}; "
        "source ros2_ws/install/setup.bash, or run from a checkout of the repository"
    )


@cache
def typestore() -> Typestore:
    """ROS's common messages and ours."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    for path in sorted(definitions_folder().glob("*.msg")):
        store.register(get_types_from_msg(path.read_text(), f"{PACKAGE}/msg/{path.stem}"))
    return store


@cache
def definition(msgtype: str) -> tuple[str, str]:
    """The full text of a message's definition with all that it contains, and its RIHS01 hash.

    Raises:
        DataError: the type is neither one of ROS's common messages nor ours.
    """
    store = typestore()
    if msgtype not in store.fielddefs:
        raise DataError(f"no definition of the message type {msgtype!r}; {suggest(msgtype, store.fielddefs)}")
    text, _ = store.generate_msgdef(msgtype, ros_version=2)
    return text, store.hash_rihs01(msgtype)
