from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tests.tiny import TINY, TINY_RGB, tiny_bundle
from visarl.bundle import Bundle, load_bundle, save_part
from visarl.engines import CACHE_VARIABLE
from visarl.errors import BundleError, ConfigError, ContractError
from visarl.inference import EncoderModel, Perception, Policy, SaliencyModel
from visarl.models.multimae import Encoder
from visarl.models.picanet import PiCANet
from visarl.preprocess import crop, saliency_input, shrink, to_input

BOTH = pytest.mark.parametrize("engine", ["torch", "openvino"])


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Converted networks of these tests, not those of the machine."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv(CACHE_VARIABLE, str(folder))
        yield folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="module")
def rgb_bundle(tmp_path_factory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("bundles") / "rgb", TINY_RGB)


def frames(count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 480, 640, 3), dtype=np.uint8)


def proprioception(bundle: Bundle) -> np.ndarray:
    return np.linspace(-0.1, 0.1, len(bundle.contract.proprioception))


@BOTH
def test_saliency_is_what_the_trained_model_predicts_on_the_same_preprocessing(bundle, engine):
    image = frames(1)[0]
    model = PiCANet(TINY.saliency)
    model.load_state_dict(bundle.weights("saliency"))
    with torch.no_grad():
        small = shrink(crop(image, TINY.preprocess), 64)
        expected = model.eval().predict(to_input(small)[None])[0].numpy()
    maps = SaliencyModel(bundle, engine).saliency(image)
    assert maps.shape == (2, 64, 64) and maps.dtype == np.float32
    np.testing.assert_allclose(maps, expected, atol=1e-5)


def test_smoothed_maps_keep_a_share_of_those_before(bundle):
    first, second = frames(2)
    plain, smooth = SaliencyModel(bundle, "torch"), SaliencyModel(bundle, "torch", smoothing=0.6)
    one, two = plain.saliency(first), plain.saliency(second)
    np.testing.assert_allclose(smooth.saliency(first), one)
    np.testing.assert_allclose(smooth.saliency(second), 0.6 * one + 0.4 * two, atol=1e-6)
    smooth.reset()
    np.testing.assert_allclose(smooth.saliency(second), two)
    both = Perception(bundle, "torch", smoothing=0.6)
    both.perceive(first)
    np.testing.assert_allclose(both.perceive(second)[1], 0.6 * one + 0.4 * two, atol=1e-6)
    with pytest.raises(ConfigError, match="smoothing: expected a share"):
        SaliencyModel(bundle, "torch", smoothing=1.0)


@BOTH
def test_the_embedding_is_the_readout_of_the_encoder(bundle, engine):
    image = frames(1)[0]
    maps = np.random.default_rng(1).random((2, 64, 64), dtype=np.float32)
    model = EncoderModel(bundle, engine)
    embedding = model.embed(image, maps)
    assert embedding.shape == (model.dim,) == (10,) and embedding.dtype == np.float32
    encoder = Encoder(TINY.encoder)
    encoder.load_state_dict(bundle.weights("encoder"))
    readout = bundle.weights("readout")
    with torch.no_grad():
        rgb = to_input(shrink(crop(image, TINY.preprocess), 32))[None]
        tokens = encoder.eval()(rgb, saliency_input(maps, 32)[None])
        expected = (tokens[0, :-1].mean(0) - readout["center"]) @ readout["whitening"]
    np.testing.assert_allclose(embedding[6:], expected.numpy(), atol=1e-4)


def test_engines_agree(bundle):
    images = frames()
    torch_engine, openvino = (Perception(bundle, engine) for engine in ("torch", "openvino"))
    for image in images:
        (embedding, maps), (other_embedding, other_maps) = torch_engine.perceive(image), openvino.perceive(image)
        np.testing.assert_allclose(maps, other_maps, atol=1e-5)
        np.testing.assert_allclose(embedding, other_embedding, atol=1e-3)


@BOTH
def test_one_by_one_batched_fused_and_apart_are_the_same(bundle, engine):
    images = frames()
    pictures = np.stack([crop(image, TINY.preprocess) for image in images])
    saliency, encoder = SaliencyModel(bundle, engine), EncoderModel(bundle, engine)
    maps = saliency.saliency_batch(pictures)
    embeddings = encoder.embed_batch(pictures, maps)
    for i, image in enumerate(images):
        np.testing.assert_allclose(saliency.saliency(image), maps[i], atol=1e-5)
        np.testing.assert_allclose(encoder.embed(image, maps[i]), embeddings[i], atol=1e-3)
        embedding, fused_maps = Perception(bundle, engine).perceive(image)
        np.testing.assert_allclose(embedding, embeddings[i], atol=1e-3)
        np.testing.assert_allclose(fused_maps, maps[i], atol=1e-5)


@BOTH
def test_the_same_frame_gives_the_same_numbers(bundle, engine):
    perception = Perception(bundle, engine)
    images = frames(2)
    first = perception.perceive(images[0])
    perception.perceive(images[1])
    again = perception.perceive(images[0])
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])


def test_a_result_stays_when_the_next_is_computed(bundle):
    model = SaliencyModel(bundle, "openvino")
    images = frames(2)
    first = model.saliency(images[0])
    kept = first.copy()
    model.saliency(images[1])
    assert np.array_equal(first, kept)


