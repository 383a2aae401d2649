"""MultiMAE: a masked autoencoder over several modalities (Bachmann et al., 2022), in ViSaRL's small size.

A picture of each modality becomes patch tokens. Pretraining shows the encoder a few of all tokens and asks a decoder
per modality for the hidden patches. In use the encoder sees every token and is deterministic.
"""

from __future__ import annotations

from typing import NamedTuple, TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visarl.config import MODALITY_CHANNELS, EncoderConfig
from visarl.errors import ContractError


class Losses(TypedDict):
    """What a pretraining step returns."""

    loss: Tensor
    """() sum of the losses"""
    losses: dict[str, Tensor]
    """() per modality: squared error, mean over masked (and decoded) patches only"""


class Masks(NamedTuple):
    """What the encoder does not see in a pretraining step. M modalities, P patches in each."""

    visible: Tensor
    """(B, M, P) bool: True where the encoder sees the patch"""
    priority: Tensor
    """(B, M, P) in [0, 1): masked patches of the highest are decoded"""
    counted: Tensor
    """(M,) over how many patches a modality's loss is the mean"""

    def rows(self, part: slice) -> Masks:
        """Those of some samples. The loss is then their share of the whole batch's, times the number of such parts:
        the mean over parts of equal size is the loss of the batch."""
        visible = self.visible[part]
        return Masks(visible, self.priority[part], self.counted * (len(visible) / len(self.visible)))


