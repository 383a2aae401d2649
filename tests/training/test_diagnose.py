"""`visarl diagnose`: each thing that may be wrong is told, by name and alone, and nothing is told of what is right."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from rich.console import Console

from tests.tiny import TINY, tiny_bundle
from tests.training.conftest import encoder_options
from tests.training.test_train_policy import policy_options
from tests.unit.data.synthetic import Scene, synthetic_bag, synthetic_messages, write_bag
from training import diagnose, train_encoder, train_policy
from training.cloning import Demonstration
from training.diagnose import judge, of_policy
from training.diagnosis import Diagnosis, page
from training.findings import Finding, Recorded, of_demonstrations
from training.policy_findings import Scored, beyond, camera, knows, looks, moves, seen_in_training, trusted
from visarl.aim import project
from visarl.bundle import load_bundle, save_bundle
from visarl.config import PRESETS
from visarl.contract import get_contract
from visarl.data.bags import IMAGE
from visarl.data.convert import convert
from visarl.errors import DataError
from visarl.robot.kinematics import tool_position
from visarl.ros.workspace import ROOT
from visarl.training_options import Diagnose

CONTRACT = get_contract("jaco2")
STEPS, CLOSES = 40, 25
HIGH = CONTRACT.action.high


def recorded(number: int) -> Recorded:
    """A good demo: moves in all directions, closes the hand once, at 10 Hz with frames 20 ms old."""
    rng = np.random.default_rng(number)
    actions = (0.4 * HIGH * np.sin(np.arange(STEPS)[:, None] / 3 + np.arange(7) + number)).astype(np.float32)
    actions[:, -1] = np.where(np.arange(STEPS) < CLOSES, -1.0, 1.0)
    proprioception = np.zeros((STEPS, len(CONTRACT.proprioception)), np.float32)
    joints = rng.normal(0, 0.1, (STEPS, 6)).cumsum(axis=0)
    proprioception[:, :6] = [0.1, 2.5, 4.6, 0.3, -1.2, 0.5] + 0.3 * np.sin(joints)
    proprioception[CLOSES:, -3:] = np.minimum(1.0, 0.1 * np.arange(STEPS - CLOSES))[:, None]
    stamps = 10**18 + np.arange(STEPS) * 10**8
    demo = Demonstration(f"demo_{number}", np.zeros((STEPS, 0), np.float32), proprioception, actions)
    return Recorded(demo, f"bag-{number}", stamps, stamps - 20_000_000, 0)


def off(findings: list[Finding]) -> dict[str, str]:
    """Advice by name of the finding."""
    return {finding.name: finding.advice for finding in findings if finding.advice}


def console_of(found: Diagnosis, width: int) -> str:
    text = io.StringIO()
    Console(file=text, width=width).print(page(found))
    return text.getvalue()


# ---- the demonstrations ----------------------------------------------------------------------------------------------


def test_nothing_is_said_of_good_demonstrations() -> None:
    findings = of_demonstrations([recorded(i) for i in range(3)], CONTRACT)
    assert not off(findings)
    json.dumps([dict(finding.figures) for finding in findings], allow_nan=False)


def waits(e: Recorded) -> Recorded:
    e.demo.actions[5:20, :-1] = 0
    return e


def grasps_twice(e: Recorded) -> Recorded:
    e.demo.actions[10:13, -1] = 1
    return e


def never_grasps(e: Recorded) -> Recorded:
    e.demo.actions[:, -1] = -1
    return e


def hurries(e: Recorded) -> Recorded:
    e.demo.actions[:, 1] = HIGH[1]
    return e


def comes_unevenly(e: Recorded) -> Recorded:
    return dataclasses.replace(e, stamps=e.stamps + 40_000_000 * (np.arange(STEPS) % 2))


def has_stale_steps(e: Recorded) -> Recorded:
    return dataclasses.replace(e, stale=3)


def sees_old_frames(e: Recorded) -> Recorded:
    return dataclasses.replace(e, frame_stamps=e.stamps - 150_000_000)


def sees_a_frame_twice(e: Recorded) -> Recorded:
    return dataclasses.replace(e, frame_stamps=e.frame_stamps[np.arange(STEPS) // 2 * 2])


def is_cut_short(e: Recorded) -> Recorded:
    arrays = {name: getattr(e.demo, name)[20:35] for name in ("embedding", "proprioception", "actions")}
    demo = dataclasses.replace(e.demo, **arrays)
    return dataclasses.replace(e, demo=demo, stamps=e.stamps[20:35], frame_stamps=e.frame_stamps[20:35])


@pytest.mark.parametrize(
    ("spoil", "name", "words"),
    [
        (waits, "idle steps", "waits in demo_1;"),
        (grasps_twice, "closings of the hand", "demo_1: a grasp that failed"),
        (never_grasps, "closings of the hand", "demo_1: the hand closes less often"),
        (hurries, "steps at a bound", "y is driven"),
        (comes_unevenly, "control period", "unevenly"),
        (has_stale_steps, "control period", "unevenly"),
        (sees_old_frames, "age of frames", "late"),
        (sees_a_frame_twice, "age of frames", "late"),
        (is_cut_short, "lengths", "look at demo_1:"),
    ],
)
def test_what_is_wrong_with_one_demo_is_told_and_nothing_else(
    spoil: Callable[[Recorded], Recorded], name: str, words: str
) -> None:
    found = off(of_demonstrations([recorded(0), spoil(recorded(1)), recorded(2)], CONTRACT))
    assert list(found) == [name]
    assert words in found[name]


def test_an_action_that_no_demo_makes_is_named() -> None:
    episodes = [recorded(i) for i in range(2)]
    for episode in episodes:
        episode.demo.actions[:, 4] = 0
    assert "no demo moves theta" in off(of_demonstrations(episodes, CONTRACT))["never moved"]


def test_a_hand_that_closes_is_not_idle_and_one_that_presses_on_is() -> None:
    episode = recorded(0)
    episode.demo.actions[CLOSES:, :-1] = 0
    idle = episode.idle(CONTRACT)
    assert not idle[: CLOSES + 9].any() and idle[CLOSES + 11 :].all()
    assert episode.pause_s(CONTRACT) == pytest.approx(idle.sum() / 10)


# ---- the policy on them ----------------------------------------------------------------------------------------------


def scored(each: list[float], other: list[float], seen: int = 0) -> Scored:
    names = [f"demo_{i}" for i in range(len(each))]
    losses = [dict(zip(names, values, strict=True)) for values in (each, other)]
    return Scored(float(np.mean(each)), float(np.mean(other)), 0.2, *losses, seen)


def test_a_policy_that_does_not_look_and_one_that_does() -> None:
    assert not looks(scored([0.01, 0.02], [0.1, 0.1])).advice
    assert not looks(scored([0.01, 0.01, 0.2], [0.1, 0.1, 0.2])).advice  # one demo that it never follows
    assert "whatever it sees" in looks(scored([0.01, 0.01, 0.01], [0.011, 0.012, 0.1])).advice
    assert "its own pictures backwards" in looks(scored([0.01], [0.1])).found


def test_a_demo_that_it_does_not_follow_is_named_and_what_to_do_depends_on_whether_it_was_taught() -> None:
    each, other = [0.01, 0.15], [0.1, 0.1]
    assert not knows(scored([0.01, 0.01], other)).advice
    assert "does not follow demo_1: record more of the kind" in knows(scored(each, other)).advice
    assert "has not even learnt demo_1" in knows(scored(each, other, seen=2)).advice


def test_a_policy_that_does_the_mean_and_a_demonstrator_who_is_faster_than_it() -> None:
    demos = recorded(0).demo.actions
    assert not moves(demos, 0.9 * demos, CONTRACT).advice
    timid = demos.copy()
    timid[:, 2] *= 0.3
    assert moves(demos, timid, CONTRACT).advice.startswith("z: ")
    n = load_bundle(ROOT / "bundles" / "pick_red_block").normalisation
    slow = dataclasses.replace(n, action_scale=0.2 * HIGH)
    assert beyond(demos, slow, CONTRACT).advice
    assert not beyond(demos, dataclasses.replace(n, action_scale=HIGH), CONTRACT).advice


def test_where_the_camera_stands_and_which_things_are_found() -> None:
    n = load_bundle(ROOT / "bundles" / "pick_red_block").normalisation
    episodes = []
    for i in range(2):
        episode = recorded(i)
        hand = project(n.camera, tool_position(CONTRACT, episode.demo.proprioception))
        sure = np.full((STEPS, 1), 0.9)
        points = np.concatenate([hand, sure, np.zeros((STEPS, 2)), sure], axis=1).astype(np.float32)
        episodes.append(dataclasses.replace(episode, demo=dataclasses.replace(episode.demo, embedding=points)))
    roles = ("effector", "object")
    assert not off([f for f in (camera(episodes, n, CONTRACT), *trusted(episodes, roles)) if f is not None])
    for episode in episodes:
        episode.demo.embedding[:, 0] += 0.2
    moved = camera(episodes, n, CONTRACT)
    assert moved is not None and "10.0%" in moved.found and "camera has moved" in moved.advice
    episodes[1].demo.embedding[:, 5] = 0.1
    assert "in demo_1 it is never found" in off(trusted(episodes, roles))["sees the object"]
    for episode in episodes:
        episode.demo.embedding[:, 2] = 0.1
    assert camera(episodes, n, CONTRACT) is None  # nothing is said where nothing is known


def test_the_demos_of_training_are_known_by_the_normalisation() -> None:
    demos = [recorded(i).demo for i in range(4)]
    n = load_bundle(ROOT / "bundles" / "pick_red_block").normalisation
    first = np.concatenate([demo.proprioception for demo in demos[:3]])
    fitted = dataclasses.replace(n, proprioception_mean=first.mean(axis=0), proprioception_std=first.std(axis=0) + 0.01)
    assert seen_in_training(fitted, [demos]) == 3
    assert seen_in_training(fitted, [demos[1:]]) == 0
    assert seen_in_training(n, [demos]) == 0


# ---- bundles and files -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rgb(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a policy on RGB with a learned readout, trained on the first of two demos."""
    folder = tmp_path_factory.mktemp("rgb")
    train_encoder.main(dataclasses.replace(encoder_options(run, folder / "encoder"), modalities=("rgb",)))
    options = dataclasses.replace(
        policy_options(run, folder),
        saliency=None,
        encoder=folder / "encoder" / train_encoder.PART,
        readout="attention",
        diagnostics=False,
        holdout=1,
        half=False,
    )
    train_policy.main(options)
    return folder / "bundle"


