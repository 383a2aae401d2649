"""Which frames a first model is taken at its word on, and that a second one learns from them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.tiny import TINY
from training import train_saliency
from training.self_training import sure_clicks
from training.train_saliency import ClickedPicture, train
from visarl.config import SaliencyConfig
from visarl.data.annotations import Click
from visarl.models.saliency import SaliencyNet
from visarl.training_options import TrainSaliency

SIDE = 128
ROLES = ("effector", "object")


class Seeing(SaliencyNet):
    """Says that the effector is where a picture is red, and the object where it is green."""

    def __init__(self, roles: tuple[str, ...] = ROLES, skewed: bool = False) -> None:
        super().__init__(SaliencyConfig(roles=roles, image_size=SIDE))
        self.anchor, self.skewed = torch.nn.Parameter(torch.zeros(())), skewed

    def logits(self, pictures: Tensor) -> list[Tensor]:
        colours = pictures[:, : len(self.config.roles)]
        seen = 30 * (colours - 1.5)
        # The same place of the picture whatever it shows: what a model that has learnt one place says.
        return [seen.roll(20, dims=-1) if self.skewed else seen]


def frame(*places: tuple[float, float] | None) -> np.ndarray:
    """(SIDE, SIDE, 3) dark, with a click's blob of a colour at each place (u, v)."""
    rows, columns = (np.mgrid[:SIDE, :SIDE] + 0.5) / SIDE
    picture = np.zeros((SIDE, SIDE, 3))
    for colour, place in enumerate(places):
        if place is not None:
            far = (columns - place[0]) ** 2 + (rows - place[1]) ** 2
            picture[..., colour] = 255 * np.exp(-far / (2 * (10 / 256) ** 2))
    return picture.astype(np.uint8)


def test_peaks_that_a_model_is_sure_of_are_clicks_and_frames_with_a_doubt_are_left_out() -> None:
    frames = np.stack([frame((0.3, 0.4), (0.7, 0.6)), frame((0.3, 0.4), None), frame(None, None)])
    found = sure_clicks(Seeing(), frames)
    assert len(found) == 1 and (found[0].picture == frames[0]).all()
    assert [click.role for click in found[0].clicks] == list(ROLES)
    assert found[0].points == pytest.approx(np.array([[0.3, 0.4], [0.7, 0.6]]), abs=0.01)


def test_a_peak_that_stays_where_it_is_when_the_picture_is_mirrored_is_not_believed() -> None:
    assert not sure_clicks(Seeing(skewed=True), frame((0.3, 0.4), (0.6, 0.6))[None])


def test_clicks_without_a_role_may_be_many_and_have_no_one_peak() -> None:
    assert not sure_clicks(Seeing(("plain",)), frame((0.3, 0.4))[None])


def test_the_second_model_learns_from_what_the_first_was_sure_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand, block = Click(0.3, 0.4, "effector"), Click(0.6, 0.5, "object")
    clicked = [ClickedPicture(frame((0.3, 0.4), (0.6, 0.5)), (hand, block))]
    unlabelled = np.stack([frame((0.5, 0.5), (0.2, 0.8))])
    options = TrainSaliency(out=tmp_path, bags=tmp_path, clicks=tmp_path, iterations=2, batch=2, threads=1)
    drawn: list[int] = []
    draw = train_saliency.draw_batch

    def watched(pictures: list[ClickedPicture], batch: int, *others: object) -> object:
        drawn.append(batch)
        return draw(pictures, batch, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(train_saliency, "draw_batch", watched)
    monkeypatch.setattr(train_saliency, "sure_clicks", lambda model, frames: sure_clicks(Seeing(), frames))
    train(options, TINY, clicked, unlabelled)
    assert drawn == [2, 1, 1, 1, 1], "one iteration of the first model, two of the second"
    assert (tmp_path / "first_model" / train_saliency.PART).exists()
    drawn.clear()
    train(dataclasses.replace(options, out=tmp_path / "alone", self_training=0.0), TINY, clicked, unlabelled)
    assert drawn == [2, 2] and not (tmp_path / "alone" / "first_model").exists()
