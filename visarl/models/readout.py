"""What the policy gets of the frozen encoder: the paper's mean of tokens, or where the saliency maps point.

`keypoints` exists because grasping needs about 15 mm, and the mean of the tokens of ten demonstrations tells a position
to 35 mm at best. A saliency map tells it to a pixel. `attention` and `spatial_softmax` are trained with the policy: by
the actions they find what matters in the tokens, where nobody clicked; spatial_softmax is what RGB without saliency is
fairly compared with (Finn et al., Deep Spatial Autoencoders, 2016).

The encoder ends in a LayerNorm, so every token comes normalised. The fixed readouts are then brought to zero mean and
unit deviation over the demonstrations (`Normalisation`), number by number: a LayerNorm of a mean of tokens would undo
the encoder's own once more and leave its constant directions in. `attention` ends in a LayerNorm, and the coordinates
of spatial_softmax lie in [-1, 1] already: both are what the policy sees.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visarl.aim import FADE_FROM, FADE_TO
from visarl.config import EncoderConfig, ReadoutConfig
from visarl.errors import ConfigError, ContractError

_WINDOW = 2.5
"""Half side of the square around a peak that counts for it, in sigmas."""


class Readout(nn.Module):
    """Tokens and saliency maps to the embedding, (B, dim)."""

    def __init__(
        self,
        config: ReadoutConfig,
        roles: tuple[str, ...],
        encoder: EncoderConfig,
        sigma: float = 10.0 / 256.0,
    ) -> None:
        """
        Args:
            config: which readout.
            roles: of the maps, in their order.
            encoder: whose tokens are read.
            sigma: of a click's Gaussian, as a share of the picture's side (`SaliencyConfig.sigma`).
        """
        super().__init__()
        self.config, self.roles, self.encoder, self.sigma = config, roles, encoder, sigma
        if config.kind == "keypoints":
            self.center: Tensor
            self.whitening: Tensor
            self.register_buffer("center", torch.zeros(encoder.dim))
            self.register_buffer("whitening", torch.zeros(encoder.dim, config.components))
        elif config.kind == "attention":
            self.read: nn.Module = _Attention(encoder.dim, config.queries, config.width)
        elif config.kind == "spatial_softmax":
            self.read = _SpatialSoftmax(encoder, config.points)

    @property
    def names(self) -> tuple[str, ...]:
        """One name a number of the embedding."""
        kind, dim = self.config.kind, self.encoder.dim
        if kind == "keypoints":
            points = [f"{role}_{what}" for role in self.roles for what in ("x", "y", "confidence")]
            return (*points, *(f"component_{i}" for i in range(self.config.components)))
        if kind == "modality_mean":
            return tuple(f"{name}_{i}" for name in self.encoder.inputs for i in range(dim))
        if kind == "spatial_softmax":
            return tuple(f"point_{i}_{axis}" for i in range(self.config.points) for axis in "xy")
        dim = self.config.width if kind == "attention" else dim
        return tuple(f"{kind}_{i}" for i in range(dim))

    @property
    def dim(self) -> int:
        """Length of the embedding."""
        return len(self.names)

    def fit(self, means: Tensor) -> None:
        """Learn the whitening of the tokens' mean; `keypoints` with components needs it once, the others ignore it.

        Args:
            means: (N, encoder dim) from `token_mean`, over the demonstrations' frames.
        """
        if self.config.kind != "keypoints" or not self.config.components:
            return
        count, dim = self.config.components, self.encoder.dim
        if means.ndim != 2 or means.shape[1] != dim or len(means) <= count or count > dim:
            raise ContractError(
                f"readout: {count} components need more than {count} frames and no fewer numbers of each, {dim}, "
                f"found {tuple(means.shape)}; choose fewer --components"
            )
        means = means.double()
        center = means.mean(dim=0)
        _, values, directions = torch.linalg.svd(means - center, full_matrices=False)
        k = self.config.components
        directions, deviations = directions[:k], values[:k] / (len(means) - 1) ** 0.5
        # A sign of its own for each direction: SVD's is arbitrary and differs between machines.
        largest = directions.abs().argmax(dim=1, keepdim=True)
        directions = directions * directions.gather(1, largest).sign()
        # A direction that hardly varies is noise; blowing it up to unit variance would only disturb the policy.
        floor = 1e-3 * deviations[0].clamp(min=1e-9)
        self.center.copy_(center)
        self.whitening.copy_((directions / deviations.clamp(min=floor)[:, None]).T)

    def forward(self, tokens: Tensor | None, maps: Tensor | None = None) -> Tensor:
        """
        Args:
            tokens: (B, inputs * grid * grid + 1, dim) from the encoder; None for keypoints without components.
            maps: (B, roles, S, S) in [0, 1]; only `keypoints` reads them.
        """
        kind = self.config.kind
        if kind == "keypoints":
            return self._keypoints(tokens, maps)
        assert tokens is not None  # `ModelConfig.needs_encoder`
        if self.config.learned:
            return self.read(tokens)
        if kind == "global":
            return tokens[:, -1]
        if kind == "mean":
            return token_mean(tokens)
        parts = tokens[:, :-1].reshape(tokens.shape[0], len(self.encoder.inputs), -1, tokens.shape[-1])
        return parts.mean(dim=2).flatten(1)

    def _keypoints(self, tokens: Tensor | None, maps: Tensor | None) -> Tensor:
        if maps is None or maps.ndim != 4 or maps.shape[1] != len(self.roles):
            found = "none" if maps is None else str(tuple(maps.shape))
            raise ContractError(f"readout: expected saliency maps (B, {len(self.roles)}, S, S), found {found}")
        points = keypoints(maps, self.sigma).flatten(1)
        if tokens is None:
            return points
        return torch.cat([points, (token_mean(tokens) - self.center) @ self.whitening], dim=1)


class _Attention(nn.Module):
    """One layer of attention with learned queries over the frozen tokens.

    Keys and values need no projection of their own: a query's is folded into the query, the values' into what follows.
    """

    def __init__(self, dim: int, queries: int, width: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(queries, dim) * dim**-0.5)
        self.out = nn.Sequential(nn.Linear(queries * dim, width), nn.LayerNorm(width))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, n, dim) to (B, width)."""
        weight = (tokens @ self.queries.T).softmax(dim=1)
        return self.out((weight.transpose(1, 2) @ tokens).flatten(1))


