"""A run as one HTML file that needs nothing else: a table, a video of each episode, and what the arm was told."""

from __future__ import annotations

import base64
import html
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from visarl import video
from visarl.config import PreprocessConfig
from visarl.contract import CONTROL_RATE_HZ, ArmContract
from visarl.errors import DataError
from visarl.overlay import COLOURS, overlay
from visarl.preprocess import crop
from visarl.timing import percentiles

SIDE = 320
"""Of each of the video's two pictures [pixels]."""

MOTION = "delta_"
"""What the contract calls the motion of one period; the arm is sent it as a speed."""

WIDTH, ROW, LEFT, RIGHT, BOTTOM = 820, 44, 118, 810, 22
"""Of the drawing of the traces [SVG units]."""


@dataclass(frozen=True)
class Look:
    """What the policy saw at one control step."""

    time_s: float
    """Since the episode began."""
    jpeg: bytes
    """The whole camera frame."""
    maps: NDArray[np.uint8]
    """(roles, h, w), 255 is certain; no role where the bundle uses no saliency."""


@dataclass(frozen=True)
class EpisodeRecord:
    """What a run keeps of one episode."""

    seed: int
    success: bool
    seconds: float
    times_s: NDArray[np.float64]
    """(n,) of the commands below, since the episode began."""
    commands: NDArray[np.float64]
    """(n, fields of the contract's action) executed: twist [m/s, rad/s] and gripper speed."""
    latency_ms: NDArray[np.float64]
    """(n,) from the camera frame's stamp to the executed command's."""
    rate_hz: float
    """Commands a second that answer a new camera frame."""
    frames: int
    """Pictures of `camera/image_raw` that arrived at a listener beside the perception."""
    dropped: int
    """Pictures that did not arrive, of 30 a second, by the stamps of those that did."""
    looks: list[Look] = field(default_factory=list)


