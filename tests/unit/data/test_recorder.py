"""The recorder's states, and what each leaves on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.data.synthetic import TASK, Scene, make, serialize, synthetic_messages, time_of
from visarl.data.bags import EPISODE, IMAGE, TELEOP_ACTION, Bag, read_bag
from visarl.data.labels import load_label
from visarl.data.recorder import OPTIONAL, TOPICS, Recorder, episodes, summary
from visarl.errors import DataError

MESSAGES = [(log, topic, serialize(message)) for log, topic, message in synthetic_messages(Scene(seconds=0.5))]


def _record(recorder: Recorder, task: str = TASK) -> Path:
    recorder.start(task)
    for log_time, topic, data in MESSAGES:
        assert recorder.write(topic, data, log_time)
    return recorder.stop()[0]


def test_one_episode(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    assert not recorder.write(*MESSAGES[0][1:], MESSAGES[0][0])  # nothing is recorded yet
    path = _record(recorder)
    assert recorder.state == "idle" and path.name == recorder.episode and path.name.startswith(f"{TASK}-0001-")
    with Bag(path) as bag:
        assert bag.topics == TOPICS  # the silent ones too
        assert len(list(bag.raw())) == len(MESSAGES)
    label = load_label(path)
    assert (label.label, label.task) == ("", TASK)
    assert next(rate for rate in label.rates if rate["topic"] == IMAGE)["count"] == 15


def test_labels_count_episodes(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    first = _record(recorder)
    second = _record(recorder)
    assert second.name.startswith(f"{TASK}-0002-")
    recorder.label("success")
    recorder.label("failure", first.name)
    assert episodes(tmp_path, TASK) == [second] and episodes(tmp_path, TASK, "failure") == [first]
    assert not episodes(tmp_path, "pick_apple") and not episodes(tmp_path / "nowhere", TASK)
    assert load_label(second).rates  # a label keeps the report


def test_wrong_labels(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    with pytest.raises(DataError, match="no finished episode"):
        recorder.label("success")
    _record(recorder)
    with pytest.raises(DataError, match="one of success, failure, found 'good'"):
        recorder.label("good")
    recorder.start(TASK)
    with pytest.raises(DataError, match="still being recorded"):
        recorder.label("success")


def test_a_pause_keeps_markers_only(tmp_path: Path) -> None:
    marker = make(
        "visarl_msgs/msg/Episode",
        header=make("std_msgs/msg/Header", stamp=time_of(MESSAGES[9][0]), frame_id=""),
        event="pause", episode="", task=TASK, label="", note="",
    )  # fmt: skip
    recorder = Recorder(tmp_path)
    recorder.start(TASK)
    for index, (log_time, topic, data) in enumerate(MESSAGES):
        if index in (10, 30):
            assert recorder.pause() == ("paused" if index == 10 else "recording")
            recorder.write(EPISODE, serialize(marker), log_time)
        assert recorder.write(topic, data, log_time) == (not 10 <= index < 30)
    path, _ = recorder.stop()
    assert len(list(Bag(path).raw())) == len(MESSAGES) - 20 + 2
    assert [message.event for _, _, message in read_bag(path, [EPISODE])] == ["pause", "pause"]


def test_discard_deletes_only_what_is_being_recorded(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    kept = _record(recorder)
    episode = recorder.start(TASK)
    assert recorder.discard() == episode
    assert list(tmp_path.iterdir()) == [kept]
    with pytest.raises(DataError, match="nothing is being recorded"):
        recorder.discard()


def test_what_cannot_be_done_now_says_so(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    for call in (recorder.stop, recorder.pause):
        with pytest.raises(DataError, match="nothing is being recorded"):
            call()
    episode = recorder.start(TASK)
    with pytest.raises(DataError, match=f"already recording {episode}"):
        recorder.start(TASK)
    with pytest.raises(DataError, match="expected a task's name"):
        Recorder(tmp_path).start("../elsewhere")


def test_too_little_room(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="MB free, expected at least"):
        Recorder(tmp_path, min_free_bytes=10**18).start(TASK)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot record there"):
        Recorder(tmp_path / "file").start(TASK)


def test_the_end_of_the_process_keeps_the_episode(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    episode = recorder.start(TASK)
    for log_time, topic, data in MESSAGES:
        recorder.write(topic, data, log_time)
    recorder.close()
    assert len(list(Bag(tmp_path / episode).raw())) == len(MESSAGES)
    recorder.close()  # twice is once
    recorder.start(TASK)
    recorder.close()  # nothing had been recorded yet
    assert [path.name for path in tmp_path.iterdir()] == [episode]


def test_what_a_crash_left_is_told(tmp_path: Path) -> None:
    crashed = Recorder(tmp_path)
    episode = crashed.start(TASK)
    assert Recorder(tmp_path).unfinished() == [f"{episode}.partial"]
    assert crashed.unfinished() == []


def test_models_output_is_recorded_where_asked(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, models=True)
    recorder.start(TASK)
    path, _ = recorder.stop()
    assert Bag(path).topics == {**TOPICS, **OPTIONAL}


def test_the_summary_tells_what_is_missing(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.start(TASK)
    for log_time, topic, data in MESSAGES:
        if topic == TELEOP_ACTION:
            recorder.write(topic, data, log_time)
    _, report = recorder.stop()
    assert "NO messages of camera/image_raw/compressed, arm/state" in summary(report)
    recorder.start(TASK)
    for log_time, topic, data in MESSAGES:
        recorder.write(topic, data, log_time)
    assert summary(recorder.stop()[1]) == "15 frames at 30.0 Hz, 0 dropped"


def test_a_disk_that_vanishes_ends_the_recording_once(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, min_free_bytes=0)
    recorder.start("pick_red_block")
    writer = recorder._writer
    assert writer is not None

    def gone() -> None:
        raise OSError(5, "Input/output error")

    writer.write = lambda *_: gone()  # type: ignore[method-assign,assignment]
    with pytest.raises(OSError, match="Input/output"):
        recorder.write("/arm/state", b"", 1)
    assert recorder.state == "idle" and not recorder.write("/arm/state", b"", 2)
