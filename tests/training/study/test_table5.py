"""The study of Table V: its plan, and all of it at the smallest size on recorded bags."""

from __future__ import annotations

import dataclasses
import json
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from tests.training.conftest import see_clearly
from tests.unit.data.synthetic import Scene, synthetic_bag
from training import label
from training.study import table5
from training.study.arms import ARMS, PAPER_TASKS
from visarl.bundle import load_bundle
from visarl.config import get_preset
from visarl.errors import VisarlError
from visarl.sim.seeds import EVALUATION_SEEDS, VALIDATION_SEEDS
from visarl.training_options import Label, Table5

DEFAULT = Table5()
TINY = dataclasses.replace(
    DEFAULT,
    tasks=("pick_red_block",),
    demos=2,
    test_demos=1,
    frames=2,
    seeds=1,
    rollouts=1,
    select=1,
    saliency_iterations=2,
    encoder_iterations=2,
    policy_iterations=2,
    probe_scenes=1,
    graph_starts=0,
    limit_s=0.3,
)


def plan(options: Table5 = DEFAULT) -> Any:
    collections = [table5.collection(options, options.out, task) for task in options.tasks]
    return table5.make_plan(options, get_preset(options.preset), collections, None)


def test_the_defaults_are_the_arms_and_tasks_that_there_are() -> None:
    assert DEFAULT.arms == tuple(ARMS) and DEFAULT.tasks == PAPER_TASKS
    assert DEFAULT.seeds >= 3 and DEFAULT.rollouts >= 50


def test_one_encoder_of_a_kind_and_seed_serves_all_tasks() -> None:
    jobs = {job.name: job for job in plan().jobs}
    encoders = [name for name in jobs if name.startswith("encoder/")]
    assert len(encoders) == 5 * DEFAULT.seeds + 1, "and one with the full decoder"
    assert len(jobs["encoder/saliency-0"].arguments["options"].episodes) == len(PAPER_TASKS)
    assert {f"label/{task}" for task in PAPER_TASKS} <= set(jobs["encoder/saliency-0"].after)
    assert jobs["encoder/rgb-1"].after == () and jobs["encoder/oracle-1"].after == ()
    assert sum(name.startswith("starts/") for name in jobs) == len(ARMS) * len(PAPER_TASKS) * DEFAULT.seeds


def test_scenes_are_shared_out_among_training_seeds_and_equal_in_all_arms() -> None:
    shares = [table5.evaluation_seeds(DEFAULT, seed) for seed in range(DEFAULT.seeds)]
    assert sum(shares, []) == list(EVALUATION_SEEDS[: DEFAULT.rollouts])
    by_seed: dict[int, set[tuple[int, ...]]] = {}
    for job in plan().jobs:
        if job.name.startswith("starts/"):
            by_seed.setdefault(int(job.name[-1]), set()).add(tuple(job.arguments["seeds"]))
    assert by_seed == {seed: {tuple(share)} for seed, share in enumerate(shares)}


def test_nothing_is_trained_or_chosen_on_evaluation_scenes() -> None:
    assert not set(VALIDATION_SEEDS) & set(EVALUATION_SEEDS)
    for job in plan().jobs:
        if job.name.startswith("starts/"):
            assert set(job.arguments["seeds"]) <= set(EVALUATION_SEEDS)
        else:
            assert "seeds" not in job.arguments


def test_more_arms_leave_what_is_done_as_it_is() -> None:
    few = {name: stage.hash for name, stage in plan(dataclasses.replace(DEFAULT, arms=("saliency",))).stages.items()}
    all_of_them = {name: stage.hash for name, stage in plan().stages.items()}
    # All encoders are asked about the same frames, all policies about the same demonstrations.
    anew = {f"{name}/{task}" for name in ("probe", "held_out") for task in PAPER_TASKS}
    assert {name: few[name] for name in few.keys() - anew}.items() <= all_of_them.items()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": ("pick_pear",)}, "pick_apple"),
        ({"arms": ("saliancy",)}, "saliency"),
        ({"seeds": 0}, "seeds: expected at least 1, found 0"),
        ({"rollouts": 2}, "rollouts: expected 3"),
        ({"select": -1}, "select"),
        ({"saliency": "frozen"}, "saliency 'frozen'.* expected picanet or unet"),
        ({"workers": 0}, "workers: expected at least 1, found 0"),
    ],
)
def test_what_makes_no_sense_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(VisarlError, match=message):
        table5.check(dataclasses.replace(DEFAULT, **change))


class Here:
    """Jobs in this process, where the label's maps can be replaced."""

    slots = 1

    def submit(self, function: Any, *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future

    def close(self) -> None:
        pass


def test_every_arm_from_bags_to_a_page(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = label.main

    def labelled(wanted: Label) -> None:
        original(wanted)
        see_clearly(wanted.episodes)

    monkeypatch.setattr(label, "main", labelled)
    monkeypatch.setattr(table5, "executor", lambda workers, ray: Here())
    options = dataclasses.replace(TINY, out=tmp_path, preset=str(run / "preset.json"))
    folder = table5.collection(options, tmp_path, "pick_red_block").folder
    for name, count in (("bags", 2), ("test_bags", 1)):
        for i in range(count):
            synthetic_bag(folder / name / f"pick_red_block-{i:04d}", Scene(seconds=2.0, seed=i))

    table5.main(options)

    sums = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(sums) == set(ARMS) and all(row["n"] == 1 for row in sums.values())
    results = json.loads((tmp_path / "results.json").read_text())
    for arm in ARMS:
        found = results["table5"][arm]["pick_red_block"]
        assert found["n"] == 1 and 0 <= found["success"] <= 1 and len(found["interval"]) == 2
    assert results["table5_about"]["seeds"]["evaluation"] == [1000, 1001]
    held_out = results["table5_about"]["held_out"]["pick_red_block"]
    assert set(held_out) == {arm for arm, kind in ARMS.items() if kind.encoder and kind.maps == "predicted"}
    assert all(of["own"] > 0 and of["other"] > 0 for of in held_out.values())
    page = (tmp_path / "results.md").read_text()
    assert "### Does the policy look at the picture?" in page
    assert "RGB + saliency, keypoints" in page and "### What the encoders know" in page
    probed = results["table5_about"]["probe"]["pick_red_block"]
    assert set(probed) == {"rgb", "pretraining_only", "saliency", "shuffled", "oracle", "full_decoder"}
    assert load_bundle(tmp_path / "bundles" / "pick_red_block").task == "pick_red_block"

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "stages").rglob("*.json")}
    table5.main(options)
    assert {path: path.stat().st_mtime_ns for path in before} == before
