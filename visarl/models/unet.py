"""A light U-Net: saliency maps from a picture, learnt from scratch (after Ronneberger, Fischer and Brox, 2015)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visarl.config import SaliencyConfig
from visarl.models.saliency import Prediction, SaliencyNet

_WIDTHS = (1, 2, 4, 6, 8)
"""Channels at the strides 2, 4, 8, 16 and 32, in thirds of the configured width."""


class UNet(SaliencyNet):
    """Five levels of plain 3x3 convolutions: 0.8 M parameters at the default width."""

    def __init__(self, config: SaliencyConfig) -> None:
        super().__init__(config)
        widths = [max(1, config.width // 3) * share for share in _WIDTHS]
        before = [3, *widths[:-1]]
        self.down = nn.ModuleList(
            nn.Sequential(_conv(a, b, stride=2), *([_Residual(b)] if level else []))  # at stride 2 it would cost most
            for level, (a, b) in enumerate(zip(before, widths, strict=True))
        )
        skips, deeper = widths[-2::-1], widths[:0:-1]
        self.join = nn.ModuleList(nn.Conv2d(a + b, a, 1) for a, b in zip(skips, deeper, strict=True))
        self.up = nn.ModuleList(_conv(a, a) for a in skips)
        self.heads = nn.ModuleList(Prediction(a, len(config.roles)) for a in (widths[-1], *skips))

    def logits(self, pictures: Tensor) -> list[Tensor]:
        features = []
        x = pictures
        for level in self.down:
            x = level(x)
            features.append(x)
        x = features.pop()
        found = [self.heads[0](x)]
        for join, up, head, skip in zip(self.join, self.up, self.heads[1:], features[::-1], strict=True):  # type: ignore[arg-type]
            x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            x = up(join(torch.cat([skip, x], dim=1)))
            found.append(head(x))
        return found


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(channels, channels), nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.body(x))


def _conv(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU())
