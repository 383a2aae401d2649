"""Rosbag2 folders, one an episode, in MCAP: written so that no crash spoils them, read without ROS.

Topic names here carry no leading slash: `camera/image_raw/compressed`. In the file they do, as rosbag2 has it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Nodetype

from visarl.data.rates import TopicReport, TopicStats
from visarl.errors import DataError

IMAGE = "camera/image_raw/compressed"
CAMERA_INFO = "camera/camera_info"
ARM_STATE = "arm/state"
JOINT_STATES = "joint_states"
POLICY_ACTION = "policy/action"
TELEOP_ACTION = "teleop/action"
EXECUTED = "arm/executed"
SALIENCY = "saliency/map"
EMBEDDING = "encoder/embedding"
EPISODE = "episode"
TRUTH = "sim/truth"

PARTIAL = ".partial"
"""Ending of the folder of a bag that is being written, or whose writer died."""
DAMAGED = ".damaged"
"""Ending of the folder of a cut bag from which what was whole has been saved."""
RECOVERING = ".recovering"
"""Ending of the folder of a bag that a recovery is writing, or that a killed one left."""

T = TypeVar("T")


def plain(topic: str) -> str:
    """A topic's name without the leading slash."""
    return topic.strip("/")


def to_ns(stamp: Any) -> int:
    """A `builtin_interfaces/Time` in ns."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def header_stamp(raw: bytes | memoryview) -> int:
    """Stamp in ns of a CDR message that begins with a `std_msgs/Header`, without decoding the rest of it."""
    sec, nanosec = struct.unpack_from("<iI" if raw[1] & 1 else ">iI", raw, 4)
    return int(sec) * 1_000_000_000 + int(nanosec)


def find_bags(root: Path) -> list[Path]:
    """The finished bags in a folder, sorted by name; `root` itself where it is one.

    Raises:
        DataError: there are none; the message says whether unfinished ones are.
    """
    if root.is_file() or (root / "metadata.yaml").exists():
        return [root]
    endings = (PARTIAL, DAMAGED, RECOVERING)
    found = sorted(path.parent for path in root.glob("*/metadata.yaml") if not path.parent.name.endswith(endings))
    if not found:
        broken = sorted(path.name for path in root.glob(f"*{PARTIAL}"))
        hint = "correct the path, or put them back"
        if broken:
            hint = f"unfinished: {', '.join(broken)}, `visarl convert --recover` repairs them"
        raise DataError(
            f"{root}: expected a folder with bags (one folder each, with metadata.yaml), found none; {hint}"
        )
    return found


class Bag:
    """One finished bag, open for reading; use it as a context manager.

    Types come from the definitions inside the bag, so any rosbag2 (MCAP, or sqlite3 with definitions) can be read.

    Raises:
        DataError: missing, unfinished, truncated or foreign; also later, where the damage is met.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise DataError(f"{self.path}: no such bag")
        folder = self.path.is_dir()
        if folder and (self.path.name.endswith(PARTIAL) or not (self.path / "metadata.yaml").exists()):
            hint = "its recorder did not finish it; `visarl convert --recover` saves what is whole"
            raise DataError(f"{self.path}: expected a finished bag, " + (hint if self._storage() else "found none"))
        self._reader = self._try(lambda: AnyReader([self.path]))
        self._try(self._reader.open)
        self.topics: dict[str, str] = {plain(c.topic): c.msgtype for c in self._reader.connections}
        """Message type by topic."""

    def _storage(self) -> list[Path]:
        return [*self.path.glob("*.mcap"), *self.path.glob("*.db3")]

    def _try(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except Exception as error:  # what a parser raises on a damaged file is any exception at all
            raise DataError(
                f"{self.path}: cannot be read as a rosbag2 ({type(error).__name__}: {error}); if it is one of ours "
                "and truncated, `visarl convert --recover` saves what is whole"
            ) from error

    def __enter__(self) -> Bag:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._reader.close()

    def require(self, *topics: str) -> None:
        """Raises DataError unless all `topics` are in the bag, with at least one message."""
        counts = {plain(c.topic): c.msgcount for c in self._reader.connections}
        missing = [topic for topic in topics if not counts.get(plain(topic))]
        if missing:
            found = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items())) or "nothing"
            raise DataError(f"{self.path}: no messages of {', '.join(missing)}; found {found}")

    def raw(
        self, topics: Iterable[str] | None = None, log_time_ns: int | None = None
    ) -> Iterator[tuple[str, int, int, bytes]]:
        """(topic, stamp_ns, log_time_ns, CDR bytes) in the order of recording, streamed; only what was recorded at
        `log_time_ns`, where given, which the file's index finds at once.

        The stamp is the header's, or the time of recording for messages without one.
        """
        wanted = None if topics is None else {plain(topic) for topic in topics}
        connections = [c for c in self._reader.connections if wanted is None or plain(c.topic) in wanted]
        if not connections:
            return
        stamped = {c.msgtype: self._has_header(c.msgtype) for c in connections}
        stop = None if log_time_ns is None else log_time_ns + 1
        messages = self._reader.messages(connections, start=log_time_ns, stop=stop)
        while True:
            item = self._try(lambda: next(messages, None))
            if item is None:
                return
            connection, log_time, data = item
            stamp = self._try(lambda d=data: header_stamp(d)) if stamped[connection.msgtype] else log_time  # type: ignore[misc]
            yield plain(connection.topic), stamp, log_time, data

    def messages(self, topics: Iterable[str]) -> Iterator[tuple[str, int, Any]]:
        """(topic, stamp_ns, message) in the order of recording, streamed. Stamps as in `raw`."""
        for topic, stamp, _, data in self.raw(topics):
            yield topic, stamp, self.decode(topic, data)

    def decode(self, topic: str, data: bytes) -> Any:
        """The message in a topic's CDR bytes."""
        return self._try(lambda: self._reader.deserialize(data, self.topics[topic]))

    def _has_header(self, msgtype: str) -> bool:
        fields = self._reader.typestore.fielddefs[msgtype][1]
        return bool(fields) and tuple(fields[0][1]) == (Nodetype.NAME, "std_msgs/msg/Header")


