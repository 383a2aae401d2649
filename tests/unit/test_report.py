"""The report: one file with playable videos, traces, and the numbers of the run."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from visarl import trace, video
from visarl.config import PreprocessConfig
from visarl.contract import get_contract
from visarl.errors import DataError
from visarl.overlay import COLOURS, overlay
from visarl.report import SIDE, EpisodeRecord, Look, all_latencies_ms, mean_rate_hz, traces, write_report
from visarl.timing import percentiles, summary


def episode(seed: int = 1000, seconds: float = 2.0, roles: int = 2) -> EpisodeRecord:
    rng = np.random.default_rng(seed)
    looks = []
    for step in range(round(seconds * 10)):
        frame = np.full((480, 640, 3), 40 + 5 * step, np.uint8)
        maps = np.zeros((roles, 32, 32), np.uint8)
        maps[:, 8:12, 8:12] = 255
        looks.append(Look(step / 10, cv2.imencode(".jpg", frame)[1].tobytes(), maps))
    times = np.arange(0, seconds, 0.02)
    return EpisodeRecord(
        seed=seed,
        success=seed % 2 == 0,
        seconds=seconds,
        times_s=times,
        commands=rng.normal(size=(len(times), 7)) * 0.05,
        latency_ms=np.array([40.0, 50.0, 60.0]),
        rate_hz=10.0,
        frames=60,
        dropped=2,
        looks=looks,
    )


def write(path: Path, *episodes: EpisodeRecord, roles: tuple[str, ...] = ("effector", "object")) -> str:
    write_report(path, "a <title>", "subtitle", episodes, get_contract("jaco2"), PreprocessConfig(), roles)
    return path.read_text(encoding="utf-8")


def test_the_report_needs_nothing_but_itself(tmp_path: Path) -> None:
    text = write(tmp_path / "deep" / "index.html", episode(1000), episode(1001))
    assert not re.search(r"(src|href)=\"(?!data:|#)", text)
    assert "a &lt;title&gt;" in text and "<title>a &lt;" in text
    assert "1 of 2" in text and text.count("<section") == 2
    assert text.count('class="trace"') == 2 * len(get_contract("jaco2").action)


def test_the_traces_follow_the_contract() -> None:
    spec = get_contract("jaco2").action
    turned = dataclasses.replace(get_contract("jaco2"), action=dataclasses.replace(spec, fields=spec.fields[::-1]))
    drawn = traces(episode(), turned)
    order = [drawn.index(f">{field.name.removeprefix('delta_')}<") for field in turned.action.fields]
    assert order == sorted(order)
    assert drawn.count("m/s<") == 3 and drawn.count("rad/s<") == 3


def test_the_videos_play_as_long_as_the_episode(tmp_path: Path) -> None:
    text = write(tmp_path / "index.html", episode(seconds=2.0))
    data = base64.b64decode(re.search(r"data:video/mp4;base64,([^\"]+)", text)[1])  # type: ignore[index]
    with av.open(io.BytesIO(data)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 20
    assert frames[0].shape == (SIDE, 2 * SIDE, 3)
    camera, saliency = frames[5][:, :SIDE].astype(int), frames[5][:, SIDE:].astype(int)
    spot = slice(SIDE * 9 // 32, SIDE * 11 // 32)
    # The overlay dims the picture and colours where the maps are high; the camera's half is as it was.
    assert np.ptp(camera) < 20
    assert saliency[-20:, -20:].mean() < camera.mean() * 0.7
    assert np.ptp(saliency[spot, spot].mean(axis=(0, 1))) > 30


def test_a_run_without_saliency_and_a_run_without_pictures(tmp_path: Path) -> None:
    assert "<video" in write(tmp_path / "a.html", episode(roles=0), roles=())
    silent = EpisodeRecord(1, False, 1.0, np.zeros(0), np.zeros((0, 7)), np.zeros(0), 0.0, 0, 0)
    text = write(tmp_path / "b.html", silent)
    assert "<video" not in text and "nan" not in text.lower()


def test_overlay_colours_each_role() -> None:
    picture = np.full((64, 64, 3), 200, np.uint8)
    maps = np.zeros((2, 16, 16), np.float32)
    maps[0, 2:4, 2:4] = maps[1, 12:14, 12:14] = 1.0
    drawn = overlay(picture, maps).astype(int)
    assert np.abs(drawn[12, 12] - COLOURS[0]).sum() < np.abs(drawn[12, 12] - COLOURS[1]).sum()
    assert np.abs(drawn[52, 52] - COLOURS[1]).sum() < np.abs(drawn[52, 52] - COLOURS[0]).sum()
    assert (overlay(picture, np.zeros((0, 1, 1), np.float32)) == picture).all()


def test_a_video_needs_pictures_of_one_even_size() -> None:
    with pytest.raises(DataError, match="no picture"):
        video.encode([], 10)
    with pytest.raises(DataError, match="even sides, found 3x2"):
        video.encode([np.zeros((2, 3, 3), np.uint8)], 10)
    with pytest.raises(DataError, match="like the first"):
        video.encode([np.zeros((16, 16, 3), np.uint8), np.zeros((32, 32, 3), np.uint8)], 10)


def test_figures_over_all_episodes() -> None:
    episodes = [episode(seconds=1.0), episode(seconds=3.0)]
    assert len(all_latencies_ms(episodes)) == 6 and all_latencies_ms([]).size == 0
    assert mean_rate_hz(episodes) == pytest.approx(10.0) and mean_rate_hz([]) == 0.0
    assert percentiles([1.0, 2.0, 3.0])[0] == 2.0
    assert summary([]) == {"p50": None, "p95": None, "p99": None}
    assert summary([1.0, 2.0]) == {"p50": 1.5, "p95": 1.95, "p99": 1.99}


def executed(ms: float, observed_ms: float, source: str = "policy") -> trace.Executed:
    return trace.Executed(int(ms * 1e6), int(observed_ms * 1e6), source, (0.0,) * 7)


def test_latency_counts_the_first_command_of_each_frame() -> None:
    # 50 Hz repetitions of one answer are no answers, nor is what the policy did not send or what saw no frame.
    stream = [
        executed(1040, 1000),
        executed(1060, 1000),
        executed(1150, 1100),
        executed(1170, 1100),
        executed(1180, 1160, "teleop"),
        executed(1190, 0),
        executed(1260, 1200),
    ]
    found = trace.answers(reversed(stream))
    assert trace.latency_ms(found).tolist() == [40.0, 50.0, 60.0]
    assert trace.rate_hz(found) == pytest.approx(2 / 0.22)
    assert trace.rate_hz(found[:1]) == 0.0


def test_missing_frames_are_counted_by_their_stamps() -> None:
    period = int(1e9 / 30)
    steady = [10**9 + i * period + (i % 3) * 2_000_000 for i in range(60)]
    began, ended = 10**9 - period // 2, steady[-1] + period * 3 // 2
    assert trace.missing(steady, began, ended) == 0
    assert trace.missing(steady[:10] + steady[13:], began, ended) == 3
    # A stream that begins late, breaks off, or never was, lost frames too.
    assert trace.missing(steady[5:], began, ended) == 4
    assert trace.missing(steady[:-5], began, ended) == 5
    assert trace.missing([], began, ended) >= 59


def test_what_answers_the_scene_before_is_left_out() -> None:
    stream = [executed(990, 900), executed(1005, 990), executed(1010, 0, "none"), executed(1050, 1001)]
    assert [e.observed_ns for e in trace.since(stream, 1_000_000_000)] == [0, 1_001_000_000]
