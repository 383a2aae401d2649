"""`visarl simulate` as a person types it: what is in the file, and what is refused."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.conftest import running
from visarl.cli import main
from visarl.config import ModelConfig, PreprocessConfig, to_dict
from visarl.data.episodes import EpisodeFile
from visarl.preprocess import crop
from visarl.sim.modalities import modality_pictures
from visarl.sim.tabletop import Simulator
from visarl.simulate import Wanderer

PREPROCESS = PreprocessConfig(size=96)


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("preset") / "tiny.json"
    path.write_text(json.dumps(to_dict(ModelConfig(preprocess=PREPROCESS))))
    return path


def words(out: Path, preset: Path, *more: str) -> list[str]:
    return ["simulate", "--out", str(out), "--preset", str(preset), *more]


SHORT = ["--limit-s", "1.2", "--failures"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, preset: Path) -> Path:
    """Two demonstrations with everything that can be seen."""
    out = tmp_path_factory.mktemp("made") / "new" / "episodes.h5"
    assert main(words(out, preset, "--episodes", "2", "--seed", "43", "--modalities", "depth", "normals")) == 0
    return out


def test_the_file_is_one_that_training_reads(made: Path) -> None:
    with EpisodeFile(made, PREPROCESS) as file:
        assert file.demos == ["demo_0", "demo_1"]
        assert file.mask("train") + file.mask("valid") != [] and file.total > 100
        for number, demo in enumerate(file.demos):
            found, about = file.load(demo), file.attributes(demo)
            steps = about["num_samples"]
            assert about["task"] == "pick_red_block" and about["label"] == "success"
            assert about["seed"] == 43 + number and about["bag"] == f"pick_red_block-{43 + number}"
            assert {len(value) for key, value in found.items() if key != "truth"} == {steps}
            assert found["image"].shape == (steps, 96, 96, 3) and found["normals"].shape == (steps, 96, 96, 3)
            assert found["depth"].shape == (steps, 96, 96) and found["depth"].dtype == np.uint8
            assert found["rewards"].tolist() == [0.0] * (steps - 1) + [1.0]
            assert np.array_equal(found["stamp"], found["image_stamp"])
            assert np.array_equal(found["stamp"], found["state_stamp"])
            assert set(np.diff(found["stamp"])) == {100_000_000} and found["stamp"][0] < 1_000_000_000
            assert np.abs(found["actions"]).max() <= 1 and found["truth"]["names"] == ("effector", "object")


def test_the_file_tells_where_it_comes_from(made: Path) -> None:
    with h5py.File(made) as file:
        about = dict(file["data"].attrs)
        assert about["seeds"].tolist() == [43, 44] and not about["evaluation"]
        assert (about["policy"], about["perturbation"], about["disturbance"]) == ("expert", "none", 0.015)
        assert len(about["commit"]) > 6
        assert file["data/demo_0/obs/depth"].attrs["range_m"].tolist() == [0.3, 1.3]


def test_every_step_shows_the_instant_that_its_numbers_are_of(made: Path) -> None:
    """The first one against the simulator itself; all of them by where the block is in the picture."""
    with EpisodeFile(made) as file:
        found = file.load("demo_0")
    simulator = Simulator("pick_red_block", 43, disturbance=0.015)
    try:
        first = simulator.state().proprioception()
        assert np.array_equal(found["image"][0], crop(simulator.render(), PREPROCESS))
        assert np.allclose(found["proprioception"][0], first) and np.array_equal(found["states"][0], np.float32(first))
        seen = modality_pictures(simulator, ("depth", "normals"), PREPROCESS)
        assert all(np.array_equal(found[key][0], seen[key]) for key in seen)
    finally:
        simulator.close()
    truth = found["truth"]
    index = truth["names"].index("object")
    red, green, blue = np.moveaxis(found["image"].astype(int), -1, 0)
    block = (red > 2 * green + 20) & (red > 2 * blue + 20)
    compared = 0
    for mask, (u, v) in zip(block, truth["uv"][:, index], strict=True):
        if mask.sum() > 60:  # not behind the hand
            row, column = np.argwhere(mask).mean(axis=0)
            assert abs(column / 96 - u) < 0.04 and abs(row / 96 - v) < 0.04
            compared += 1
    assert compared > 20


def test_actions_are_those_that_were_taken(made: Path) -> None:
    """Taken again from the same start they lead through the same states: nothing is shifted by a step."""
    with EpisodeFile(made) as file:
        found = file.load("demo_0", ["actions_physical", "proprioception", "stamp"])
    simulator = Simulator("pick_red_block", 43, disturbance=0.015)
    try:
        for action, state in zip(found["actions_physical"][:40], found["proprioception"], strict=False):
            assert np.abs(simulator.state().proprioception() - state).max() < 1e-3
            simulator.command(10.0 * action[:6].astype(float), float(action[6]))
            simulator.advance(0.1)
    finally:
        simulator.close()


def arrays(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[:]} if isinstance(item, h5py.Dataset) else {}))
    return found


def test_the_same_words_make_the_same_file(tmp_path: Path, preset: Path) -> None:
    placing = ["--task", "apple_to_bowl", "--episodes", "2", *SHORT]
    for name in ("a", "b"):
        assert main(words(tmp_path / f"{name}.h5", preset, *placing)) == 0
    with EpisodeFile(tmp_path / "a.h5") as file:
        assert file.load("demo_1", ["truth"])["truth"]["names"] == ("effector", "object", "goal")
    one, other = arrays(tmp_path / "a.h5"), arrays(tmp_path / "b.h5")
    assert one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


def test_failures_are_left_out_and_take_the_next_scene(
    tmp_path: Path, preset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In scene 28 the expert takes 11 s, in the next one less than 7."""
    out = tmp_path / "a.h5"
    assert main(words(out, preset, "--episodes", "1", "--seed", "28", "--limit-s", "7.5")) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (said["episodes"], said["attempts"], said["seeds"]) == (1, 2, [29])
    with EpisodeFile(out) as file:
        assert file.demos == ["demo_0"] and file.attributes("demo_0")["seed"] == 29
        assert said["steps"] == file.total <= 75
    assert main(words(tmp_path / "b.h5", preset, "--episodes", "2", *SHORT)) == 0
    with EpisodeFile(tmp_path / "b.h5") as file:
        assert {file.attributes(demo)["label"] for demo in file.demos} == {"failure"}
        assert not any(file.load(demo, ["rewards"])["rewards"].any() for demo in file.demos)


