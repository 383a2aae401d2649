"""What must never reach the policy's memory."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.tiny import tiny_bundle
from visarl.aim import AIM_SIZE
from visarl.bundle import load_bundle
from visarl.errors import ContractError
from visarl.inference import Policy
from visarl.models.lstm_policy import LSTMPolicy


def test_a_hand_that_no_picture_can_show_is_refused_before_the_memory(tmp_path) -> None:
    plain = tiny_bundle(tmp_path / "plain")
    # A camera in which every place has the depth 0: the projection divides by it.
    blind = dataclasses.replace(plain.normalisation, targets=np.array([3.0]), camera=np.zeros(12))
    assert blind.state_dim == plain.normalisation.state_dim - 3 + AIM_SIZE
    network = LSTMPolicy(plain.config.policy, blind.state_dim, len(plain.contract.action))
    parts = {name: plain.weights(name) for name in ("saliency", "encoder", "readout")}
    tiny_bundle(tmp_path / "blind", parts=parts | {"policy": network.state_dict()}, normalisation=blind)
    policy = Policy(load_bundle(tmp_path / "blind"))
    embedding, state = np.full(10, 0.5), np.zeros(len(plain.contract.proprioception))
    with np.errstate(invalid="ignore", divide="ignore"), pytest.raises(ContractError, match="policy input.*NaN"):
        policy.act(embedding, state)
    assert policy._doer._hidden is None and policy._tracker._believed is None
