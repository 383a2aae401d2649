from __future__ import annotations

import dataclasses

import pytest
import torch

from visarl.config import MODALITY_CHANNELS, EncoderConfig, get_preset
from visarl.errors import ConfigError, ContractError
from visarl.models.multimae import Encoder, Masks, MultiMAE, _attend, draw_visible, patchify, sine_positions, unpatchify

SMALL = EncoderConfig(image_size=32, dim=32, depth=2, heads=2, decoder_dim=16, decoder_depth=1, decoder_heads=2)


def pictures(config: EncoderConfig, batch: int = 3) -> dict[str, torch.Tensor]:
    side = config.image_size
    return {n: torch.rand(batch, MODALITY_CHANNELS[n], side, side) for n in config.modalities}


def drawn(model: MultiMAE, batch: int = 3, seed: int = 0) -> Masks:
    return model.draw(batch, torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_the_default_has_the_papers_size():
    parameters = sum(p.numel() for p in Encoder(EncoderConfig()).parameters())
    assert 3.1e6 < parameters < 3.3e6  # method: about 3.2 M


@pytest.mark.parametrize("modalities", [("rgb",), ("rgb", "saliency"), ("saliency",)])
@pytest.mark.parametrize("alpha", [0.1, 1.0, 50.0])
def test_masks_leave_exactly_the_budget_and_depend_on_the_generator_only(modalities, alpha):
    budget = 8 * len(modalities)
    draws = [
        draw_visible(50, len(modalities), 32, budget, alpha, torch.Generator().manual_seed(s))[0] for s in (1, 1, 2)
    ]
    assert (draws[0].flatten(1).sum(1) == budget).all()
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_shares_between_modalities_follow_the_dirichlet():
    visible, _ = draw_visible(2000, 2, 64, 32, 1.0, torch.Generator().manual_seed(0))
    shares = visible[:, 0].sum(1) / 32
    assert abs(shares.mean() - 0.5) < 0.03
    assert abs(shares.std() - 12**-0.5) < 0.03  # alpha 1 with two modalities is uniform


@pytest.mark.parametrize("decode_share", [1.0, 0.5, 0.01])
def test_the_loss_is_the_mean_over_the_masked_patches_that_are_decoded(decode_share):
    config = dataclasses.replace(SMALL, decode_share=decode_share)
    model, inputs = MultiMAE(config).eval(), pictures(config)
    masks = drawn(model)
    out, rebuilt = model(inputs, masks), model.reconstruct(inputs, masks)
    for i, name in enumerate(config.modalities):
        masked = ~masks.visible[:, i]
        error = (patchify(rebuilt[name], 8) - patchify(inputs[name], 8)).square().mean(-1)
        assert (error[~masked] == 0).all() and (error[masked] > 0).all()
        if decode_share < 1:
            count = max(1, round(decode_share * 0.75 * 16))
            first = (masks.priority[:, i] - 2.0 * ~masked).argsort(dim=1, descending=True)[:, :count]
            chosen = torch.zeros_like(masked).scatter(1, first, True) & masked
        else:
            chosen = masked
        torch.testing.assert_close(out["losses"][name], error[chosen].mean())
    torch.testing.assert_close(out["loss"], sum(out["losses"].values()))


@pytest.mark.parametrize("decode_share", [1.0, 0.5])
def test_the_loss_of_a_batch_is_the_mean_of_its_parts_losses(decode_share):
    config = dataclasses.replace(SMALL, decode_share=decode_share, dirichlet_alpha=0.3)
    model, inputs = MultiMAE(config).eval(), pictures(config, batch=6)
    masks = drawn(model, 6)
    whole = model(inputs, masks)["losses"]
    parts = [slice(0, 3), slice(3, 6)]
    halves = [model({n: x[part] for n, x in inputs.items()}, masks.rows(part))["losses"] for part in parts]
    assert not torch.isclose(halves[0]["rgb"], halves[1]["rgb"])
    for name, loss in whole.items():
        torch.testing.assert_close(loss, (halves[0][name] + halves[1][name]) / 2)


@pytest.mark.parametrize("decode_share", [1.0, 0.5])
def test_decoders_do_not_see_what_is_masked(decode_share):
    model, inputs = MultiMAE(dataclasses.replace(SMALL, decode_share=decode_share)).eval(), pictures(SMALL, batch=1)
    masks = drawn(model, 1)
    changed = dict(inputs)
    patches = patchify(inputs["rgb"], 8)
    patches[0, ~masks.visible[0, 0]] = 5.0
    changed["rgb"] = unpatchify(patches, 8)
    torch.testing.assert_close(model.reconstruct(inputs, masks), model.reconstruct(changed, masks))


def test_four_modalities_share_one_budget():
    config = dataclasses.replace(SMALL, modalities=("rgb", "saliency", "depth", "normals"), inputs=("rgb", "depth"))
    model, inputs = MultiMAE(config), pictures(config)
    masks = drawn(model)
    assert (masks.visible.flatten(1).sum(1) == 16).all()
    assert set(model(inputs, masks)["losses"]) == set(inputs)
    assert {n: x.shape for n, x in model.reconstruct(inputs, masks).items()} == {n: x.shape for n, x in inputs.items()}
    assert model.encoder(inputs["rgb"], inputs["depth"]).shape == (3, 33, 32)


def test_attention_in_bfloat16_has_the_gradient_of_torchs():
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 2, 9, 8, requires_grad=True) for _ in range(3))
    found = []
    for cast in (torch.float32, torch.bfloat16):
        out = _attend(*(x.to(cast) for x in (q, k, v)))
        found.append((out.float(), *torch.autograd.grad(out.float().square().sum(), (q, k, v))))
    for ours, exact in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(ours, exact, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("decode_share", [1.0, 0.5])
def test_every_parameter_learns(decode_share):
    config = dataclasses.replace(SMALL, decode_share=decode_share)
    model = MultiMAE(config)
    model(pictures(config))["loss"].backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().any()]
    assert not still


