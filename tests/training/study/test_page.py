"""The results page says what made-up figures mean, and nothing that they do not hold."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import pytest

from training.study import page, plots, results
from training.study.arms import ARMS, OURS, PAPER_TASKS
from training.study.verdict import Rate, bottleneck, holm, look, pooled, readings, targets

N = 51
GOOD = {"saliency": 46, "oracle": 48, "state": 50, "rgb": 12, "rgb_softmax": 20, "shuffled": 9, "keypoints": 44}
"""Successes of `N` on each task; the arms that are not named have 15."""


def made_up(tasks: tuple[str, ...], success: dict[str, int]) -> dict[str, Any]:
    """Results as `training.study.results` makes them, the first scenes of each arm being those that succeed."""
    starts = {
        arm: {task: [[1000 + i, i < good, i <= good, 9.5] for i in range(N)] for task in tasks}
        for arm, good in success.items()
    }
    table = {
        arm: {task: results.rate(rows) | {"by_training_seed": [success[arm], 0, 0]} for task, rows in of.items()}
        for arm, of in starts.items()
    }
    return {"table5": table, "table5_tests": results.tests(starts), "table5_starts": starts}


def good(**success: int) -> dict[str, Any]:
    return made_up(PAPER_TASKS, {arm: 15 for arm in ARMS} | GOOD | success)


ABOUT = {
    "command": "visarl study table5 --out runs/table5",
    "commit": "0123456789ab",
    "seconds": 120.0,
    "core_seconds": 36000.0,
    "made": "2026-01-01T00:00:00+00:00",
    "torch": "2.2",
    "machine": "x86_64, 2 cores, no GPU",
    "seeds": {"training": [0, 1, 2], "validation": [500, 501], "evaluation": [1000, 1051]},
    "titles": {arm: kind.title for arm, kind in ARMS.items()},
    "demonstrations": {"pick_apple": {"demos": 10, "seconds": 98.2, "steps": 1034, "frames": 10, "clicks": 20}},
    "held_out": {task: {OURS: {"own": 0.001, "other": 0.2}} for task in PAPER_TASKS},
    "saliency": {task: {"frames": 30, "f_adaptive": 0.92556, "mae": 0.00847} for task in PAPER_TASKS},
    "graph": {task: {"n": 5, "graph": 4, "process": 5, "agree": 4, "rate_hz": 9.97} for task in PAPER_TASKS},
}
SHOWCASE = {
    "videos": {"pick_apple": {"success": {"seed": 1000, "file": "videos/pick_apple-success.mp4"}}},
    "pictures": {"saliency": "pictures/reconstruction-saliency.png"},
    "bundles": {"pick_apple": {"id": "0123456789ab", "training_seed": 1, "success": 16, "n": 17, "megabytes": 10.9}},
}


def render(found: dict[str, Any], folder: Path) -> str:
    text = page.render(found, folder)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
        widths = {row.replace("\\|", "").count("|") for row in table.splitlines()}
        assert len(widths) == 1, table
    assert "None" not in text and "nan" not in text.lower()
    return text


def section(text: str, title: str) -> str:
    return text.split(f"### {title}\n")[1].split("\n#")[0]


def test_a_whole_page(tmp_path: Path) -> None:
    text = render(good() | {"table5_about": ABOUT, "table5_showcase": SHOWCASE}, tmp_path)
    assert "succeeds in 90 % (184 of 204, 85 to 94 %)" in text and "All targets are met" in text
    assert "27 of 40" in text and "| RGB, the paper, real arm | 60 (31 to 83), 6/10 |" in text
    tables = len(re.findall(r"^\|---", text, re.M))
    assert text.count("Made by `visarl study table5 --out runs/table5`.") == tables - 1  # the last tells the command
    assert "[scene 1000](videos/pick_apple-success.mp4) | none |" in text
    assert "1000 to 1050" in section(text, "How it was made") and "0123456789ab" in text
    plot = cv2.imread(str(tmp_path / page.PLOT))
    assert plot is not None and plot.shape[1] >= 800
    some = {arm: of for arm, of in good()["table5"].items() if arm != "shuffled"}
    assert "The 3 targets that are measured are met" in render(good() | {"table5": some}, tmp_path)


def test_the_plot_shows_the_rates(tmp_path: Path) -> None:
    """The share of our arm's colour grows with its rate."""

    def blue(success: int) -> int:
        plots.bars(made_up(("pick_apple",), {OURS: success})["table5"], {}, tmp_path / "a.png")
        plot = cv2.imread(str(tmp_path / "a.png")).astype(int)
        return int((abs(plot - (0xB2, 0x72, 0x00)).sum(axis=2) < 20).sum())

    assert 1.5 < blue(48) / blue(24) < 2.5