def test_the_losses_are_those_that_training_reports(run: Path, rgb: Path) -> None:
    bundle = load_bundle(rgb)
    losses = bundle.metrics["policy_losses"]
    found = diagnose.diagnose(Diagnose(bundle=rgb, episodes=run / "clear.hdf5", threads=1))
    assert found.judged is not None and found.judged.scored.seen == 1
    assert found.judged.scored.own == pytest.approx(losses["valid"], rel=1e-3)
    assert found.judged.scored.each["demo_0"] == pytest.approx(losses["train"], rel=1e-3)
    assert "trained on the first 1 of these demos" in console_of(found, 80)


def test_a_policy_deaf_to_its_embedding_is_told(run: Path, rgb: Path, tmp_path: Path) -> None:
    bundle = load_bundle(rgb)
    parts = {part: bundle.weights(part) for part in ("encoder", "readout", "policy")}
    parts["policy"]["input.0.weight"][:, : bundle.config.readout.width] = 0
    described = {"config": bundle.config, "task": bundle.task, "normalisation": bundle.normalisation}
    deaf = save_bundle(tmp_path / "deaf", parts=parts, **described)
    found = diagnose.diagnose(Diagnose(bundle=deaf.folder, episodes=run / "clear.hdf5", threads=1))
    assert "looks at the picture" in off(found.findings)


