"""What may drive the arm in a closed-loop start. Each function builds its agent in the process that uses it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from visarl.bundle import Normalisation, load_bundle, load_part
from visarl.config import PolicyConfig, from_dict
from visarl.contract import get_contract
from visarl.inference import Perception, Policy
from visarl.models.lstm_policy import Hidden, LSTMPolicy
from visarl.robot.interfaces import ArmState, Frame
from visarl.sim.tabletop import SceneTruth

Sees = Literal["object", "nothing"]
"""What a diagnostic is told beside proprioception."""


class BundleAgent:
    """A bundle as the graph runs it: picture → saliency → embedding → action."""

    def __init__(self, bundle: Path, engine: str = "auto") -> None:
        loaded = load_bundle(bundle)
        self._perception = Perception(loaded, engine=engine, threads=1)
        self._policy = Policy(loaded)

    def reset(self) -> None:
        self._policy.reset()

    def act(self, frame: Frame, state: ArmState, truth: SceneTruth) -> NDArray[np.float64]:
        embedding, _ = self._perception.perceive(frame.image)
        return self._policy.act(embedding, state.proprioception())


class DiagnosticAgent:
    """The policy without pictures: on the true object position, or on proprioception alone."""

    def __init__(self, part: Path) -> None:
        weights, description = load_part(part)
        self._sees: Sees = description["sees"]
        self._normalisation = Normalisation(**description["normalisation"])
        self._contract = get_contract(description["arm"])
        sizes = self._normalisation.state_dim, len(self._contract.action)
        self._model = LSTMPolicy(from_dict(PolicyConfig, description["policy"]), *sizes).eval()
        self._model.load_state_dict(weights)
        self._hidden: Hidden | None = None

    def reset(self) -> None:
        self._hidden = None

    @torch.inference_mode()
    def act(self, frame: Frame, state: ArmState, truth: SceneTruth) -> NDArray[np.float64]:
        seen = truth.positions["object"] if self._sees == "object" else np.zeros(0)
        inputs = torch.from_numpy(self._normalisation.state(seen, state.proprioception(), self._contract))
        actions, self._hidden = self._model(inputs[None, None], self._hidden)
        return self._normalisation.action(actions[0, 0, 0].numpy())
