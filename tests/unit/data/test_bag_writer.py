"""What is on the disk survives a kill, a full disk and a second run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.unit.data.synthetic import T0_NS, Scene, arm_state, serialize, synthetic_bag, synthetic_messages, write_bag
from visarl.data.bag_writer import BagWriter, recover
from visarl.data.bags import ARM_STATE, IMAGE, Bag, bag_report, read_bag
from visarl.data.labels import Label, load_label, save_label
from visarl.errors import DataError

ROOT = Path(__file__).resolve().parents[3]
STATE = "visarl_msgs/msg/ArmState"

ENDLESS = """
import sys, time
from pathlib import Path
from tests.unit.data.synthetic import arm_state, serialize
from visarl.data.bag_writer import BagWriter
writer = BagWriter(Path(sys.argv[1]))
while True:
    now = time.time_ns()
    writer.write("arm/state", "visarl_msgs/msg/ArmState", serialize(arm_state(now, 0.0)), now)
    print(now, flush=True)
    time.sleep(0.005)
"""

LIMITED = """
import resource, sys
from pathlib import Path
from tests.unit.data.synthetic import Scene, serialize, synthetic_messages
from visarl.data.bag_writer import BagWriter
from visarl.data.labels import Label, load_label, save_label
from visarl.errors import DataError
messages = synthetic_messages(Scene(seconds=4.0))
limit = int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
writer = BagWriter(Path(sys.argv[1]))
written = 0
try:
    for log_time, topic, message in messages:
        writer.write(topic, message.__msgtype__, serialize(message), log_time)
        writer.flush()
        written += 1
    writer.close()
except DataError as error:
    assert writer.failed
    try:
        writer.write(topic, message.__msgtype__, serialize(message), log_time)
    except DataError:
        print(written)
        sys.exit(f"DataError: {error}")
