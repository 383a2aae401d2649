"""Train a saliency model on a few clicked frames.

    visarl train saliency --bags runs/demo/bags --clicks runs/demo/clicks.json --out runs/demo/saliency

Reads the clicked frames from the bags (paired by bag, topic and stamp), varies them anew in every iteration, and writes
`saliency.safetensors` with its configuration, beside checkpoints and curves.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from training.augment import Augmentation, augment
from training.backbone_pretraining import pretrain, unlabelled_pictures
from training.common import Run, console, digest, iteration_rng, prepare, write_json
from visarl.bundle import save_part
from visarl.config import ModelConfig, SaliencyConfig, get_preset, to_dict
from visarl.contract import PLAIN_ROLE, ROLES
from visarl.data.annotations import AnnotationFile, Area, Click, render
from visarl.data.bags import find_bags
from visarl.errors import ConfigError, DataError, HubError
from visarl.models.saliency import SaliencyNet, build_saliency, saliency_loss
from visarl.preprocess import fingerprint, shrink, to_input
from visarl.training_options import TrainSaliency

PART = "saliency.safetensors"
PAINTING = 600
"""Iterations of pretraining where a hub was asked for weights and cannot be reached."""
LR, PAPER_LR = 3e-3, 3e-4
"""From scratch, in hundreds of iterations; and the paper's, for what has learned before."""
EVERY_S = 0.5
"""Between two of the bags' frames that pretraining sees: nearer ones look the same."""
FROZEN_BACKBONE = "vit_small_patch14_dinov2"
"""Whose features the model `frozen` reads unless told otherwise."""


@dataclass(frozen=True)
class ClickedPicture:
    """A cropped frame (S, S, 3) uint8 and what was clicked and painted on it."""

    picture: NDArray[np.uint8]
    clicks: tuple[Click, ...]
    areas: tuple[Area, ...] = ()

    @property
    def points(self) -> NDArray[np.float64]:
        """(K, 2) shares of the picture: the clicks, then the areas' handles."""
        found = [(click.u, click.v) for click in self.clicks]
        for area in self.areas:
            found.extend(area.handles())
        return np.array(found, dtype=np.float64).reshape(-1, 2)

    @property
    def things(self) -> NDArray[np.float64]:
        """(L, 2) those of the clicks on things: between the fingertips there is nothing, or what the hand holds."""
        found = [(click.u, click.v) for click in self.clicks if click.role != ROLES[0]]
        return np.array(found, dtype=np.float64).reshape(-1, 2)


def main(options: TrainSaliency) -> None:
    config = configure(options)
    options = reachable(options, config)
    annotations = AnnotationFile.load(options.clicks, config.preprocess)
    pictures = [
        ClickedPicture(picture, annotations.frames[key], annotations.areas.get(key, ()))
        for key, picture in annotations.pictures(find_bags(options.bags))
    ]
    unlabelled = None
    if options.pretraining:
        unlabelled = unlabelled_pictures(find_bags(options.bags), config.preprocess, EVERY_S)
    began = time.monotonic()
    model = train(options, config, pictures, unlabelled)
    console().print(
        f"saliency: {options.out / PART} ({', '.join(model.config.roles)}) after {time.monotonic() - began:.0f} s"
    )


def reachable(options: TrainSaliency, config: ModelConfig) -> TrainSaliency:
    """Where the hub is asked for weights and does not answer: painting the bags' own frames instead."""
    if not options.pretrained or options.weights:
        return options
    try:
        build_saliency(config.saliency, True)  # its download is kept for later
    except HubError as error:
        options = dataclasses.replace(options, pretrained=False, pretraining=options.pretraining or PAINTING)
        console().print(
            f"saliency: {error}. Beginning with {options.pretraining} iterations of painting the bags' frames instead"
        )
    return options


def configure(options: TrainSaliency) -> ModelConfig:
    """The preset with the options' model, backbone and roles."""
    config = get_preset(options.preset)
    chosen = {"model": options.model, "backbone": options.backbone, "roles": options.roles}
    if options.model == "frozen" and options.backbone is None:
        chosen["backbone"] = FROZEN_BACKBONE
    given = {name: value for name, value in chosen.items() if value is not None}
    return dataclasses.replace(config, saliency=dataclasses.replace(config.saliency, **given))


def clicked_roles(config: SaliencyConfig, pictures: list[ClickedPicture]) -> SaliencyConfig:
    """With the roles that somebody clicked on, in the contract's order; where maps are of the role `plain`, which
    takes every click, as it is.

    Raises:
        DataError: some clicks have a role, and some have none.
    """
    found = {mark.role for picture in pictures for mark in (*picture.clicks, *picture.areas)}
    if config.roles == (PLAIN_ROLE,) or not found:
        return config
    if PLAIN_ROLE in found and len(found) > 1:
        raise DataError(
            f"some clicks have the roles {', '.join(sorted(found - {PLAIN_ROLE}))}, others have none; give each of "
            "them one, or --roles plain, for which every click is the same"
        )
    return dataclasses.replace(config, roles=tuple(role for role in (*ROLES, PLAIN_ROLE) if role in found))