def test_it_learns_to_fill_in_from_the_other_modality():
    """The saliency of a picture is its first channel here, so the loss can fall far below the variance."""
    config = dataclasses.replace(SMALL, image_size=16, patch_size=4)
    model = MultiMAE(config)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        level = torch.randn(32, 1, 1, 1).expand(-1, 1, 16, 16)
        masks = model.draw(32, generator)
        loss = model({"rgb": level.expand(-1, 3, -1, -1), "saliency": level}, masks)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.2  # 2 for a constant prediction


def test_encoding_shows_every_token_in_a_known_order_and_is_deterministic():
    encoder = Encoder(SMALL).eval()
    inputs = pictures(SMALL)
    tokens = encoder(inputs["rgb"], inputs["saliency"])
    assert tokens.shape == (3, 2 * 16 + 1, 32)
    assert torch.equal(tokens, encoder(inputs["rgb"], inputs["saliency"]))
    # Without mixing (no blocks) a token depends on its own patch alone: row 1, column 2 of the saliency.
    encoder.blocks = torch.nn.ModuleList()
    changed = inputs["saliency"].clone()
    changed[:, :, 8:16, 16:24] += 1
    difference = (encoder(inputs["rgb"], changed) - encoder(inputs["rgb"], inputs["saliency"])).abs().sum((0, 2))
    assert difference.nonzero().flatten().tolist() == [16 + 4 + 2]


def test_saliency_in_pretraining_only_needs_no_saliency_in_use():
    config = dataclasses.replace(SMALL, inputs=("rgb",))
    model, inputs = MultiMAE(config), pictures(config)
    assert set(model(inputs)["losses"]) == {"rgb", "saliency"}
    assert model.encoder(inputs["rgb"]).shape == (3, 17, 32)


@pytest.mark.parametrize(("size", "patch"), [(64, 8), (112, 8), (224, 16)])
def test_presets_of_size_and_patch(size, patch):
    config = dataclasses.replace(SMALL, image_size=size, patch_size=patch)
    model = MultiMAE(config)
    assert model.reconstruct(pictures(config, batch=1), drawn(model, 1))["rgb"].shape == (1, 3, size, size)


@torch.no_grad()
def test_the_papers_preset_takes_a_picture():
    model = MultiMAE(get_preset("224p8").encoder).eval()
    given = pictures(model.config, batch=1)
    assert model(given, drawn(model, 1))["loss"].isfinite()
    assert model.encoder(*given.values()).shape == (1, 2 * 28**2 + 1, 256)


def test_patches_go_back_where_they_came_from():
    picture = torch.rand(2, 3, 24, 24)
    assert torch.equal(unpatchify(patchify(picture, 8), 8), picture)
    assert torch.equal(patchify(picture, 8)[0, 5], picture[0, :, 8:16, 16:24].flatten())


def test_positions_differ_and_neighbours_are_alike():
    positions = sine_positions(8, 64)[0]
    similarity = positions @ positions.T
    assert (similarity.argmax(1) == torch.arange(64)).all()
    assert similarity[0, 1] > similarity[0, 7]


def test_wrong_input_is_named():
    model = MultiMAE(SMALL)
    with pytest.raises(ContractError, match="modalities"):
        model({"rgb": torch.zeros(1, 3, 32, 32)})
    with pytest.raises(ContractError, match="saliency"):
        model.encoder(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32))
    with pytest.raises(ContractError, match="inputs"):
        model.encoder(torch.zeros(1, 3, 32, 32))
    with pytest.raises(ConfigError, match="multiple"):
        EncoderConfig(image_size=60)
