"""What a test of generalisation changes about a scene. Light on purpose: the command line reads the names from here.

Colours and moving pictures follow DMControl-GB (Hansen and Wang, "Generalization in Reinforcement Learning by Soft Data
Augmentation"): colours are drawn around the stock ones; a video takes the background's place, in the hard case the
ground's, too. The front camera looks down, so here the ground is the table: it fills nine tenths of the picture, and
what lies behind it a fiftieth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from visarl.errors import SimulationError, suggest

Perturbation = Literal["none", "colours_easy", "colours_hard", "video_easy", "video_hard", "distractors"]
PERTURBATIONS: tuple[str, ...] = get_args(Perturbation)


@dataclass(frozen=True)
class Change:
    """What a perturbation does. Everything random in it follows from the scene's seed."""

    colour_sd: float = 0.0
    """Standard deviation of the colours of table, floor and light around the stock ones, a channel; that of the arm and
    of each object is half of it, so that a red thing stays red."""
    table_share: float | None = None
    """With a moving picture: behind the table it covers everything, on the table this share of the colour. None: there
    is no moving picture."""
    unseen_distractors: bool = False
    """Things on the table that no demonstration shows."""


CHANGES: dict[str, Change] = {
    "none": Change(),
    "colours_easy": Change(colour_sd=0.1),
    "colours_hard": Change(colour_sd=0.2),
    "video_easy": Change(table_share=0.3),
    "video_hard": Change(table_share=1.0),
    "distractors": Change(unseen_distractors=True),
}


def get_change(name: str) -> Change:
    """The perturbation called `name`.

    Raises:
        SimulationError: there is none; the message lists those that exist.
    """
    if name not in CHANGES:
        raise SimulationError(f"no perturbation {name!r}; {suggest(name, CHANGES)}")
    return CHANGES[name]
