from __future__ import annotations

import numpy as np
import pytest
import torch

from visarl.config import PreprocessConfig
from visarl.errors import ContractError
from visarl.preprocess import (
    DEPTH_MEAN,
    DEPTH_STD,
    NORMALS_STD,
    RGB_MEAN,
    RGB_STD,
    SALIENCY_STD,
    as_picture,
    crop,
    fingerprint,
    modality_input,
    saliency_input,
    shrink,
    standardise,
    to_input,
)


def frame(height: int = 480, width: int = 640) -> np.ndarray:
    columns = np.broadcast_to(np.linspace(0, 255, width).astype(np.uint8), (height, width))
    return np.stack([columns, columns, columns], axis=2)


def test_crop_takes_the_configured_square_and_nothing_beside_it():
    image = np.zeros((480, 640, 3), np.uint8)
    image[:, 80:560] = 200
    assert (crop(image, PreprocessConfig()) == 200).all()
    image[:, 320:] = 0
    picture = crop(image, PreprocessConfig())
    assert picture.shape == (224, 224, 3) and picture.dtype == np.uint8
    assert (picture[:, :112] == 200).all() and (picture[:, 112:] == 0).all()


def test_crop_at_double_resolution_shows_the_same():
    small, large = crop(frame(), PreprocessConfig()), crop(frame(960, 1280), PreprocessConfig())
    assert np.abs(small.astype(int) - large.astype(int)).max() <= 1


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((720, 1280, 3), np.uint8), "1280x720"),
        (np.zeros((480, 640), np.uint8), "rgb8"),
        (np.zeros((480, 640, 4), np.uint8), "rgb8"),
        (np.zeros((480, 640, 3), np.float32), "float32"),
        (None, "NoneType"),
    ],
)
def test_crop_refuses_another_size_or_encoding_and_says_what_to_do(image, words):
    with pytest.raises(ContractError, match=words):
        crop(image, PreprocessConfig())


def test_shrink_averages_and_refuses_a_whole_frame():
    checks = (np.indices((64, 64)).sum(0) % 2 * 254).astype(np.uint8)
    assert (shrink(np.stack([checks] * 3, axis=2), 32) == 127).all()
    with pytest.raises(ContractError, match="crop"):
        shrink(frame(), 64)


def test_to_input_normalises_each_channel():
    pictures = np.random.default_rng(0).integers(0, 256, (2, 5, 8, 8, 3), dtype=np.uint8)
    expected = ((pictures / 255.0 - RGB_MEAN) / RGB_STD).transpose(0, 1, 4, 2, 3)
    np.testing.assert_allclose(to_input(pictures).numpy(), expected, atol=1e-5)


def test_to_input_refuses_pictures_already_scaled():
    with pytest.raises(ContractError, match="not scaled"):
        to_input(np.zeros((8, 8, 3), np.float32))


def test_saliency_input_is_the_maximum_over_roles_from_files_and_from_the_model_alike():
    maps = np.zeros((3, 2, 32, 32), np.float32)
    maps[:, 0, :16, :16], maps[:, 1, :16, :16], maps[:, 1, 16:, 16:] = 0.2, 1.0, 0.6
    tensor = saliency_input(maps, 16)
    assert tensor.shape == (3, 1, 16, 16)
    np.testing.assert_allclose(tensor[0, 0, 2, 2] * SALIENCY_STD, 1.0, rtol=1e-6)
    np.testing.assert_allclose(tensor[0, 0, 12, 12] * SALIENCY_STD, 0.6, rtol=1e-6)
    assert tensor[0, 0, 2, 12] == 0
    np.testing.assert_allclose(saliency_input((maps * 255).round().astype(np.uint8), 16), tensor, atol=1e-5)
    with pytest.raises(ContractError, match="float64"):
        saliency_input(maps.astype(np.float64), 16)


def test_depth_and_normals_read_the_same_from_files_and_estimators():
    depth = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 8, 8)
    tensor = modality_input("depth", depth, 8)
    assert tensor.shape == (1, 1, 8, 8)
    np.testing.assert_allclose(tensor[0, 0] * DEPTH_STD + DEPTH_MEAN, depth[0], atol=1 / 255)
    assert torch.equal(tensor, modality_input("depth", np.round(depth * 255).astype(np.uint8), 8))
    normals = np.zeros((1, 8, 8, 3), np.float32)
    normals[..., 2] = -1
    tensor = modality_input("normals", normals, 4)
    assert tensor.shape == (1, 3, 4, 4)
    np.testing.assert_allclose(tensor[0, :, 0, 0] * NORMALS_STD, [0, 0, -1], atol=1 / 127)


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("depth", np.zeros((1, 8, 8, 3)), "expected .N, S, S., found"),
        ("depth", np.zeros((1, 8, 6)), "found .1, 8, 6"),
        ("normals", np.zeros((1, 8, 8)), "S, S, 3"),
        ("depth", np.full((1, 8, 8), 1.5), "from 0 to 1, found 1.5"),
        ("depth", np.full((1, 8, 8), -0.5), "from 0 to 1"),
        ("normals", np.full((1, 8, 8, 3), np.nan), "finite"),
    ],
)
def test_a_modality_of_another_shape_or_range_is_refused(name, values, words):
    with pytest.raises(ContractError, match=words):
        modality_input(name, values, 4)


@pytest.mark.parametrize(("name", "shape"), [("rgb", (8, 8, 3)), ("normals", (8, 8, 3)), ("depth", (8, 8))])
def test_what_was_standardised_can_be_looked_at(name, shape):
    stored = np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8)
    picture = as_picture(name, standardise(name, torch.from_numpy(stored)))
    assert np.array_equal(picture, stored if len(shape) == 3 else np.repeat(stored[..., None], 3, axis=-1))


def test_fingerprint_changes_with_the_crop_and_is_the_same_in_every_process():
    assert fingerprint(PreprocessConfig()) == fingerprint(PreprocessConfig())
    assert fingerprint(PreprocessConfig()) != fingerprint(PreprocessConfig(size=128))
    assert fingerprint(PreprocessConfig()) != fingerprint(PreprocessConfig(crop=(0.1, 0.0, 0.75, 1.0)))
