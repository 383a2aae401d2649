from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny import TINY, tiny_bundle
from visarl.config import ReadoutConfig
from visarl.errors import ConfigError, ContractError
from visarl.estimators import load_estimators
from visarl.inference import EncoderModel, Perception
from visarl.models.multimae import Encoder
from visarl.preprocess import crop, modality_input, shrink, to_input

DEPTH = dataclasses.replace(
    TINY,
    encoder=dataclasses.replace(TINY.encoder, modalities=("rgb", "depth", "normals"), inputs=("rgb", "depth")),
    readout=ReadoutConfig(kind="mean"),
)


def brightness(picture: np.ndarray) -> np.ndarray:
    """A depth model of sorts."""
    return picture.mean(axis=-1) / 255


def broken(picture: np.ndarray) -> np.ndarray:
    return np.full(picture.shape[:2], np.nan)


NOT_A_FUNCTION = 3


def test_an_estimator_is_found_by_its_name() -> None:
    assert load_estimators([f"depth={__name__}:brightness"])["depth"] is brightness
    assert load_estimators([]) == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("depth", "expected modality=package.module:function"),
        ("depth=numpy", "expected modality=package.module:function"),
        ("dept=numpy:mean", "did you mean 'depth'"),
        ("depth=no_such_package:f", "No module named 'no_such_package'"),
        ("depth=numpy:no_such_function", "no_such_function"),
        (f"depth={__name__}:NOT_A_FUNCTION", "expected a function, found int"),
    ],
)
def test_what_cannot_be_loaded_is_named(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_estimators([text])


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_an_encoder_sees_what_the_estimator_makes_of_the_picture(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISARL_CACHE", str(tmp_path / "cache"))
    bundle = tiny_bundle(tmp_path / "depth", DEPTH)
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    perception = Perception(bundle, engine, estimators={"depth": brightness})
    embedding, maps = perception.perceive(image)
    picture = crop(image, DEPTH.preprocess)
    encoder = Encoder(DEPTH.encoder).eval()
    encoder.load_state_dict(bundle.weights("encoder"))
    with torch.no_grad():
        depth = modality_input("depth", brightness(picture)[None], 32)
        expected = encoder(to_input(shrink(picture, 32))[None], depth)[0, :-1].mean(0)
    assert maps is None
    np.testing.assert_allclose(embedding, expected, atol=1e-3)
    other, _ = Perception(bundle, engine, estimators={"depth": lambda x: 1 - brightness(x)}).perceive(image)
    assert not np.allclose(embedding, other, atol=1e-2)


def test_a_bundle_that_needs_depth_says_so_where_nothing_gives_it(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "depth", DEPTH)
    for estimators in ({}, {"normals": brightness}):
        with pytest.raises(ConfigError, match="sees depth.*estimators depth=package.module:function"):
            EncoderModel(bundle, "torch", estimators=estimators)
    model = EncoderModel(bundle, "torch", estimators={"depth": broken})
    with pytest.raises(ContractError, match="depth: expected finite numbers"):
        model.embed(np.zeros((480, 640, 3), np.uint8))