class _SpatialSoftmax(nn.Module):
    """Places in the picture that the policy learns to follow: the expected position under each of its heat maps."""

    def __init__(self, encoder: EncoderConfig, points: int) -> None:
        super().__init__()
        if "rgb" not in encoder.inputs:
            raise ConfigError(f"readout 'spatial_softmax' follows places in RGB, but the encoder sees {encoder.inputs}")
        patches, first = encoder.grid**2, encoder.inputs.index("rgb")
        self._patches = slice(first * patches, (first + 1) * patches)
        self.heat = nn.Linear(encoder.dim, points, bias=False)  # a 1x1 convolution; softmax takes no notice of a bias
        self.log_temperature = nn.Parameter(torch.zeros(()))
        line = (torch.arange(encoder.grid) + 0.5) * (2.0 / encoder.grid) - 1.0
        self.places: Tensor
        grid = torch.stack([line.repeat(encoder.grid), line.repeat_interleave(encoder.grid)], dim=1)
        self.register_buffer("places", grid, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, n, dim) to (B, 2 * points): x to the right and y down in [-1, 1], point by point."""
        heat = self.heat(tokens[:, self._patches]) / self.log_temperature.exp()
        return (heat.softmax(dim=1).transpose(1, 2) @ self.places).flatten(1)


def token_mean(tokens: Tensor) -> Tensor:
    """The paper's embedding: the mean of the patch tokens, (B, n + 1, dim) → (B, dim). The global token is not one."""
    return tokens[:, :-1].mean(dim=1)


