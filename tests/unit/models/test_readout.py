from __future__ import annotations

import pytest
import torch

from visarl.config import EncoderConfig, ReadoutConfig
from visarl.errors import ConfigError, ContractError
from visarl.models.readout import FADE_FROM, FADE_TO, Readout, keypoints, token_mean

SIGMA = 10.0 / 256.0
ENCODER = EncoderConfig(image_size=32, dim=16, heads=2)
ROLES = ("effector", "object")


def blob(x: float, y: float, side: int = 128, height: float = 1.0, sigma: float = SIGMA) -> torch.Tensor:
    """(side, side) with a Gaussian at (x, y) in [-1, 1]."""
    centers = (torch.arange(side) + 0.5) * 2 / side - 1
    return height * torch.exp(-((centers - x).square() + (centers[:, None] - y).square()) / (2 * (2 * sigma) ** 2))


def pixels(found: torch.Tensor, x: float, y: float, side: int = 128) -> float:
    """Distance of a keypoint from (x, y) in pixels."""
    return float((found[:2] - torch.tensor([x, y])).norm()) * side / 2


@pytest.mark.parametrize("side", [64, 128, 224])
@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (0.313, -0.571), (-0.7012, 0.6999), (0.1, 0.85), (-0.88, -0.88)])
def test_a_peak_is_found_to_a_tenth_of_a_pixel(side, x, y):
    found = keypoints(blob(x, y, side)[None, None], SIGMA)[0, 0]
    assert pixels(found, x, y, side) < 0.1
    assert found[2] > 0.98


def test_it_moves_evenly_between_pixels():
    """No stairs: a hundredth of a pixel further is a hundredth of a pixel further."""
    steps = torch.linspace(0, 2 / 128, 101)
    found = keypoints(torch.stack([blob(float(s), 0.2) for s in steps])[:, None], SIGMA)[:, 0, 0]
    assert ((found - steps).abs() * 64).max() < 0.03


@pytest.mark.parametrize("background", [0.05, 0.2])
def test_a_faint_background_draws_it_nowhere(background):
    found = keypoints((blob(0.6, -0.6) * (1 - background) + background)[None, None], SIGMA)[0, 0]
    assert pixels(found, 0.6, -0.6) < 0.1
    tilted = blob(0.6, -0.6) + torch.linspace(0, background, 128)[None]
    assert pixels(keypoints(tilted[None, None], SIGMA)[0, 0], 0.6, -0.6) < 0.3


def test_noise_draws_it_little():
    generator = torch.Generator().manual_seed(0)
    noisy = (blob(0.4, 0.3) + 0.05 * torch.randn(200, 128, 128, generator=generator)).clamp(0, 1)
    found = keypoints(noisy[:, None], SIGMA)[:, 0]
    assert max(pixels(f, 0.4, 0.3) for f in found) < 1.0
    assert (found[:, 2] > 0.85).all()


@pytest.mark.parametrize("weak", [0.2, 0.4])
def test_a_weak_second_peak_changes_nothing(weak):
    found = keypoints(torch.maximum(blob(0.5, 0.5), blob(-0.5, -0.5, height=weak))[None, None], SIGMA)[0, 0]
    assert pixels(found, 0.5, 0.5) < 0.1
    assert found[2] > 0.95


def test_an_equal_second_peak_is_a_guess_and_confidence_says_so():
    found = keypoints(torch.maximum(blob(0.5, 0.5), blob(-0.5, -0.5))[None, None], SIGMA)[0, 0]
    assert found[2] < FADE_TO
    assert (found[:2] == 0).all()


def test_one_bright_pixel_is_no_peak():
    map_ = blob(0.5, 0.5, height=0.8)
    map_[10, 10] = 1.0
    assert pixels(keypoints(map_[None, None], SIGMA)[0, 0], 0.5, 0.5) < 0.1


@pytest.mark.parametrize("height", [0.1, 0.3, 0.5, 0.9])
def test_confidence_is_the_peaks_height(height):
    assert abs(keypoints(blob(0.2, 0.2, height=height)[None, None], SIGMA)[0, 0, 2] - height) < 0.02
    broad = keypoints(blob(0.2, 0.2, height=height, sigma=2 * SIGMA)[None, None], SIGMA)[0, 0, 2]
    assert height - 0.02 < broad < 1.3 * height


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_an_empty_map_points_nowhere(value):
    assert (keypoints(torch.full((2, 2, 128, 128), value), SIGMA) == 0).all()


def test_coordinates_fade_without_a_jump():
    heights = torch.linspace(0, 1, 401)
    found = keypoints(torch.stack([blob(0.5, -0.5, height=float(h)) for h in heights])[:, None], SIGMA)[:, 0]
    x, confidence = found[:, 0], found[:, 2]
    assert (x[confidence < FADE_TO] == 0).all()
    assert ((x[confidence > FADE_FROM] - 0.5).abs() < 2e-3).all()
    assert x.diff().abs().max() < 0.02 and (x.diff() > -2e-3).all()


