from __future__ import annotations

import dataclasses

import pytest
import torch

from visarl.config import SaliencyConfig, get_preset
from visarl.errors import ConfigError, ContractError
from visarl.models.picanet import GlobalAttention, PiCANet, attend_neighbours, saliency_loss

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


def test_the_loss_weighs_the_levels_as_the_paper_does():
    target = torch.zeros(1, 1, 8, 8)
    nothing = [torch.full((1, 1, s, s), -50.0) for s in (1, 1, 2, 4, 8, 8)]
    for level, weight in enumerate((0.5, 0.5, 0.5, 0.8, 0.8, 1.0)):
        logits = [x.clone() for x in nothing]
        logits[level] += 50.0  # a probability of one half costs log 2
        assert saliency_loss(logits, target).item() == pytest.approx(weight * 0.6931472, rel=1e-5)
        if level >= 2:
            assert saliency_loss(logits[2:], target).item() == pytest.approx(weight * 0.6931472, rel=1e-5)


def test_every_parameter_learns():
    model = PiCANet(SMALL)
    saliency_loss(model(torch.randn(4, 3, 64, 64)), torch.rand(4, 2, 64, 64)).backward()
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]


def test_it_finds_a_coloured_square_after_a_few_steps():
    generator = torch.Generator().manual_seed(0)
    model = PiCANet(dataclasses.replace(SMALL, roles=("object",)))
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        places = torch.randint(8, 56, (8, 2), generator=generator)
        pictures = 0.3 * torch.randn(8, 3, 64, 64, generator=generator)
        axis = torch.arange(64)
        targets = []
        for picture, (y, x) in zip(pictures, places.tolist(), strict=True):
            picture[0, y - 4 : y + 4, x - 4 : x + 4] += 2.0
            distance = (axis[:, None] + 0.5 - y).square() + (axis + 0.5 - x).square()
            targets.append(torch.exp(-distance / (2 * 2.5**2)))
        return pictures, torch.stack(targets)[:, None], places

    for _ in range(80):
        pictures, target, _ = batch()
        loss = saliency_loss(model(pictures), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.eval()
    with torch.no_grad():
        pictures, _, places = batch()
        peaks = model.predict(pictures).flatten(1).argmax(1)
    found = torch.stack([peaks // 64, peaks % 64], dim=1)
    assert (found - places).abs().float().median() <= 2


def test_evaluation_is_deterministic_and_does_not_depend_on_the_rest_of_the_batch():
    model, pictures = PiCANet(SMALL).eval(), torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        whole = model.predict(pictures)
        assert torch.equal(whole, model.predict(pictures))
        torch.testing.assert_close(model.predict(pictures[1:2]), whole[1:2], atol=1e-6, rtol=1e-4)


def test_wrong_configuration_and_input_are_named():
    with pytest.raises(ConfigError, match="mobilenetv3_small_100"):
        PiCANet(dataclasses.replace(SMALL, backbone="mobilenetv3_smal_100"))
    with pytest.raises(ConfigError, match="strides"):
        PiCANet(dataclasses.replace(SMALL, backbone="mixer_b16_224"))
    with pytest.raises(ContractError, match="64, 64"):
        PiCANet(SMALL)(torch.zeros(1, 3, 32, 32))
    with pytest.raises(ConfigError, match="multiple of 32"):
        SaliencyConfig(image_size=100)
    with pytest.raises(ConfigError, match="did you mean 'effector'"):
        SaliencyConfig(roles=("efector",))
    with pytest.raises(ConfigError, match="did you mean 'local'"):
        SaliencyConfig(attention=("locl",))
