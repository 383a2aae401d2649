"""What surrounds a training loop: random numbers, checkpoints, what counts as the same run."""

from __future__ import annotations

import dataclasses
import json
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from training.common import Run, TrainingError, digest, iteration_generator, iteration_rng, write_json
from visarl.errors import ConfigError
from visarl.training_options import TrainEncoder, Training

ARRAY = np.arange(12, dtype=np.float32).reshape(3, 4)


class Counter:
    """All that there is to save."""

    def __init__(self) -> None:
        self.done = 0

    def state_dict(self) -> dict[str, Any]:
        return {"done": torch.tensor(self.done)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.done = int(state["done"])


def work(options: Training, stop: int | None = None, iterations: int = 7, **settings: Any) -> tuple[Counter, list[int]]:
    """The counter after a run, or after Ctrl-C before the work of iteration `stop`; the iterations that it did."""
    counter, did = Counter(), []
    try:
        with Run("count", options, iterations, {"counter": counter}, settings) as run:
            for iteration in run:
                if iteration == stop:
                    raise KeyboardInterrupt
                counter.done += 1
                did.append(iteration)
                run.log(iteration, loss=1 / counter.done)
    except KeyboardInterrupt:
        pass
    return counter, did


def test_the_digest_is_of_the_numbers_not_of_how_they_lie_in_memory() -> None:
    assert digest(ARRAY, ARRAY.T) == digest(np.asfortranarray(ARRAY), np.ascontiguousarray(ARRAY.T))
    changed = ARRAY.copy()
    changed[2, 3] += 1e-6 * changed[2, 3]
    others = [
        (changed,),
        (ARRAY.reshape(4, 3),),
        (ARRAY[:1], ARRAY[1:]),
        (ARRAY[1:], ARRAY[:1]),
        (ARRAY.view(np.int32),),
        (ARRAY, np.zeros((3, 0), np.float32)),
    ]
    assert len({digest(ARRAY), *(digest(*arrays) for arrays in others)}) == 1 + len(others)


def test_an_iteration_draws_the_same_whenever_it_is_done_and_no_other_draws_it() -> None:
    keys = [(seed, iteration) for seed in range(4) for iteration in range(4)]
    drawn = {key: iteration_rng(*key).integers(2**62) for key in keys}
    tossed = {key: int(torch.randint(2**62, (), generator=iteration_generator(*key))) for key in keys}
    assert len(set(drawn.values())) == len(set(tossed.values())) == len(keys)
    for key in reversed(keys):
        assert iteration_rng(*key).integers(2**62) == drawn[key]
        assert int(torch.randint(2**62, (), generator=iteration_generator(*key))) == tossed[key]


def test_a_run_goes_on_from_its_last_checkpoint_and_a_finished_one_has_nothing_to_do(tmp_path: Path) -> None:
    options = Training(out=tmp_path / "a", checkpoint_every=2)
    assert work(options, stop=5)[1] == [0, 1, 2, 3, 4]
    assert work(options)[1] == [4, 5, 6]
    counter, did = work(options)
    assert (counter.done, did) == (7, [])
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["checkpoint.pt", "tensorboard"]


def test_what_cannot_change_the_result_may_change_in_between(tmp_path: Path) -> None:
    options = Training(out=tmp_path / "a", checkpoint_every=2, threads=1)
    work(options, stop=5, data="abc")
    (tmp_path / "a").rename(tmp_path / "b")
    options = dataclasses.replace(options, out=tmp_path / "b", checkpoint_every=3, threads=2, device="cpu")
    assert work(options, data="abc")[1] == [4, 5, 6]
    for changed, settings in (
        (options, {"data": "abd"}),
        (options, {}),
        (dataclasses.replace(options, seed=1), {"data": "abc"}),
    ):
        with pytest.raises(ConfigError, match="began with other settings .*(data|seed) was .*--restart"):
            work(changed, **settings)


def test_beginning_anew_forgets_the_weights_and_the_curves(tmp_path: Path) -> None:
    options = Training(out=tmp_path, checkpoint_every=2)
    work(options, stop=5)
    (old,) = (tmp_path / "tensorboard").iterdir()
    old = old.rename(old.with_name("events.out.tfevents.old"))
    counter, did = work(dataclasses.replace(options, restart=True), data="another")
    assert did == list(range(7)) and counter.done == 7 and not old.exists()


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    options = Training(out=tmp_path, checkpoint_every=2)
    counter, _ = work(options, stop=2)
    run = Run("count", options, 7, {"counter": counter}, {})
    counter.done = 99
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (256, hard))
    try:
        with pytest.raises(TrainingError, match="checkpoint.pt: not written after iteration 4 .*make room"):
            run.save(4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    again = Counter()
    assert Run("count", options, 7, {"counter": again}, {}).start == 2 and again.done == 2
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), torch.tensor(float("nan"))])
def test_a_broken_loss_stops_the_run_and_keeps_the_checkpoint_before(loss: Any, tmp_path: Path) -> None:
    options, counter = Training(out=tmp_path, checkpoint_every=2), Counter()
    with (
        pytest.raises(TrainingError, match=r"count: the loss is (nan|inf) in iteration 3; .*point.pt, is whole.*--lr"),
        Run("count", options, 7, {"counter": counter}, {}) as run,
    ):
        for iteration in run:
            run.check(loss if iteration == 3 else torch.tensor(0.5), iteration)
            counter.done += 1
    assert work(options)[1] == [2, 3, 4, 5, 6]