def test_a_bundle_of_an_older_format_on_demos_of_its_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bags = [synthetic_bag(tmp_path / "bags" / f"bag-{i}", Scene(seconds=1.2, seed=i)) for i in range(2)]
    convert(bags, tmp_path / "episodes.h5", PRESETS["64"].preprocess)
    options = Diagnose(
        bundle=ROOT / "bundles" / "pick_red_block",
        episodes=tmp_path / "episodes.h5",
        bags=tmp_path / "bags",
        out=tmp_path / "found.json",
        threads=1,
    )
    diagnose.main(options)
    said, written = json.loads(capsys.readouterr().out.splitlines()[-1]), json.loads(options.out.read_text())
    assert said["off"] == [finding["name"] for finding in written["findings"] if finding["off"]]
    assert said["demos"] == 2 and written["trained_on"] == 0
    assert {"sees the effector", "sees the object", "lost on the way"} <= {f["name"] for f in written["findings"]}
    assert "lost on the way" not in said["off"]
    json.dumps(written, allow_nan=False)

    found = diagnose.diagnose(options)
    for width in (80, 120):
        lines = console_of(found, width).splitlines()
        assert max(map(len, lines)) <= width and not any("…" in line for line in lines)
    assert "delta" not in console_of(found, 80) and "policy" in console_of(found, 80)