def read_bag(path: Path, topics: Iterable[str]) -> Iterator[tuple[str, int, Any]]:
    """(topic, stamp_ns, message) of `topics`, all of which must be there.

    Raises:
        DataError: as `Bag`, or a topic is missing; the message names those found.
    """
    topics = list(topics)
    with Bag(path) as bag:
        bag.require(*topics)
        yield from bag.messages(topics)


def bag_report(path: Path) -> list[TopicReport]:
    """Count, rate, gaps, drops and ages of every topic, sorted by name."""
    with Bag(path) as bag:
        stats = {topic: TopicStats(topic, msgtype) for topic, msgtype in bag.topics.items()}
        for topic, stamp, log_time, _ in bag.raw():
            stats[topic].add(stamp, log_time)
    return [stats[topic].report() for topic in sorted(stats)]


def frames_from_bag(
    path: Path, topic: str = IMAGE, stamps: Container[int] | None = None
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """(stamp_ns, (H, W, 3) uint8 RGB) of every frame, streamed; only those in `stamps`, where given.

    Raises:
        DataError: as `read_bag`, or a picture cannot be decoded.
    """
    with Bag(path) as bag:
        bag.require(topic)
        for _, stamp, _, data in bag.raw([topic]):
            if stamps is None or stamp in stamps:
                yield stamp, decode_image(bag.decode(plain(topic), data), f"{path}: {topic} at {stamp}")


def decode_image(message: Any, where: str) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a `CompressedImage`, or of an `Image` in rgb8, bgr8 or mono8.

    Raises:
        DataError: the bytes are no picture, or its encoding is another; `where` says which message.
    """
    import cv2  # only those who look at pictures need it

    data = np.asarray(message.data, dtype=np.uint8)
    if hasattr(message, "format"):
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
        if picture is None:
            raise DataError(f"{where}: {data.size} bytes of format {message.format!r} are no picture")
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8)
    channels = {"rgb8": 3, "bgr8": 3, "mono8": 1}.get(message.encoding)
    if channels is None:
        raise DataError(f"{where}: expected the encoding rgb8, bgr8 or mono8, found {message.encoding!r}")
    if data.size != message.height * message.step or message.step < message.width * channels:
        raise DataError(
            f"{where}: expected {message.height} rows of {message.step} bytes for {message.width} pixels of "
            f"{message.encoding}, found {data.size} bytes"
        )
    rows = data.reshape(message.height, message.step)[:, : message.width * channels]
    picture = rows.reshape(message.height, message.width, channels)
    if channels == 1:
        return np.repeat(picture, 3, axis=2)
    return picture[:, :, ::-1].copy() if message.encoding == "bgr8" else picture.copy()
