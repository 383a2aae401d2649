"""Recurrent behaviour cloning as in the paper: input MLP, LSTM, and a head that predicts the next H actions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from visarl.config import PolicyConfig

Hidden = tuple[Tensor, Tensor]
"""The LSTM's (h, c), each (1, B, hidden)."""


class LSTMPolicy(nn.Module):
    """States to actions, both normalised. Carries its memory from step to step, in training as in use."""

    def __init__(self, config: PolicyConfig, state_dim: int, action_dim: int) -> None:
        super().__init__()
        self.config, self.state_dim, self.action_dim = config, state_dim, action_dim
        width = config.hidden
        self.input = nn.Sequential(nn.Linear(state_dim, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.lstm = nn.LSTM(width, width, batch_first=True)
        # Reads the memory and the action predicted before (zeros for the first).
        self.head = nn.Sequential(nn.Linear(width + action_dim, width), nn.ReLU(), nn.Linear(width, action_dim))

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
        action = memory.new_zeros(*memory.shape[:-1], self.action_dim)
        actions = []
        for _ in range(self.config.horizon):
            action = self.head(torch.cat([memory, action], dim=-1))
            actions.append(action)
        return torch.stack(actions, dim=2), hidden
