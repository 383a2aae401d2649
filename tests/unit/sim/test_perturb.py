"""Perturbed scenes: what changes, what must not, and that all of it is undone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from visarl.errors import SimulationError
from visarl.sim import clips
from visarl.sim.clips import GeneratedClip, VideoClip
from visarl.sim.perturb import CHANGES, PERTURBATIONS, get_change
from visarl.sim.tabletop import Simulator
from visarl.video import encode

SEED = 1005
SIZE = 160, 120
COLOURS = ["colours_easy", "colours_hard"]
VIDEOS = ["video_easy", "video_hard"]


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    simulator = Simulator()
    yield simulator
    simulator.close()


def look(simulator: Simulator, perturbation: str, seed: int = SEED, task: str = "pick_red_block") -> np.ndarray:
    simulator.reset(task, seed, perturbation)
    return simulator.render(*SIZE)


def shown(simulator: Simulator) -> tuple[np.ndarray, np.ndarray]:
    """(height, width) bool: the table; what stands on it, and the arm."""
    found = simulator.render_segmentation(*SIZE)
    table = found == simulator._model.geom("table").id
    return table, ~table & (found != simulator._model.geom("floor").id) & (found >= 0)


def test_every_name_is_known_and_others_are_refused(simulator: Simulator) -> None:
    assert tuple(CHANGES) == PERTURBATIONS
    with pytest.raises(SimulationError, match="did you mean 'video_easy'"):
        get_change("video_eazy")
    before = look(simulator, "none")
    with pytest.raises(SimulationError, match="no perturbation 'colors'"):
        simulator.reset("pick_red_block", SEED + 1, "colors")
    assert np.array_equal(simulator.render(*SIZE), before), "a mistake leaves the scene as it was"


@pytest.mark.parametrize("task", ["pick_apple", "bread_to_plate"])
def test_afterwards_the_scene_is_as_it_always_was(task: str) -> None:
    stock = Simulator(task, SEED)
    simulator = Simulator(task, 7)
    try:
        for name in PERTURBATIONS:
            look(simulator, name, 7, task)
            assert np.array_equal(look(simulator, "none", SEED, task), stock.render(*SIZE)), name
    finally:
        stock.close()
        simulator.close()


@pytest.mark.parametrize("name", COLOURS + VIDEOS)
def test_the_seed_decides_the_looks_and_nothing_else_changes(simulator: Simulator, name: str) -> None:
    plain = look(simulator, "none")
    truth = simulator.truth()
    perturbed = look(simulator, name)
    assert (perturbed != plain).any(axis=-1).mean() > 0.8
    now = simulator.truth()
    assert all(np.array_equal(now.positions[role], truth.positions[role]) for role in truth.names)
    assert now.uv == truth.uv
    assert np.array_equal(simulator.reset(None, SEED).positions["object"], truth.positions["object"])
    assert np.array_equal(simulator.render(*SIZE), perturbed), "a reset keeps the perturbation"
    other = look(simulator, name, SEED + 1).astype(int) - look(simulator, "none", SEED + 1)
    assert np.abs(other - (perturbed.astype(int) - plain)).mean() > 3, "another seed changes it otherwise"


@pytest.mark.parametrize("name", COLOURS + VIDEOS)
def test_the_arm_moves_the_same_whatever_it_looks_like(simulator: Simulator, name: str) -> None:
    def play(perturbation: str) -> np.ndarray:
        simulator.reset("pick_red_block", SEED, perturbation)
        simulator.command(np.array([0.05, 0.02, -0.1, 0, 0, 0.1]), 0.5)
        simulator.advance(0.5)
        return simulator.state().proprioception()

    assert np.array_equal(play(name), play("none"))


def test_unseen_things_come_and_go(simulator: Simulator) -> None:
    def shown_bodies() -> set[str]:
        model, geoms = simulator._model, simulator.render_segmentation(*SIZE)
        return {model.body(model.body_rootid[model.geom_bodyid[i]]).name for i in np.unique(geoms) if i >= 0}

    look(simulator, "none")
    alone = shown_bodies()
    look(simulator, "distractors")
    assert alone < shown_bodies() and len(shown_bodies() - alone) <= 3
    look(simulator, "none")
    assert shown_bodies() == alone


# ---- colours -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "sd"), [("colours_easy", 0.1), ("colours_hard", 0.2)])
def test_colours_lie_around_the_stock_ones(simulator: Simulator, name: str, sd: float) -> None:
    """On pictures: a table's mean colour, each scene's beside that of the same scene in stock colours and its light."""
    model = simulator._model
    floor, block = model.geom("floor").id, model.geom("block").id
    table = model.geom("table").matid[0]
    stock = {i: model.geom_rgba[i, :3].copy() for i in (floor, block)}
    mean = np.array([0.74, 0.66, 0.55])  # of the wood
    shifts = {"floor": [], "block": [], "table": []}
    for seed in range(1000, 1080):
        simulator.reset("pick_red_block", seed, name)
        shifts["floor"].append(model.geom_rgba[floor, :3] - stock[floor])
        shifts["block"].append(model.geom_rgba[block, :3] - stock[block])
        shifts["table"].append(mean * (model.mat_rgba[table, :3] - 1))
        red, green, blue = model.geom_rgba[block, :3]
        assert red > green + 0.1 and red > blue + 0.1, "a red block stays red"
    for kind in ("floor", "table"):
        assert 0.7 * sd < np.std(shifts[kind]) < 1.2 * sd, kind
        assert np.abs(np.mean(shifts[kind], axis=0)).max() < 0.5 * sd, kind
    assert np.std(shifts["block"]) < 0.6 * sd
    simulator.reset(None, 0, "none")
    assert np.array_equal(model.geom_rgba[floor, :3], stock[floor]) and (model.mat_rgba[table] == 1).all()


def test_the_picture_shows_the_new_colours(simulator: Simulator) -> None:
    plain, hard = look(simulator, "none"), look(simulator, "colours_hard")
    table, things = shown(simulator)
    shift = hard.astype(int) - plain
    assert np.abs(shift[table].mean(axis=0)).max() > 15
    assert 2 < np.abs(shift[things]).mean() < np.abs(shift[table]).mean()
    grain = [np.std(picture[table].mean(axis=-1)) / picture[table].mean() for picture in (plain, hard)]
    assert 0.5 < grain[1] / grain[0] < 1.5, "the table is still of wood"


# ---- moving pictures -----------------------------------------------------------------------------------------------


def test_the_moving_picture_stays_behind_arm_and_object(simulator: Simulator) -> None:
    plain, easy, hard = (look(simulator, name) for name in ("none", *VIDEOS))
    clip = clips.clip(SEED).frame(0.0, *SIZE)
    table, things = shown(simulator)
    background = ~table & ~things
    assert background.any() and things.sum() > 500
    for picture in (easy, hard):
        assert np.array_equal(picture[things], plain[things])
        assert np.array_equal(picture[background], clip[background])
    assert np.array_equal(hard[table], clip[table])
    share = get_change("video_easy").table_share
    assert share is not None
    expected = (1 - share) * plain[table] + share * clip[table]
    assert np.abs(easy[table] - expected).max() <= 0.51


def test_it_moves_with_simulated_time(simulator: Simulator) -> None:
    first = look(simulator, "video_hard")
    assert np.array_equal(simulator.render(*SIZE), first), "the time stands still"
    simulator.advance(0.5)
    table, _ = shown(simulator)
    assert np.abs(simulator.render(*SIZE)[table].astype(int) - first[table]).mean() > 2
    assert np.array_equal(simulator.render(*SIZE)[table], clips.clip(SEED).frame(0.5, *SIZE)[table])


def test_depth_is_that_of_the_bench(simulator: Simulator) -> None:
    look(simulator, "none")
    plain = simulator.render_modalities(*SIZE)
    look(simulator, "video_hard")
    assert all(np.array_equal(simulator.render_modalities(*SIZE)[key], plain[key]) for key in plain)


def test_a_generated_clip_flows_and_never_stands(simulator: Simulator) -> None:
    clip = GeneratedClip(np.random.default_rng(0))
    frames = [clip.frame(time_s, 64, 48).astype(int) for time_s in (0.0, 1 / 30, 3.0, 20.0, 0.0)]
    assert frames[0].shape == (48, 64, 3) and np.array_equal(frames[0], frames[4])
    near, far = (np.abs(frames[0] - frame).mean() for frame in frames[1:3])
    assert 0 < near < 6 < far
    assert np.abs(frames[2] - frames[3]).mean() > 6
    assert all(frame.std() > 25 for frame in frames), "it is no grey wall"
    other = GeneratedClip(np.random.default_rng(1)).frame(0.0, 64, 48)
    assert np.abs(frames[0] - other).mean() > 6


def film(path: Path, pictures: int = 12) -> Path:
    """From black to white at 10 Hz, wide and with a red stripe at its left edge."""
    frames = []
    for i in range(pictures):
        frame = np.full((72, 160, 3), round(255 * i / (pictures - 1)), np.uint8)
        frame[:, :16] = [220, 0, 0]
        frames.append(frame)
    path.write_bytes(encode(frames, 10.0))
    return path


def test_a_video_plays_there_and_back_at_its_rate(tmp_path: Path) -> None:
    clip = VideoClip(film(tmp_path / "a.mp4"))
    grey = [float(clip.frame(i / 10 + 0.05, 64, 48).mean()) for i in range(24)]
    expected = 255 / 11 * np.array([*range(12), *range(10, -1, -1), 1])
    assert np.abs(np.array(grey) - expected).max() < 8
    picture = clip.frame(0.6, 64, 48).astype(int)
    assert picture.shape == (48, 64, 3)
    assert np.ptp(picture, axis=-1).max() < 30, "its middle fills the frame: the stripe is cut off"
    late = VideoClip(tmp_path / "a.mp4", start=0.5)
    assert np.array_equal(late.frame(0.0, 64, 48), clip.frame(0.6, 64, 48))


def test_the_user_s_videos_take_the_place_of_generated_clips(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.MP4"):
        film(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no video")
    assert [path.name for path in clips.videos(tmp_path)] == ["a.mp4", "b.MP4"]
    simulator = Simulator(seed=SEED, perturbation="video_hard", videos=tmp_path)
    try:
        simulator.advance(0.2)
        table, _ = shown(simulator)
        picture = simulator.render(*SIZE)
        assert np.ptp(picture[table].astype(int), axis=-1).max() < 30, "grey, where the table is of wood"
        assert np.array_equal(picture[table], clips.clip(SEED, tmp_path).frame(0.2, *SIZE)[table])
    finally:
        simulator.close()


def test_another_video_of_that_name_is_read_anew(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4")
    before = VideoClip(path).frame(0.05, 64, 48)
    path.write_bytes(encode([np.full((72, 96, 3), 200, np.uint8)], 10.0))
    after = VideoClip(path)
    assert before.mean() < 10 and abs(after.frame(0.05, 64, 48).mean() - 200) < 8
    assert np.array_equal(after.frame(9.0, 64, 48), after.frame(0.0, 64, 48)), "a single picture stands"


def test_a_folder_without_videos_says_what_it_wants(tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match="expected a folder of videos .*mp4"):
        clips.clip(0, tmp_path / "none")
    with pytest.raises(SimulationError, match="no such file in the folder"):
        clips.clip(0, tmp_path)
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    with pytest.raises(SimulationError, match=r"broken.mp4: expected a video .* convert it to MP4"):
        clips.clip(0, tmp_path)
    with pytest.raises(SimulationError, match="broken.mp4"):
        Simulator(seed=SEED, perturbation="video_easy", videos=tmp_path)
