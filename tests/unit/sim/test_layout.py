"""Where things stand, without physics."""

from __future__ import annotations

import itertools

import numpy as np

from visarl.sim import layout
from visarl.sim.seeds import EVALUATION_SEEDS, TRAIN_SEEDS, VALIDATION_SEEDS

THING, GOAL = np.array([0.47, -0.08]), np.array([0.47, 0.10])
THING_RADIUS, GOAL_RADIUS = 0.032, 0.070


def test_ten_demonstrations_pair_object_and_goal_each_time_otherwise() -> None:
    pairs = [(layout.object_place(seed, np.zeros(2)), layout.goal_place(seed, np.zeros(2))) for seed in range(10)]
    assert len({tuple(np.concatenate(pair)) for pair in pairs}) == 10
    assert len({tuple(thing) for thing, _ in pairs}) == 9 and len({tuple(goal) for _, goal in pairs}) == 5


def test_only_teachers_choose_the_spots() -> None:
    drawn = np.array([0.3, -0.9])
    for place in (layout.object_place, layout.goal_place):
        for seeds in (VALIDATION_SEEDS, EVALUATION_SEEDS):
            assert np.array_equal(place(seeds[3], drawn), drawn)
        assert np.abs(place(TRAIN_SEEDS[3], drawn)).max() <= 1 and not np.array_equal(place(3, drawn), drawn)


def test_only_evaluation_shows_unseen_things() -> None:
    assert {layout.distractor_set(seed) for seed in (*TRAIN_SEEDS, *VALIDATION_SEEDS)} == {"training"}
    assert {layout.distractor_set(seed) for seed in EVALUATION_SEEDS} == {"unseen"}


def gaps(places: list[np.ndarray], radii: list[float]) -> tuple[float, float, float]:
    """The narrowest ones: to the object, to the goal, between two."""

    def gap(place: np.ndarray, radius: float, other: np.ndarray, reach: float) -> float:
        return float(np.linalg.norm(place - other)) - radius - reach

    found = list(zip(places, radii, strict=True))
    return (
        min(gap(p, r, THING, THING_RADIUS) for p, r in found),
        min(gap(p, r, GOAL, GOAL_RADIUS) for p, r in found),
        min(gap(p, r, q, s) for (p, r), (q, s) in itertools.combinations(found, 2)),
    )


def test_distractors_keep_clear_of_all_else() -> None:
    radii = [0.036, 0.022, 0.030]
    seen = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        places = layout.distractor_places(rng, radii, THING, THING_RADIUS, GOAL, GOAL_RADIUS)
        to_object, to_goal, apart = gaps(places, radii)
        assert to_object >= layout.CLEARANCE_M and to_goal >= layout.GAP_M and apart >= layout.GAP_M
        seen += places
    low, high = np.min(seen, axis=0), np.max(seen, axis=0)
    assert (low >= (layout.DISTRACTOR_X[0], layout.DISTRACTOR_Y[0])).all()
    assert (high <= (layout.DISTRACTOR_X[1], layout.DISTRACTOR_Y[1])).all()
    assert (high - low > 0.9 * np.ptp([layout.DISTRACTOR_X, layout.DISTRACTOR_Y], axis=1)).all()


def test_where_there_is_no_room_they_stand_as_far_apart_as_it_gets() -> None:
    places = layout.distractor_places(np.random.default_rng(0), [0.06] * 8, THING, THING_RADIUS, GOAL, GOAL_RADIUS)
    apart = [np.linalg.norm(one - other) for one, other in itertools.combinations(places, 2)]
    assert len(places) == 8 and 0.05 < min(apart) < 2 * 0.06


def test_what_hides_a_thing_stands_before_it_and_out_of_the_fingers_way() -> None:
    rng = np.random.default_rng(0)
    for thing_radius, clear in ((THING_RADIUS, layout.FINGERS_M), (GOAL_RADIUS, GOAL_RADIUS + layout.GAP_M)):
        for _ in range(50):
            (place,) = layout.place_before(rng, np.array([0.45, 0.02]), thing_radius, 0.024)
            x, y = place - (0.45, 0.02)
            assert clear <= x - 0.024 <= clear + layout.BEFORE_JITTER_M[0] and abs(y) <= layout.BEFORE_JITTER_M[1]
    assert layout.place_before(rng, np.array([0.54, 0.0]), THING_RADIUS, 0.024) == [], "cut off by the picture"


def test_who_stands_already_is_kept_and_kept_clear_of() -> None:
    before, radii = np.array([0.56, -0.08]), [0.024, 0.036, 0.030]
    for seed in range(20):
        rng = np.random.default_rng(seed)
        places = layout.distractor_places(rng, radii, THING, THING_RADIUS, GOAL, GOAL_RADIUS, [before])
        assert len(places) == 3 and places[0] is before and gaps(places, radii)[2] >= layout.GAP_M
