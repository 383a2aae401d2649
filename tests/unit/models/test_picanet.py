from __future__ import annotations

import dataclasses

import pytest
import torch

from visarl.config import SaliencyConfig, get_preset
from visarl.errors import ConfigError
from visarl.models.picanet import GlobalAttention, PiCANet, attend_neighbours

SMALL = SaliencyConfig(image_size=64, width=16, global_width=16, local_width=8)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def obvious(features: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Local attention as one would explain it: for every pixel, walk its 7x7 neighbours two pixels apart."""
    batch, channels, height, width = features.shape
    rows = []
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                total = torch.zeros(channels, dtype=features.dtype)
                for i in range(7):
                    for j in range(7):
                        v, u = y + 2 * (i - 3), x + 2 * (j - 3)
                        if 0 <= v < height and 0 <= u < width:
                            total = total + weights[b, 7 * i + j, y, x] * features[b, :, v, u]
                rows.append(total)
    return torch.stack(rows).reshape(batch, height, width, channels).permute(0, 3, 1, 2)


def test_local_attention_attends_the_neighbours_of_each_pixel():
    features = torch.randn(2, 3, 9, 8, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(2, 49, 9, 8, dtype=torch.float64, requires_grad=True)
    fast, slow = attend_neighbours(features, weights), obvious(features, weights)
    torch.testing.assert_close(fast, slow)
    with torch.no_grad():  # the way without gradients is another
        torch.testing.assert_close(attend_neighbours(features, weights), slow)
    probe = torch.randn_like(slow)
    expected = torch.autograd.grad((slow * probe).sum(), (features, weights))
    torch.testing.assert_close(torch.autograd.grad((fast * probe).sum(), (features, weights)), expected)


def test_local_attention_gradients_are_those_of_finite_differences():
    features = torch.randn(1, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(1, 49, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(attend_neighbours, (features, weights))


@pytest.mark.parametrize(("side", "places"), [(28, 100), (14, 49), (8, 64), (4, 16)])
def test_global_attention_is_a_mean_over_the_whole_map(side, places):
    attention = GlobalAttention(4, 8, side).eval()
    assert attention.weigh[0].out_channels == places
    with torch.no_grad():
        attention.weigh[0].weight.zero_()  # every place weighs the same
    features = torch.randn(2, 4, side, side)
    expected = features[..., :: attention.step, :: attention.step].mean((2, 3), keepdim=True).expand_as(features)
    torch.testing.assert_close(attention(features), expected, atol=1e-5, rtol=1e-4)


def test_global_attention_lets_a_corner_see_the_opposite_one():
    attention = GlobalAttention(4, 8, 8).eval()
    features = torch.randn(1, 4, 8, 8, requires_grad=True)
    attention(features)[0, :, 0, 0].sum().backward()
    assert features.grad[0, :, 7, 7].abs().max() > 0


@pytest.mark.parametrize(
    ("backbone", "attention", "sides"),
    [
        ("mobilenetv3_small_100", SMALL.attention, [2, 2, 4, 8, 16, 32]),
        ("mobilenetv4_conv_small", SMALL.attention, [2, 2, 4, 8, 16, 32]),
        ("resnet18", ("global", "global", "local", "local"), [2, 2, 4, 8, 16]),
        ("vgg16", ("global", "global", "local", "local", "local"), [2, 2, 4, 8, 16, 32]),
    ],
)
def test_any_backbone_gives_one_map_a_role_and_supervision_at_every_level(backbone, attention, sides):
    config = dataclasses.replace(SMALL, backbone=backbone, attention=attention, roles=("effector", "object", "goal"))
    model = PiCANet(config).eval()
    with torch.no_grad():
        logits = model(torch.randn(2, 3, 64, 64))
        maps = model.predict(torch.randn(2, 3, 64, 64))
    assert [tuple(level.shape) for level in logits] == [(2, 3, s, s) for s in sides]
    assert maps.shape == (2, 3, 64, 64) and maps.min() >= 0 and maps.max() <= 1


@torch.no_grad()
def test_the_papers_preset_takes_a_picture():
    maps = PiCANet(get_preset("224p8").saliency).eval().predict(torch.randn(1, 3, 224, 224))
    assert maps.shape == (1, 2, 224, 224) and maps.min() >= 0 and maps.max() <= 1


def test_wrong_configuration_and_input_are_named():
    with pytest.raises(ConfigError, match="mobilenetv3_small_100"):
        PiCANet(dataclasses.replace(SMALL, backbone="mobilenetv3_smal_100"))
    with pytest.raises(ConfigError, match="strides"):
        PiCANet(dataclasses.replace(SMALL, backbone="mixer_b16_224"))
    with pytest.raises(ConfigError, match="multiple of 32"):
        SaliencyConfig(image_size=100)
    with pytest.raises(ConfigError, match="did you mean 'effector'"):
        SaliencyConfig(roles=("efector",))
    with pytest.raises(ConfigError, match="did you mean 'local'"):
        SaliencyConfig(attention=("locl",))
