"""Which frames are worth a person's clicks: of all episodes, unlike each other, and where a model is least sure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from visarl.annotate.library import Library
from visarl.annotate.predict import Predictor, doubts, least_sure
from visarl.data.annotations import CANDIDATE_STEP_NS, THUMBNAIL, FrameKey, first_of_each, looks, spread

APART = 1.5 * THUMBNAIL * 3**0.5
"""Thumbnails nearer than this look the same: 1.5 of 255 levels of each value, root mean square."""
POOL = 6
"""A model looks at so many frames, unlike each other, for each that is wanted."""
SHARE = 1 / 3
"""The part of those of which it is least sure; the wanted ones are spread over that part."""


@dataclass(frozen=True)
class Proposal:
    """A frame to annotate."""

    key: FrameKey
    doubt: float | None = None
    """How unsure the model is of it, in [0, 1]; None without one."""


def propose(
    library: Library,
    count: int,
    seed: int = 0,
    predictor: Predictor | None = None,
    done: Collection[FrameKey] = (),
) -> list[Proposal]:
    """At most `count` frames, the most telling first; fewer where there are not so many that look different.

    Args:
        library: whose frames.
        seed: draws the first frame, where none is done yet.
        predictor: a model; those of which it is least sure are proposed.
        done: frames that were annotated before: none that looks like one of them is proposed.
    """
    candidates = library.candidates(CANDIDATE_STEP_NS)
    # What is done may lie between the candidates, where somebody scrubbed to.
    wanted = {*candidates, *(key for key in done if key in library)}
    keys: list[FrameKey] = []
    features = []
    for key, picture in library.pictures(wanted):
        keys.append(key)
        features.append(looks(picture))
    names = list(library.episodes)
    found, numbers = np.stack(features), np.array([names.index(key.bag) for key in keys])
    taken = [index for index, key in enumerate(keys) if key in done]
    pool = spread(found, numbers, count if predictor is None else POOL * count, seed, taken, APART)
    if predictor is None or not pool:
        return [Proposal(keys[index]) for index in pool]
    maps = {key: predictor.maps(picture[None])[0] for key, picture in library.pictures({keys[i] for i in pool})}
    doubt = doubts(np.stack([maps[keys[index]] for index in pool]))
    unsure = least_sure(doubt, max(SHARE, min(1.0, count / len(pool))))
    rows = [pool[index] for index in unsure]
    # The least sure one is the first; the others differ from it and from each other.
    others: list[int] = []
    if len(rows) > 1 and count > 1:
        begins = first_of_each(numbers)[rows]
        others = spread(found[rows], numbers[rows], count - 1, seed, [0], APART, begins)
    return [Proposal(keys[rows[index]], float(doubt[unsure[index]])) for index in [0, *others]]
