"""Closed-loop starts and the figures that commands print about them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import running
from tests.tiny import tiny_bundle
from training import evaluate, score
from training.closed_loop import STAY_S, Agent, Start, run_start, run_starts
from visarl.data.annotations import AnnotationFile
from visarl.errors import BundleError, ConfigError, DataError, SimulationError
from visarl.robot.interfaces import ArmState, Frame
from visarl.sim.expert import Expert
from visarl.sim.tabletop import SceneTruth, Simulator
from visarl.training_options import Evaluate, ScoreSaliency


class ExpertAgent(Agent):
    """The expert as an agent: it should succeed, also with the graph's latency."""

    def reset(self) -> None:
        self._expert = Expert(0)

    def act(self, frame: Frame, state: ArmState, truth: SceneTruth) -> np.ndarray:
        assert frame.image.shape == (480, 640, 3)
        return self._expert.act(truth, state)


class Still(Agent):
    def reset(self) -> None:
        pass

    def act(self, frame: Frame, state: ArmState, truth: SceneTruth) -> np.ndarray:
        return np.zeros(7)


def test_the_expert_succeeds_with_latency_in_any_number_of_workers() -> None:
    seen: list[int] = []
    alone = run_starts(ExpertAgent, "pick_red_block", [500, 501], workers=1, on_start=lambda s: seen.append(s.seed))
    shared = run_starts(ExpertAgent, "pick_red_block", [500, 501], workers=2)
    assert [start.seed for start in alone] == seen == [500, 501]
    assert all(start.success and start.success_final for start in alone)
    assert shared == alone


class Drops(ExpertAgent):
    """Opens its hand as soon as it has succeeded."""

    def act(self, frame: Frame, state: ArmState, truth: SceneTruth) -> np.ndarray:
        return np.array([0.0] * 6 + [-1.0]) if truth.success_ever else super().act(frame, state, truth)


def test_final_success_is_what_is_left_when_the_agent_has_gone_on() -> None:
    for agent, final in ((ExpertAgent, True), (Drops, False)):
        once, on = (run_starts(agent, "pick_red_block", [500], workers=1, stay_s=s)[0] for s in (0.0, STAY_S))
        assert (once.success, once.success_final) == (True, True)
        assert (on.success, on.success_final) == (True, final)
        assert (on.seconds, on.steps) == (once.seconds, once.steps), "they tell when it succeeded"


def test_a_start_ends_at_its_limit() -> None:
    simulator = Simulator("pick_apple")
    try:
        start = run_start(simulator, Still(), 500, limit_s=1.0)
        assert start == Start(500, False, False, pytest.approx(1.0), 10)
        with pytest.raises(ConfigError, match="latency"):
            run_start(simulator, Still(), 500, latency_s=0.1)
    finally:
        simulator.close()


def test_the_last_line_is_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    out = tmp_path / "result.json"
    evaluate.main(Evaluate(bundle=bundle.folder, seeds="500:502", limit_s=0.5, engine="torch", workers=1, out=out))
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(line) == ["task", "seeds", "n", "success", "success_final", "interval", "rate_hz"]
    assert (line["task"], line["seeds"], line["n"], line["success"]) == ("pick_red_block", "500:502", 2, 0)
    assert line["interval"][0] == 0 and 0.6 < line["interval"][1] < 0.7
    assert [start["seed"] for start in json.loads(out.read_text())["starts"]] == [500, 501]


