"""PiCANet: saliency maps from a picture, with pixel-wise attention to context (Liu, Han and Yang, 2018).

A U-Net whose decoder, at each level, lets every pixel choose what to look at: all of the map at the deep levels
(global attention), its neighbourhood at the shallow ones (local attention).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visarl.config import SaliencyConfig
from visarl.errors import ConfigError
from visarl.models.saliency import Prediction, SaliencyNet, backbone

_KERNEL, _DILATION = 7, 2  # the local attention's neighbourhood (paper)
_REACH = _KERNEL // 2 * _DILATION
_GRID = 10  # the global attention's side: a 28x28 map is attended at every third pixel (paper)


class _ShiftedSum(torch.autograd.Function):
    """`_shifted_sum` with a backward pass that adds in place; autograd's own would allocate 49 padded maps."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(features, weights)
        return _shifted_sum(features, weights)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        (grad,) = grads
        features, weights = ctx.saved_tensors
        height, width = features.shape[-2:]
        padded = F.pad(features, (_REACH,) * 4)
        grad_padded, grad_weights = torch.zeros_like(padded), torch.empty_like(weights)
        for k, (top, left) in enumerate(_OFFSETS):
            window = (..., slice(top, top + height), slice(left, left + width))
            grad_weights[:, k] = (grad * padded[window]).sum(dim=1)
            grad_padded[window].addcmul_(grad, weights[:, k : k + 1])
        return grad_padded[..., _REACH:-_REACH, _REACH:-_REACH], grad_weights


_OFFSETS = [(row * _DILATION, column * _DILATION) for row in range(_KERNEL) for column in range(_KERNEL)]


def _shifted_sum(features: Tensor, weights: Tensor) -> Tensor:
    height, width = features.shape[-2:]
    padded = F.pad(features, (_REACH,) * 4)
    total = torch.zeros_like(features)
    for k, (top, left) in enumerate(_OFFSETS):
        total = total + weights[:, k : k + 1] * padded[..., top : top + height, left : left + width]
    return total


def attend_neighbours(features: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum over each pixel's 7x7 neighbours with dilation 2; zeros outside the map.

    Sums 49 shifted products: unfolding would copy the map 49 times.

    Args:
        features: (B, C, h, w)
        weights: (B, 49, h, w), neighbours row by row from the top left.

    Returns:
        (B, C, h, w)
    """
    if torch.is_grad_enabled() and (features.requires_grad or weights.requires_grad):
        return _ShiftedSum.apply(features, weights)
    return _shifted_sum(features, weights)


class LocalAttention(nn.Module):
    """Every pixel weighs its 49 neighbours."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.weigh = nn.Sequential(
            nn.Conv2d(channels, hidden, _KERNEL, padding=_REACH, dilation=_DILATION),
            nn.ReLU(),
            nn.Conv2d(hidden, _KERNEL**2, 1, bias=False),
            nn.BatchNorm2d(_KERNEL**2),
        )

    def forward(self, features: Tensor) -> Tensor:
        return attend_neighbours(features, self.weigh(features).softmax(dim=1))


