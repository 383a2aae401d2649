"""Recurrent behaviour cloning as in the paper: input MLP, LSTM, and a head that predicts the next H actions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from visarl.config import PolicyConfig

Hidden = tuple[Tensor, Tensor]
"""The LSTM's (h, c), each (1, B, hidden)."""

ENSEMBLE_RATE = 0.01
"""k of ACT's temporal ensemble: of the chunks that speak of the present, each weighs exp(-k) as much as the one before
it, so the oldest counts most."""


class LSTMPolicy(nn.Module):
    """States to actions, both normalised. Carries its memory from step to step, in training as in use."""

    def __init__(self, config: PolicyConfig, state_dim: int, action_dim: int) -> None:
        super().__init__()
        self.config, self.state_dim, self.action_dim = config, state_dim, action_dim
        width = config.hidden
        self.input = nn.Sequential(nn.Linear(state_dim, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.lstm = nn.LSTM(width, width, batch_first=True)
        # `step` reads the memory and the action predicted before (zeros for the first), `chunk` the memory alone.
        known, told = (action_dim, action_dim) if config.head == "step" else (0, config.horizon * action_dim)
        self.head = nn.Sequential(nn.Linear(width + known, width), nn.ReLU(), nn.Linear(width, told))

    def forward(self, states: Tensor, hidden: Hidden | None = None) -> tuple[Tensor, Hidden]:
        """Predict from every step of a stretch of an episode.

        Args:
            states: (B, T, state_dim) normalised.
            hidden: the memory left by the steps before; None at an episode's start.

        Returns:
            (B, T, H, action_dim): the actions of this step and the H - 1 after it, in the units of the training
            targets; and the memory after the last step.
        """
        memory, hidden = self.lstm(self.input(states), hidden)
        if self.config.head == "chunk":
            return self.head(memory).unflatten(-1, (self.config.horizon, self.action_dim)), hidden
        action = memory.new_zeros(*memory.shape[:-1], self.action_dim)
        actions = []
        for _ in range(self.config.horizon):
            action = self.head(torch.cat([memory, action], dim=-1))
            actions.append(action)
        return torch.stack(actions, dim=2), hidden


class Doer:
    """A policy at work: one state a control period in, the action of that period out. Remembers the episode."""

    def __init__(self, model: LSTMPolicy) -> None:
        self._model = model
        self.reset()

    def reset(self) -> None:
        """Forget: an episode begins."""
        self._hidden: Hidden | None = None
        self._chunks: list[Tensor] = []

    @torch.inference_mode()
    def act(self, state: Tensor) -> Tensor:
        """(state_dim,) to (action_dim,), both normalised."""
        actions, self._hidden = self._model(state[None, None], self._hidden)
        chunk = actions[0, 0]
        if self._model.config.head == "step":
            return chunk[0]
        self._chunks = [chunk, *self._chunks][: len(chunk)]
        said = torch.stack([earlier[age] for age, earlier in enumerate(self._chunks)])
        weight = torch.exp(ENSEMBLE_RATE * torch.arange(len(said)))
        return (weight / weight.sum()) @ said
