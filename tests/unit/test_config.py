from __future__ import annotations

import json

import pytest

from visarl.config import PRESETS, EncoderConfig, ModelConfig, PreprocessConfig, from_dict, get_preset, to_dict
from visarl.errors import ConfigError


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name):
    assert from_dict(ModelConfig, json.loads(json.dumps(to_dict(get_preset(name))))) == PRESETS[name]


def test_presets_keep_the_papers_sizes():
    for name, side, patch in (("64", 64, 8), ("112", 112, 8), ("224", 224, 16), ("224p8", 224, 8)):
        encoder = get_preset(name).encoder
        assert (encoder.image_size, encoder.patch_size) == (side, patch)
        assert (encoder.dim, encoder.depth, encoder.heads) == (256, 4, 4)
        light = side < 224  # on a CPU the decoder, which nobody keeps, is smaller than the paper's
        assert (encoder.decoder_dim, encoder.decoder_depth) == ((128, 1) if light else (256, 3))
        assert (encoder.mask_ratio, encoder.dirichlet_alpha) == (0.75, 1.0)
    assert get_preset("224p8").saliency.attention == ("global", "global", "local", "local", "local")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"sailency": {}}, "did you mean 'saliency'"),
        ({"policy": {"hiden": 1}}, "ModelConfig.policy: unknown key 'hiden'; did you mean 'hidden'"),
        ({"policy": {"hidden": "256"}}, "expected int"),
        ({"policy": {"hidden": True}}, "expected int"),
        ({"policy": 3}, "expected an object"),
        ({"readout": {"kind": "means"}}, "did you mean 'mean'"),
        ({"encoder": {"inputs": ["dept"]}}, "unknown modality 'dept'; did you mean 'depth'"),
        ({"encoder": {"modalities": ["rgb"]}}, "must be some of"),
        ({"encoder": {"image_size": 60}}, "no multiple"),
        ({"encoder": {"heads": 3}}, "multiple of its 3 heads"),
        ({"encoder": {"decode_share": 0}}, "decode_share"),
        ({"encoder": {"mask_ratio": 1.0}}, "mask_ratio"),
        ({"encoder": {"inputs": ["rgb"]}}, "choose the readout 'mean'"),
        ({"preprocess": {"crop": [0.5, 0, 0.75, 1]}}, "within the frame"),
        ({"preprocess": {"crop": [0, 0, 1]}}, "left, top, width, height"),
        ({"saliency": {"roles": []}}, "one or more"),
        ({"saliency": {"roles": ["object", "effector"]}}, "begin with 'effector'"),
        ({"saliency": {"roles": 3}}, "expected a list"),
        (None, "ModelConfig: expected an object"),
        ({"saliency": {"attention": ["global"] * 6}}, "1 to 5"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_fix(values, words):
    with pytest.raises(ConfigError, match=words):
        from_dict(ModelConfig, values)


def test_an_unknown_preset_lists_the_known():
    with pytest.raises(ConfigError, match="224p8"):
        get_preset("225")


def test_a_file_with_a_configuration_is_a_preset(tmp_path):
    own = tmp_path / "own.json"
    own.write_text(json.dumps({"policy": {"hidden": 32}}))
    assert get_preset(str(own)).policy.hidden == 32
    with pytest.raises(ConfigError, match="none.json"):
        get_preset(str(tmp_path / "none.json"))
    own.write_text('{"policy": {"hiden": 1}}')
    with pytest.raises(ConfigError, match="own.json.policy: unknown key 'hiden'"):
        get_preset(str(own))


def test_integers_are_good_floats():
    assert from_dict(EncoderConfig, {"mlp_ratio": 2}).mlp_ratio == 2.0
    assert from_dict(PreprocessConfig, {"crop": [0, 0, 1, 1]}).crop == (0.0, 0.0, 1.0, 1.0)
