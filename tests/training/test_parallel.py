"""Several processes train what one trains."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.training.conftest import encoder_options
from training import train_encoder
from training.parallel import launch
from visarl.bundle import load_part
from visarl.errors import ConfigError

ITERATIONS = 4


def torchrun(run: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Two processes on this machine, by the command that a person would give."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "-m", "training.train_encoder", "--episodes", str(run / "episodes.hdf5"), "--out", str(out),
        "--preset", str(run / "preset.json"), "--iterations", str(ITERATIONS), "--batch", "4",
        "--threads", "1", "--device", "cpu", "--checkpoint-every", "2", "--no-amp",
    ]  # fmt: skip
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


@pytest.fixture(scope="module")
def both(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """The same training by one process and by two, and what the two said."""
    folder = tmp_path_factory.mktemp("parallel")
    options = dataclasses.replace(encoder_options(run, folder / "one", ITERATIONS), amp=False, device="cpu")
    train_encoder.main(options)
    done = torchrun(run, folder / "two")
    assert done.returncode == 0, done.stderr
    return folder / "one", folder / "two", done.stderr


def test_two_processes_end_where_one_ends(both: tuple[Path, Path, str]) -> None:
    one, two, _ = both
    single, description = load_part(one / train_encoder.PART)
    shared, theirs = load_part(two / train_encoder.PART)
    assert theirs == description and single.keys() == shared.keys()
    for name, weights in single.items():
        if name.endswith("key_value.bias"):
            continue  # softmax does not see what is added to all keys: Adam makes steps of pure rounding of it
        torch.testing.assert_close(shared[name], weights, rtol=1e-3, atol=2e-5, msg=name)


def test_one_of_them_writes(both: tuple[Path, Path, str]) -> None:
    one, two, said = both
    assert said.count("images a second") == said.count("encoder.safetensors after") == 1
    assert len(list((two / "tensorboard").iterdir())) == 1
    assert {path.name for path in two.iterdir()} == {path.name for path in one.iterdir()}
    curves = [EventAccumulator(str(folder / "tensorboard")).Reload() for folder in (one, two)]
    losses = [curve.Scalars("encoder/loss")[0].value for curve in curves]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_batch_that_cannot_be_shared_out_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="expected a multiple of the 2 processes, found 3"):
        launch(torch.device("cpu"), 3, True)
