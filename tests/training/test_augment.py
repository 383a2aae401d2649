"""Augmentation: clicks go where the picture goes, and colours really change."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from training.augment import Augmentation, _disguise, augment

SIDE = 96


def dotted(u: float, v: float) -> np.ndarray:
    picture = np.full((SIDE, SIDE, 3), 40, np.uint8)
    cv2.circle(picture, (int(u * SIDE), int(v * SIDE)), 3, (255, 255, 255), -1)
    return picture


@pytest.mark.parametrize("seed", range(20))
def test_clicks_follow_the_picture(seed: int) -> None:
    rng = np.random.default_rng(seed)
    u, v = rng.uniform(0.4, 0.6, 2)
    picture, moved = augment(dotted(u, v), np.array([[u, v]]), rng, Augmentation(jitter=0, shapes=0, shift=0.1))
    # The dot is the only white thing, except where the border was filled with a bright colour.
    rows, columns = np.nonzero((picture > 225).all(axis=2))
    distance = np.hypot((columns + 0.5) / SIDE - moved[0, 0], (rows + 0.5) / SIDE - moved[0, 1])
    assert distance.min() < 1.5 / SIDE


def test_colour_jitter_runs() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    still = Augmentation(shift=0, rotation_deg=0, scale=0, flips=False, shapes=0)
    same, _ = augment(picture, np.zeros((0, 2)), np.random.default_rng(1), Augmentation(**{**vars(still), "jitter": 0}))
    other, _ = augment(picture, np.zeros((0, 2)), np.random.default_rng(1), still)
    assert np.array_equal(same, picture)
    assert np.abs(other.astype(int) - picture).mean() > 5


def test_shapes_keep_clear_of_clicks() -> None:
    how = Augmentation(shift=0, rotation_deg=0, scale=0, flips=False, jitter=0, shapes=8)
    picture = dotted(0.5, 0.5)
    covered = changed = 0
    for seed in range(30):
        out, _ = augment(picture, np.array([[0.5, 0.5]]), np.random.default_rng(seed), how)
        covered += not np.array_equal(out[44:53, 44:53], picture[44:53, 44:53])
        changed += not np.array_equal(out, picture)
    assert covered == 0 and changed > 20


def test_input_is_left_alone_and_draws_repeat() -> None:
    picture, points = dotted(0.5, 0.5), np.array([[0.5, 0.5]])
    before = picture.copy()
    results = [augment(picture, points, np.random.default_rng(3), Augmentation()) for _ in range(2)]
    assert np.array_equal(picture, before)
    assert np.array_equal(results[0][0], results[1][0]) and np.array_equal(results[0][1], results[1][1])


def _still(**changes: float) -> Augmentation:
    return Augmentation(**{**dict(shift=0, rotation_deg=0, scale=0, flips=False, shapes=0, jitter=0), **changes})


def test_lookalikes_have_the_colour_of_what_was_clicked() -> None:
    picture = np.full((SIDE, SIDE, 3), 128, np.uint8)
    cv2.circle(picture, (48, 48), 6, (200, 20, 20), -1)
    points = np.array([[0.5, 0.5]])

    def red(how: Augmentation) -> float:
        """Share of the pictures with something red besides."""
        found = 0
        for seed in range(40):
            out, _ = augment(picture, points, np.random.default_rng(seed), how)
            out[36:61, 36:61] = 128
            found += bool(((out[..., 0] > 90) & (out[..., 1] < 60) & (out[..., 2] < 60)).any())
        return found / 40

    assert red(_still(shapes=6, lookalikes=1.0)) > 0.5 > 0.3 > red(_still(shapes=6))


def test_something_covers_a_part_but_never_the_click() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    point = np.array([[0.5, 0.5]])
    near = 0
    for seed in range(40):
        out, moved = augment(picture, point, np.random.default_rng(seed), _still(covered=1.0))
        changed = np.argwhere((out != picture).any(axis=2)) + 0.5
        assert len(changed) and np.array_equal(moved, point)
        distance = np.linalg.norm(changed / SIDE - 0.5, axis=1)
        assert distance.min() > 0.5 / SIDE
        near += distance.min() < 0.04
    assert near > 20
    assert np.array_equal(augment(picture, point, np.random.default_rng(0), _still())[0], picture)


def test_solids_have_faces_of_several_shades() -> None:
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    shades = [
        len(np.unique(augment(picture, np.zeros((0, 2)), np.random.default_rng(seed), _still(shapes=1))[0] // 4))
        for seed in range(40)
    ]
    assert np.median([n for n in shades if n > 1]) > 4


def test_other_things_take_the_colour_of_a_clicked_one_and_keep_their_shading() -> None:
    table, red, blue = (190, 170, 140), np.array((200, 20, 20)), np.array((40, 60, 160))
    picture = np.full((240, 240, 3), table, np.uint8)
    picture[40:60, 40:60] = red
    for row in range(20):  # a blue thing that is darker below
        picture[150 + row, 150:170] = blue * (1 - 0.02 * row)
    picture[200:] = 20  # no thing: too large
    clicks = np.array([[50, 50]]) / 240
    how = Augmentation(disguised=1.0)
    found = _disguise(picture.copy(), clicks, clicks, np.random.default_rng(0), how)
    same = (np.abs(found.astype(int) - picture) <= 3).all(axis=2)  # but for rounding in another colour space
    changed = np.argwhere(~same)
    assert (
        (changed.min(axis=0) == (150, 150)).all() and (changed.max(axis=0) == (169, 169)).all() and len(changed) == 400
    )
    thing = found[150:170, 150:170].astype(int)
    assert (thing[..., 0] > 3 * thing[..., 2]).all(), "red now"
    brightness = thing.max(axis=2).mean(axis=1)
    assert brightness[0] > 1.4 * brightness[-1], "and lit as before"
    assert (_disguise(picture.copy(), clicks, clicks, np.random.default_rng(0), Augmentation()) == picture).all()