def test_refusals(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle").folder
    with pytest.raises(BundleError):
        evaluate.main(Evaluate(bundle=tmp_path / "none"))
    with pytest.raises(BundleError):
        evaluate.main(Evaluate(bundle=tmp_path / "none", task="pick_red_block"))
    with pytest.raises(SimulationError, match="no task 'pick_pear'"):
        evaluate.main(Evaluate(bundle=bundle, task="pick_pear"))
    with pytest.raises(ConfigError, match="seeds"):
        evaluate.main(Evaluate(bundle=bundle, seeds="all"))
    with pytest.raises(ConfigError, match="limit_s"):
        evaluate.main(Evaluate(bundle=bundle, limit_s=0))
    with pytest.raises(ConfigError, match="perturbation 'distractors': .*leave out --graph"):
        evaluate.main(Evaluate(bundle=bundle, graph=True, perturbation="distractors"))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_agent_that_fails_ends_the_evaluation(tmp_path: Path, workers: int) -> None:
    with pytest.raises(BundleError, match="is no bundle"):
        run_starts(partial(_load, tmp_path), "pick_red_block", [500, 501], workers=workers)


class Colours(Still):
    """Ends the evaluation by saying how much the table's picture varies."""

    def act(self, frame: Frame, state: ArmState, truth: SceneTruth) -> np.ndarray:
        raise SimulationError(f"{float(frame.image[240:].std(axis=(0, 1)).mean()):.3f}")


def test_scenes_are_perturbed_where_asked_for_in_any_process() -> None:
    told = []
    for workers, given in ((1, {}), (1, {"perturbation": "video_hard"}), (2, {"perturbation": "video_hard"})):
        with pytest.raises(SimulationError) as found:
            run_starts(Colours, "pick_red_block", [500] * workers, workers=workers, **given)
        told.append(str(found.value))
    assert told[0] != told[1] == told[2]


def test_an_evaluation_in_perturbed_scenes_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = tiny_bundle(tmp_path / "bundle").folder
    for name in ("none", "distractors"):
        evaluate.main(Evaluate(bundle=bundle, seeds="500", limit_s=0.2, engine="torch", workers=1, perturbation=name))
        assert json.loads(capsys.readouterr().out.splitlines()[-1]).get("perturbation", "none") == name


def test_a_worker_that_dies_is_told() -> None:
    with pytest.raises(SimulationError, match="--workers 1"):
        run_starts(_die, "pick_red_block", [500, 501], workers=2)


def _die() -> Still:
    os._exit(9)


def test_ctrl_c_ends_all_processes_without_their_tracebacks(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    words = ["evaluate", "--bundle", str(bundle.folder), "--seeds", "500:540", "--engine", "torch", "--limit-s", "0.5"]
    with running([sys.executable, "-m", "visarl.cli", *words], stderr=subprocess.PIPE) as process:
        limit = time.monotonic() + 150
        while len(children(process.pid)) < 3 and time.monotonic() < limit:  # two workers, and Python's resource tracker
            threading.Event().wait(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        told = process.communicate(timeout=120)[1]  # returns when the last of them has closed its end of the pipe
    assert process.returncode == 130 and "Traceback" not in told and "stopped" in told, told


def children(pid: int) -> list[str]:
    return [one for task in Path(f"/proc/{pid}/task").glob("*/children") for one in task.read_text().split()]


def _load(path: Path) -> Still:
    raise BundleError(f"{path} is no bundle")


def test_saliency_scores(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    score.main(ScoreSaliency(bundle=bundle.folder, bags=run / "bags", engine="torch", out=tmp_path / "scores.json"))
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(line) == ["frames", "f_adaptive", "f_max", "mae", "mae_zero", "mae_mean_map", "nss", "cc"]
    assert line["frames"] == 8  # two bags of two seconds, every half second
    assert line["mae_zero"] > 0
    assert line.items() <= json.loads((tmp_path / "scores.json").read_text()).items()


def test_frames_that_were_trained_on_are_not_scored(run: Path, tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    annotations = AnnotationFile.load(run / "clicks.json")
    options = ScoreSaliency(bundle=bundle.folder, bags=run / "bags", engine="torch", every_s=0.0)
    everything = score.score(options)["frames"]
    others = score.score(
        ScoreSaliency(bundle=bundle.folder, bags=run / "bags", engine="torch", every_s=0.0, clicks=run / "clicks.json")
    )["frames"]
    assert everything - others == len(annotations.frames) == 3
    with pytest.raises(DataError):
        score.score(ScoreSaliency(bundle=bundle.folder, bags=tmp_path))


@pytest.mark.ros
def test_over_the_graph_in_a_process_that_knows_no_ros_yet(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    words = ["evaluate", "--bundle", str(bundle.folder), "--seeds", "500", "--limit-s", "1", "--graph"]
    found = subprocess.run([sys.executable, "-m", "visarl.cli", *words], capture_output=True, text=True, timeout=350)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout.splitlines()[-1])["n"] == 1