def test_every_readout_has_the_length_it_names():
    tokens, maps = torch.randn(3, 33, 16), torch.rand(3, 2, 64, 64)
    dims = {"mean": 16, "global": 16, "modality_mean": 32, "keypoints": 14, "attention": 64, "spatial_softmax": 32}
    for kind, dim in dims.items():
        readout = Readout(ReadoutConfig(kind=kind, components=8), ROLES, ENCODER)
        assert readout(tokens, maps).shape == (3, dim) == (3, readout.dim)
        assert len(set(readout.names)) == dim
    torch.testing.assert_close(Readout(ReadoutConfig(kind="global"), ROLES, ENCODER)(tokens), tokens[:, -1])
    torch.testing.assert_close(Readout(ReadoutConfig(kind="mean"), ROLES, ENCODER)(tokens), tokens[:, :32].mean(1))
    halves = Readout(ReadoutConfig(kind="modality_mean"), ROLES, ENCODER)(tokens)
    torch.testing.assert_close(halves[:, 16:], tokens[:, 16:32].mean(1))


def test_components_are_white_ordered_and_saved_with_the_weights():
    generator = torch.Generator().manual_seed(0)
    scales = torch.tensor([5.0, 3.0, 2.0] + [0.1] * 13)
    tokens = 7 + torch.randn(500, 1, 16, generator=generator).expand(-1, 33, -1) * scales
    readout = Readout(ReadoutConfig(components=3), ROLES, ENCODER)
    readout.fit(token_mean(tokens))
    embedding = readout(tokens, torch.zeros(500, 2, 64, 64))[:, 6:]
    torch.testing.assert_close(torch.cov(embedding.T), torch.eye(3), atol=1e-4, rtol=0)
    assert [int(i) for i in (readout.whitening * scales[:, None]).abs().argmax(0)] == [0, 1, 2]
    again = Readout(ReadoutConfig(components=3), ROLES, ENCODER)
    again.load_state_dict(readout.state_dict())
    torch.testing.assert_close(again(tokens, torch.zeros(500, 2, 64, 64))[:, 6:], embedding)


def test_wrong_input_is_named():
    readout = Readout(ReadoutConfig(components=8), ROLES, ENCODER)
    with pytest.raises(ContractError, match="maps"):
        readout(torch.zeros(1, 33, 16))
    with pytest.raises(ContractError, match="maps"):
        readout(torch.zeros(1, 33, 16), torch.zeros(1, 3, 64, 64))
    with pytest.raises(ContractError, match="more than 8"):
        readout.fit(torch.zeros(5, 16))


def test_keypoints_alone_need_no_tokens():
    readout = Readout(ReadoutConfig(components=0), ROLES, ENCODER)
    readout.fit(torch.zeros(0, 16))
    maps = blob(0.2, -0.4)[None, None].repeat(1, 2, 1, 1)
    assert readout.names == tuple(f"{role}_{what}" for role in ROLES for what in ("x", "y", "confidence"))
    torch.testing.assert_close(readout(None, maps), keypoints(maps, SIGMA).flatten(1))


def at(column: int, row: int, kind: torch.Tensor, patches: slice = slice(0, 16)) -> torch.Tensor:
    """(1, 33, 16) tokens of which one patch is `kind`."""
    tokens = 0.1 * torch.randn(1, 33, 16, generator=torch.Generator().manual_seed(column + 4 * row))
    tokens[0, patches.start + 4 * row + column] = kind
    return tokens


def test_spatial_softmax_says_where_in_rgb_a_pattern_is():
    readout = Readout(ReadoutConfig(kind="spatial_softmax", points=1), ROLES, ENCODER)
    kind = torch.zeros(16).index_fill(0, torch.tensor([3]), 5.0)
    with torch.no_grad():
        readout.read.heat.weight.copy_(4 * kind[None])
    for column, row in ((0, 0), (3, 1), (2, 3)):
        expected = torch.tensor([[-0.75 + 0.5 * column, -0.75 + 0.5 * row]])
        torch.testing.assert_close(readout(at(column, row, kind)), expected, atol=1e-3, rtol=0)
    elsewhere = readout(at(3, 3, kind, slice(16, 32)))  # in the saliency's patches
    assert (elsewhere - 0.75).abs().max() > 0.1
    with torch.no_grad():
        readout.read.log_temperature.fill_(20.0)  # so hot that all places are alike
    assert readout(at(3, 3, kind)).abs().max() < 1e-3
    with pytest.raises(ConfigError, match="follows places in RGB"):
        saliency = EncoderConfig(image_size=32, dim=16, heads=2, inputs=("saliency",))
        Readout(ReadoutConfig(kind="spatial_softmax"), ROLES, saliency)


@pytest.mark.parametrize("kind", ["attention", "spatial_softmax"])
def test_a_learned_readout_learns_where_something_is(kind):
    """From the error of what follows alone, with the tokens as they are."""
    torch.manual_seed(0)
    places = torch.tensor([(c, r) for c in range(4) for r in range(4)])
    codes = 0.3 * torch.randn(16, 16)  # what tells a token's place, as the encoder's tokens have it
    pattern = torch.randn(16)
    tokens = torch.stack([torch.cat([codes, torch.zeros(17, 16)]) for _ in places])
    tokens[torch.arange(16), places[:, 1] * 4 + places[:, 0]] += pattern
    wanted = places / 1.5 - 1.0
    readout = Readout(ReadoutConfig(kind=kind, points=4, queries=2, width=16), ROLES, ENCODER)
    policy = torch.nn.Linear(readout.dim, 2)
    optimiser = torch.optim.Adam([*readout.parameters(), *policy.parameters()], lr=0.03)
    before = [weight.detach().clone() for weight in readout.parameters()]
    for _ in range(300):
        loss = (policy(readout(tokens)) - wanted).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.02  # 0.56 for the mean place
    assert all(not torch.equal(one, other) for one, other in zip(before, readout.parameters(), strict=True))
