"""Self-supervised pretraining on frames that nobody clicked on: paint what is hidden of a picture.

Where no hub gives a backbone's weights, ten clicked frames have to teach a network what edges, things and arms look
like. The demonstrations show thousands of frames of them. The saliency model itself, its decoder included, learns to
fill in hidden squares; its predictions are then made anew, for maps instead of colours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from training.augment import Augmentation, augment
from training.common import Run, digest, iteration_generator, iteration_rng
from visarl.config import SaliencyConfig, to_dict
from visarl.contract import ROLES
from visarl.data.bags import IMAGE, Bag, decode_image
from visarl.errors import DataError
from visarl.models.saliency import LOSS_WEIGHTS, Prediction, SaliencyNet, build_saliency
from visarl.preprocess import PreprocessConfig, crop, shrink, to_input
from visarl.training_options import Training

SQUARE = 1 / 8
"""Side of a hidden square, as a share of the picture's."""
HIDDEN = 0.5
"""Share of the squares that are hidden."""
BATCH, LR = 16, 2e-3
HOW = Augmentation(shapes=0, jitter=0.4)


def unlabelled_pictures(bags: Iterable[Path], preprocess: PreprocessConfig, every_s: float) -> NDArray[np.uint8]:
    """Cropped frames (N, s, s, 3) of bags, `every_s` apart.

    Raises:
        DataError: there are none.
    """
    found = []
    for path in bags:
        last = -np.inf
        with Bag(path) as bag:
            for _, stamp, _, data in bag.raw([IMAGE]):
                if stamp - last >= every_s * 1e9:
                    last = stamp
                    found.append(crop(decode_image(bag.decode(IMAGE, data), f"{path}: {IMAGE} at {stamp}"), preprocess))
    if not found:
        raise DataError("no frames to pretrain on; give bags with a camera")
    return np.stack(found)


def pretrain(model: SaliencyNet, pictures: NDArray[np.uint8], options: Training, iterations: int, folder: Path) -> None:
    """Give `model` what painting teaches: every weight but its predictions'; of a frozen model the backbone's.

    Args:
        pictures: (N, s, s, 3) cropped.
        options: of the saliency training.
        folder: for checkpoints and curves. One that an earlier training left with these settings is all there is to do.
    """
    config = model.config
    # Three outputs, one a colour; a frozen backbone learns below PiCANet's decoder.
    kind = "picanet" if config.model == "frozen" else config.model
    painter = build_saliency(dataclasses.replace(config, model=kind, roles=ROLES))
    _hand_over(model, painter)
    painter.to(next(model.parameters()).device).train()
    optimiser = torch.optim.AdamW(painter.parameters(), lr=LR, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LR, total_steps=iterations, pct_start=0.1)
    settings = {"model": to_dict(painter.config), "pictures": digest(pictures), "iterations": iterations}
    state = {"model": painter, "optimiser": optimiser, "schedule": schedule}
    # Of the options only what is everybody's: other clicks, or another rate for them, leave this as it is.
    own = Training(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Training)})
    own = dataclasses.replace(own, out=folder)
    with Run("pretraining", own, iterations, state, settings) as run:
        for iteration in run:
            target = _draw(pictures, config, options.seed, iteration).to(next(painter.parameters()).device)
            hidden = _squares(len(target), config.image_size, iteration_generator(options.seed, iteration)).to(target)
            loss = painting_loss(painter(target * (1 - hidden)), target, hidden)
            run.check(loss, iteration)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            if iteration % 10 == 0:
                run.log(iteration, loss=loss.item(), lr=schedule.get_last_lr()[0])
    _hand_over(painter, model)


def painting_loss(levels: list[Tensor], target: Tensor, hidden: Tensor) -> Tensor:
    """Mean absolute difference where the picture was hidden, weighed over the levels as the saliency's loss is.

    Args:
        levels: (B, 3, h, w) each, from deep to shallow.
        target: (B, 3, S, S) normalised pictures.
        hidden: (B, 1, S, S), 1 where the network did not see them.
    """
    losses = []
    for weight, level in zip(LOSS_WEIGHTS[-len(levels) :], levels, strict=True):
        shape = (level.shape[-2], level.shape[-1])
        share = F.adaptive_avg_pool2d(hidden, shape)
        off = (level - F.adaptive_avg_pool2d(target, shape)).abs() * share
        losses.append(weight * off.sum() / (3 * share.sum()).clamp(min=1e-6))
    return torch.stack(losses).sum()


def _draw(pictures: NDArray[np.uint8], config: SaliencyConfig, seed: int, iteration: int) -> Tensor:
    rng = iteration_rng(seed, iteration)
    chosen = pictures[rng.integers(0, len(pictures), BATCH)]
    moved = [augment(picture, np.zeros((0, 2)), rng, HOW)[0] for picture in chosen]
    return to_input(np.stack([shrink(picture, config.image_size) for picture in moved]))


def _squares(batch: int, side: int, generator: torch.Generator) -> Tensor:
    count = round(1 / SQUARE)
    squares = (torch.rand(batch, 1, count, count, generator=generator) < HIDDEN).float()
    return F.interpolate(squares, size=(side, side), mode="nearest")


def _hand_over(giver: SaliencyNet, taker: SaliencyNet) -> None:
    """All weights that both have, but those of the predictions."""
    predictions = {
        f"{name}.{part}" for net in (giver, taker) for name, m in net.named_modules() if isinstance(m, Prediction)
        for part in m.state_dict()
    }  # fmt: skip
    own = taker.state_dict()
    given = {k: v for k, v in giver.state_dict().items() if k in own and k not in predictions}
    taker.load_state_dict({**own, **given})
