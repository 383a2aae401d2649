"""Training saliency: which roles, which models, and what happens to annotations that teach nothing."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.tiny import TINY
from tests.training.conftest import saliency_options
from training import train_saliency
from training.backbone_pretraining import painting_loss, pretrain
from training.common import TrainingError
from training.parts import load_saliency
from training.train_saliency import ClickedPicture, reachable, train
from visarl.bundle import load_part, save_part
from visarl.data.annotations import AnnotationFile, Area, Click
from visarl.errors import ConfigError, DataError
from visarl.models.saliency import Prediction, build_saliency
from visarl.training_options import TrainSaliency

HAND, BLOCK, PLATE = Click(0.3, 0.4, "effector"), Click(0.6, 0.5, "object"), Click(0.8, 0.2, "goal")
TRIANGLE = Area(((0.1, 0.1), (0.2, 0.1), (0.1, 0.2)), "object")


def options(out: Path, **values: Any) -> TrainSaliency:
    given = {"bags": out, "clicks": out, "iterations": 1, "batch": 2, "threads": 1, **values}
    return TrainSaliency(out=out, **given)


def picture(*clicks: Click, areas: tuple[Area, ...] = (), seed: int = 0) -> ClickedPicture:
    pixels = np.random.default_rng(seed).integers(0, 256, (96, 96, 3)).astype(np.uint8)
    return ClickedPicture(pixels, clicks, areas)


@pytest.mark.parametrize(
    ("clicks", "roles"),
    [
        ((HAND, BLOCK), ("effector", "object")),
        ((PLATE, HAND, BLOCK), ("effector", "object", "goal")),
        ((BLOCK,), ("object",)),
        ((Click(0.5, 0.5),), ("plain",)),
    ],
)
def test_a_map_for_each_role_that_was_clicked(
    clicks: tuple[Click, ...], roles: tuple[str, ...], tmp_path: Path
) -> None:
    model = train(options(tmp_path), TINY, [picture(), picture(*clicks)])
    assert model.config.roles == roles
    again, _ = load_saliency(tmp_path / train_saliency.PART, torch.device("cpu"))
    assert again.config == model.config


def test_roles_that_are_asked_for(tmp_path: Path) -> None:
    asked = options(tmp_path / "a", roles=("effector", "object", "goal"))
    assert train(asked, train_saliency.configure(asked), [picture(HAND)]).config.roles == asked.roles
    asked = options(tmp_path / "b", roles=("plain",))  # the paper's case: every click counts
    assert train(asked, train_saliency.configure(asked), [picture(HAND, PLATE)]).config.roles == ("plain",)
    asked = options(tmp_path / "c", roles=("effector", "object"))
    with pytest.raises(DataError, match="'goal'"):
        train(asked, train_saliency.configure(asked), [picture(HAND, BLOCK, PLATE)])
    with pytest.raises(DataError, match="some clicks have the roles object, others have none; .*--roles plain"):
        train(options(tmp_path / "e"), TINY, [picture(BLOCK), picture(Click(0.5, 0.5))])
    with pytest.raises(ConfigError, match="several begin with 'effector'"):
        train(options(tmp_path / "d"), TINY, [picture(BLOCK, PLATE)])


@pytest.mark.parametrize("model", ["picanet", "unet", "frozen"])
def test_each_model_trains_saves_and_comes_back(model: str, tmp_path: Path) -> None:
    weights = None
    if model == "frozen":
        weights = tmp_path / "weights.pth"
        import timm

        torch.save(timm.create_model("test_resnet").state_dict(), weights)
    asked = options(tmp_path / "out", model=model, backbone="test_resnet", weights=weights, lookalikes=0.5, covered=1.0)
    config = dataclasses.replace(TINY, saliency=dataclasses.replace(TINY.saliency, attention=("global", "none")))
    asked_config = dataclasses.replace(
        config, saliency=dataclasses.replace(config.saliency, model=model, backbone="test_resnet")
    )
    trained = train(asked, asked_config, [picture(HAND, BLOCK)])
    again, _ = load_saliency(tmp_path / "out" / train_saliency.PART, torch.device("cpu"))
    assert again.config.model == model and type(again) is type(trained)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again.predict(x), trained.predict(x))


def test_frozen_features_need_to_know_something(tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, saliency=dataclasses.replace(TINY.saliency, model="frozen"))
    with pytest.raises(ConfigError, match="--pretrained.*--weights"):
        train(options(tmp_path), config, [picture(HAND)])


def test_where_no_hub_answers_painting_comes_instead(
    tmp_path: Path, no_hub: None, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = options(tmp_path, pretrained=True)
    settled = reachable(asked, TINY)
    assert (settled.pretrained, settled.pretraining) == (False, train_saliency.PAINTING)
    said = " ".join(capsys.readouterr().err.split())
    assert "hub gave no weights of" in said and "600 iterations of painting" in said
    assert reachable(options(tmp_path, pretrained=True, pretraining=3), TINY).pretraining == 3
    for left in (options(tmp_path), options(tmp_path, pretrained=True, weights=tmp_path / "file")):
        assert reachable(left, TINY) is left


@pytest.mark.parametrize("model", ["unet", "frozen"])
def test_pretraining_hands_over_what_it_learned_and_starts_the_maps_anew(model: str, tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, saliency=dataclasses.replace(TINY.saliency, model=model))
    frames = np.random.default_rng(0).integers(0, 256, (5, 96, 96, 3)).astype(np.uint8)
    torch.manual_seed(0)
    net = build_saliency(config.saliency)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    pretrain(net, frames, options(tmp_path), 2, tmp_path / "pretraining")
    after = net.state_dict()
    moved = {name for name in before if name.endswith("weight") and not torch.equal(before[name], after[name])}
    heads = {f"{n}.weight" for n, m in net.named_modules() if isinstance(m, Prediction)}
    assert moved and not moved & heads
    if model == "frozen":
        assert all(name.startswith("backbone.") for name in moved)
    asked = options(tmp_path, pretraining=2)
    assert train(asked, config, [picture(HAND)], frames).config.roles == ("effector",)
    with pytest.raises(DataError, match="no frames to pretrain on"):
        train(options(tmp_path / "none", pretraining=2), config, [picture(HAND)])


def test_painting_counts_only_what_was_hidden() -> None:
    target, hidden = torch.randn(2, 3, 64, 64), torch.zeros(2, 1, 64, 64)
    hidden[:, :, :16, :16] = 1
    seen = target.clone()
    seen[:, :, 32:] += 5
    assert painting_loss([seen], target, hidden) == 0
    seen[:, :, :16, :16] += 0.5
    assert painting_loss([seen], target, hidden).item() == pytest.approx(0.5, rel=1e-4)
    assert painting_loss([seen[..., ::2, ::2], target], target, hidden).item() > 0


def test_parts_from_before_there_were_several_models_are_picanets(run: Path, tmp_path: Path) -> None:
    weights, description = load_part(run / "saliency" / train_saliency.PART)
    del description["saliency"]["model"]
    save_part(tmp_path / "old.safetensors", weights, description)
    model, _ = load_saliency(tmp_path / "old.safetensors", torch.device("cpu"))
    assert model.config == load_saliency(run / "saliency" / train_saliency.PART, torch.device("cpu"))[0].config


def test_annotations_that_cannot_teach(run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="0 frames without a click cannot teach"):
        train(options(tmp_path), TINY, [])
    with pytest.raises(DataError, match="2 frames without a click cannot teach"):
        train(options(tmp_path), TINY, [picture(), picture(seed=1)])
    asked = saliency_options(run, tmp_path / "out")
    file = AnnotationFile.load(asked.clicks)
    clicks = tmp_path / "clicks.json"
    AnnotationFile(file.preprocess).save(clicks)
    with pytest.raises(DataError, match="0 frames without a click"):
        train_saliency.main(dataclasses.replace(asked, clicks=clicks))
    shutil.copytree(run / "bags", tmp_path / "bags")
    gone = sorted(key.bag for key in file.frames)[0]
    shutil.rmtree(tmp_path / "bags" / gone)
    with pytest.raises(DataError, match=f"annotated bag '{gone}' is not there"):
        train_saliency.main(dataclasses.replace(asked, bags=tmp_path / "bags"))
    assert not (tmp_path / "out" / train_saliency.PART).exists()


def test_one_annotation_is_enough_to_go_on(tmp_path: Path) -> None:
    train(options(tmp_path, batch=3), TINY, [picture(BLOCK, areas=(TRIANGLE,))])
    assert json.loads((tmp_path / "saliency.json").read_text())["frames"] == 1


def test_a_broken_loss_names_the_iteration(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"saliency: the loss is (nan|inf) in iteration \d; .*--lr"):
        train(options(tmp_path, iterations=9, lr=1e30), TINY, [picture(HAND)])