class Attention(nn.Module):
    """Multi-head attention of `queries` to `context` (to themselves without one)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, queries: Tensor, context: Tensor | None = None) -> Tensor:
        batch, length, dim = queries.shape
        context = queries if context is None else context
        q = self.query(queries).reshape(batch, length, self.heads, -1).transpose(1, 2)
        k, v = self.key_value(context).reshape(batch, context.shape[1], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = _attend(q, k, v)
        return self.out(attended.transpose(1, 2).reshape(batch, length, dim))


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot-product attention of (B, heads, n, width)."""
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and torch.is_grad_enabled():
        # torch's fused one is five times slower here: its gradient goes through blocks made for long sequences.
        return (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(dim=-1) @ v
    return F.scaled_dot_product_attention(q, k, v)


def _mlp(dim: int, ratio: float) -> nn.Sequential:
    hidden = int(dim * ratio)
    return nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.attention = Attention(dim, heads)
        self.mlp = _mlp(dim, mlp_ratio)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Encoder(nn.Module):
    """Patch projections, positions, transformer: the part of MultiMAE that goes into the bundle."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        p = config.patch_size
        self.projections = nn.ModuleDict(
            {name: nn.Conv2d(MODALITY_CHANNELS[name], config.dim, p, p) for name in config.modalities}
        )
        # The same for every modality: MultiMAE has no modality embedding, the projection's bias tells them apart.
        self.positions: Tensor
        self.register_buffer("positions", sine_positions(config.grid, config.dim), persistent=False)
        self.global_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        self.blocks = nn.ModuleList(Block(config.dim, config.heads, config.mlp_ratio) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.dim, eps=1e-6)
        self.apply(_initialise)
        nn.init.normal_(self.global_token, std=0.02)

    def project(self, name: str, picture: Tensor) -> Tensor:
        """(B, C, S, S) → tokens with positions (B, grid * grid, dim)."""
        expected = (MODALITY_CHANNELS[name], self.config.image_size, self.config.image_size)
        if tuple(picture.shape[1:]) != expected:
            raise ContractError(f"encoder input {name!r}: expected (B, {expected}), found {tuple(picture.shape)}")
        return self.projections[name](picture).flatten(2).transpose(1, 2) + self.positions

    def transform(self, tokens: Tensor) -> Tensor:
        """(B, n, dim) → (B, n + 1, dim): encoded, the global token last."""
        tokens = torch.cat([tokens, self.global_token.expand(tokens.shape[0], -1, -1)], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)

    def forward(self, *pictures: Tensor) -> Tensor:
        """Every token of every input, unmasked.

        Args:
            pictures: one (B, C, S, S) for each of `config.inputs`, in that order.

        Returns:
            (B, inputs * grid * grid + 1, dim): the patches of each input row by row, then the global token.
        """
        if len(pictures) != len(self.config.inputs):
            raise ContractError(f"encoder: expected the inputs {self.config.inputs}, found {len(pictures)} pictures")
        return self.transform(
            torch.cat([self.project(n, p) for n, p in zip(self.config.inputs, pictures, strict=True)], dim=1)
        )


class Decoder(nn.Module):
    """Rebuilds one modality's patches: cross-attention to all encoded tokens, then self-attention blocks."""

    def __init__(self, config: EncoderConfig, channels: int) -> None:
        super().__init__()
        dim = config.decoder_dim
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.task = nn.Parameter(torch.zeros(1, 1, dim))
        self.positions: Tensor
        self.register_buffer("positions", sine_positions(config.grid, dim), persistent=False)
        self.embed = nn.Linear(config.dim, dim)
        self.query_norm, self.context_norm = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.cross = Attention(dim, config.decoder_heads)
        self.mlp_norm = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = _mlp(dim, config.mlp_ratio)
        self.blocks = nn.ModuleList(
            Block(dim, config.decoder_heads, config.mlp_ratio) for _ in range(config.decoder_depth)
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.to_pixels = nn.Linear(dim, channels * config.patch_size**2)
        self.apply(_initialise)
        nn.init.normal_(self.mask_token, std=0.02)
        nn.init.normal_(self.task, std=0.02)

    def forward(self, encoded: Tensor, places: Tensor, slots: Tensor, wanted: Tensor) -> Tensor:
        """Pixels of the wanted patches.

        Args:
            encoded: (B, N + 1, encoder dim) the visible tokens of all modalities and the global one.
            places: (B, N) int64, patch index of each visible token in its own modality.
            slots: (B, grid * grid) int64, which visible token a patch of this modality is; N if it is masked.
            wanted: (B, K) int64, patch indices to decode.

        Returns:
            (B, K, channels * patch * patch)
        """
        context = self.embed(encoded)
        dim = context.shape[-1]
        visible = context[:, :-1]
        # A token is known by its position as well as by its content; the global token has no position.
        context = torch.cat([visible + self.positions[0, places], context[:, -1:]], dim=1)
        candidates = torch.cat([visible, self.mask_token.expand(len(visible), -1, -1).to(visible.dtype)], dim=1)
        own = candidates.gather(1, slots.gather(1, wanted)[..., None].expand(-1, -1, dim))
        x = own + self.task + self.positions[0, wanted]
        x = x + self.cross(self.query_norm(x), self.context_norm(context))
        x = x + self.mlp(self.mlp_norm(x))
        for block in self.blocks:
            x = block(x)
        return self.to_pixels(self.norm(x))


class MultiMAE(nn.Module):
    """Encoder and one decoder a modality: what pretraining optimises."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoders = nn.ModuleDict({name: Decoder(config, MODALITY_CHANNELS[name]) for name in config.modalities})

    def draw(self, batch: int, generator: torch.Generator | None = None) -> Masks:
        """Masks for a batch, on the CPU, so that they are the same on any device.

        Args:
            generator: where they come from (on the CPU); torch's global one without it.
        """
        config, patches = self.config, self.config.grid**2
        modalities = len(config.modalities)
        budget = round((1 - config.mask_ratio) * modalities * patches)
        visible, priority = draw_visible(batch, modalities, patches, budget, config.dirichlet_alpha, generator)
        masked = patches - visible.sum(dim=-1)
        return Masks(visible, priority, masked.clamp(max=self._decoded).sum(dim=0).clamp(min=1).float())

    def forward(self, inputs: dict[str, Tensor], masks: Masks | None = None) -> Losses:
        """One masked pass.

        Args:
            inputs: (B, C, S, S) for each of `config.modalities`.
            masks: from `draw`; drawn anew without them.
        """
        encoded, places, slots, masks = self._encode(inputs, masks)
        losses = {}
        for i, (name, decoder) in enumerate(self.decoders.items()):
            wanted = self._wanted(masks.visible[:, i], masks.priority[:, i])
            pixels = decoder(encoded, places, slots[:, i], wanted).float()
            target = patchify(inputs[name], self.config.patch_size).float()
            target = target.gather(1, wanted[..., None].expand(-1, -1, target.shape[-1]))
            hidden = ~masks.visible[:, i].gather(1, wanted)
            error = (pixels - target).square().mean(dim=-1)
            losses[name] = (error * hidden).sum() / masks.counted[i]
        return {"loss": torch.stack(list(losses.values())).sum(), "losses": losses}

    @torch.no_grad()
    def reconstruct(self, inputs: dict[str, Tensor], masks: Masks) -> dict[str, Tensor]:
        """(B, C, S, S) per modality: the input where the encoder sees it, the decoder's answer elsewhere.

        Patches are asked for as many at a time as in training: those asked for together know of one another.
        """
        encoded, places, slots, masks = self._encode(inputs, masks)
        pictures = {}
        for i, (name, decoder) in enumerate(self.decoders.items()):
            shown = patchify(inputs[name], self.config.patch_size).float()
            visible = masks.visible[:, i]
            order = _masked_first(visible, masks.priority[:, i])
            for wanted in order.split(self._decoded, dim=1):
                index = wanted[..., None].expand(-1, -1, shown.shape[-1])
                pixels = decoder(encoded, places, slots[:, i], wanted).float()
                hidden = ~visible.gather(1, wanted)
                shown = shown.scatter(1, index, torch.where(hidden[..., None], pixels, shown.gather(1, index)))
            pictures[name] = unpatchify(shown, self.config.patch_size)
        return pictures

    def _encode(self, inputs: dict[str, Tensor], masks: Masks | None) -> tuple[Tensor, Tensor, Tensor, Masks]:
        """Encoded visible tokens, and for the decoders `places` and, as (B, M, P), `slots`; masks on the device."""
        names, patches = self.config.modalities, self.config.grid**2
        if set(inputs) != set(names):
            raise ContractError(f"MultiMAE: expected the modalities {names}, found {tuple(inputs)}")
        tokens = torch.cat([self.encoder.project(name, inputs[name]) for name in names], dim=1)
        batch, total, dim = tokens.shape
        device = tokens.device
        masks = Masks(*(x.to(device, non_blocking=True) for x in masks or self.draw(batch)))
        budget = round((1 - self.config.mask_ratio) * total)
        # Visible tokens first, in the order of the patches; stable, so that equal draws give equal batches.
        order = torch.argsort((~masks.visible).flatten(1).to(torch.uint8), dim=1, stable=True)
        chosen = order[:, :budget]
        encoded = self.encoder.transform(tokens.gather(1, chosen[..., None].expand(-1, -1, dim)))
        slots = torch.full((batch, total), budget, device=device)
        slots.scatter_(1, chosen, torch.arange(budget, device=device).expand(batch, -1))
        return encoded, chosen % patches, slots.unflatten(1, (len(names), patches)), masks

    @property
    def _decoded(self) -> int:
        """Patches of a modality that a step decodes."""
        config, patches = self.config, self.config.grid**2
        if config.decode_share == 1.0:
            return patches
        return max(1, round(config.decode_share * config.mask_ratio * patches))

    def _wanted(self, visible: Tensor, priority: Tensor) -> Tensor:
        """Which patches (B, K) to decode: all of them, or some of the masked ones."""
        if self.config.decode_share == 1.0:
            return torch.arange(visible.shape[1], device=visible.device).expand(visible.shape[0], -1)
        # A modality may have fewer masked than wanted: visible ones fill up, the loss ignores them.
        return _masked_first(visible, priority)[:, : self._decoded]


def _masked_first(visible: Tensor, priority: Tensor) -> Tensor:
    """Patches (B, P), the masked ones first, those of a higher priority before others."""
    return torch.argsort(priority + visible.to(priority.dtype) * -2.0, dim=1, descending=True)


def draw_visible(
    batch: int, modalities: int, patches: int, budget: int, alpha: float, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Which tokens the encoder sees: exactly `budget` a sample, shared out by a Dirichlet draw.

    Returns:
        (B, modalities, patches) bool: visible; and a uniform draw in [0, 1) of the same shape.
    """
    # NumPy draws the Dirichlet: torch's takes no generator.
    seed = int(torch.randint(2**62, (1,), generator=generator))
    shares = np.random.default_rng(seed).dirichlet([alpha] * modalities, batch)
    counts = np.minimum(np.round(shares * budget).astype(np.int64), patches)
    for row, share in zip(counts, shares, strict=True):
        for i in np.argsort(-share).tolist() * 2:  # rounding and the cap leave a few too many or too few
            row[i] = np.clip(row[i] + budget - row.sum(), 0, patches)
    noise = torch.rand(batch, modalities, patches, generator=generator)
    rank = noise.argsort(dim=-1).argsort(dim=-1)
    return rank < torch.from_numpy(counts)[..., None], noise


def sine_positions(grid: int, dim: int) -> Tensor:
    """Fixed 2-D sine-cosine positions (1, grid * grid, dim): half the channels for the row, half for the column."""
    frequency = 1.0 / 10000 ** (torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    angle = torch.arange(grid, dtype=torch.float64)[:, None] * frequency
    line = torch.cat([angle.sin(), angle.cos()], dim=1)  # (grid, dim / 2)
    rows, columns = line[:, None].expand(-1, grid, -1), line[None].expand(grid, -1, -1)
    return torch.cat([rows, columns], dim=-1).reshape(1, grid * grid, dim).float()


def patchify(picture: Tensor, patch: int) -> Tensor:
    """(B, C, S, S) → (B, grid * grid, C * patch * patch), row by row."""
    grid = picture.shape[-1] // patch
    pieces = picture.unflatten(3, (grid, patch)).unflatten(2, (grid, patch))  # (B, C, rows, patch, columns, patch)
    return pieces.permute(0, 2, 4, 1, 3, 5).flatten(1, 2).flatten(2)


def unpatchify(patches: Tensor, patch: int) -> Tensor:
    """The inverse of `patchify`."""
    grid = round(patches.shape[1] ** 0.5)
    pieces = patches.unflatten(2, (-1, patch, patch)).unflatten(1, (grid, grid))  # (B, rows, columns, C, patch, patch)
    return pieces.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):  # a patch projection is a linear layer over the patch
        nn.init.xavier_uniform_(module.weight.view(module.weight.shape[0], -1))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
