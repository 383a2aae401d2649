"""A small head on the features of a backbone that does not learn: for when other people's features know enough."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visarl.config import SaliencyConfig
from visarl.models.saliency import Prediction, SaliencyNet, backbone

_CELL = 8
"""A vision transformer sees the picture enlarged so far that one of its patches covers so many of our pixels."""
_FINEST = 4
"""The head's predictions have this stride."""


class FrozenHead(SaliencyNet):
    """Any timm model with features, pyramid or transformer (DINOv2's, say); 1x1 and 3x3 convolutions learn on top."""

    def __init__(self, config: SaliencyConfig, pretrained: bool | Path = False) -> None:
        """As `PiCANet`."""
        super().__init__(config)
        strides = backbone(config.backbone, False).feature_info.reduction()
        self.seen = config.image_size  # side of the picture that the backbone sees
        if len(set(strides)) == 1:  # a plain transformer
            self.seen = config.image_size // _CELL * strides[0]
        sized = {"img_size": self.seen} if len(set(strides)) == 1 else {}
        self.backbone = backbone(config.backbone, pretrained, **sized)
        self.backbone.requires_grad_(False)
        width, roles = config.width, len(config.roles)
        self.project = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width))
            for channels in self.backbone.feature_info.channels()
        )
        self.mix = nn.ModuleList(_conv(width) for _ in range(2))
        self.heads = nn.ModuleList(Prediction(width, roles) for _ in range(2))

    def train(self, mode: bool = True) -> FrozenHead:
        super().train(mode)
        self.backbone.eval()  # nor do its batch norms follow our few pictures
        return self

    def logits(self, pictures: Tensor) -> list[Tensor]:
        """At twice the finest stride, then at the finest."""
        if self.seen != self.config.image_size:
            pictures = F.interpolate(pictures, size=(self.seen, self.seen), mode="bilinear", align_corners=False)
        with torch.no_grad():
            features = self.backbone(pictures)
        found = []
        x: Tensor | None = None
        for stride, mix, head in zip((2 * _FINEST, _FINEST), self.mix, self.heads, strict=True):
            side = self.config.image_size // stride
            if x is None:
                x = torch.stack([_at(p(f), side) for p, f in zip(self.project, features, strict=True)]).sum(dim=0)
            else:  # once more the features that are fine enough to add something
                fine = [p(f) for p, f in zip(self.project, features, strict=True) if f.shape[-1] >= side]
                x = torch.stack([_at(x, side), *(_at(f, side) for f in fine)]).sum(dim=0)
            x = mix(F.relu(x))
            found.append(head(x))
        return found


def _at(features: Tensor, side: int) -> Tensor:
    if features.shape[-1] > side:
        return F.adaptive_avg_pool2d(features, side)
    return F.interpolate(features, size=(side, side), mode="bilinear", align_corners=False)


def _conv(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(),
    )  # fmt: skip
