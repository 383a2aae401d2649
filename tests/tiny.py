"""A bundle that is made in a second: real models of the smallest size, with random weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from visarl.bundle import Bundle, save_bundle
from visarl.config import EncoderConfig, ModelConfig, PolicyConfig, PreprocessConfig, ReadoutConfig, SaliencyConfig
from visarl.contract import get_contract
from visarl.models.lstm_policy import LSTMPolicy
from visarl.models.multimae import Encoder
from visarl.models.picanet import PiCANet
from visarl.models.readout import Readout
from visarl.normalisation import Normalisation

TINY = ModelConfig(
    preprocess=PreprocessConfig(size=96),
    saliency=SaliencyConfig(image_size=64, width=8, global_width=8, local_width=8),
    encoder=EncoderConfig(image_size=32, dim=16, depth=1, heads=2, decoder_dim=16, decoder_depth=1, decoder_heads=2),
    readout=ReadoutConfig(components=4),
    policy=PolicyConfig(hidden=16),
)
TINY_RGB = dataclasses.replace(
    TINY,
    encoder=dataclasses.replace(TINY.encoder, modalities=("rgb",), inputs=("rgb",)),
    readout=ReadoutConfig(kind="mean"),
)


def tiny_bundle(folder: Path, config: ModelConfig = TINY, seed: int = 0, **kwargs: Any) -> Bundle:
    """Saved to `folder`; `kwargs` override those of `save_bundle`."""
    torch.manual_seed(seed)
    contract = get_contract(config.arm)
    readout = Readout(config.readout, config.saliency.roles, config.encoder)
    readout.fit(torch.randn(64, config.encoder.dim))
    normalisation = Normalisation(
        proprioception_mean=np.zeros(len(contract.proprioception)),
        proprioception_std=np.ones(len(contract.proprioception)),
        embedding_mean=np.zeros(readout.dim),
        embedding_std=np.full(readout.dim, 0.5),
        tool_mean=np.zeros(3),
        tool_std=np.ones(3),
        action_scale=contract.action.high / 2,
    )
    parts = {
        "encoder": Encoder(config.encoder).state_dict(),
        "readout": readout.state_dict(),
        "policy": LSTMPolicy(config.policy, normalisation.state_dim, len(contract.action)).state_dict(),
    }
    if config.needs_saliency:
        parts["saliency"] = PiCANet(config.saliency).state_dict()
    given = {"config": config, "task": "pick_red_block", "parts": parts, "normalisation": normalisation, **kwargs}
    return save_bundle(folder, **given)
