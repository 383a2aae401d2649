"""What a person is told who gives a verb what it cannot use: a line with the way out, status 1, nothing half-made."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import torch._dynamo  # noqa: F401  before the simulator renders

from training import train_encoder, train_saliency
from visarl.cli import DEBUG_VARIABLE, main
from visarl.data.align import IDLE_SHARE
from visarl.data.episodes import EpisodeFile
from visarl.errors import DataError
from visarl.options import Simulate
from visarl.simulate import simulate

SMALL = "--iterations 2 --threads 1"
Told = Callable[..., tuple[int, str]]


@pytest.fixture
def told(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Told:
    """Runs a verb in a folder of its own, `RUN` standing for the made-up run's; exit status and what a person reads."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(DEBUG_VARIABLE, raising=False)

    def go(words: str) -> tuple[int, str]:
        status = main(words.replace("RUN", str(run)).split())
        found = capsys.readouterr()
        assert "Traceback" not in found.err
        return status, found.err

    return go


SALIENCY = f"train saliency --bags RUN/bags --preset RUN/preset.json --batch 2 {SMALL} --out out"
ENCODER = f"train encoder --preset RUN/preset.json --batch 4 {SMALL} --out out"
POLICY = (
    f"train policy --saliency RUN/saliency/{train_saliency.PART} --encoder RUN/encoder/{train_encoder.PART} {SMALL} "
    "--components 4 --diagnostic-starts 0 --out out"
)


# ---- annotations ---------------------------------------------------------------------------------------------------


def clicks_with(run: Path, path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads((run / "clicks.json").read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["frames"].clear(), ("clicks.json: 0 frames without a click", "visarl annotate --bags")),
        (lambda c: [f["clicks"].clear() for f in c["frames"]], ("clicks.json: 3 frames without a click",)),
        (lambda c: c["frames"][0].update(bag="demo-9"), ("annotated bag 'demo-9' is not there; put it back",)),
        (lambda c: c["frames"][0]["clicks"][0].update(u=math.nan), ("clicks.json: click:", "found (nan", "good copy")),
        (lambda c: c["frames"][0]["clicks"][0].update(role="hand"), ("clicks.json: click: no role 'hand'",)),
    ],
    ids=["none", "empty", "bag gone", "nan", "role"],
)
def test_annotations_that_teach_nothing(
    change: Callable[[dict[str, Any]], None], words: tuple[str, ...], run: Path, tmp_path: Path, told: Told
) -> None:
    clicks_with(run, tmp_path / "clicks.json", change)
    status, said = told(f"{SALIENCY} --clicks clicks.json")
    assert status == 1 and all(part in said for part in words), said
    assert not (tmp_path / "out" / train_saliency.PART).exists()


def test_one_annotation_and_an_empty_click_map_among_others_teach(run: Path, tmp_path: Path, told: Told) -> None:
    clicks_with(run, tmp_path / "one.json", lambda c: c["frames"].__delitem__(slice(1, None)))
    clicks_with(run, tmp_path / "empty.json", lambda c: c["frames"][0]["clicks"].clear())
    for name in ("one", "empty"):
        assert told(f"{SALIENCY}/{name} --clicks {name}.json")[0] == 0
        assert (tmp_path / "out" / name / train_saliency.PART).exists()


# ---- options -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (f"{SALIENCY} --clicks RUN/clicks.json --pretraining -1", "pretraining: expected 0 or more, found -1"),
        (f"{SALIENCY} --clicks RUN/clicks.json --seed -1", "seed: expected 0 or more, found -1"),
        (f"{SALIENCY} --clicks RUN/clicks.json --soft nan", "soft: expected 0 or more, found nan"),
        (f"{SALIENCY} --clicks RUN/clicks.json --covered 3", "covered: expected a share, 0 to 1, found 3"),
        (f"{ENCODER} --episodes RUN/episodes.hdf5 --weight-decay -1", "weight_decay: expected 0 or more, found -1"),
        (f"{POLICY} --episodes RUN/clear.hdf5 --holdout -1", "holdout: expected 0 or more, found -1"),
        (f"{POLICY} --episodes RUN/clear.hdf5 --components 40", "choose fewer --components"),
        ("label --episodes RUN/episodes.hdf5 --threads 0", "threads: expected more than 0, found 0"),
        (f"probe --encoder RUN/encoder/{train_encoder.PART} --scenes 0", "scenes: expected more than 0, found 0"),
        ("pipeline --task pick_apple --out out --frames 0", "frames: expected more than 0, found 0"),
        ("pipeline --task pick_apple --out out --seed 450", "seed 450: expected scenes of 0 to 499"),
    ],
)
def test_options_out_of_range(words: str, expected: str, told: Told) -> None:
    status, said = told(words)
    assert status == 1 and expected in said, said


def test_a_file_in_the_place_of_the_folder_is_told_before_the_work(tmp_path: Path, told: Told) -> None:
    (tmp_path / "out").write_text("somebody's")
    for words in (f"{SALIENCY} --clicks RUN/clicks.json", f"{ENCODER} --episodes RUN/episodes.hdf5"):
        status, said = told(words)
        assert status == 1 and "out: cannot be written" in said and "choose another folder" in said
    assert (tmp_path / "out").read_text() == "somebody's"


# ---- demonstrations ------------------------------------------------------------------------------------------------


def spoil(path: Path, change: Callable[[h5py.File], None]) -> Path:
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def still(file: h5py.File) -> None:
    high = np.array([0.02, 0.02, 0.02, 0.05, 0.05, 0.05, 1.0])
    file["data/demo_1/actions_physical"][:] = 0.1 * IDLE_SHARE * high


