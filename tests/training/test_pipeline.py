"""The pipeline on recorded bags: every stage, the bundle, its card, and going on after an interruption."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from tests.training.conftest import see_clearly
from tests.unit.data.synthetic import Scene, synthetic_bag
from training import collect, label, pipeline, train_policy
from training.card import write_card
from training.common import command
from visarl.bundle import load_bundle
from visarl.errors import ConfigError, SimulationError
from visarl.training_options import Label, Pipeline


def options(run: Path, out: Path) -> Pipeline:
    return Pipeline(
        task="pick_red_block",
        out=out,
        preset=str(run / "preset.json"),
        demos=2,
        test_demos=1,
        frames=2,
        seeds="500",
        saliency_iterations=2,
        encoder_iterations=2,
        policy_iterations=2,
        select=0,
        diagnostic_starts=0,
        limit_s=0.5,
        graph=False,
        workers=1,
        threads=1,
    )


@pytest.fixture(autouse=True)
def clear_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the real labelling, see `see_clearly`."""
    original = label.main

    def labelled(wanted: Label) -> None:
        original(wanted)
        see_clearly(wanted.episodes)

    monkeypatch.setattr(label, "main", labelled)


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A run's folder in which enough is recorded already; recording counts what is there."""
    for folder, count in (("bags", 2), ("test_bags", 1)):
        for i in range(count):
            synthetic_bag(tmp_path / folder / f"pick_red_block-{i:04d}", Scene(seconds=2.0, seed=i))
    return tmp_path


def test_from_bags_to_a_bundle(
    run: Path, recorded: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(train_policy, "train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pipeline.main(options(run, recorded))
    before = {path: path.stat().st_mtime_ns for path in (recorded / "stages").glob("*.json")}
    assert {path.stem for path in before} >= {"record", "convert", "click", "saliency", "label", "encoder"}

    pipeline.main(options(run, recorded))
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    bundle = load_bundle(recorded / "bundle")
    assert line["id"] == bundle.id and line["n"] == 1
    assert set(bundle.metrics["evaluation"]) == {"keypoints", "mean", "rgb"}
    assert bundle.provenance["seed"] == 0 and bundle.provenance["stages"]["saliency"] > 0
    card = (bundle.folder / "README.md").read_text()
    expected = ("pick_red_block", "the paper's readout", "RGB alone", bundle.provenance["commit"], "F (max)", "0 of 1")
    for words in (*expected, "nine spots"):
        assert words in card, words
    for folder in (bundle.folder, recorded / "policy" / "bundle"):
        text = (folder / "bundle.json").read_text() + (folder / "README.md").read_text()
        assert str(recorded) not in text and not re.search(r"[\"` ]/\w", text)  # no path of this machine travels along
    assert bundle.provenance["commits"].keys() == bundle.provenance["stages"].keys()
    # The models of the arms differ as they should.
    assert load_bundle(recorded / "policy_mean" / "bundle").config.readout.kind == "mean"
    assert not load_bundle(recorded / "policy_rgb" / "bundle").config.needs_saliency


def test_refusals_come_before_any_work(run: Path, tmp_path: Path) -> None:
    good = options(run, tmp_path / "out")
    with pytest.raises(SimulationError, match="juggle"):
        pipeline.main(dataclasses.replace(good, task="juggle"))
    for bad in ({"seeds": "x"}, {"preset": "7"}):
        with pytest.raises(ConfigError):
            pipeline.main(dataclasses.replace(good, **bad))
    assert not (tmp_path / "out").exists()


def test_arms_may_come_later(run: Path, recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = dataclasses.replace(options(run, recorded), arms=(), test_demos=0)
    first = pipeline.pipeline(bare)
    assert set(first.metrics["evaluation"]) == {"keypoints"}
    assert "that nothing was trained on" not in (first.folder / "README.md").read_text()
    markers = {path: path.stat().st_mtime_ns for path in (recorded / "stages").glob("*.json")}
    capsys.readouterr()
    second = pipeline.pipeline(dataclasses.replace(bare, arms=("rgb",)))
    assert all(path.stat().st_mtime_ns == time for path, time in markers.items())
    assert second.id == first.id and set(second.metrics["evaluation"]) == {"keypoints", "rgb"}
    assert "RGB alone" in (second.folder / "README.md").read_text()
    counters = re.findall(r"^\[(\d+)/(\d+)\]", capsys.readouterr().err, re.MULTILINE)
    assert counters == [(str(i), "13") for i in range(1, 14)]


def test_what_a_result_depends_on_redoes_it(run: Path, recorded: Path) -> None:
    bare = dataclasses.replace(options(run, recorded), arms=())
    pipeline.pipeline(bare)
    markers = {path.stem: path.stat().st_mtime_ns for path in (recorded / "stages").glob("*.json")}
    pipeline.pipeline(dataclasses.replace(bare, limit_s=0.3))
    redone = [name for name, time in markers.items() if (recorded / f"stages/{name}.json").stat().st_mtime_ns != time]
    assert redone == ["evaluate"]


def test_other_recordings_are_set_aside(tmp_path: Path) -> None:
    for i in range(2):
        (tmp_path / "bags").mkdir()
        (tmp_path / "bags" / "kept").write_text(str(i))
        collect.set_aside(tmp_path / "bags")
    assert [(tmp_path / f"bags-before-{i + 1}" / "kept").read_text() for i in range(2)] == ["0", "1"]


def test_commands_name_no_folders_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["/opt/bin/visarl", "pipeline", "--out", str(tmp_path / "runs" / "a"), "--preset=/elsewhere/my preset.json"]
    assert command(words) == "visarl pipeline --out runs/a '--preset=my preset.json'"


def test_the_card_puts_the_graph_first_and_all_commits(run: Path, recorded: Path) -> None:
    bundle = pipeline.pipeline(dataclasses.replace(options(run, recorded), arms=()))
    metrics = dict(bundle.metrics)
    metrics["evaluation"] |= {"graph": metrics["evaluation"]["keypoints"] | {"success": 1}}
    card = write_card(bundle.task, bundle.config, metrics, bundle.provenance | {"commit": "aaa, bbb-dirty"})
    assert card.index("over the graph") < card.index("1 of 1") < card.index("0 of 1")
    assert "| commits | aaa, bbb-dirty |" in card
