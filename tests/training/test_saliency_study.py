"""The study of saliency: every stage once, nothing twice, and a page from its figures."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tiny import TINY
from training import saliency_study
from training.saliency_report import CONFIDENCE, CURVES, fragment, mae_share, pictures_of, plots
from training.scene_frames import TrueFrames
from training.score import Predictor
from training.steadiness import smoothed, steadiness
from visarl.config import to_dict
from visarl.data.annotations import Click, render
from visarl.sim.tasks import get_task
from visarl.training_options import SaliencyStudy


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[SaliencyStudy, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("study")
    (folder / "tiny.json").write_text(json.dumps(to_dict(TINY)))
    options = SaliencyStudy(
        out=folder / "out", preset="tiny", models=str(folder / "tiny.json"), variants=("unet", "frozen"), threads=1
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("DEMOS", 2), ("TRAIN_EVERY", 25), ("SCENES", 2), ("SCORED_A_SCENE", 3), ("VIDEO_S", 0.5)):
            patch.setattr(saliency_study, name, value)
        results = saliency_study.study(options)
        saliency_study.study(options)  # finds everything done
    return options, results


def test_a_cell_for_each_model_and_number_of_frames(done: tuple[SaliencyStudy, dict[str, Any]]) -> None:
    options, results = done
    cells = results["saliency"]["cells"]
    assert [(c["task"], c["variant"], c["count"]) for c in cells] == [
        (t, v, n) for t in ("pick_red_block", "apple_to_bowl") for v in ("unet", "frozen") for n in (1, 2)
    ]
    for cell in cells:
        assert set(cell["peaks"]) == set(get_task(cell["task"]).roles) and set(cell["trivial"]) == {
            "zero",
            "mean_map",
            "centre",
        }
        assert mae_share(cell) > 0 and set(cell["steady"]["smoothing"]) == {"0", "0.3", "0.6"}
    assert set(results["saliency"]["time"]) == {"unet", "frozen"}
    assert json.loads((options.out / "results.json").read_text())["saliency"] == json.loads(
        json.dumps(results["saliency"])
    )


def test_a_second_call_does_nothing_again(done: tuple[SaliencyStudy, dict[str, Any]]) -> None:
    options, _ = done
    for marker in (options.out / "stages").rglob("*.json"):
        assert len(json.loads(marker.read_text())["commits"]) == 1
    # One pretraining a task for all numbers of frames.
    assert len(list(options.out.rglob("*-pretraining"))) == 2
    assert not list((options.out / "models").rglob("pretraining/checkpoint.pt"))


def test_times_are_those_of_the_size_asked_for() -> None:
    # Converted networks are kept from call to call: one of another size must not be taken for this one.
    for side in (64, 96):
        found = saliency_study.frame_times(dataclasses.replace(TINY.saliency, model="unet", image_size=side), 1)
        assert found["torch"] > 0 and found["openvino"] > 0


def test_the_page_tells_of_all_of_it(done: tuple[SaliencyStudy, dict[str, Any]]) -> None:
    options, _ = done
    page = (options.out / "results.md").read_text()
    assert fragment(json.loads((options.out / "results.json").read_text())).strip() in page
    for words in ("### Peaks", "### Steadiness", "### Time a frame", "*zeros*", "missed by", "U-Net", "Made by `"):
        assert words in page, words
    assert "nan" not in page
    shown = re.findall(r"!\[[^]]*\]\(([^)]*)\)", page)
    assert set(shown) == {CURVES, CONFIDENCE, *(pictures_of(t, "unet") for t in ("pick_red_block", "apple_to_bowl"))}
    for name in shown:
        assert (options.out / name).stat().st_size > 10_000, name


def test_plots_do_without_peaks(done: tuple[SaliencyStudy, dict[str, Any]], tmp_path: Path) -> None:
    cells = [{k: v for k, v in cell.items() if k != "peaks"} for cell in done[1]["saliency"]["cells"]]
    plots(cells, tmp_path)
    assert (tmp_path / CURVES).exists()


def test_smoothing_keeps_to_its_video() -> None:
    maps = np.array([0, 1, 1, 1], np.float32)[:, None, None]
    found = smoothed(maps, np.array([0, 0, 0, 1]), 0.5)[:, 0, 0]
    assert found.tolist() == [0, 0.5, 0.75, 1]
    assert np.array_equal(smoothed(maps, np.zeros(4, int), 0.0), maps)


def test_smoothing_calms_noise_and_drags_behind_what_moves() -> None:
    rng = np.random.default_rng(0)
    uv = np.stack([np.column_stack([np.linspace(0.3, 0.7, 20), np.full(20, 0.5)])], axis=1)
    frames = TrueFrames(
        np.arange(20, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8),
        np.full((20, 1, 3), [0.48, 0.0, 0.02]), uv, np.ones((20, 1)), np.zeros(20, int), ("object",),
    )  # fmt: skip

    def predict(pictures: np.ndarray) -> np.ndarray:
        steps = np.clip(np.round(pictures.mean(axis=(1, 2, 3))).astype(int), 0, 19)
        maps = np.stack([render([Click(*uv[step, 0], "object")], ("object",), 64) for step in steps])
        return np.clip(maps + rng.uniform(0, 0.2, maps.shape), 0, 1).astype(np.float32)

    config = dataclasses.replace(TINY.saliency, roles=("object",))
    found = steadiness(Predictor(predict, config, TINY.preprocess), frames)
    calm, rough = found["smoothing"]["0.6"], found["smoothing"]["0"]
    assert calm["flicker"] < rough["flicker"] and calm["px"]["object"] > rough["px"]["object"] + 1
    assert found["jitter_px"]["object"] is not None
