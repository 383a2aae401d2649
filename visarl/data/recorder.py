"""The life of a recording: start, pause, stop, discard, label. Knows files, not ROS; not thread-safe."""

from __future__ import annotations

import re
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Literal

from visarl.data.bag_writer import BagWriter
from visarl.data.bags import (
    ARM_STATE,
    CAMERA_INFO,
    DAMAGED,
    EMBEDDING,
    EPISODE,
    EXECUTED,
    IMAGE,
    JOINT_STATES,
    PARTIAL,
    POLICY_ACTION,
    SALIENCY,
    TELEOP_ACTION,
    TRUTH,
    plain,
)
from visarl.data.labels import LABELS, Label, load_label, save_label
from visarl.data.messages import definition
from visarl.data.rates import TopicReport
from visarl.errors import DataError, suggest

TOPICS: dict[str, str] = {
    IMAGE: "sensor_msgs/msg/CompressedImage",
    CAMERA_INFO: "sensor_msgs/msg/CameraInfo",
    ARM_STATE: "visarl_msgs/msg/ArmState",
    JOINT_STATES: "sensor_msgs/msg/JointState",
    POLICY_ACTION: "visarl_msgs/msg/ArmAction",
    TELEOP_ACTION: "visarl_msgs/msg/ArmAction",
    EXECUTED: "visarl_msgs/msg/ArmAction",
    TRUTH: "visarl_msgs/msg/SceneTruth",
    EPISODE: "visarl_msgs/msg/Episode",
}
"""What an episode's bag holds, with types. All are announced in the bag, so that a silent one is seen."""

OPTIONAL: dict[str, str] = {SALIENCY: "sensor_msgs/msg/Image", EMBEDDING: "visarl_msgs/msg/Embedding"}
"""What the models said, where it is asked for; large, and it can be computed again."""

NEEDED = (IMAGE, ARM_STATE)
"""Without these an episode is worth nothing."""

MIN_FREE_BYTES = 500_000_000
"""Several minutes of recording: a disk that fills up in mid-demonstration costs the person a demonstration."""

State = Literal["idle", "recording", "paused"]