sys.exit("the disk was not full")
"""


def _python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


def test_kill_9_loses_less_than_a_second(tmp_path: Path) -> None:
    path = tmp_path / "episode"
    child = subprocess.Popen(_python(ENDLESS, path), stdout=subprocess.PIPE, text=True, env=_environment())
    assert child.stdout is not None
    stamps = [int(child.stdout.readline())]
    limit = time.monotonic() + 30
    while stamps[-1] - stamps[0] < 2_000_000_000 and time.monotonic() < limit:
        stamps.append(int(child.stdout.readline()))
    child.send_signal(signal.SIGKILL)
    stamps += [int(line) for line in child.stdout.read().split("\n")[:-1]]
    child.wait()

    with pytest.raises(DataError, match="its recorder did not finish it"):
        Bag(tmp_path / "episode.partial")
    found = recover(tmp_path / "episode.partial")

    assert found.path == path
    assert not (tmp_path / "episode.partial").exists()
    read = [stamp for _, stamp, _ in read_bag(path, [ARM_STATE])]
    assert read == stamps[: len(read)]
    assert (stamps[-1] - read[-1]) / 1e9 < 1.0
    print(f"kill -9 lost {(stamps[-1] - read[-1]) / 1e9:.3f} s")


@pytest.mark.parametrize("limit", [1000, 60_000, 300_000])
def test_a_full_disk_keeps_what_was_written(tmp_path: Path, limit: int) -> None:
    """The kernel refuses every byte beyond the limit, as a full disk does."""
    done = subprocess.run(
        _python(LIMITED, tmp_path / "episode", limit), capture_output=True, text=True, env=_environment()
    )
    if limit == 1000:  # not even the list of topics fits
        assert "recording stopped" in done.stderr
        with pytest.raises(DataError, match="no whole message"):
            recover(tmp_path / "episode.partial")
        assert (tmp_path / "episode.partial").is_dir()
        return
    assert done.returncode == 1 and "recording stopped" in done.stderr and "--recover" in done.stderr, done.stderr
    written = int(done.stdout)
    assert written > 10
    assert recover(tmp_path / "episode.partial").messages == written


def test_a_really_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "visarl", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("may not mount a small disk here; the test before this one limits the file instead")
    try:
        done = subprocess.run(_python(LIMITED, disk / "episode", 0), capture_output=True, text=True, env=_environment())
        assert "No space left on device" in done.stderr, done.stderr
        moved = tmp_path / "episode.partial"
        subprocess.run(["cp", "-r", str(disk / "episode.partial"), str(moved)], check=True)
        with pytest.raises(DataError, match="make room"):
            recover(disk / "episode.partial")  # no room for the copy
        assert (disk / "episode.partial").is_dir()
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert recover(moved).messages == int(done.stdout)


def test_the_final_name_appears_only_at_the_end(tmp_path: Path) -> None:
    writer = BagWriter(tmp_path / "episode")
    writer.write(ARM_STATE, STATE, serialize(arm_state(T0_NS, 0.0)), T0_NS)
    assert [path.name for path in tmp_path.iterdir()] == ["episode.partial"]
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["episode"]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    synthetic_bag(tmp_path / "episode", Scene(seconds=0.2))
    with pytest.raises(DataError, match="exists already"):
        BagWriter(tmp_path / "episode")


def test_discard_leaves_nothing(tmp_path: Path) -> None:
    writer = BagWriter(tmp_path / "episode")
    writer.write(ARM_STATE, STATE, serialize(arm_state(T0_NS, 0.0)), T0_NS)
    writer.discard()
    assert not list(tmp_path.iterdir())


def test_a_silent_topic_is_in_the_report(tmp_path: Path) -> None:
    writer = BagWriter(tmp_path / "episode")
    writer.add_topic(IMAGE, "sensor_msgs/msg/CompressedImage")
    writer.write(ARM_STATE, STATE, serialize(arm_state(T0_NS, 0.0)), T0_NS)
    writer.close()
    assert {topic.topic: topic.count for topic in bag_report(tmp_path / "episode")} == {ARM_STATE: 1, IMAGE: 0}


def test_a_truncated_bag_is_recovered_and_the_old_one_kept(tmp_path: Path) -> None:
    messages = synthetic_messages(Scene(seconds=3.0))
    writer = BagWriter(tmp_path / "bag")
    for index, (log_time, topic, message) in enumerate(messages):
        writer.write(topic, message.__msgtype__, serialize(message), log_time)
        if index % 20 == 0:
            writer.flush()
    file = writer.close() / "bag.mcap"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    save_label(tmp_path / "bag", Label("bag", "pick_apple", "success", "a note", 7, [{"topic": IMAGE, "count": 90}]))

    found = recover(tmp_path / "bag")

    label = load_label(found.path)
    assert (found.label, label.label, label.task, label.seed) == ("success", "", "pick_apple", 7)
    assert label.note == "a note; recovered from a broken bag, was success"
    assert {rate["topic"]: rate["count"] for rate in label.rates}[IMAGE] < 90
    assert load_label(tmp_path / "bag.damaged").label == "success"
    assert (tmp_path / "bag.damaged" / "bag.mcap").exists()
    read = list(Bag(found.path).raw())
    assert 100 < len(read) == found.messages < len(messages)
    assert [topic for topic, *_ in read] == [topic for _, topic, _ in messages[: len(read)]]


def test_a_label_that_was_cut_too_does_not_keep_a_bag_from_its_recovery(tmp_path: Path) -> None:
    bag = synthetic_bag(tmp_path / "bag", Scene(seconds=0.5))
    (bag / "bag.mcap").write_bytes((bag / "bag.mcap").read_bytes()[:-100])
    (bag / "label.json").write_text('{"episode": "bag", "lab')
    assert recover(bag).messages and load_label(bag).label == ""


def test_recovering_what_is_beyond_it_changes_nothing(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", synthetic_messages(Scene(seconds=0.2)))
    (bag / "bag.mcap").write_bytes(b"nothing of a bag is left")
    with pytest.raises(DataError, match="no whole message"):
        recover(bag)
    assert (bag / "bag.mcap").read_bytes() == b"nothing of a bag is left"
    assert [path.name for path in tmp_path.iterdir()] == ["bag"]


def test_an_unknown_message_type_is_named(tmp_path: Path) -> None:
    writer = BagWriter(tmp_path / "bag")
    with pytest.raises(DataError, match="no definition of the message type 'other_msgs/msg/Thing'"):
        writer.add_topic("thing", "other_msgs/msg/Thing")
