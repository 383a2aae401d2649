"""Writes a bag that a crash, a `kill -9` or a full disk cannot spoil, and repairs what such an end left behind."""

from __future__ import annotations

import io
import os
import shutil
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from mcap.exceptions import McapError
from mcap.records import Channel, Message, Schema
from mcap.stream_reader import CRCValidationError, StreamReader
from mcap.writer import CompressionType, Writer

from visarl.data.bags import DAMAGED, PARTIAL, RECOVERING, header_stamp, plain
from visarl.data.files import write_text
from visarl.data.labels import FILE as LABEL_FILE
from visarl.data.labels import Label, load_label, save_label
from visarl.data.messages import definition
from visarl.data.rates import TopicReport, TopicStats
from visarl.errors import DataError

FLUSH_S = 0.25
"""A `kill -9` loses at most the messages of this long; a power cut, what the kernel had not yet put on the disk."""

METADATA_VERSION = 8
"""Of metadata.yaml; the newest that ROS 2 Humble and everything after it reads alike."""


@dataclass
class _Connection:
    channel: int
    stamped: bool
    digest: str
    stats: TopicStats


class BagWriter:
    """One bag. Grows as `<path>.partial/`, becomes `<path>/` on `close`; not thread-safe.

    Raises:
        DataError: the bag exists already, or the folder cannot be made.
    """

    def __init__(self, path: Path, suffix: str = PARTIAL) -> None:
        self.path = Path(path)
        self.partial = self.path.with_name(self.path.name + suffix)
        for existing in (self.path, self.partial):
            if existing.exists():
                raise DataError(f"{existing} exists already; choose another name, or remove it")
        try:
            self.partial.mkdir(parents=True)
            self._file = open(self.partial / f"{self.path.name}.mcap", "xb", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise DataError(f"{self.partial}: cannot record there, {error.strerror}") from error
        self._stream = io.BufferedWriter(self._file, 1 << 20)
        # Uncompressed: nearly all bytes are JPEG, and the cores are busy with the models.
        self._writer = Writer(self._stream, compression=CompressionType.NONE)
        self._schemas: dict[str, int] = {}
        self._connections: dict[str, _Connection] = {}
        self._whole = 0  # length of the file up to which every record is complete
        self._flushed_at = time.monotonic()
        self._span = (2**63 - 1, 0)
        with self._guard():
            self._writer.start(profile="ros2", library="visarl")
            self.flush()

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._file.truncate(self._whole)  # a half-written record would hide nothing, but costs room
            self._file.close()
            raise DataError(
                f"{self.path}: recording stopped, {error.strerror}; everything up to {FLUSH_S:g} s before is safe in "
                f"{self.partial}: make room, then `visarl convert --recover` turns it into a bag"
            ) from error

    @property
    def failed(self) -> bool:
        """Whether the disk refused a write; the bag takes no more messages."""
        return self._file.closed

    def add_topic(self, topic: str, msgtype: str, schema: tuple[str, str] | None = None) -> None:
        """Announce a topic, so that the bag names it even if no message comes.

        `schema`: definition text and RIHS01 hash, looked up where not given.
        """
        topic = plain(topic)
        if topic in self._connections:
            return
        text, digest = schema or definition(msgtype)
        with self._guard():
            if msgtype not in self._schemas:
                self._schemas[msgtype] = self._writer.register_schema(msgtype, "ros2msg", text.encode())
            channel = self._writer.register_channel(
                f"/{topic}", "cdr", self._schemas[msgtype], {"offered_qos_profiles": ""}
            )
        self._connections[topic] = _Connection(
            channel, text.lstrip().startswith("std_msgs/Header"), digest, TopicStats(topic, msgtype)
        )

    def write(self, topic: str, msgtype: str, data: bytes, log_time_ns: int, sequence: int = 0) -> None:
        """Add one message: its CDR bytes as they came, and when they came [ns since the epoch].

        Raises:
            DataError: the disk is full or gone; what was written stays readable.
        """
        if self.failed:
            raise DataError(f"{self.path}: this recording stopped earlier; start another")
        topic = plain(topic)
        self.add_topic(topic, msgtype)
        connection = self._connections[topic]
        stamp = header_stamp(data) if connection.stamped else log_time_ns
        with self._guard():
            self._writer.add_message(connection.channel, log_time_ns, data, stamp, sequence)
            connection.stats.add(stamp, log_time_ns)
            self._span = (min(self._span[0], log_time_ns), max(self._span[1], log_time_ns))
            if time.monotonic() - self._flushed_at >= FLUSH_S:
                self.flush()

    def flush(self) -> None:
        """Hand everything to the kernel, as whole records. Call it from a timer too, where messages may stop."""
        if self.failed:
            return
        with self._guard():
            self._writer.flush()
            self._whole = self._file.tell()
        self._flushed_at = time.monotonic()

    @property
    def messages(self) -> int:
        """How many were written."""
        return sum(len(connection.stats.stamps) for connection in self._connections.values())

    @property
    def duration_s(self) -> float:
        """Between the first and the last message."""
        return max(0, self._span[1] - self._span[0]) / 1e9

    @property
    def report(self) -> list[TopicReport]:
        """Rates, gaps and drops so far, sorted by topic."""
        return [self._connections[topic].stats.report() for topic in sorted(self._connections)]

    def close(self) -> Path:
        """Index, metadata, then the final name.

        Raises:
            DataError: the disk is full or gone; the partial bag stays and can be recovered.
        """
        if self.failed:
            raise DataError(f"{self.path}: this recording stopped earlier; `visarl convert --recover` saves it")
        with self._guard():
            self.flush()
            self._writer.finish()
            self._stream.flush()
            os.fsync(self._file.fileno())
            self._whole = self._file.tell()
        self._file.close()
        write_text(self.partial / "metadata.yaml", self._metadata())
        try:
            self.partial.rename(self.path)
        except OSError as error:
            raise DataError(f"{self.partial}: complete, but cannot be renamed, {error.strerror}") from error
        return self.path

    def discard(self) -> None:
        """Delete the unfinished bag."""
        self._file.close()
        shutil.rmtree(self.partial)

    def _metadata(self) -> str:
        start = min(self._span[0], self._span[1])
        duration = {"nanoseconds": self._span[1] - start}
        began = {"nanoseconds_since_epoch": start}
        name = f"{self.path.name}.mcap"
        content: dict[str, Any] = {
            "version": METADATA_VERSION,
            "storage_identifier": "mcap",
            "relative_file_paths": [name],
            "duration": duration,
            "starting_time": began,
            "message_count": self.messages,
            "topics_with_message_count": [
                {
                    "topic_metadata": {
                        "name": f"/{topic}",
                        "type": connection.stats.msgtype,
                        "serialization_format": "cdr",
                        "offered_qos_profiles": "",
                        "type_description_hash": connection.digest,
                    },
                    "message_count": len(connection.stats.stamps),
                }
                for topic, connection in self._connections.items()
            ],
            "compression_format": "",
            "compression_mode": "",
            "files": [
                {"path": name, "starting_time": dict(began), "duration": dict(duration), "message_count": self.messages}
            ],
            "custom_data": None,
            "ros_distro": "visarl",
        }
        return yaml.safe_dump({"rosbag2_bagfile_information": content}, sort_keys=False)


@dataclass(frozen=True)
class Recovery:
    """What `recover` saved."""

    path: Path
    messages: int
    duration_s: float
    label: str
    """What the episode's label was, which is taken away; empty where there was none."""


def recover(path: Path) -> Recovery:
    """Turn an unfinished or truncated bag into a finished one with every whole record.

    `path` is `<name>.partial/`, which goes once the new bag is complete, or the folder of a cut bag, which is kept
    as `<name>.damaged/`.

    Whatever its label said was said of the whole episode: it is kept as the label's note alone, so that nothing learns
    from half an episode unless somebody asks for it.

    Interrupted, it leaves `path` as it was; killed, it can be called again.

    Raises:
        DataError: nothing in it can be read, or there is no room for the copy; then `path` is as it was.
    """
    path = Path(path)
    unfinished = path.name.endswith(PARTIAL)
    final = path.with_name(path.name[: -len(PARTIAL)]) if unfinished else path
    damaged = path.with_name(path.name + DAMAGED)
    if damaged.is_dir() and not path.exists():
        damaged.rename(path)  # a recovery that was killed: begin it again
    files = sorted(path.glob("*.mcap")) if path.is_dir() else []
    if not files:
        raise DataError(f"{path}: expected a bag's folder with an .mcap file in it, found none")
    if unfinished and final.exists():
        raise DataError(f"{final} exists already; remove one of the two")
    source = path if unfinished else path.rename(damaged)
    shutil.rmtree(final.with_name(final.name + RECOVERING), ignore_errors=True)  # a recovery that was interrupted
    try:
        writer = BagWriter(final, suffix=RECOVERING)
        try:
            for topic, msgtype, text, message in _whole_records(source / files[0].name):
                # The hash is not in the file; a reader that finds none does not check it.
                writer.add_topic(topic, msgtype, (text, ""))
                writer.write(topic, msgtype, message.data, message.log_time, message.sequence)
            if not writer.messages:
                raise DataError(f"{path}: no whole message in it; delete it")
        except DataError:
            writer.discard()
            raise
        for sidecar in source.glob("*.json"):
            shutil.copy2(sidecar, writer.partial)
        label = _unlabel(writer)
        writer.close()
    except BaseException:
        if not unfinished:
            source.rename(path)
        raise
    if unfinished:
        shutil.rmtree(source)
    return Recovery(final, writer.messages, writer.duration_s, label)


def _unlabel(writer: BagWriter) -> str:
    """Take the label away from the bag that `writer` is finishing; what it was."""
    if not (writer.partial / LABEL_FILE).exists():
        return ""
    try:
        old = load_label(writer.partial)
    except DataError:  # cut, too: the bag is worth more
        old = Label(writer.path.name, task="")
    note = "; ".join(filter(None, [old.note, f"recovered from a broken bag, was {old.label or 'without a label'}"]))
    save_label(writer.partial, replace(old, label="", note=note, rates=[vars(topic) for topic in writer.report]))
    return old.label


def _whole_records(file: Path) -> Iterator[tuple[str, str, str, Message]]:
    """(topic, type, definition, message) until the file ends or a record is damaged."""
    schemas: dict[int, Schema] = {}
    channels: dict[int, Channel] = {}
    with file.open("rb") as stream:
        records = StreamReader(stream, validate_crcs=True).records
        while True:
            try:
                record = next(records, None)
            except (McapError, CRCValidationError, struct.error, UnicodeDecodeError):
                return  # the cut: everything before it was whole
            if record is None:
                return
            if isinstance(record, Schema):
                schemas[record.id] = record
            elif isinstance(record, Channel):
                channels[record.id] = record
            elif isinstance(record, Message):
                channel = channels[record.channel_id]
                schema = schemas[channel.schema_id]
                yield channel.topic, schema.name, schema.data.decode(), record
