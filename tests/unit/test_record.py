"""What becomes of a recording that goes wrong; the recording itself is tested with the graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.data.synthetic import Scene, synthetic_bag
from visarl.errors import ConfigError, DataError, VisarlError
from visarl.options import Record
from visarl.record import demonstrate, record


class Mute:
    """A graph whose demonstrator does not answer."""

    truth = None

    def __init__(self) -> None:
        self.discarded = 0

    def reset(self, task: str, seed: int) -> None:
        """The simulator still answers."""

    def start_recording(self, task: str) -> str:
        return f"{task}-0001"

    def teleop(self, enabled: bool) -> None:
        raise VisarlError("teleop/enable: no answer")

    def discard_recording(self) -> None:
        self.discarded += 1


def test_half_an_episode_is_discarded_even_if_the_demonstrator_is_silent(tmp_path: Path) -> None:
    client: Any = Mute()
    with pytest.raises(VisarlError, match="no answer"):
        demonstrate(client, tmp_path, "pick_red_block", 0, 1.0)
    assert client.discarded == 1


def test_attempts_of_interrupted_runs_count(tmp_path: Path) -> None:
    for i, label in enumerate(("success", "failure", "success")):
        synthetic_bag(tmp_path / f"pick_red_block-{i}", Scene(seconds=1.0, label=label))
    found = record(Record(out=tmp_path, episodes=2))
    assert (found["episodes"], found["attempts"], found["failures"]) == (2, 3, 1)


@pytest.mark.parametrize("episodes", [0, -1])
def test_no_demonstrations_are_refused(episodes: int, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"at least one demonstration, found --episodes {episodes}"):
        record(Record(out=tmp_path / "bags", episodes=episodes))
    assert not (tmp_path / "bags").exists()


def test_a_file_in_the_place_of_the_folder_is_told_before_the_graph_starts(tmp_path: Path) -> None:
    (tmp_path / "bags").write_text("")
    with pytest.raises(DataError, match="bags is a file and no folder; choose another folder"):
        record(Record(out=tmp_path / "bags"))