def write_report(
    path: Path,
    title: str,
    subtitle: str,
    episodes: Sequence[EpisodeRecord],
    contract: ArmContract,
    preprocess: PreprocessConfig,
    roles: Sequence[str],
    footer: str = "",
) -> Path:
    """Write the report to `path` and return it."""
    template = string.Template(resources.files("visarl").joinpath("report.html").read_text(encoding="utf-8"))
    sections = "\n".join(
        _episode(index, episode, contract, preprocess, roles) for index, episode in enumerate(episodes)
    )
    text = template.substitute(
        title=html.escape(title),
        subtitle=html.escape(subtitle),
        table=_table(episodes),
        episodes=sections,
        footer=html.escape(footer),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _table(episodes: Sequence[EpisodeRecord]) -> str:
    heads = ("episode", "seed", "success", "seconds", "rate [Hz]", "p50 [ms]", "p95", "p99", "frames", "dropped")
    rows = ["<tr>" + "".join(f"<th>{head}</th>" for head in heads) + "</tr>"]
    for index, episode in enumerate(episodes):
        link = f'<a href="#episode-{index + 1}">{index + 1}</a>'
        rows.append(_row(link, str(episode.seed), _verdict(episode.success), episode))
    latency = all_latencies_ms(episodes)
    whole = EpisodeRecord(
        seed=0,
        success=False,
        seconds=sum(e.seconds for e in episodes),
        times_s=np.zeros(0),
        commands=np.zeros((0, 0)),
        latency_ms=latency,
        rate_hz=mean_rate_hz(episodes),
        frames=sum(e.frames for e in episodes),
        dropped=sum(e.dropped for e in episodes),
    )
    foot = _row("all", "", f"{sum(e.success for e in episodes)} of {len(episodes)}", whole)
    return f"<table>{''.join(rows)}<tfoot>{foot}</tfoot></table>"


def all_latencies_ms(episodes: Sequence[EpisodeRecord]) -> NDArray[np.float64]:
    """Of every command of every episode."""
    return np.concatenate([np.zeros(0), *(e.latency_ms for e in episodes)])


def mean_rate_hz(episodes: Sequence[EpisodeRecord]) -> float:
    """Commands a second over all episodes, each weighted by its length."""
    seconds = sum(e.seconds for e in episodes)
    return sum(e.rate_hz * e.seconds for e in episodes) / seconds if seconds else 0.0


def _row(name: str, seed: str, verdict: str, episode: EpisodeRecord) -> str:
    latency = episode.latency_ms
    figures = [f"{value:.0f}" for value in percentiles(latency)] if latency.size else ["–"] * 3
    cells = (name, seed, verdict, f"{episode.seconds:.1f}", f"{episode.rate_hz:.1f}", *figures)
    return (
        "<tr>" + "".join(f"<td>{cell}</td>" for cell in (*cells, str(episode.frames), str(episode.dropped))) + "</tr>"
    )


def _verdict(success: bool) -> str:
    return '<span class="good">yes</span>' if success else '<span class="bad">no</span>'


def _episode(
    index: int, episode: EpisodeRecord, contract: ArmContract, preprocess: PreprocessConfig, roles: Sequence[str]
) -> str:
    parts = [
        f'<section id="episode-{index + 1}" data-seconds="{episode.seconds:.3f}">',
        f"<h2>Episode {index + 1} <span class=quiet>seed {episode.seed}</span> {_verdict(episode.success)}</h2>",
    ]
    if episode.looks:
        encoded = base64.b64encode(video.encode(_pictures(episode, preprocess), CONTROL_RATE_HZ)).decode("ascii")
        legend = "".join(
            f'<span class="role"><i style="background: rgb{COLOURS[i % len(COLOURS)]}"></i>{html.escape(role)}</span>'
            for i, role in enumerate(roles)
        )
        parts.append(f'<video controls muted playsinline src="data:video/mp4;base64,{encoded}"></video>')
        parts.append(f'<div class="captions"><span>camera</span><span>saliency {legend}</span></div>')
    parts.append(traces(episode, contract))
    parts.append("</section>")
    return "\n".join(parts)


def _pictures(episode: EpisodeRecord, preprocess: PreprocessConfig) -> Iterator[NDArray[np.uint8]]:
    """One (SIDE, 2 SIDE, 3) picture a control period, so that the video's clock is the episode's."""
    looks = sorted(episode.looks, key=lambda look: look.time_s)
    newest = 0
    for tick in range(max(1, round(episode.seconds * CONTROL_RATE_HZ))):
        while newest + 1 < len(looks) and looks[newest + 1].time_s <= (tick + 1) / CONTROL_RATE_HZ:
            newest += 1
        frame = cv2.imdecode(np.frombuffer(looks[newest].jpeg, np.uint8), cv2.IMREAD_COLOR)
        if frame is None:
            raise DataError(f"report: the camera frame at {looks[newest].time_s:.2f} s is no JPEG picture")
        cut = crop(np.asarray(frame[..., ::-1], dtype=np.uint8), preprocess)
        picture = np.asarray(cv2.resize(cut, (SIDE, SIDE), interpolation=cv2.INTER_AREA), dtype=np.uint8)
        maps = looks[newest].maps.astype(np.float32) / 255
        yield np.hstack([picture, overlay(picture, maps)]).astype(np.uint8)


def traces(episode: EpisodeRecord, contract: ArmContract) -> str:
    """The executed commands over time as SVG, one row a number; metres and radians each scaled to their peak."""
    fields = contract.action.fields
    names = [part.name.removeprefix(MOTION) for part in fields]
    limits, bounds = [], []
    for part in fields:
        if not part.name.startswith(MOTION):
            limits.append(part.high)
            bounds.append(part.unit)
            continue
        alike = [row for row, other in enumerate(fields) if other.unit == part.unit]
        # A hundredth of what the contract allows at least, so that a resting arm's rounding does not look like motion.
        floor = part.high * CONTROL_RATE_HZ / 100
        limits.append(float(np.abs(episode.commands[:, alike]).max(initial=floor)))
        bounds.append(f"±{limits[-1]:.2g} {part.unit}/s")
    height = ROW * len(names) + BOTTOM
    seconds = max(episode.seconds, 1e-3)
    out = [f'<svg viewBox="0 0 {WIDTH} {height}" data-left="{LEFT}" data-right="{RIGHT}" role="img">']
    out.append("<title>Executed commands over time</title>")
    for row, (name, bound, limit) in enumerate(zip(names, bounds, limits, strict=True)):
        middle = ROW * row + ROW / 2
        out.append(f'<line class="rule" x1="{LEFT}" x2="{RIGHT}" y1="{middle}" y2="{middle}"/>')
        out.append(f'<text x="0" y="{middle - 2}">{name}</text>')
        out.append(f'<text x="0" y="{middle + 11}">{bound}</text>')
        points = " ".join(
            f"{LEFT + (RIGHT - LEFT) * time / seconds:.1f},{middle - (ROW / 2 - 4) * value / limit:.1f}"
            for time, value in zip(episode.times_s, episode.commands[:, row], strict=True)
        )
        out.append(f'<polyline class="trace" points="{points}"/>')
    for second in range(0, int(seconds) + 1, 5 if seconds > 12 else 1):
        x = LEFT + (RIGHT - LEFT) * second / seconds
        out.append(f'<text x="{x:.1f}" y="{height - 6}" text-anchor="middle">{second} s</text>')
    out.append(f'<line class="now" x1="{LEFT}" x2="{LEFT}" y1="0" y2="{height - BOTTOM}"/></svg>')
    return "".join(out)