def test_one_study_of_one_arm_and_one_task(tmp_path: Path) -> None:
    text = render(made_up(("pick_apple",), {OURS: 46}), tmp_path)
    assert "90 % (46 of 51" in text and "without pick_red_block, bread_to_plate, apple_to_bowl" in text
    assert "sum" not in section(text, "Success").splitlines()[4]
    assert "| not measured |" in section(text, "Targets")
    assert "which would tell the reason, were left out" not in section(text, "What the controls say")


def test_a_page_without_our_arm_and_one_without_a_study(tmp_path: Path) -> None:
    assert "left out" in render(made_up(("pick_apple",), {"rgb": 12}), tmp_path)
    assert page.render({}, tmp_path / "empty").startswith("# Results\n") and not (tmp_path / "empty").exists()


def test_targets_are_missed_by_how_much() -> None:
    over_all, hard, times, apart = targets(good(saliency=39, rgb_softmax=26, shuffled=36)["table5"])
    assert (over_all.met, over_all.by) == (False, "-8.5 points")
    assert (hard.met, hard.by) == (False, "-3.5 points")
    assert (times.met, times.by) == (False, "-0.50 times") and "more than 100 %" in times.measured
    assert apart.met is False and apart.by.startswith("-")
    assert all(verdict.met for verdict in targets(good()["table5"]))
    never = targets(good(rgb=0, rgb_softmax=0)["table5"])[2]
    assert never.met and "never succeeds" in never.measured


@pytest.mark.parametrize(
    ("ours", "oracle", "state", "reason"),
    [
        (46, 46, 46, "target met"),
        (35, 45, 48, "saliency: true maps give +19.6 points"),
        (30, 32, 48, "readout, or what the policy makes of it"),
        (30, 32, 33, "demonstrations or policy: even true positions reach 65 % only"),
        (42, 44, 45, "nothing that 51 starts can tell"),
        (35, None, 48, "were left out"),
    ],
)
def test_the_controls_tell_the_reason(ours: int, oracle: int | None, state: int, reason: str) -> None:
    rates = [None if success is None else Rate(success, N) for success in (ours, oracle, state)]
    assert rates[0] is not None
    assert reason in bottleneck(rates[0], rates[1], rates[2], 0.85)


def test_readings_follow_the_figures() -> None:
    said = " ".join(readings(good(saliency=40, oracle=39, keypoints=40) | {"table5_about": ABOUT}))
    assert "better maps would not help" in said and "worth +0.0 points (paired, p = 1.000: no more than chance" in said
    theirs = [one for one in readings(good(saliency_mean=30, rgb=12)) if one.startswith("What the paper compares")]
    assert "+35.3 points (paired, p < 0.001): 59 % beside 24 %, on the paper's real arm 68 % beside 35 %" in theirs[0]
    assert not any(one.startswith("What the paper") for one in readings(made_up(PAPER_TASKS, {OURS: 40, "rgb": 12})))
    blind = {"held_out": {"pick_apple": {OURS: {"own": 0.01, "other": 0.011}}}}
    assert "On pick_apple the policy hardly looks" in readings(good() | {"table5_about": blind})[-1]
    assert look({"own": 0.01, "other": 0.03}) == pytest.approx(3)


def test_pooled_needs_every_task() -> None:
    table = good()["table5"]
    assert str(pooled(table, OURS, PAPER_TASKS)) == "90 % (184 of 204, 85 to 94 %)"
    del table[OURS]["pick_apple"]
    assert pooled(table, OURS, PAPER_TASKS) is None and pooled(table, OURS, []) is None


def test_holm_raises_the_smallest_most() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0] and holm([]) == []


def test_publishing_keeps_what_other_studies_wrote(tmp_path: Path) -> None:
    results.publish(tmp_path, {"other": 1})
    found = made_up(("pick_apple",), {OURS: 46})
    results.publish(tmp_path, found)
    text = (tmp_path / results.FILE).read_text()
    assert '"other": 1' in text and '"table5"' in text
    assert (tmp_path / results.PAGE).read_text() == page.render(found, tmp_path)