class GlobalAttention(nn.Module):
    """Every pixel weighs a grid of places over the whole map; an LSTM along columns, then rows, gives it context."""

    def __init__(self, channels: int, hidden: int, side: int) -> None:
        super().__init__()
        self.step = math.ceil(side / _GRID)
        places = ((side - 1) // self.step + 1) ** 2
        self.down = nn.LSTM(channels, hidden, batch_first=True, bidirectional=True)
        self.across = nn.LSTM(2 * hidden, hidden, batch_first=True, bidirectional=True)
        self.weigh = nn.Sequential(nn.Conv2d(2 * hidden, places, 1, bias=False), nn.BatchNorm2d(places))

    def forward(self, features: Tensor) -> Tensor:
        batch, channels, height, width = features.shape
        columns = features.permute(0, 3, 2, 1).reshape(batch * width, height, channels)
        swept = self.down(columns)[0].reshape(batch, width, height, -1)
        rows = swept.transpose(1, 2).reshape(batch * height, width, -1)
        swept = self.across(rows)[0].reshape(batch, height, width, -1).permute(0, 3, 1, 2)
        weights = self.weigh(swept).softmax(dim=1).flatten(2)  # (B, places, h * w)
        places = features[..., :: self.step, :: self.step].flatten(2)  # (B, C, places)
        return (places @ weights).reshape(batch, channels, height, width)


class DecoderLevel(nn.Module):
    """Joins the backbone's features with the deeper level's, attends to context, and predicts."""

    def __init__(self, kind: str, skip: int, deeper: int, side: int, config: SaliencyConfig) -> None:
        super().__init__()
        # The levels without attention are the large ones: half as wide, or they would cost more than all the others.
        self.width = config.width if kind != "none" else config.width // 2
        self.skip = nn.Sequential(nn.BatchNorm2d(skip), nn.ReLU())
        self.join = nn.Conv2d(skip + deeper, self.width, 1)
        self.attention: nn.Module | None = None
        if kind == "global":
            self.attention = GlobalAttention(self.width, config.global_width, side)
        elif kind == "local":
            self.attention = LocalAttention(self.width, config.local_width)
        mix = (
            nn.Conv2d(2 * self.width, self.width, 1, bias=False)
            if self.attention is not None
            else nn.Conv2d(self.width, self.width, 3, padding=1, bias=False)
        )
        self.mix = nn.Sequential(mix, nn.BatchNorm2d(self.width), nn.ReLU())
        self.predict = Prediction(self.width, len(config.roles))

    def forward(self, skip: Tensor, deeper: Tensor | None) -> Tensor:
        skip = self.skip(skip)
        if deeper is not None:
            deeper = F.interpolate(deeper, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            skip = torch.cat([skip, deeper], dim=1)
        features = self.join(skip)
        if self.attention is None:
            return self.mix(features)
        return self.mix(torch.cat([features, self.attention(features)], dim=1))


class PiCANet(SaliencyNet):
    """One saliency map a role. Works on any timm backbone with features at strides 2 or 4 to 32."""

    def __init__(self, config: SaliencyConfig, pretrained: bool | Path = False) -> None:
        """
        Args:
            config: the architecture.
            pretrained: see `build_saliency`.

        Raises:
            ConfigError: timm has no such backbone, one without pyramid features, or no weights for it.
        """
        super().__init__(config)
        self.backbone = backbone(config.backbone, pretrained)
        channels, strides = self.backbone.feature_info.channels(), self.backbone.feature_info.reduction()
        levels = list(zip(channels, strides, strict=True))[::-1][: len(config.attention)]
        if len(levels) < len(config.attention):
            raise ConfigError(
                f"saliency.attention has {len(config.attention)} levels, but {config.backbone} has features at the "
                f"strides {strides} only; name {len(levels)} levels"
            )
        self.top = nn.Sequential(nn.BatchNorm2d(levels[0][0]), nn.ReLU(), Prediction(levels[0][0], len(config.roles)))
        built: list[DecoderLevel] = []
        deeper = 0
        for kind, (skip, stride) in zip(config.attention, levels, strict=True):
            built.append(DecoderLevel(kind, skip, deeper, config.image_size // stride, config))
            deeper = built[-1].width
        self.levels = nn.ModuleList(built)

    def logits(self, pictures: Tensor) -> list[Tensor]:
        """Of the backbone's last features, then of each decoder level."""
        features = self.backbone(pictures)[::-1]
        logits, deeper = [self.top(features[0])], None
        for level, skip in zip(self.levels, features, strict=False):  # the shallowest features may go unused
            deeper = level(skip, deeper)
            logits.append(level.predict(deeper))  # type: ignore[operator]
        return logits
