"""A label lies beside the recording and is read back as it was given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from visarl.data.labels import FILE, Label, load_label, save_label
from visarl.errors import DataError


def test_everything_said_of_an_episode_comes_back(tmp_path: Path) -> None:
    label = Label("a", "pick_apple", "failure", "fiel herunter, zu spät", 7, [{"topic": "arm/state", "count": 3}])
    save_label(tmp_path, label)
    assert load_label(tmp_path) == label


def test_saying_something_else_replaces_it_and_touches_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "bag.mcap").write_bytes(b"recording")
    for word in ("failure", "success"):
        save_label(tmp_path, Label("a", "pick_apple", word))
    assert load_label(tmp_path).label == "success"
    assert {path.name for path in tmp_path.iterdir()} == {"bag.mcap", FILE}
    assert (tmp_path / "bag.mcap").read_bytes() == b"recording"


def test_a_bag_of_another_tool_is_an_episode_of_which_nobody_has_said_anything(tmp_path: Path) -> None:
    (tmp_path / "rosbag2_2024").mkdir()
    assert load_label(tmp_path / "rosbag2_2024") == Label("rosbag2_2024", "", "", "", None, [])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"episode": "a"}, r"label.json: expected episode, task, label, note, seed, rates, found \['episode'\]"),
        ({"episode": "a", "task": "t", "stars": 5}, r"found \['episode', 'stars', 'task'\]"),
        ({"episode": "a", "task": "t", "label": "good"}, "episode a: no label 'good'; known: failure, success"),
    ],
)
def test_a_label_that_another_hand_wrote_is_refused(content: dict[str, object], words: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps(content))
    with pytest.raises(DataError, match=words):
        load_label(tmp_path)
