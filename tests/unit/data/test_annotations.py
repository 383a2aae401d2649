"""Clicks are kept by frame, rendered as Gaussians, and found again whatever the order of bags."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.unit.data.synthetic import Scene, synthetic_bag
from visarl.config import PreprocessConfig
from visarl.data.annotations import AnnotationFile, Click, FrameKey, render, simulated_clicks, spread
from visarl.errors import DataError

SMALL = PreprocessConfig(size=64)
ROLES = ("effector", "object")


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("bags")
    return [synthetic_bag(root / f"ep{i}", Scene(seconds=2.0, seed=i)) for i in range(3)]


def test_rendered_gaussians() -> None:
    maps = render([Click(0.25, 0.5, "effector", sigma=0.1), Click(0.8, 0.2, "object", weight=0.5)], ROLES, 64)
    assert maps.shape == (2, 64, 64) and maps.dtype == np.float32
    row, column = np.unravel_index(maps[0].argmax(), (64, 64))
    assert abs((column + 0.5) / 64 - 0.25) < 0.01 and abs((row + 0.5) / 64 - 0.5) < 0.01
    assert maps[0].max() == pytest.approx(1, abs=0.01) and maps[1].max() == pytest.approx(0.5, abs=0.05)
    # One sigma off the centre: exp(-1/2), and sigma is a standard deviation, not a width at half height.
    at = render([Click(0.5 + 0.5 / 64, 0.5 + 0.5 / 64, "effector", sigma=8 / 64)], ROLES, 64)[0]
    assert at[32, 40] == pytest.approx(np.exp(-0.5), abs=1e-4)


def test_overlapping_clicks_take_the_maximum() -> None:
    one = render([Click(0.5, 0.5, "object")], ROLES, 32)
    assert np.array_equal(one, render([Click(0.5, 0.5, "object")] * 3, ROLES, 32))


def test_no_clicks_are_zeros_not_an_error() -> None:
    assert np.array_equal(render([], ROLES, 16), np.zeros((2, 16, 16)))


def test_the_plain_role_takes_every_click() -> None:
    clicks = [Click(0.2, 0.2, "effector"), Click(0.8, 0.8, "object")]
    plain = render(clicks, ("plain",), 32)
    assert np.array_equal(plain[0], render(clicks, ROLES, 32).max(axis=0))
    with pytest.raises(DataError, match="role 'object', but the maps are"):
        render(clicks, ("effector",), 32)


@pytest.mark.parametrize(
    "wrong", [{"u": 1.2}, {"v": -0.1}, {"role": "efector"}, {"sigma": 0.0}, {"weight": 2.0}, {"u": float("nan")}]
)
def test_impossible_clicks(wrong: dict) -> None:
    with pytest.raises(DataError, match="click"):
        Click(**{"u": 0.5, "v": 0.5, **wrong})


def test_saved_and_loaded(tmp_path: Path) -> None:
    frames = {FrameKey("b", 2): (Click(0.1, 0.2, "object"),), FrameKey("a", 5): (), FrameKey("a", 1): (Click(0, 1),)}
    written = AnnotationFile(SMALL, frames)
    written.save(tmp_path / "clicks.json")
    assert AnnotationFile.load(tmp_path / "clicks.json", SMALL) == written
    assert [path.name for path in tmp_path.iterdir()] == ["clicks.json"]
    with pytest.raises(DataError, match="its clicks are on the crop"):
        AnnotationFile.load(tmp_path / "clicks.json", PreprocessConfig(crop=(0.0, 0.0, 0.75, 1.0)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "clicks.json: no such file; `visarl annotate --bags DIR --out .*clicks.json` makes it"),
        ("{", "expected a JSON file, .*; replace it by a good copy, or remove it"),
        ("[]", "expected a JSON object"),
        ('{"format": "labelme"}', "expected annotations of format .*'labelme'; give a file that `visarl annotate`"),
        ('{"format": "visarl-annotations-1"}', "damaged annotations, KeyError.*; replace the file by a good copy"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "clicks.json").write_text(content)
    with pytest.raises(DataError, match=message):
        AnnotationFile.load(tmp_path / "clicks.json")


def test_two_annotations_of_a_frame_are_refused(tmp_path: Path) -> None:
    AnnotationFile(SMALL, {FrameKey("a", 1): ()}).save(tmp_path / "clicks.json")
    content = json.loads((tmp_path / "clicks.json").read_text())
    content["frames"] *= 2
    (tmp_path / "clicks.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="two annotations of"):
        AnnotationFile.load(tmp_path / "clicks.json")


def test_simulated_clicks_hit_what_the_picture_shows(bags: list[Path]) -> None:
    found = simulated_clicks(bags, 9, 0, SMALL)
    assert len(found.frames) == 9
    for key, picture in found.pictures(bags):
        hand, block = found.frames[key]
        assert (hand.role, block.role) == ROLES
        red, green, blue = (int(x) for x in picture[int(hand.v * 64), int(hand.u * 64)])
        assert red > 150 and green > 150 and blue < 150
        red, green, blue = (int(x) for x in picture[int(block.v * 64), int(block.u * 64)])
        assert red > 180 and green < 100 and blue < 100


def test_simulated_clicks_are_spread_and_repeatable(bags: list[Path]) -> None:
    found = simulated_clicks(bags, 9, 3, SMALL)
    assert found == simulated_clicks(bags, 9, 3, SMALL)
    per_bag = [sum(key.bag == bag.name for key in found.frames) for bag in bags]
    assert per_bag == [3, 3, 3]
    # The episodes look alike, so together they show the hand all along its way.
    stamps = sorted(key.stamp_ns for key in found.frames)
    assert stamps[-1] - stamps[0] > 1.5e9 and np.diff(stamps).max() < 0.7e9


def test_keys_survive_another_order_of_bags(bags: list[Path]) -> None:
    found = simulated_clicks(bags, 4, 0, SMALL)
    forwards, backwards = found.pictures(bags), found.pictures(bags[::-1])
    for (key, picture), (same_key, same_picture) in zip(forwards, backwards, strict=True):
        assert key == same_key and np.array_equal(picture, same_picture)


def test_annotated_frames_that_are_gone(bags: list[Path]) -> None:
    with pytest.raises(DataError, match="annotated bag 'ep9' is not there; put it back, .*; did you mean 'ep2'"):
        AnnotationFile(SMALL, {FrameKey("ep9", 1): ()}).pictures(bags)
    with pytest.raises(DataError, match="was the bag recorded again"):
        AnnotationFile(SMALL, {FrameKey("ep0", 1): ()}).pictures(bags)


def test_clicks_need_truth_and_enough_frames(bags: list[Path], tmp_path: Path) -> None:
    blind = synthetic_bag(tmp_path / "blind", Scene(seconds=0.5, truth=False))
    with pytest.raises(DataError, match="no messages of sim/truth"):
        simulated_clicks([blind], 1, 0, SMALL)
    with pytest.raises(DataError, match="expected at least 500 frames"):
        simulated_clicks(bags, 500, 0, SMALL)


@pytest.mark.parametrize("seed", range(5))
def test_every_second_frame_begins_its_episode_and_every_episode_has_its_share(seed: int) -> None:
    features = np.random.default_rng(seed).normal(size=(60, 3)).astype(np.float32)
    episodes = np.repeat(np.arange(6), 10)
    chosen = spread(features, episodes, 6, seed)
    assert sorted(episodes[chosen]) == list(range(6))
    assert all(index % 10 == 0 for index in chosen[1::2])
    assert not all(index % 10 == 0 for index in chosen)


def test_spread_takes_the_farthest() -> None:
    features = np.array([[0.0], [0.1], [5.0], [5.1], [10.0]], np.float32)
    one_episode = np.zeros(5, np.int64)
    for seed in range(5):
        assert 4 in spread(features, one_episode, 3, seed)
        assert sorted(spread(features, one_episode, 5, seed)) == [0, 1, 2, 3, 4]
