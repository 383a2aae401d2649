"""What runs a network: the same numbers from every engine, and never an old or a damaged network."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import visarl.models
from visarl.engines import CACHE_VARIABLE, cache_folder, make_engine
from visarl.errors import ConfigError

SHAPES = [(3, 8, 8), (1, 8, 8)]


class Pair(nn.Module):
    """A picture and a map in, four numbers out; exchanged inputs or rows change them."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.picture, self.map = nn.Linear(3 * 64, 4), nn.Linear(64, 4)
        self.eval()

    def forward(self, picture: Tensor, saliency: Tensor) -> Tensor:
        return self.picture(picture.flatten(1)) * self.map(saliency.flatten(1))


def inputs(rows: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(rows)
    return tuple(torch.randn(rows, *shape, generator=generator) for shape in SHAPES)


@torch.no_grad()
def agree(found: Tensor, model: nn.Module, given: tuple[Tensor, ...]) -> bool:
    """Whether `found` is what the model itself says, row by row."""
    model = model.cpu()  # torch's engine takes it to the GPU where there is one
    expected = torch.cat([model(*row) for row in zip(*(x.split(1) for x in given), strict=True)])
    return found.shape == expected.shape and torch.allclose(found, expected, atol=1e-5)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache in which `Pair(0)` is kept as "pair"."""
    folder = tmp_path_factory.mktemp("converted") / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(folder))
        make_engine(Pair(), SHAPES, "openvino", 1, "pair")
    return folder


@pytest.fixture(autouse=True)
def cache(converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of it for each test, and afterwards the process's number of threads put back."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    threads = torch.get_num_threads()
    yield Path(shutil.copytree(converted, tmp_path / "cache"))
    torch.set_num_threads(threads)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
@pytest.mark.parametrize("rows", [1, 3, 70])
def test_every_row_of_two_inputs_is_what_the_model_says(engine: str, rows: int) -> None:
    model, given = Pair(), inputs(rows)
    found = make_engine(model, SHAPES, engine, 1, "pair")(*given)
    assert agree(found, model, given) and found.dtype == torch.float32 and found.device.type == "cpu"


def test_a_kept_network_runs_under_its_name_only(cache: Path) -> None:
    old, new, given = Pair(0), Pair(1), inputs(2)
    # The same name takes what is there, whatever model comes with it: that is what saves the seconds.
    assert agree(make_engine(new, SHAPES, "openvino", 1, "pair")(*given), old, given)
    assert agree(make_engine(new, SHAPES, "openvino", 1, "other weights")(*given), new, given)
    assert len(list(cache.iterdir())) == 4


def test_a_changed_architecture_does_not_run_the_old_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "picanet.py").write_text("# rewritten\n")
    monkeypatch.setattr(visarl.models, "__path__", [str(tmp_path)])
    new, given = Pair(1), inputs(2)
    assert agree(make_engine(new, SHAPES, "openvino", 1, "pair")(*given), new, given)


def test_weights_that_break_off_are_converted_again(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights = next(cache.glob("*.bin"))
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    model, given = Pair(), inputs(2)
    assert agree(make_engine(model, SHAPES, "openvino", 1, "pair")(*given), model, given)
    assert "is damaged and is converted again" in caplog.text and weights.read_bytes() == whole


def test_auto_takes_openvino_where_it_is_installed_and_torch_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    kept, model, given = Pair(0), Pair(1), inputs(2)
    assert agree(make_engine(model, SHAPES, "auto", 1, "pair")(*given), kept, given)
    monkeypatch.setitem(sys.modules, "openvino", None)  # Python's own way to say that there is none
    assert agree(make_engine(model, SHAPES, "auto", 1, "pair")(*given), model, given)
    with pytest.raises(ConfigError, match="not installed: choose 'torch', run `make setup`"):
        make_engine(model, SHAPES, "openvino", 1, "pair")


def test_threads_are_set_and_a_refusal_leaves_them() -> None:
    torch.set_num_threads(2)
    for engine, threads, words in (
        ("tensorrt", 1, "engine: known: auto, openvino, torch, found 'tensorrt'"),
        ("torch", 0, "threads: expected at least 1, found 0"),
    ):
        with pytest.raises(ConfigError, match=words):
            make_engine(Pair(), SHAPES, engine, threads, "pair")
    assert torch.get_num_threads() == 2
    make_engine(Pair(), SHAPES, "torch", 1, "pair")
    assert torch.get_num_threads() == 1


def test_the_cache_follows_its_variable_then_the_desktops_then_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("XDG_CACHE_HOME", "/big/cache")
    assert cache_folder().name == "cache" and cache_folder().parent != Path("/big")
    monkeypatch.delenv(CACHE_VARIABLE)
    assert cache_folder() == Path("/big/cache/visarl")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_folder() == Path("/home/somebody/.cache/visarl")
