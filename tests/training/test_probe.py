"""The probe: what its regression finds, what its intervals hold, and a whole run on a few scenes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import TINY
from training import train_encoder, train_saliency
from training.probe import Ridge, bootstrap, main
from visarl.errors import ConfigError
from visarl.training_options import Probe


def linear(scenes: int = 40, dim: int = 30, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, what they tell linearly (K = 2), and their scenes of five frames each."""
    rng = np.random.default_rng(0)
    x = rng.normal(3.0, 2.0, (5 * scenes, dim))
    y = x @ np.random.default_rng(1).normal(0, 1, (dim, 2)) + 7 + noise * rng.normal(0, 1, (5 * scenes, 2))
    return x, y, np.repeat(np.arange(scenes), 5)


def test_the_regression_finds_what_is_linear() -> None:
    x, y, scenes = linear()
    model = Ridge(x[:100], y[:100], scenes[:100])
    assert np.abs(model.predict(x[100:]) - y[100:]).max() < 0.5 * y.std()
    assert np.abs(model.predict(x[100:]) - y[100:]).mean() < 0.02 * y.std()


def test_features_that_tell_nothing_give_the_mean() -> None:
    x, _, scenes = linear(dim=100)
    y = np.random.default_rng(2).normal(5.0, 1.0, (40, 1)).repeat(5, axis=0)  # one value a scene
    model = Ridge(x, y, scenes)
    assert np.abs(model.predict(linear(scenes=80, dim=100)[0][200:]) - 5.0).max() < 1.0


def test_frames_of_a_scene_are_left_out_together() -> None:
    """A feature that names the scene knows the training scenes by heart; folds of single frames would believe it."""
    scenes = np.repeat(np.arange(40), 5)
    y = np.random.default_rng(0).normal(0, 1, (40, 1))[scenes]
    x = np.eye(40)[scenes] + 0.01 * np.random.default_rng(1).normal(0, 1, (200, 40))
    assert Ridge(x, y, scenes).strength > 1e3 > Ridge(x, y, np.arange(200)).strength


def test_an_interval_holds_the_mean_and_counts_scenes_not_frames() -> None:
    values = np.random.default_rng(0).exponential(10.0, 30)
    low, high = bootstrap(values, np.arange(30))
    assert low < values.mean() < high
    repeated = bootstrap(values.repeat(20), np.arange(30).repeat(20))
    assert repeated == pytest.approx((low, high))
    narrow = bootstrap(values.repeat(20), np.arange(600))
    assert narrow[1] - narrow[0] < 0.5 * (high - low)


def options(run: Path, **changed: object) -> Probe:
    parts = {"encoder": run / "encoder" / train_encoder.PART, "saliency": run / "saliency" / train_saliency.PART}
    few = {"scenes": 6, "seeds": "1000:1002", "every": 25, "conditions": ("none", "distractors")}
    return Probe(**{**parts, **few, **changed})  # type: ignore[arg-type]


def test_a_whole_probe(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(options(run, out=tmp_path / "probe.json", threads=1))
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told == json.loads((tmp_path / "probe.json").read_text())
    assert told["inputs"] == list(TINY.encoder.inputs) and told["train_frames"] > 10
    assert set(told["error_mm"]) == {"none", "distractors"}
    for found in told["error_mm"].values():
        assert set(found) == {"mean", "global", "modality_mean", "trivial"}
        for of_role in found.values():
            assert set(of_role) == {"effector", "object"}
            for error in of_role.values():
                assert error["interval"][0] <= error["xy"] <= error["interval"][1] and error["xy"] <= error["xyz"]
    # Who answers with the mean position is off by the spread of the scenes, whatever they look like.
    assert 30 < told["error_mm"]["none"]["trivial"]["object"]["xy"] < 200


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"seeds": "499:501"}, "expected scenes that training never sees"),
        ({"saliency": None}, "--saliency names the part"),
    ],
)
def test_what_a_probe_refuses(run: Path, changed: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        main(options(run, **changed))