def test_an_expert_that_never_succeeds_ends_it(
    tmp_path: Path, preset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.h5"
    out.write_text("what was there before")
    assert main(words(out, preset, "--episodes", "1", "--limit-s", "1")) == 1
    assert "the expert failed 7 times" in capsys.readouterr().err
    assert out.read_text() == "what was there before" and list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seed", "500", "--episodes", "2"], "scenes 500 to 501 are not all in 0 to 499; nothing is"),
        (["--seed", "495", "--episodes", "10"], "scenes 495 to 504 are not all in 0 to 499"),
        (["--evaluation", "--seed", "7", "--episodes", "1"], "scene 7 is not in 500 to 1999; with --evaluation"),
        (["--evaluation", "--seed", "1995"], "scenes 1995 to 2004 are not all in 500 to 1999"),
        (["--seed", "-1"], "scenes -1 to 8"),
        (["--episodes", "0"], "at least 1 episode, found 0"),
        (["--limit-s", "0.5"], "at least 1 s"),
        (["--disturbance", "3"], "disturbance 3.0 m/s: expected 0 to 0.1"),
        (["--task", "pick_appel"], "did you mean 'pick_apple'"),
        (["--perturbation", "video_hard", "--videos", "nowhere"], "nowhere: expected a folder of videos"),
        (["--preset", "65"], "65"),
    ],
)
def test_a_mistake_is_told_before_anything_is_made(
    tmp_path: Path, preset: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    out = tmp_path / "a.h5"
    assert main([*words(out, preset), *options]) == 1
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_failing_expert_does_not_lead_beyond_the_training_scenes(
    tmp_path: Path, preset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(tmp_path / "a.h5", preset, "--episodes", "1", "--seed", "498", "--limit-s", "1")) == 1
    assert "scene 500 is not in 0 to 499" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_perturbed_scenes_to_test_on(tmp_path: Path, preset: Path) -> None:
    evaluation = ["--evaluation", "--seed", "1000", "--episodes", "1", "--disturbance", "0", *SHORT]
    for name in ("none", "video_hard"):
        assert main(words(tmp_path / f"{name}.h5", preset, *evaluation, "--perturbation", name)) == 0
    plain, video = arrays(tmp_path / "none.h5"), arrays(tmp_path / "video_hard.h5")
    assert plain.keys() == video.keys()
    image = "data/demo_0/obs/image"
    assert all(np.array_equal(plain[key], video[key]) for key in plain if key != image)
    assert (plain[image] != video[image]).any(axis=-1).mean() > 0.5
    assert np.abs(np.diff(video[image][:, :40].astype(int), axis=0)).mean() > 1, "it moves"
    with h5py.File(tmp_path / "video_hard.h5") as file:
        assert file["data"].attrs["evaluation"] and file["data"].attrs["perturbation"] == "video_hard"
        assert file["data"].attrs["seeds"].tolist() == [1000]


def test_a_wandering_hand_goes_everywhere_and_keeps_every_episode(tmp_path: Path, preset: Path) -> None:
    assert main(words(tmp_path / "a.h5", preset, "--policy", "random", "--episodes", "2", "--limit-s", "2")) == 0
    with EpisodeFile(tmp_path / "a.h5") as file:
        assert [int(file.attributes(demo)["seed"]) for demo in file.demos] == [0, 1]
        assert file.total > 30
        one, other = (file.load(demo, ["actions_physical"])["actions_physical"] for demo in file.demos)
        assert np.abs(one[:15] - other[:15]).max() > 0.001
    simulator = Simulator("pick_red_block", 0)
    try:
        wanderer, places = Wanderer(0), []
        for _ in range(400):
            action = wanderer.act(simulator.state())
            simulator.contract.action.validate(action)
            simulator.command(10 * action[:6], float(action[6]))
            simulator.advance(0.1)
            places.append(simulator.state().tool_position)
    finally:
        simulator.close()
    assert (np.ptp(places, axis=0) > [0.1, 0.1, 0.08]).all()
    assert np.min(places, axis=0)[2] > 0.02 and np.abs(np.array(places)[:, 1]).max() < 0.25


def test_ctrl_c_leaves_what_was_there(tmp_path: Path, preset: Path) -> None:
    out = tmp_path / "a.h5"
    out.write_text("what was there before")
    command = [sys.executable, "-m", "visarl.cli", *words(out, preset, "--episodes", "300")]
    with running(command) as process:
        limit = time.monotonic() + 60
        while not any(path.stat().st_size > 3 << 20 for path in tmp_path.glob("a.h5?*")):  # some episodes are in it
            assert time.monotonic() < limit and process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert out.read_text() == "what was there before" and list(tmp_path.iterdir()) == [out]


def test_what_a_kill_left_behind_is_overwritten(tmp_path: Path, preset: Path) -> None:
    out = tmp_path / "a.h5"
    (tmp_path / "a.h5.partial").write_bytes(b"half")
    assert main(words(out, preset, "--episodes", "1", *SHORT)) == 0
    assert list(tmp_path.iterdir()) == [out]
    EpisodeFile(out, PREPROCESS).close()


def test_an_unwritable_place_is_told_at_once(tmp_path: Path, preset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("no folder")
    for place, message in ((tmp_path / "file" / "a.h5", "is a file and no folder"), (tmp_path, "is a folder")):
        assert main(words(place, preset, "--episodes", "400")) == 1
        said = capsys.readouterr().err
        assert message in said and "simulating" not in said
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
