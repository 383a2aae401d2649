"""Videos, pictures and bundles of a made-up study, from real bundles of the smallest size in the real simulator."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.tiny import TINY, tiny_bundle
from training.stages import Stage, Stages
from training.study import showcase
from training.study.arms import OURS
from training.study.jobs import Figures, Job, Plan
from visarl.bundle import load_bundle
from visarl.config import PreprocessConfig
from visarl.inference import SaliencyModel
from visarl.overlay import overlay
from visarl.preprocess import crop
from visarl.sim.tabletop import Simulator
from visarl.training_options import Table5

TASK = "pick_red_block"
SEEDS = 2
SHARES = ([1000, 1001], [1002, 1003])
ENDED = ([True, False], [False, False])
"""What a longer study would have found: after 0.3 s no start really succeeds."""


@dataclasses.dataclass
class Study:
    """What `training.study.table5` hands over."""

    options: Table5
    plan: Plan
    figures: Figures
    found: dict[str, Any]

    def make(self) -> dict[str, Any]:
        stages = Stages(self.options.out / "stages", [showcase.STAGE])
        showcase.make(self.options, TINY, stages, self.plan, self.figures, self.found)
        return self.found["table5_showcase"]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    figures: Figures = {}
    before = {
        f"demos/{TASK}/{name}": Stage(tmp_path / "stages", f"demos/{TASK}/{name}", {})
        for name in ("record", "record_test", "convert", "click")
    }
    recorded: dict[str, Any] = {"record": {"disturbance": 0.015, "attempts": 2, "failures": 0}, "record_test": {}}
    recorded |= {"convert": {}, "click": {"frames": 2, "clicks": 4}}
    for name, stage in before.items():
        stage.run(lambda fresh, name=name: recorded[name.split("/")[-1]])
    jobs = [Job(f"{kind}/{TASK}", "", {}, {}) for kind in ("saliency", "label")]
    for seed in range(SEEDS):
        metrics = {"demos": 2, "steps": 40, "policy_losses": {"train": 0.1, "train_shuffled": 0.2}}
        made = tiny_bundle(tmp_path / "policy" / OURS / f"{TASK}-{seed}" / "bundle", seed=seed, metrics=metrics)
        arguments = {"policy": made.folder, "seeds": SHARES[seed]}
        policy, starts = f"policy/{OURS}/{TASK}-{seed}", f"starts/{OURS}/{TASK}-{seed}"
        jobs += [Job(f"encoder/saliency-{seed}", "", {}, {}), Job(policy, "", {}, {}), Job(starts, "", arguments, {})]
        figures[policy] = {"ladder": [{"iteration": 1, "n": 6, "success": 3 + seed}, {"iteration": 2, "success": 2}]}
        figures[starts] = {
            "starts": [{"seed": s, "success": ok} for s, ok in zip(SHARES[seed], ENDED[seed], strict=True)]
        }
    plan = Plan(tmp_path, jobs, before)
    for job in jobs:
        plan.stages[job.name].run(lambda fresh, job=job: figures.get(job.name, {}))
    picture = tmp_path / "encoder" / "saliency-0" / "reconstruction.png"
    picture.parent.mkdir(parents=True)
    cv2.imwrite(str(picture), np.zeros((8, 8, 3), np.uint8))
    options = Table5(
        out=tmp_path, docs=tmp_path / "docs", tasks=(TASK,), arms=(OURS,), seeds=SEEDS, rollouts=4, limit_s=0.3
    )
    rate = {"n": 4, "success": 1, "interval": [0.046, 0.699]}
    about = {"command": "visarl study table5", "commit": "abc", "made": "now", "torch": "2", "machine": "a machine"}
    about |= {"seeds": {"evaluation": [1000, 1004]}, "graph": {}}
    return Study(options, plan, figures, {"table5": {OURS: {TASK: rate}}, "table5_about": about})


def test_a_study_leaves_videos_pictures_and_a_bundle(study: Study) -> None:
    made = study.make()
    # Scene 1000 succeeded, so the files say, and does not when it is played again: it is no film of a success.
    assert made["videos"] == {TASK: {"failure": {"seed": 1001, "file": f"videos/{TASK}-failure.mp4"}}}
    for folder in (study.options.out, study.options.out / "docs"):
        assert (folder / "pictures/reconstruction-saliency.png").exists()
        assert 0 < (folder / f"videos/{TASK}-failure.mp4").stat().st_size <= showcase.VIDEO_BYTES
    chosen = made["bundles"][TASK]
    assert (chosen["training_seed"], chosen["n"], chosen["success"]) == (1, 2, 0)
    bundle = load_bundle(study.options.out / chosen["file"])
    trained = load_bundle(study.plan.jobs[-1].arguments["policy"])
    assert bundle.weights("policy").keys() == trained.weights("policy").keys()
    for name, tensor in trained.weights("policy").items():
        assert np.allclose(bundle.weights("policy")[name], tensor, atol=1e-3)
    assert bundle.id == chosen["id"] and bundle.provenance["seed"] == 1
    card = (bundle.folder / "README.md").read_text()
    for words in (
        "Training seed 1 of 2", "4 successes on 6 validation scenes", "0 of 2 | 0.00", "1 of 4 | 0.05 to 0.70",
        "1000:1004, 1002:1004", "| policy/saliency/pick_red_block-1 |", "4 simulated clicks on 2 frames",
    ):  # fmt: skip
        assert words in card, words
    assert "Saliency on" not in card


def test_the_film_shows_what_the_policy_saw(study: Study) -> None:
    study.make()
    player = cv2.VideoCapture(str(study.options.out / f"videos/{TASK}-failure.mp4"))
    assert player.get(cv2.CAP_PROP_FPS) == pytest.approx(10) and player.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    seen = player.read()[1][..., ::-1].astype(int)
    player.release()
    assert seen.shape == (320, 640, 3)
    simulator = Simulator(TASK, 1001)
    image = simulator.render()
    simulator.close()
    cut = crop(image, PreprocessConfig(size=96))
    picture = cv2.resize(cut, (320, 320), interpolation=cv2.INTER_AREA)
    maps = SaliencyModel(load_bundle(study.plan.jobs[4].arguments["policy"])).saliency_batch(cut[None])[0]
    assert abs(seen[:, :320] - picture).mean() < 5 and abs(seen[:, 320:] - overlay(picture, maps)).mean() < 5
    assert abs(seen[:, 320:] - picture).mean() > 10


def test_it_is_made_once_and_again_where_something_was_lost(study: Study) -> None:
    study.make()
    film = study.options.out / f"videos/{TASK}-failure.mp4"
    before = film.stat().st_mtime_ns
    study.make()
    assert film.stat().st_mtime_ns == before
    film.unlink()
    study.make()
    assert film.exists()


def test_a_large_film_gets_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = showcase.Film(tiny_bundle(tmp_path / "bundle").folder)
    noise = np.random.default_rng(0)
    film.pictures = [noise.integers(0, 255, (320, 320, 3), np.uint8) for _ in range(6)]
    film.maps = [np.zeros((0, 1, 1), np.float32)] * 6
    monkeypatch.setattr(showcase, "VIDEO_BYTES", 10**9)
    large = len(film.encode())
    monkeypatch.setattr(showcase, "VIDEO_BYTES", large // 2)
    assert len(film.encode()) <= large // 2


def test_of_equal_policies_the_first_is_shipped(study: Study) -> None:
    for seed in range(SEEDS):
        study.figures[f"policy/{OURS}/{TASK}-{seed}"] = {}
    study.options = dataclasses.replace(study.options, select=0)
    assert study.make()["bundles"][TASK]["training_seed"] == 0
    assert "validation" not in (study.options.out / "bundles" / TASK / "README.md").read_text()


def test_without_our_arm_there_is_nothing_to_show(study: Study) -> None:
    options = dataclasses.replace(study.options, arms=("rgb",))
    stages = Stages(options.out / "stages", [showcase.STAGE])
    showcase.make(options, TINY, stages, study.plan, study.figures, study.found)
    assert "table5_showcase" not in study.found
