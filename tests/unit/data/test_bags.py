"""Bags are read back as they were written, by us and by others, and bad ones are refused with a reason."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import yaml
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from rosbags.rosbag2 import StoragePlugin, Writer

from tests.unit.data.synthetic import (
    T0_NS,
    Scene,
    header,
    make,
    picture,
    serialize,
    synthetic_bag,
    synthetic_messages,
    write_bag,
)
from visarl.data import messages
from visarl.data.bags import (
    ARM_STATE,
    IMAGE,
    TELEOP_ACTION,
    TRUTH,
    Bag,
    bag_report,
    decode_image,
    find_bags,
    frames_from_bag,
    read_bag,
)
from visarl.errors import DataError


def test_every_message_comes_back_with_its_header_stamp(tmp_path: Path) -> None:
    scene = Scene(seconds=1.0, jitter_ms=5.0)
    written = synthetic_messages(scene)
    bag = write_bag(tmp_path / "bag", written)

    read = list(read_bag(bag, [ARM_STATE, IMAGE, TELEOP_ACTION, TRUTH]))

    assert [topic for topic, _, _ in read] == [topic for _, topic, _ in written]
    for (_, stamp, found), (_, _, expected) in zip(read, written, strict=True):
        assert stamp == expected.header.stamp.sec * 10**9 + expected.header.stamp.nanosec
        assert bytes(serialize(expected)) == bytes(serialize(_ours(found)))


def _ours(message: object) -> object:
    """The message as one of the writer's types: a reader makes its own classes from the bag."""
    store = messages.typestore()
    raw = store.serialize_cdr(message, message.__msgtype__)  # type: ignore[attr-defined]
    return store.deserialize_cdr(raw, message.__msgtype__)  # type: ignore[attr-defined]


def test_reading_needs_no_definitions_but_those_in_the_bag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bag = synthetic_bag(tmp_path / "bag", Scene(seconds=0.5))

    def nowhere() -> Path:
        raise AssertionError("a reader looked for definitions outside the bag")

    monkeypatch.setattr(messages, "definitions_folder", nowhere)
    messages.typestore.cache_clear()
    try:
        assert sum(1 for _ in read_bag(bag, [TELEOP_ACTION])) == 5
    finally:
        messages.typestore.cache_clear()


def test_a_peer_reads_our_bag(tmp_path: Path) -> None:
    written = synthetic_messages(Scene(seconds=0.5))
    bag = write_bag(tmp_path / "bag", written)

    with (bag / "bag.mcap").open("rb") as stream:
        reader = make_reader(stream, decoder_factories=[DecoderFactory()])
        read = [(channel.topic, message) for _, channel, _, message in reader.iter_decoded_messages()]

    assert [topic for topic, _ in read] == [f"/{topic}" for _, topic, _ in written]
    action = next(message for topic, message in read if topic == "/teleop/action")
    assert action.twist.linear.x == pytest.approx(0.05)
    state = next(message for topic, message in read if topic == "/arm/state")
    assert len(state.position) == 6


