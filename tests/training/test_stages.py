"""Stages are done once, in order, and again when what they depend on has changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from training import stages as module
from training.stages import Stages


class Work:
    """Counts its calls."""

    def __init__(self, fail: bool = False) -> None:
        self.calls: list[bool] = []
        self.fail = fail

    def __call__(self, fresh: bool) -> dict[str, Any]:
        self.calls.append(fresh)
        if self.fail:
            raise KeyboardInterrupt
        return {"calls": len(self.calls)}


def go(folder: Path, one: Work, two: Work, setting: int = 0, later: int = 0) -> Stages:
    stages = Stages(folder, ["one", "two"])
    stages.run("one", {"setting": setting}, one)
    stages.run("two", {"later": later}, two, after=("one",))
    return stages


def test_a_second_run_does_nothing(tmp_path: Path) -> None:
    one, two = Work(), Work()
    first = go(tmp_path, one, two)
    second = go(tmp_path, one, two)
    assert one.calls == two.calls == [False]
    assert first.seconds == second.seconds


def test_figures_are_kept(tmp_path: Path) -> None:
    for _ in range(2):
        assert Stages(tmp_path, ["one"]).run("one", {}, Work()) == {"calls": 1}


def test_a_change_redoes_the_stage_and_those_after_it(tmp_path: Path) -> None:
    one, two = Work(), Work()
    go(tmp_path, one, two)
    go(tmp_path, one, two, later=1)
    assert (len(one.calls), two.calls) == (1, [False, True])
    go(tmp_path, one, two, setting=1, later=1)
    assert (one.calls, two.calls) == ([False, True], [False, True, True])


def test_an_interrupted_stage_goes_on_and_its_time_counts(tmp_path: Path) -> None:
    one, two = Work(), Work(fail=True)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, one, two)
    begun = json.loads((tmp_path / "two.begun").read_text())
    begun["seconds"] = 100.0
    (tmp_path / "two.begun").write_text(json.dumps(begun))
    two.fail = False
    stages = go(tmp_path, one, two)
    assert one.calls == [False] and two.calls == [False, False]  # not fresh: it goes on from its checkpoints
    assert stages.seconds["two"] >= 100


def test_interrupted_then_changed_begins_anew(tmp_path: Path) -> None:
    one, two = Work(), Work(fail=True)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, one, two)
    two.fail = False
    go(tmp_path, one, two, later=1)
    assert two.calls == [False, True]


def test_a_stage_depends_on_those_it_names_alone(tmp_path: Path) -> None:
    for setting in range(2):
        one, beside = Work(), Work()
        stages = Stages(tmp_path, ["one", "beside"])
        stages.run("one", {"setting": setting}, one)
        stages.run("beside", {}, beside)
        assert (len(one.calls), len(beside.calls)) == (1, 1 - setting)


def test_the_commit_is_that_of_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = Work(), Work(fail=True)
    for now in ("old", "new", "newer"):
        monkeypatch.setattr(module, "commit", lambda now=now: now)
        two.fail = now == "old"
        if two.fail:
            with pytest.raises(KeyboardInterrupt):
                go(tmp_path, one, two)
        else:
            stages = go(tmp_path, one, two)
            assert stages.commits == {"one": ["old"], "two": ["old", "new"]}  # two went on after an update


def test_the_counter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    go(tmp_path, Work(), Work())
    assert [line[:5] for line in capsys.readouterr().err.splitlines()] == ["[1/2]", "[2/2]"]