class Recorder:
    """One recording at a time, below `root`.

    Raises:
        DataError: from each method, what cannot be done now or what the disk refuses.
    """

    def __init__(self, root: Path, models: bool = False, min_free_bytes: int = MIN_FREE_BYTES) -> None:
        self.root = Path(root).expanduser()
        self.topics = {**TOPICS, **OPTIONAL} if models else dict(TOPICS)
        self.state: State = "idle"
        self.episode = ""
        """Id of the current episode, or of the last one."""
        self.task = ""
        self._lost = ""
        self._min_free_bytes = min_free_bytes
        self._writer: BagWriter | None = None
        for msgtype in self.topics.values():
            definition(msgtype)  # takes a moment, and `start` should not

    def start(self, task: str) -> str:
        """Begin an episode; its id, which is the name of its bag."""
        if self.state != "idle":
            raise DataError(f"already recording {self.episode}; stop or discard it first")
        if not re.fullmatch(r"[A-Za-z0-9_]+", task):
            raise DataError(f"expected a task's name of letters, digits and _, found {task!r}")
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.root).free
        except OSError as error:
            raise DataError(f"{self.root}: cannot record there, {error.strerror}; choose another folder") from error
        if free < self._min_free_bytes:
            raise DataError(
                f"{self.root}: {free / 1e6:.0f} MB free, expected at least {self._min_free_bytes / 1e6:.0f}; make room"
            )
        episode = f"{task}-{self._next_number(task):04d}-{time.strftime('%Y%m%dT%H%M%S')}"
        self._writer = BagWriter(self.root / episode)
        self.episode, self.task, self.state, self._lost = episode, task, "recording", ""
        for topic, msgtype in self.topics.items():
            self._writer.add_topic(topic, msgtype)
        return episode

    def write(self, topic: str, data: bytes, log_time_ns: int) -> bool:
        """Add a message's CDR bytes and return True; False unless recording. Markers are also kept in a pause.

        Raises:
            DataError: the disk refuses. The recording has ended then; what was written can be recovered.
        """
        if self._writer is None or (self.state == "paused" and plain(topic) != EPISODE):
            return False
        try:
            self._writer.write(topic, self.topics[plain(topic)], data, log_time_ns)
        except (DataError, OSError) as error:
            self._lose(error)
            raise
        return True

    def flush(self) -> None:
        """To be called a few times a second, so that a crash costs little even where messages stop coming."""
        if self._writer is None:
            return
        try:
            self._writer.flush()
        except (DataError, OSError) as error:
            self._lose(error)
            raise

    def pause(self) -> State:
        """Pause, or go on; the new state."""
        self._current()
        self.state = "paused" if self.state == "recording" else "recording"
        return self.state

    def stop(self) -> tuple[Path, list[TopicReport]]:
        """Finish the episode: its bag, and what was recorded of each topic."""
        writer = self._current()
        report = writer.report
        try:
            save_label(writer.partial, Label(self.episode, self.task, rates=[vars(r) for r in report]))
            path = writer.close()
        except (DataError, OSError) as error:
            self._lose(error)
            raise
        finally:
            self._end()
        return path, report

    def discard(self) -> str:
        """Delete the episode that is being recorded, and return its id. A finished one is never deleted from here."""
        writer = self._current()
        self._end()
        writer.discard()
        return self.episode

    def label(self, label: str, episode: str = "") -> str:
        """Say what became of a finished episode, the last one by default; its id."""
        episode = episode or self.episode
        bag = self.root / episode
        if label not in LABELS:
            raise DataError(f"expected a label, one of {', '.join(LABELS)}, found {label!r}")
        if self.state != "idle" and episode == self.episode:
            raise DataError(f"{episode} is still being recorded; stop it first")
        if not episode or not (bag / "metadata.yaml").exists():
            known = [path.parent.name for path in self.root.glob("*/metadata.yaml")]
            raise DataError(f"no finished episode {episode!r} in {self.root}; {suggest(episode, known)}")
        save_label(bag, replace(load_label(bag), label=label))
        return episode

    def unfinished(self) -> list[str]:
        """Recordings below `root` that a crash left behind; `bag_writer.recover` repairs them."""
        current = f"{self.episode}{PARTIAL}" if self._writer else ""
        return sorted(path.name for path in self.root.glob(f"*{PARTIAL}") if path.name != current)

    def close(self) -> None:
        """End of the process: a recording that runs is finished, not lost."""
        if self._writer is not None and not self._writer.messages:
            self.discard()
        elif self.state != "idle":
            self.stop()

    def _current(self) -> BagWriter:
        if self._writer is None:
            raise DataError(f"nothing is being recorded{self._lost}")
        return self._writer

    def _lose(self, error: Exception) -> None:
        """The recording has ended by itself: whoever stops it later asks why."""
        self._lost = f": {error}"
        self._end()

    def _end(self) -> None:
        self._writer, self.state = None, "idle"

    def _next_number(self, task: str) -> int:
        pattern = re.compile(rf"{re.escape(task)}-(\d+)-")
        numbers = [int(match[1]) for path in self.root.iterdir() if (match := pattern.match(path.name))]
        return max(numbers, default=0) + 1


def summary(report: list[TopicReport], duration_s: float | None = None) -> str:
    """One sentence for the person who stopped: how long, how well, what is missing."""
    by_topic = {topic.topic: topic for topic in report}
    image = by_topic.get(IMAGE)
    parts = [] if duration_s is None else [f"{duration_s:.1f} s"]
    if image and image.count:
        parts.append(f"{image.count} frames at {image.rate_hz:.1f} Hz, {image.drops} dropped")
    missing = [topic for topic in NEEDED if not by_topic[topic].count]
    if missing:
        parts.append(f"NO messages of {', '.join(missing)}: this episode cannot be used")
    return ", ".join(parts)


def episodes(root: Path, task: str, label: str = "success") -> list[Path]:
    """Finished bags of a task with that label, sorted; an empty list where the folder is not there yet."""
    bags = sorted(path.parent for path in Path(root).glob("*/metadata.yaml"))
    bags = [bag for bag in bags if not bag.name.endswith((PARTIAL, DAMAGED))]
    return [bag for bag in bags if (found := load_label(bag)).task == task and found.label == label]
