"""The models of a bundle on one camera frame, in torch and in OpenVINO, one thread each as in the graph."""

from __future__ import annotations

import importlib.util
import warnings

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bench.machine import median_ms
from visarl.bundle import Bundle
from visarl.config import MODALITY_CHANNELS
from visarl.contract import CAMERA_HEIGHT, CAMERA_WIDTH
from visarl.inference import EncoderModel, Policy, SaliencyModel
from visarl.models.multimae import Encoder
from visarl.models.picanet import PiCANet


def measure(bundle: Bundle) -> dict[str, dict[str, float]]:
    """Median milliseconds by model (saliency, encoder, policy) and engine (torch, openvino)."""
    image = np.random.default_rng(0).integers(0, 256, (CAMERA_HEIGHT, CAMERA_WIDTH, 3), dtype=np.uint8)
    engines = ["torch"] + (["openvino"] if importlib.util.find_spec("openvino") else [])
    taken: dict[str, dict[str, float]] = {}
    for engine in engines:
        maps = None
        if bundle.config.needs_saliency:
            saliency = SaliencyModel(bundle, engine=engine)
            maps = saliency.saliency(image)
            taken.setdefault("saliency", {})[engine] = round(median_ms(lambda m=saliency: m.saliency(image)), 2)
        encoder = EncoderModel(bundle, engine=engine)
        taken.setdefault("encoder", {})[engine] = round(median_ms(lambda m=encoder, s=maps: m.embed(image, s)), 2)
    policy = Policy(bundle)
    embedding = encoder.embed(image, maps)
    state = np.zeros(len(bundle.contract.proprioception))
    taken["policy"] = {"torch": round(median_ms(lambda: policy.act(embedding, state)), 2)}
    return taken


def megaflops(bundle: Bundle) -> dict[str, float]:
    """What the saliency and the encoder model ask for one frame: millions of additions and multiplications.

    Only those of matrix products, convolutions and recurrent cells; the rest is small beside them.
    """
    config = bundle.config
    asked: dict[str, float] = {}
    if config.needs_saliency:
        asked["saliency"] = _counted(PiCANet(config.saliency).eval(), [(3, config.saliency.image_size)])
    channels = [(MODALITY_CHANNELS[name], config.encoder.image_size) for name in config.encoder.inputs]
    asked["encoder"] = _counted(Encoder(config.encoder).eval(), channels)
    return asked


def gflops(asked: dict[str, float], taken: dict[str, dict[str, float]]) -> dict[str, float]:
    """What each model's fastest engine reaches: `asked` as from `megaflops`, `taken` as from `measure`."""
    return {model: round(mflop / min(taken[model].values()), 1) for model, mflop in asked.items()}


def _counted(model: nn.Module, inputs: list[tuple[int, int]]) -> float:
    given = [torch.rand(1, channels, size, size) for channels, size in inputs]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the switch below tells of a GPU that has no part in this
        # Without oneDNN torch takes recurrent layers apart into operations that the counter knows.
        with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter, torch.no_grad():
            model(*given)
    return round(counter.get_total_flops() / 1e6, 1)
