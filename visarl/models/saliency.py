"""What all saliency models share: pictures in, one map a role out; which there are, and the loss that trains them."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # now, not by timm when a backbone is built: after MuJoCo's EGL that would crash the process
import torch.nn.functional as F
from torch import Tensor, nn

from visarl.config import SaliencyConfig
from visarl.errors import ConfigError, ContractError, HubError

LOSS_WEIGHTS = (0.5, 0.5, 0.5, 0.8, 0.8, 1.0)
"""Of the predictions from deep to shallow (PiCANet's paper). A decoder with fewer levels drops the deepest."""


_SEED = 5_318_008  # nobody else's: what is drawn by it was in no file


class SaliencyNet(nn.Module):
    """A saliency model: a subclass makes logits, from deep to shallow."""

    def __init__(self, config: SaliencyConfig) -> None:
        super().__init__()
        self.config = config

    def logits(self, pictures: Tensor) -> list[Tensor]:
        """(B, 3, S, S) → (B, roles, h, w) each, from deep to shallow; the last one is the finest."""
        raise NotImplementedError

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """
        Args:
            pictures: (B, 3, S, S) from `preprocess.to_input`, S the configured image size.

        Returns:
            Logits (B, roles, h, w) from deep to shallow, for deep supervision.
        """
        side = self.config.image_size
        if tuple(pictures.shape[1:]) != (3, side, side):
            raise ContractError(f"saliency input: expected (B, 3, {side}, {side}), found {tuple(pictures.shape)}")
        return self.logits(pictures)

    def predict(self, pictures: Tensor) -> Tensor:
        """(B, 3, S, S) → maps (B, roles, S, S) in [0, 1]."""
        return finest_map(self(pictures), self.config.image_size)


class Predict(nn.Module):
    """A model's `predict` as a forward pass, for engines."""

    def __init__(self, model: SaliencyNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, pictures: Tensor) -> Tensor:
        return self.model.predict(pictures)


def build_saliency(config: SaliencyConfig, pretrained: bool | Path = False) -> SaliencyNet:
    """The model that `config` describes, to be trained or to be filled with trained weights.

    Args:
        pretrained: begin with timm's weights for the backbone: True downloads them from its hub, a path is a file with
            them.

    Raises:
        ConfigError: no such backbone, or its weights cannot be had.
    """
    # Here: they inherit from what this file defines.
    from visarl.models.frozen_head import FrozenHead
    from visarl.models.picanet import PiCANet
    from visarl.models.unet import UNet

    if config.model == "unet":
        if pretrained:
            raise ConfigError("saliency.model 'unet' has no backbone to begin with; leave out its pretrained weights")
        return UNet(config)
    return (FrozenHead if config.model == "frozen" else PiCANet)(config, pretrained)


def saliency_loss(logits: list[Tensor], target: Tensor, soft: float = 0.0) -> Tensor:
    """Deep supervision: the weighted sum of each level's sigmoid cross-entropy, mean over pixels and roles.

    Args:
        logits: from `SaliencyNet.forward`.
        target: (B, roles, S, S) in [0, 1].
        soft: weight of the finest map's mean absolute difference from the target. Cross-entropy alone is content with
            a low, wide hill around a peak that it does not know to the pixel.
    """
    weights = LOSS_WEIGHTS[-len(logits) :]
    losses = [
        weight * F.binary_cross_entropy_with_logits(level, _at(target, level))
        for weight, level in zip(weights, logits, strict=True)
    ]
    if soft > 0:
        losses.append(soft * (finest_map(logits, target.shape[-1]) - target).abs().mean())
    return torch.stack(losses).sum()


def finest_map(logits: list[Tensor], side: int) -> Tensor:
    """(B, roles, side, side) in [0, 1]: what a model's logits say."""
    return F.interpolate(logits[-1], size=(side, side), mode="bilinear", align_corners=False).sigmoid()


def _at(target: Tensor, level: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(target, (level.shape[-2], level.shape[-1]))


class Prediction(nn.Conv2d):
    """A level's logits."""

    def __init__(self, channels: int, roles: int) -> None:
        super().__init__(channels, roles, 1)
        # A click covers about one pixel in a hundred: start there, not with spending the first steps on unlearning 0.5.
        nn.init.constant_(self.bias, -4.6)  # type: ignore[arg-type]


def backbone(name: str, pretrained: bool | Path, **options: Any) -> Any:
    """timm's model `name` with the features of all its levels.

    Args:
        pretrained: see `build_saliency`.
        options: of the model itself.

    Raises:
        ConfigError: no such model, one without such features, or weights that cannot be had.
    """
    import timm

    if not timm.is_model(name):
        close = ", ".join(difflib.get_close_matches(name, timm.list_models())) or "see timm.list_models()"
        raise ConfigError(f"saliency.backbone: timm has no {name!r}; did you mean one of: {close}?")
    if isinstance(pretrained, Path):
        if not pretrained.is_file():
            raise ConfigError(f"{pretrained}: no such file; give a file with timm's weights for {name}")
        options["pretrained_cfg_overlay"] = {"file": str(pretrained)}
    try:
        model = timm.create_model(name, features_only=True, pretrained=False, **options)
    except (RuntimeError, AttributeError) as error:
        raise ConfigError(f"saliency.backbone: {name!r} has no pyramid features ({error})") from error
    return _filled(model, name, pretrained, options) if pretrained else model


def _filled(model: Any, name: str, pretrained: bool | Path, options: dict[str, Any]) -> Any:
    import timm

    source = f"{pretrained}:" if isinstance(pretrained, Path) else "timm's hub gave"
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_SEED)
            model = timm.create_model(name, features_only=True, pretrained=False, **options)
            torch.manual_seed(_SEED)
            filled = timm.create_model(name, features_only=True, pretrained=True, **options)
    except Exception as error:  # the hub's library, the file's format and a misfit each raise their own kind
        words = str(error).strip().splitlines() or [""]
        unreachable = pretrained is True and isinstance(error, OSError)  # as sockets' errors and the hub's own are
        raise (HubError if unreachable else ConfigError)(
            f"{source} no weights of {name} ({type(error).__name__}: {words[0]}); give a downloaded file with "
            "--weights, or begin without"
        ) from error
    # timm passes over what a file lacks: what still is as the same seed had drawn it was not in there.
    drawn = dict(model.named_parameters())
    missing = [key for key, value in filled.named_parameters() if value.ndim > 1 and torch.equal(value, drawn[key])]
    if missing:
        raise ConfigError(f"{source} no weights of {name} (no {missing[0]}, say); give those of this very model")
    return filled