@BOTH
def test_without_saliency_no_map_is_computed_or_needed(rgb_bundle, engine):
    embedding, maps = Perception(rgb_bundle, engine).perceive(frames(1)[0])
    assert maps is None and embedding.shape == (16,)
    assert np.array_equal(embedding, EncoderModel(rgb_bundle, engine).embed(frames(1)[0]))
    with pytest.raises(BundleError, match="no such file"):
        SaliencyModel(rgb_bundle, engine)


def test_wrong_maps_and_frames_are_refused(bundle):
    model = EncoderModel(bundle, "torch")
    image, maps = frames(1)[0], np.zeros((2, 64, 64), np.float32)
    for bad, words in ((None, "found none"), (maps[:1], "effector"), (maps[:, :10], "found"), (maps + np.nan, "NaN")):
        with pytest.raises(ContractError, match=words):
            model.embed(image, bad)
    with pytest.raises(ContractError, match="320x200"):
        model.embed(np.zeros((200, 320, 3), np.uint8), maps)
    with pytest.raises(ContractError, match="1280x720"):
        Perception(bundle, "torch").perceive(np.zeros((720, 1280, 3), np.uint8))


def test_unknown_engines_are_refused(bundle):
    with pytest.raises(ConfigError, match="did you mean 'openvino'"):
        SaliencyModel(bundle, "openvin")
    with pytest.raises(ConfigError, match="threads"):
        SaliencyModel(bundle, "torch", threads=0)


def test_a_converted_network_is_kept_and_a_damaged_one_made_anew(bundle, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "new"))
    image, maps = frames(1)[0], np.full((2, 64, 64), 0.1, np.float32)
    expected = EncoderModel(bundle, "openvino").embed(image, maps)
    kept = sorted((tmp_path / "new").iterdir())
    assert [path.suffix for path in kept] == [".bin", ".xml"] and bundle.id in kept[0].name
    stamps = [path.stat().st_mtime_ns for path in kept]
    assert np.array_equal(EncoderModel(bundle, "openvino").embed(image, maps), expected)
    assert [path.stat().st_mtime_ns for path in kept] == stamps
    kept[1].write_text("<net")
    assert np.array_equal(EncoderModel(bundle, "openvino").embed(image, maps), expected)
    assert "damaged" in caplog.text and kept[1].stat().st_mtime_ns != stamps[1]
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file"))  # cannot be a folder
    assert np.array_equal(EncoderModel(bundle, "openvino").embed(image, maps), expected)
    assert "not kept" in caplog.text


def test_weights_of_another_size_are_refused(tmp_path):
    bundle = tiny_bundle(tmp_path / "b")
    other = dataclasses.replace(TINY.encoder, dim=32)
    # Past the bundle's own hash check, as if somebody had edited the configuration.
    save_part(bundle.folder / "encoder.safetensors", Encoder(other).state_dict(), {})
    with pytest.raises(BundleError, match="encoder does not fit"):
        EncoderModel(bundle, "torch")
    with pytest.raises(BundleError, match="exchanged"):
        load_bundle(bundle.folder)


def test_the_policy_acts_within_the_contract_and_remembers_until_reset(bundle):
    policy = Policy(bundle)
    embedding, state = np.linspace(-1, 1, 10), proprioception(bundle)
    first, second = policy.act(embedding, state), policy.act(embedding, state)
    assert first.shape == (7,) and first.dtype == np.float64
    bundle.contract.action.validate(first)
    assert not np.array_equal(first, second)
    policy.reset()
    assert np.array_equal(policy.act(embedding, state), first)


def test_the_action_is_the_scaled_output_cut_at_its_bounds(tmp_path):
    bundle = tiny_bundle(tmp_path / "b")
    weights = bundle.weights("policy")
    weights["head.2.weight"].zero_()
    weights["head.2.bias"] = torch.tensor([0.5, -9.0, 0, 0, 0, 9.0, -0.25])
    parts = {name: bundle.weights(name) for name in ("saliency", "encoder", "readout")} | {"policy": weights}
    scale = bundle.contract.action.high * np.array([0.5, 0.5, 1, 1, 1, 3.0, 1])
    normalisation = dataclasses.replace(bundle.normalisation, action_scale=scale)
    bundle = tiny_bundle(tmp_path / "c", parts=parts, normalisation=normalisation)
    high = bundle.contract.action.high
    expected = [0.25 * high[0], -0.5 * high[1], 0, 0, 0, high[5], -0.25]
    np.testing.assert_allclose(Policy(bundle).act(np.zeros(10), proprioception(bundle)), expected, rtol=1e-6)


def test_a_refused_observation_does_not_touch_the_memory(bundle):
    policy, untouched = Policy(bundle), Policy(bundle)
    embedding, state = np.zeros(10), proprioception(bundle)
    for p in (policy, untouched):
        p.act(embedding, state)
    for bad_embedding, bad_state, words in (
        (np.full(10, np.nan), state, "NaN"),
        (np.zeros(9), state, "same bundle"),
        (embedding, np.full(15, np.inf), "joint_1_position"),
        (embedding, state[:14], "shape"),
        (embedding, state + 100, "expected"),
    ):
        with pytest.raises(ContractError, match=words):
            policy.act(bad_embedding, bad_state)
    assert np.array_equal(policy.act(embedding, state), untouched.act(embedding, state))