def test_spoiled_weights_never_replace_a_checkpoint(tmp_path: Path) -> None:
    layer = torch.nn.Linear(1, 1)
    optimiser = torch.optim.AdamW(layer.parameters())
    options = Training(out=tmp_path, checkpoint_every=2)
    with (
        pytest.raises(TrainingError, match=r"count: layer.weight is no longer finite after iteration 4;"),
        Run("count", options, 7, {"layer": layer, "optimiser": optimiser}, {}) as run,
    ):
        for iteration in run:
            optimiser.zero_grad()
            loss = layer(torch.ones(1, 1)).sum()
            (loss * float("inf") if iteration == 3 else loss).backward()
            optimiser.step()
    again = torch.nn.Linear(1, 1)
    state = {"layer": again, "optimiser": torch.optim.AdamW(again.parameters())}
    assert Run("count", options, 7, state, {}).start == 2 and torch.isfinite(again.weight).all()


@pytest.mark.parametrize("batch", [True, False])
def test_out_of_memory_names_the_fix_and_keeps_the_checkpoint_before(batch: bool, tmp_path: Path) -> None:
    options, counter = Training(out=tmp_path, checkpoint_every=2), Counter()
    if batch:
        options = TrainEncoder(out=tmp_path, checkpoint_every=2, episodes=[])
    with (
        pytest.raises(TrainingError, match=r"count: out of memory \(.*--restart.* a smaller --preset") as found,
        Run("count", options, 7, {"counter": counter}, {}) as run,
    ):
        for iteration in run:
            if iteration == 3:
                torch.empty(1 << 60, dtype=torch.uint8)
            counter.done += 1
    assert ("half the --batch" in str(found.value)) == batch
    assert work(options)[1] == [2, 3, 4, 5, 6]


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_checkpoint_that_breaks_off_is_refused_with_the_way_out(share: float, tmp_path: Path) -> None:
    options = Training(out=tmp_path, checkpoint_every=2)
    work(options, stop=2)
    checkpoint = tmp_path / "checkpoint.pt"
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ConfigError, match="checkpoint.pt: not a readable checkpoint .*--restart begins anew"):
        work(options)
    assert work(dataclasses.replace(options, restart=True))[1] == list(range(7))


def test_progress_keeps_off_stdout_and_to_a_line_every_tenth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(variable, raising=False)
    work(Training(out=tmp_path, checkpoint_every=1000), iterations=200)
    found = capsys.readouterr()
    lines = found.err.splitlines()
    assert found.out == "" and len(lines) == 11
    assert lines[-1].startswith("count: 200/200") and lines[-1].endswith("loss 0.005")
    work(Training(out=tmp_path / "b", checkpoint_every=2), stop=3)
    found = capsys.readouterr()
    assert found.out == "" and "count: interrupted; the same command goes on" in found.err
    work(Training(out=tmp_path / "c", checkpoint_every=100), stop=3)
    said = " ".join(capsys.readouterr().err.split())
    assert "interrupted before its first checkpoint, which is due after 100 iterations: the same command begins" in said


def test_json_for_people_and_other_programs(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "metrics.json"
    for values in ({"loss": 1.0}, {"loss": 0.5, "demos": 10}):
        write_json(path, values)
        assert json.loads(path.read_text()) == values and path.read_text().endswith("}\n")
    assert list(path.parent.iterdir()) == [path]
