"""Each training script: an interrupted run that goes on ends where the uninterrupted one ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.conftest import encoder_options, saliency_options
from tests.training.test_train_policy import policy_options
from training import train_encoder, train_policy, train_saliency
from training.common import Run
from visarl.bundle import load_part
from visarl.errors import ConfigError
from visarl.training_options import TrainSaliency


def pretraining_options(run: Path, out: Path, iterations: int = 2) -> TrainSaliency:
    return dataclasses.replace(saliency_options(run, out), pretraining=iterations)


SCRIPTS: dict[str, tuple[Callable[..., Any], Callable[[Any], None], str]] = {
    "saliency": (saliency_options, train_saliency.main, train_saliency.PART),
    "pretraining": (pretraining_options, train_saliency.main, train_saliency.PART),
    "encoder": (encoder_options, train_encoder.main, train_encoder.PART),
    "policy": (policy_options, train_policy.main, "bundle/policy.safetensors"),
}


def interrupt_at(monkeypatch: pytest.MonkeyPatch, iteration: int) -> None:
    """Ctrl-C before the work of `iteration`."""
    original = Run.__iter__

    def until(self: Run) -> Any:
        for i in original(self):
            if i == iteration:
                raise KeyboardInterrupt
            yield i

    monkeypatch.setattr(Run, "__iter__", until)


@pytest.mark.parametrize("name", SCRIPTS)
def test_resumed_run_gives_the_same_weights(
    name: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, main, part = SCRIPTS[name]
    main(options(run, tmp_path / "whole", iterations=4))
    with monkeypatch.context() as context:
        interrupt_at(context, 3)  # checkpoints are at 2 and 4: iteration 2 is done again
        with pytest.raises(KeyboardInterrupt):
            main(options(run, tmp_path / "broken", iterations=4))
    assert not (tmp_path / "broken" / part).exists()
    main(options(run, tmp_path / "broken", iterations=4))

    whole, _ = load_part(tmp_path / "whole" / part)
    resumed, _ = load_part(tmp_path / "broken" / part)
    assert whole.keys() == resumed.keys()
    for key in whole:
        assert torch.equal(whole[key], resumed[key]), key


def test_resuming_really_skips_what_is_done(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_encoder.main(encoder_options(run, tmp_path))
    done = []
    original = Run.log
    monkeypatch.setattr(Run, "log", lambda self, i, **values: (done.append(i), original(self, i, **values)))
    train_encoder.main(encoder_options(run, tmp_path))
    assert done == []


def test_other_settings_do_not_go_on_silently(run: Path, tmp_path: Path) -> None:
    options = encoder_options(run, tmp_path)
    train_encoder.main(options)
    with pytest.raises(ConfigError, match=r"lr was 0.0006, is 0.001.*--restart"):
        train_encoder.main(dataclasses.replace(options, lr=1e-3))
    train_encoder.main(dataclasses.replace(options, lr=1e-3, restart=True))


def test_seeds_differ(run: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        train_saliency.main(dataclasses.replace(saliency_options(run, tmp_path / str(seed)), seed=seed))
    parts = [load_part(tmp_path / str(seed) / train_saliency.PART)[0] for seed in (0, 1)]
    assert any(not torch.equal(parts[0][key], parts[1][key]) for key in parts[0])