def test_keypoints_of_a_model_that_finds_nothing(run: Path, tmp_path: Path) -> None:
    train_policy.main(dataclasses.replace(policy_options(run, tmp_path), diagnostics=False, components=0))
    found = diagnose.diagnose(Diagnose(bundle=tmp_path / "bundle", episodes=run / "clear.hdf5", threads=1))
    assert found.judged is not None and found.judged.scored.seen == 2
    assert "saliency model does not find the object" in off(found.findings)["sees the object"]
    assert "on these very demos" in console_of(found, 80)


def test_lost_pictures_are_counted_in_the_bags(tmp_path: Path) -> None:
    messages = synthetic_messages(Scene(seconds=3.0))
    pictures = [m for m in messages if m[1] == IMAGE]
    dropped = pictures[5::9]
    kept = [m for m in messages if not any(m is one for one in dropped)]
    bag = write_bag(tmp_path / "bags" / "bag-0", kept, "success")
    convert([bag], tmp_path / "episodes.h5", TINY.preprocess)
    found = diagnose.diagnose(Diagnose(episodes=tmp_path / "episodes.h5", bags=tmp_path / "bags"))
    (told,) = [finding for finding in found.findings if finding.name == "lost on the way"]
    assert f"camera {len(dropped)} of {len(pictures)}," in told.found
    assert told.advice.startswith(IMAGE)


def test_one_demo_without_a_bundle(run: Path, episodes: Path) -> None:
    with h5py.File(episodes, "r+") as file:
        del file["data/demo_1"]
    found = diagnose.diagnose(Diagnose(episodes=episodes))
    assert "policy" not in console_of(found, 80)


def test_one_demo_with_a_bundle(episodes: Path, rgb: Path) -> None:
    with h5py.File(episodes, "r+") as file:
        del file["data/demo_1"]
    found = diagnose.diagnose(Diagnose(episodes=episodes, bundle=rgb, threads=1))
    assert "its own pictures backwards" in console_of(found, 400)


def test_what_does_not_fit_is_refused(run: Path, tmp_path: Path) -> None:
    episodes = run / "episodes.hdf5"
    other = tiny_bundle(tmp_path / "other", task="pick_apple")
    with pytest.raises(DataError, match="demonstrations of 'pick_red_block'.*trained for 'pick_apple'.*--bundle"):
        diagnose.diagnose(Diagnose(bundle=other.folder, episodes=episodes))
    with pytest.raises(DataError, match="expected .*'size': 224.*convert the bags again"):
        diagnose.diagnose(Diagnose(bundle=ROOT / "bundles" / "pick_red_block", episodes=episodes))
    synthetic_bag(tmp_path / "bags" / "stranger")
    with pytest.raises(DataError, match="such as demo-0, found stranger"):
        diagnose.diagnose(Diagnose(episodes=episodes, bags=tmp_path / "bags"))


def test_judging_starts_each_demo_with_an_empty_memory(run: Path, rgb: Path) -> None:
    bundle = load_bundle(rgb)
    demos = [recorded(i).demo for i in range(2)]
    size = bundle.config.readout.width
    demos = [dataclasses.replace(demo, embedding=np.ones((STEPS, size), np.float32)) for demo in demos]
    both, alone = judge(bundle, demos), judge(bundle, demos[1:])
    assert torch.allclose(torch.from_numpy(both.actions[1]), torch.from_numpy(alone.actions[0]))
    episodes = [dataclasses.replace(recorded(i), demo=demo) for i, demo in enumerate(demos)]
    assert {"looks at the picture", "moves as much"} <= {finding.name for finding in of_policy(both, episodes)}