def train(
    options: TrainSaliency,
    config: ModelConfig,
    pictures: list[ClickedPicture],
    unlabelled: NDArray[np.uint8] | None = None,
    shared: Path | None = None,
) -> SaliencyNet:
    """The recipe. Writes the part and returns the trained model.

    Args:
        unlabelled: (N, s, s, 3) cropped frames for `options.pretraining`.
        shared: folder of the pretraining, where several trainings begin from one; None takes `out/pretraining`.

    Raises:
        DataError: no pictures, none with a click, or a click whose role has no map.
        ConfigError: weights that cannot be had, or frozen features without any.
    """
    if not any(picture.clicks or picture.areas for picture in pictures):
        raise DataError(
            f"{options.clicks}: {len(pictures)} frames without a click cannot teach saliency; click on at least one: "
            f"`visarl annotate --bags {options.bags} --out {options.clicks}`"
        )
    if options.roles is None:
        config = dataclasses.replace(config, saliency=clicked_roles(config.saliency, pictures))
    if config.saliency.model == "frozen" and not (options.pretrained or options.weights or options.pretraining):
        raise ConfigError(
            "saliency.model 'frozen' reads the features of a backbone that knows something: give --pretrained (timm's "
            "hub), --weights FILE (a download from there), or --pretraining 600 (on the bags' own frames)"
        )
    if options.lr is None:
        options = dataclasses.replace(options, lr=PAPER_LR if options.pretrained or options.weights else LR)
    cv2.setNumThreads(0)  # its pool would fight torch's for the cores
    device = prepare(options)
    model = build_saliency(config.saliency, options.weights or options.pretrained).to(device)
    if options.pretraining:
        if unlabelled is None:
            raise DataError("pretraining: there are no frames to pretrain on")
        pretrain(model, unlabelled, options, options.pretraining, shared or options.out / "pretraining")
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(learning, lr=options.lr, weight_decay=options.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.iterations)
    how = Augmentation(
        flips=options.flips, jitter=options.jitter, shapes=options.shapes, lookalikes=options.lookalikes,
        disguised=options.disguised, covered=options.covered,
    )  # fmt: skip
    settings = {
        "model": to_dict(config.saliency),
        "data": digest(*(p.picture for p in pictures))
        + repr([p.clicks for p in pictures])
        # Without areas as it was before there were any: a run that was interrupted then goes on.
        + (repr([p.areas for p in pictures]) if any(p.areas for p in pictures) else ""),
    }
    state = {"model": model, "optimiser": optimiser, "schedule": schedule}
    with Run("saliency", options, options.iterations, state, settings) as run:
        for iteration in run:
            rng = iteration_rng(options.seed, iteration)
            inputs, targets = draw_batch(pictures, options.batch, rng, how, config)
            model.train()
            logits, target = model(to_input(inputs).to(device)), torch.from_numpy(targets).to(device)
            loss = saliency_loss(logits, target, options.soft)
            run.check(loss, iteration)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            if iteration % 10 == 0:
                run.log(iteration, loss=loss.item(), lr=schedule.get_last_lr()[0])
    model.eval()
    options.out.mkdir(parents=True, exist_ok=True)
    description = {
        "saliency": to_dict(config.saliency),
        "preprocess": to_dict(config.preprocess),
        "fingerprint": fingerprint(config.preprocess),
        "frames": len(pictures),
        "seed": options.seed,
    }
    save_part(options.out / PART, model.state_dict(), description)
    write_json(options.out / "saliency.json", description)
    return model


def draw_batch(
    pictures: list[ClickedPicture], batch: int, rng: np.random.Generator, how: Augmentation, config: ModelConfig
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Varied pictures (B, S, S, 3) uint8 and the maps (B, R, S, S) that their moved clicks and areas make."""
    size, roles = config.saliency.image_size, config.saliency.roles
    inputs, targets = [], []
    for index in _spread(len(pictures), batch, rng):
        clicked = pictures[index]
        picture, moved = augment(clicked.picture, clicked.points, rng, how, clicked.things)
        clicks = [
            dataclasses.replace(click, u=float(u), v=float(v))
            for click, (u, v) in zip(clicked.clicks, moved, strict=False)  # the areas' points come after the clicks'
            if 0 <= u < 1 and 0 <= v < 1
        ]
        areas, first = [], len(clicked.clicks)
        for area in clicked.areas:
            areas.append(area.moved(moved[first : first + len(area.handles())].tolist()))
            first += len(area.handles())
        inputs.append(shrink(picture, size))
        targets.append(render(clicks, roles, size, config.saliency.sigma, areas))
    return np.stack(inputs), np.stack(targets)


def _spread(count: int, batch: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """`batch` indices below `count`, each as often as any other up to one."""
    return np.concatenate([rng.permutation(count) for _ in range(-(-batch // count))])[:batch]


if __name__ == "__main__":
    import sys

    from visarl import cli

    sys.exit(cli.main(["train", "saliency", *sys.argv[1:]]))
