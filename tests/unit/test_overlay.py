"""What matters in a picture, drawn so that a person sees it and still sees the picture."""

from __future__ import annotations

import numpy as np
import pytest

from visarl.overlay import COLOURS, DIM, overlay

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (48, 64, 3), dtype=np.uint8)


def spot(row: int, column: int, value: float = 1.0) -> np.ndarray:
    """One map (12, 16): `value` in a patch of 3 by 3 around the place, 0 elsewhere."""
    drawn = np.zeros((12, 16), np.float32)
    drawn[row - 1 : row + 2, column - 1 : column + 2] = value
    return drawn


def test_what_does_not_matter_is_dimmed_and_keeps_its_picture() -> None:
    drawn = overlay(PICTURE, np.zeros((2, 12, 16), np.float32))
    assert drawn.shape == PICTURE.shape and drawn.dtype == np.uint8
    assert np.abs(drawn - DIM * PICTURE).max() <= 1


def test_a_map_lies_over_its_own_place_in_a_picture_of_another_shape() -> None:
    drawn = overlay(PICTURE, spot(row=3, column=12)[None]).astype(float)
    changed = np.abs(drawn - DIM * PICTURE).max(axis=2) > 2
    v, u = np.argwhere(changed).mean(axis=0)
    assert (v, u) == pytest.approx((4 * 3 + 1.5, 4 * 12 + 1.5), abs=1.5)
    assert changed.mean() < 0.15


def test_the_glow_grows_with_the_map_and_leaves_the_picture_visible() -> None:
    place = 4 * 6 + 1, 4 * 8 + 1
    away = [
        np.abs(overlay(PICTURE, spot(6, 8, value)[None])[place] - np.array(COLOURS[0], float)).sum()
        for value in (0.0, 0.5, 1.0)
    ]
    assert away[0] > away[1] > away[2] > 20
    black, white = (overlay(np.full((48, 64, 3), grey, np.uint8), np.ones((1, 12, 16))) for grey in (0, 255))
    assert (white.astype(int) - black).min() > 80, "black and white still differ under the strongest glow"


def test_values_beyond_one_are_no_brighter_than_one_and_do_not_wrap() -> None:
    given = PICTURE.copy()
    for beyond, within in ((7.0, 1.0), (-7.0, 0.0)):
        maps = [np.full((1, 12, 16), value) for value in (beyond, within)]
        assert np.array_equal(overlay(given, maps[0]), overlay(given, maps[1]))
    assert np.array_equal(given, PICTURE), "the given picture stays as it was"


def test_more_roles_than_colours_begin_again() -> None:
    maps = np.zeros((len(COLOURS) + 1, 12, 16), np.float32)
    maps[-1] = 1.0
    assert np.array_equal(overlay(PICTURE, maps), overlay(PICTURE, np.ones((1, 12, 16), np.float32)))