def not_finite(file: h5py.File) -> None:
    file["data/demo_1/obs/proprioception"][3, 2] = np.nan


def cut(file: h5py.File) -> None:
    rows = file["data/demo_1/obs/saliency"][:5]
    del file["data/demo_1/obs/saliency"]
    file["data/demo_1/obs/saliency"] = rows


def unknown_task(file: h5py.File) -> None:
    for demo in file["data"].values():
        demo.attrs["task"] = "juggle"


@pytest.mark.parametrize(
    ("change", "more", "expected"),
    [
        (still, "", "demo_1 (demo-1): the arm never moves in it; convert without that bag"),
        (not_finite, "", "demo_1 (demo-1): expected finite numbers, found NaN or Inf; convert without that bag"),
        (cut, "", "demo_1: expected 20 steps of everything, found {'saliency': 5}; convert the bags again"),
        (unknown_task, "--select 1", "the simulator has no task 'juggle' to start in"),
    ],
)
def test_demonstrations_that_cannot_be_cloned(
    change: Callable[[h5py.File], None], more: str, expected: str, run: Path, tmp_path: Path, told: Told
) -> None:
    spoil(Path(shutil.copy(run / "clear.hdf5", tmp_path / "spoiled.h5")), change)
    status, said = told(f"{POLICY} --episodes spoiled.h5 {more}")
    assert status == 1 and expected in said, said
    assert not (tmp_path / "out" / "bundle").exists()


def test_a_task_that_the_simulator_does_not_have_can_be_cloned(run: Path, tmp_path: Path, told: Told) -> None:
    spoil(Path(shutil.copy(run / "clear.hdf5", tmp_path / "own.h5")), unknown_task)
    assert told(f"{POLICY} --episodes own.h5")[0] == 0
    assert json.loads((tmp_path / "out" / "bundle" / "bundle.json").read_text())["task"] == "juggle"


def test_an_episode_file_without_episodes_and_a_folder_in_its_place(episodes: Path, tmp_path: Path) -> None:
    with h5py.File(episodes, "r+") as file:
        for demo in list(file["data"]):
            del file["data"][demo]
    with pytest.raises(DataError, match="holds no episode"):
        EpisodeFile(episodes)
    with pytest.raises(DataError, match="is a folder; expected an episode file"):
        EpisodeFile(tmp_path)


def test_nothing_is_trained_on_a_file_to_test_on(run: Path, tmp_path: Path, told: Told) -> None:
    made = Simulate(
        out=tmp_path / "test.h5", episodes=1, seed=500, evaluation=True, failures=True, limit_s=1.2,
        preset=str(run / "preset.json"), disturbance=0.0,
    )  # fmt: skip
    simulate(made)
    assert told(f"label --episodes test.h5 --saliency RUN/saliency/{train_saliency.PART} --threads 1")[0] == 0
    for words in (ENCODER, f"{ENCODER} --modalities rgb", POLICY):
        status, said = told(f"{words} --episodes test.h5")
        assert status == 1 and "test.h5: is to test on" in said and "one made without --evaluation" in said, said
    assert not list(tmp_path.glob("out/*.safetensors")) and not (tmp_path / "out" / "bundle").exists()
    assert not (tmp_path / "test.h5.frames").exists()


# ---- amid the work -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [f"{ENCODER} --episodes RUN/episodes.hdf5", f"{POLICY} --episodes RUN/clear.hdf5"])
def test_a_broken_loss(words: str, tmp_path: Path, told: Told) -> None:
    status, said = told(f"{words} --lr 1e30 --iterations 20 --checkpoint-every 1")
    assert status == 1 and "--restart --lr with a third of the present one" in said, said
    assert not list(tmp_path.rglob("*.safetensors"))
    assert told(f"{words} --restart")[0] == 0


def refuse(*_: Any, **__: Any) -> Any:
    torch.empty(1 << 60, dtype=torch.uint8)


def test_out_of_memory_outside_of_a_training_loop(
    episodes: Path, tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The allocator's own error; only that the picture is too large is made up."""
    before = episodes.read_bytes()
    monkeypatch.setattr("training.label.predict_maps", refuse)
    status, said = told(f"label --episodes {episodes} --saliency RUN/saliency/{train_saliency.PART} --threads 1")
    assert status == 1 and "visarl: error: out of memory (" in said and "smaller --preset" in said, said
    assert episodes.read_bytes() == before and not list(tmp_path.glob("*.partial"))


def test_an_estimator_that_fails_is_named_and_the_file_stays(
    episodes: Path, tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_depth.py").write_text("def depth(picture):\n    raise KeyError('weights')\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = episodes.read_bytes()
    status, said = told(f"label --episodes {episodes} --estimators depth=broken_depth:depth --threads 1")
    assert status == 1 and "the estimator of depth failed (KeyError: 'weights')" in said, said
    assert episodes.read_bytes() == before and not list(tmp_path.glob("*.partial"))


def test_out_of_memory_is_known_by_all_its_names() -> None:
    from visarl.errors import out_of_memory

    gone = [
        MemoryError(), torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("std::bad_alloc"),
    ]  # fmt: skip
    for make in (lambda: np.empty(1 << 60, np.uint8), lambda: torch.empty(1 << 60, dtype=torch.uint8)):
        with pytest.raises((MemoryError, RuntimeError)) as found:
            make()
        gone.append(found.value)
    assert all(map(out_of_memory, gone))
    assert not any(map(out_of_memory, (RuntimeError("shapes differ"), KeyError("out of memory"))))