def keypoints(maps: Tensor, sigma: float) -> Tensor:
    """Where each map points, to a fraction of a pixel, and how sure it is.

    A soft-argmax around the strongest peak. Over the whole map it would be drawn towards the middle by a faint
    background and towards a second peak, so it reads a window of a few sigmas and subtracts the map's background.

    Args:
        maps: (B, R, S, S) in [0, 1].
        sigma: of the Gaussian that the maps were trained on, as a share of the side.

    Returns:
        (B, R, 3): x to the right and y down in [-1, 1] over the picture, and a confidence in [0, 1]: how much of a
        click's Gaussian stands there (1: all of it), less when another place looks as good. Coordinates of a confidence
        below `FADE_FROM` fade to 0.
    """
    batch, roles, side, _ = maps.shape
    flat = maps.reshape(batch * roles, 1, side, side).float()
    while sigma * side >= 4.0 and side % 2 == 0:  # a Gaussian of two pixels tells as much, at a quarter of the cost
        flat, side = F.avg_pool2d(flat, 2), side // 2
    width = max(sigma * side, 0.5)  # [pixels]

    axis = torch.arange(side, device=maps.device).float()
    background = flat.flatten(1).median(dim=1).values[:, None, None]
    signal = (flat[:, 0] - background).clamp(min=0)

    # The peak is sought through the expected Gaussian: a single bright pixel is none.
    score = _blur(signal[:, None], width)[:, 0]
    index = score.flatten(1).argmax(dim=1)
    x, y = (index % side).float(), torch.div(index, side, rounding_mode="floor").float()
    for _ in range(3):  # from the second time on the window is centred, so that cutting it off favours no side
        near_x, near_y = _window(axis, x, width), _window(axis, y, width)
        # Squared: the flanks, which noise and neighbours distort first, count less.
        weight = signal.square() * near_y[:, :, None] * near_x[:, None, :]
        total = weight.sum(dim=(1, 2)).clamp(min=1e-12)
        empty = weight.sum(dim=(1, 2)) < 1e-12
        x = torch.where(empty, x, (weight.sum(dim=1) * axis).sum(dim=1) / total)
        y = torch.where(empty, y, (weight.sum(dim=2) * axis).sum(dim=1) / total)

    offset_x, offset_y = axis - x[:, None], axis - y[:, None]
    distance = (offset_x[:, None, :].square() + offset_y[:, :, None].square()) / width**2
    template = torch.exp(-0.5 * distance)
    # The height of the peak, read through a narrow Gaussian: less noisy than one pixel, and a broad blob counts for
    # no more than its own height.
    narrow = template**4
    height = (signal * narrow).sum(dim=(1, 2)) / (template * narrow).sum(dim=(1, 2)).clamp(min=1e-12)
    # A rival is a peak that stands apart. A weak one changes nothing, an equal one makes the answer a guess.
    apart = distance > (2 * _WINDOW) ** 2
    rival = (score * apart).flatten(1).amax(dim=1) / score.flatten(1).amax(dim=1).clamp(min=1e-6)
    confidence = height.clamp(0, 1) * (1 - rival**4)

    fade = ((confidence - FADE_TO) / (FADE_FROM - FADE_TO)).clamp(0, 1)
    fade = fade * fade * (3 - 2 * fade)
    # Pixel centres: pixel 0 lies half a pixel inside the picture's edge.
    points = (torch.stack([x, y], dim=1) + 0.5) * (2.0 / side) - 1.0
    return torch.cat([points * fade[:, None], confidence[:, None]], dim=1).reshape(batch, roles, 3)


def _window(axis: Tensor, center: Tensor, width: float) -> Tensor:
    """(N, S) 1 around each centre (N,), with a soft rim; narrower at the picture's edge, so that it stays symmetric."""
    reach = torch.minimum(center, axis[-1] - center).clamp(min=width, max=_WINDOW * width)
    return (reach[:, None] + 0.5 - (axis - center[:, None]).abs()).clamp(0, 1)


def _blur(maps: Tensor, width: float) -> Tensor:
    """(N, 1, S, S) through a Gaussian of `width` pixels, zeros outside."""
    radius = round(2.0 * width)
    line = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=maps.device).float() / width).square())
    line = line / line.sum()
    maps = F.conv2d(maps, line.reshape(1, 1, 1, -1), padding=(0, radius))
    return F.conv2d(maps, line.reshape(1, 1, -1, 1), padding=(radius, 0))
