"""`visarl convert` as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.data.synthetic import Scene, synthetic_bag
from visarl.cli import main
from visarl.data.annotations import AnnotationFile
from visarl.data.episodes import EpisodeFile


def test_a_folder_of_bags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        synthetic_bag(tmp_path / "bags" / name, Scene(seconds=1.5))
    assert main(["convert", str(tmp_path / "bags"), "--out", str(tmp_path / "out.h5")]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["demos"] == 2 and report["bad"] == 0 and report["frame_age_ms"]["max"] < 50
    with EpisodeFile(tmp_path / "out.h5") as file:
        assert file.total == report["steps"]


def test_recovery_and_conversion_in_one_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bags = tmp_path / "bags"
    killed = synthetic_bag(bags / "killed", Scene(seconds=2.0))
    (killed / "metadata.yaml").unlink()
    killed.rename(bags / "killed.partial")
    cut = synthetic_bag(bags / "cut", Scene(seconds=2.0))
    (cut / "cut.mcap").write_bytes((cut / "cut.mcap").read_bytes()[:-100])
    synthetic_bag(bags / "good", Scene(seconds=2.0))

    assert main(["convert", str(bags), "--out", str(tmp_path / "out.h5")]) == 1
    assert "--recover" in capsys.readouterr().err
    assert main(["convert", str(bags), "--out", str(tmp_path / "out.h5"), "--recover"]) == 0
    said = capsys.readouterr()
    report = json.loads(said.out.splitlines()[-1])
    assert (report["demos"], report["unlabelled"]) == (1, 2)  # half an episode may be no success
    assert "cut: no success any more, but without a label" in said.err
    assert main(["convert", str(bags), "--out", str(tmp_path / "out.h5"), "--unlabelled"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["demos"] == 3
    assert sorted(path.name for path in bags.iterdir()) == ["cut", "cut.damaged", "good", "killed"]
    assert main(["convert", str(bags), "--recover"]) == 0  # nothing left to do
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"recovered": 0}


def test_a_recovery_that_was_killed_is_done_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bags = tmp_path / "bags"
    cut = synthetic_bag(bags / "cut", Scene(seconds=2.0))
    (cut / "cut.mcap").write_bytes((cut / "cut.mcap").read_bytes()[:-100])
    cut.rename(bags / "cut.damaged")
    (bags / "cut.recovering").mkdir()
    (bags / "cut.recovering" / "cut.mcap").write_bytes(b"half")
    assert main(["convert", str(bags), "--recover"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"recovered": 1}
    assert sorted(path.name for path in bags.iterdir()) == ["cut", "cut.damaged"]


def test_an_unfinished_bag_is_named_when_it_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    synthetic_bag(tmp_path / "bags" / "a", Scene(seconds=1.5))
    (tmp_path / "bags" / "b.partial").mkdir()
    assert main(["convert", str(tmp_path / "bags"), "--out", str(tmp_path / "out.h5")]) == 0
    said = capsys.readouterr()
    assert "b.partial: left out, unfinished (--recover repairs it)" in said.err
    assert json.loads(said.out.splitlines()[-1])["unfinished"] == 1


def test_frames_that_are_too_small_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    synthetic_bag(tmp_path / "bags" / "a", Scene(seconds=1.5, width=320, height=200))
    assert main(["convert", str(tmp_path / "bags"), "--out", str(tmp_path / "out.h5")]) == 1
    said = capsys.readouterr().err
    assert "320" in said and "Traceback" not in said


def test_clicks_of_the_simulated_annotator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    synthetic_bag(tmp_path / "bags" / "a", Scene(seconds=2.0))
    words = ["click", "--frames", "3", "--bags", str(tmp_path / "bags"), "--out", str(tmp_path / "new" / "clicks.json")]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"frames": 3, "clicks": 6}
    assert len(AnnotationFile.load(tmp_path / "new" / "clicks.json").frames) == 3
    synthetic_bag(tmp_path / "bags" / "b", Scene(seconds=2.0, truth=False))
    assert main(words) == 1
    assert "sim/truth" in capsys.readouterr().err


def test_clicks_of_a_placing_task_have_three_roles(tmp_path: Path) -> None:
    synthetic_bag(tmp_path / "bags" / "a", Scene(seconds=1.0, goal=True))
    out = tmp_path / "clicks.json"
    assert main(["click", "--frames", "2", "--bags", str(tmp_path / "bags"), "--out", str(out)]) == 0
    for clicks in AnnotationFile.load(out).frames.values():
        assert [click.role for click in clicks] == ["effector", "object", "goal"]


@pytest.mark.parametrize("verb", ["convert", "click"])
def test_an_out_that_cannot_be_written_is_told_before_a_bag_is_read(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {"convert": ["convert", "nowhere"], "click": ["click", "--bags", "nowhere"]}[verb]
    assert main([*words, "--out", str(tmp_path)]) == 1
    assert f"{tmp_path}: is a folder; expected the name of a file" in capsys.readouterr().err


def test_what_is_missing_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(tmp_path)]) == 1
    assert "expected --out" in capsys.readouterr().err
    assert main(["convert", "--out", str(tmp_path / "a.h5"), str(tmp_path)]) == 1
    assert "expected a folder with bags" in capsys.readouterr().err