def test_metadata_names_what_rosbag2_wants(tmp_path: Path) -> None:
    bag = synthetic_bag(tmp_path / "bag", Scene(seconds=0.5))
    found = yaml.safe_load((bag / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert found["storage_identifier"] == "mcap"
    assert found["relative_file_paths"] == ["bag.mcap"]
    assert found["message_count"] == sum(topic["message_count"] for topic in found["topics_with_message_count"])


def test_report_counts_gaps_and_drops_from_the_stamps(tmp_path: Path) -> None:
    lost = {T0_NS + int(i / 30 * 1e9) for i in (10, 11, 20)}
    kept = [
        (log, topic, message)
        for log, topic, message in synthetic_messages(Scene(seconds=2.0))
        if topic != IMAGE or (message.header.stamp.sec * 10**9 + message.header.stamp.nanosec) not in lost
    ]
    report = {topic.topic: topic for topic in bag_report(write_bag(tmp_path / "bag", kept))}

    assert report[IMAGE].count == 57
    assert report[IMAGE].drops == 3
    assert report[IMAGE].gaps == 2
    assert report[IMAGE].max_gap_ms == pytest.approx(100, abs=0.1)
    assert report[IMAGE].age_ms_p50 == pytest.approx(12, abs=0.1)
    assert report[ARM_STATE].rate_hz == pytest.approx(50, abs=0.1)
    assert report[ARM_STATE].drops == 0


def test_frames_are_rgb(tmp_path: Path) -> None:
    scene = Scene(seconds=0.2)
    frames = list(frames_from_bag(synthetic_bag(tmp_path / "bag", scene)))
    assert len(frames) == 6
    stamp, image = frames[2]
    expected = picture(scene, (stamp - T0_NS) / 1e9)
    assert image.shape == (480, 640, 3)
    assert np.abs(image.astype(int) - expected).mean() < 1.0
    assert np.abs(image[336, 384].astype(int) - (255, 0, 0)).max() < 20  # the red block


@pytest.mark.parametrize(("encoding", "channels"), [("rgb8", 3), ("bgr8", 3), ("mono8", 1)])
def test_raw_images_with_padded_rows(encoding: str, channels: int) -> None:
    pixels = np.arange(2 * 3 * channels, dtype=np.uint8).reshape(2, 3, channels)
    padded = np.concatenate([pixels.reshape(2, -1), np.full((2, 5), 99, np.uint8)], axis=1)
    message = make(
        "sensor_msgs/msg/Image", header=header(T0_NS, "c"), height=2, width=3, encoding=encoding, is_bigendian=0,
        step=padded.shape[1], data=padded.ravel(),
    )  # fmt: skip
    found = decode_image(message, "here")
    expected = {"rgb8": pixels, "bgr8": pixels[:, :, ::-1], "mono8": np.repeat(pixels, 3, axis=2)}[encoding]
    assert np.array_equal(found, expected)


def test_a_picture_that_is_none_is_refused(tmp_path: Path) -> None:
    broken = make("sensor_msgs/msg/CompressedImage", header=header(T0_NS, "c"), format="jpeg", data=np.zeros(9, "u1"))
    bag = write_bag(tmp_path / "bag", [(T0_NS, IMAGE, broken)])
    with pytest.raises(DataError, match=f"{IMAGE} at {T0_NS}: 9 bytes of format 'jpeg' are no picture"):
        list(frames_from_bag(bag))


def test_a_missing_topic_names_those_found(tmp_path: Path) -> None:
    bag = synthetic_bag(tmp_path / "bag", Scene(seconds=0.5, truth=False))
    with pytest.raises(DataError, match=r"no messages of sim/truth; found arm/state \(25\), camera/image_raw"):
        list(read_bag(bag, [IMAGE, TRUTH]))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_bag_is_refused_with_the_way_to_save_it(tmp_path: Path, share: float) -> None:
    bag = synthetic_bag(tmp_path / "bag", Scene(seconds=1.0))
    file = bag / "bag.mcap"
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match="visarl convert --recover"):
        list(read_bag(bag, [IMAGE]))


def test_a_damaged_chunk_is_noticed(tmp_path: Path) -> None:
    bag = synthetic_bag(tmp_path / "bag", Scene(seconds=1.0))
    file = bag / "bag.mcap"
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as a rosbag2"):
        list(read_bag(bag, [IMAGE, ARM_STATE, TRUTH, TELEOP_ACTION]))


def test_what_is_no_bag_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such bag"):
        Bag(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="expected a finished bag"):
        Bag(tmp_path / "empty")
    (tmp_path / "text.mcap").write_text("this is not a bag")
    with pytest.raises(DataError, match="cannot be read as a rosbag2"):
        Bag(tmp_path / "text.mcap")
    with pytest.raises(DataError, match="expected a folder with bags .*correct the path, or put them back"):
        find_bags(tmp_path / "empty")


def test_a_foreign_bag_lacks_our_topics(tmp_path: Path) -> None:
    store = messages.typestore()
    with Writer(tmp_path / "foreign", version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/chatter", "std_msgs/msg/String", typestore=store)
        text = make("std_msgs/msg/String", data="hello")
        writer.write(connection, T0_NS, serialize(text))
    with pytest.raises(DataError, match=r"no messages of camera/image_raw/compressed; found chatter \(1\)"):
        list(read_bag(tmp_path / "foreign", [IMAGE]))
    assert [message.data for _, _, message in read_bag(tmp_path / "foreign", ["chatter"])] == ["hello"]


def test_an_older_sqlite_bag(tmp_path: Path) -> None:
    """Newer ROS keeps definitions in it; Humble does not, and then only ROS itself can convert it."""
    with Writer(tmp_path / "old", version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
        connection = writer.add_connection("/chatter", "std_msgs/msg/String", typestore=messages.typestore())
        writer.write(connection, T0_NS, serialize(make("std_msgs/msg/String", data="hello")))
    assert [message.data for _, _, message in read_bag(tmp_path / "old", ["chatter"])] == ["hello"]

    with closing(sqlite3.connect(tmp_path / "old" / "old.db3")) as database, database:
        database.execute("DELETE FROM message_definitions")
    with pytest.raises(DataError, match="no type definitions"):
        list(read_bag(tmp_path / "old", ["chatter"]))


def test_find_bags_skips_the_unfinished(tmp_path: Path) -> None:
    synthetic_bag(tmp_path / "b", Scene(seconds=0.2))
    synthetic_bag(tmp_path / "a", Scene(seconds=0.2))
    (tmp_path / "c.partial").mkdir()
    assert [path.name for path in find_bags(tmp_path)] == ["a", "b"]
    assert find_bags(tmp_path / "a") == [tmp_path / "a"]
