"""What every saliency model keeps: one map a role, supervision at every level, and that it learns."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from visarl.config import SaliencyConfig
from visarl.errors import ConfigError, ContractError, HubError
from visarl.models.saliency import Prediction, build_saliency, saliency_loss

SMALL = SaliencyConfig(image_size=64, width=16, global_width=16, local_width=8)
MODELS = {
    "picanet": SMALL,
    "unet": dataclasses.replace(SMALL, model="unet"),
    "frozen": dataclasses.replace(SMALL, model="frozen"),
    "frozen transformer": dataclasses.replace(SMALL, model="frozen", backbone="test_vit"),
}
EVERY = pytest.mark.parametrize("config", MODELS.values(), ids=MODELS)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def test_the_loss_weighs_the_levels_as_the_paper_does() -> None:
    target = torch.zeros(1, 1, 8, 8)
    nothing = [torch.full((1, 1, s, s), -50.0) for s in (1, 1, 2, 4, 8, 8)]
    for level, weight in enumerate((0.5, 0.5, 0.5, 0.8, 0.8, 1.0)):
        logits = [x.clone() for x in nothing]
        logits[level] += 50.0  # a probability of one half costs log 2
        assert saliency_loss(logits, target).item() == pytest.approx(weight * 0.6931472, rel=1e-5)
        if level >= 2:
            assert saliency_loss(logits[2:], target).item() == pytest.approx(weight * 0.6931472, rel=1e-5)


def test_the_loss_may_also_weigh_how_far_the_finest_map_is_off() -> None:
    target = torch.full((1, 1, 8, 8), 0.25)
    logits = [torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 8, 8)]
    more = saliency_loss(logits, target, soft=2.0) - saliency_loss(logits, target)
    assert more.item() == pytest.approx(2.0 * 0.25, rel=1e-4)


@EVERY
@torch.no_grad()
def test_one_map_a_role(config: SaliencyConfig) -> None:
    model = build_saliency(dataclasses.replace(config, roles=("effector", "object", "goal"))).eval()
    logits, maps = model(torch.randn(2, 3, 64, 64)), model.predict(torch.randn(2, 3, 64, 64))
    assert all(level.shape[:2] == (2, 3) for level in logits)
    sides = [level.shape[-1] for level in logits]
    assert sides == sorted(sides) and sides[-1] >= 16
    assert maps.shape == (2, 3, 64, 64) and maps.min() >= 0 and maps.max() <= 1
    assert maps.mean() < 0.1  # before it has learned anything: a click covers little


@EVERY
def test_every_parameter_learns_but_those_of_a_frozen_backbone(config: SaliencyConfig) -> None:
    model = build_saliency(config).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimiser = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=0.1)
    saliency_loss(model(torch.randn(4, 3, 64, 64)), torch.rand(4, 2, 64, 64)).backward()
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    optimiser.step()
    frozen = [name for name, value in model.state_dict().items() if torch.equal(value, before[name])]
    assert config.model == "frozen" or not [n for n in frozen if n.endswith("weight")]
    if config.model == "frozen":  # its batch norms' statistics included
        assert {n for n in before if n.startswith("backbone.")} == {n for n in frozen if n.startswith("backbone.")}


@EVERY
def test_it_finds_a_coloured_square_after_a_few_steps(config: SaliencyConfig) -> None:
    generator = torch.Generator().manual_seed(0)
    model = build_saliency(dataclasses.replace(config, roles=("object",)))
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
        loss = saliency_loss(model.train()(pictures), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.eval()
    with torch.no_grad():
        pictures, _, places = batch()
        peaks = model.predict(pictures).flatten(1).argmax(1)
    found = torch.stack([peaks // 64, peaks % 64], dim=1)
    assert (found - places).abs().float().median() <= 3


@EVERY
@torch.no_grad()
def test_evaluation_is_deterministic_and_does_not_depend_on_the_rest_of_the_batch(config: SaliencyConfig) -> None:
    model, pictures = build_saliency(config).eval(), torch.randn(3, 3, 64, 64)
    whole = model.predict(pictures)
    assert torch.equal(whole, model.predict(pictures))
    torch.testing.assert_close(model.predict(pictures[1:2]), whole[1:2], atol=1e-6, rtol=1e-4)


@EVERY
def test_another_picture_size_is_refused(config: SaliencyConfig) -> None:
    with pytest.raises(ContractError, match="64, 64"):
        build_saliency(config)(torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize("name", ["picanet", "frozen", "frozen transformer"])
def test_weights_of_a_backbone_come_from_a_file(name: str, tmp_path: Path) -> None:
    config = MODELS[name]
    own = timm.create_model(config.backbone)  # as the hub has it: with a classifier
    save_file(own.state_dict(), tmp_path / "weights.safetensors")
    model = build_saliency(config, tmp_path / "weights.safetensors")
    first = next(n for n, p in own.named_parameters() if p.ndim == 4)
    found = {n.rpartition("backbone.")[2].removeprefix("model."): p for n, p in model.named_parameters()}
    assert torch.equal(found[first], dict(own.named_parameters())[first])


def test_weights_that_cannot_be_had_are_told(tmp_path: Path, no_hub: None) -> None:
    for config in (MODELS["picanet"], MODELS["frozen"]):
        with pytest.raises(HubError, match="hub gave no weights of mobilenetv3_small_100 .*--weights"):
            build_saliency(config, True)
    with pytest.raises(ConfigError, match="no such file"):
        build_saliency(MODELS["picanet"], tmp_path / "none.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match="other.safetensors: no weights of mobilenetv3_small_100"):
        build_saliency(MODELS["picanet"], tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match="no backbone"):
        build_saliency(MODELS["unet"], True)


def test_a_light_model_is_light() -> None:
    count = sum(p.numel() for p in build_saliency(SaliencyConfig(model="unet")).parameters())
    assert 0.6e6 < count < 1.0e6


def test_predictions_are_told_by_their_type() -> None:
    for config in MODELS.values():
        model = build_saliency(config)
        heads = [m for m in model.modules() if isinstance(m, Prediction)]
        with torch.no_grad():
            assert len(heads) == len(model(torch.zeros(1, 3, 64, 64)))
