"""What one annotator has said, in one file that is whole at every moment.

The file is an `AnnotationFile` that training reads, with a revision beside every frame; what training shall not see
(frames that were skipped, or whose clicks were all taken back) stands in a list of its own. Nothing is kept in memory:
every change reads the file, checks, and replaces it under a lock, so that two servers and a text editor may share it.
"""

from __future__ import annotations

import fcntl
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from visarl.config import PreprocessConfig
from visarl.data.annotations import AnnotationFile, Area, Click, FrameKey
from visarl.data.files import read_json, write_text
from visarl.errors import DataError, VisarlError

State = Literal["", "empty", "skipped"]
STATES: tuple[str, ...] = get_args(State)
MOST_MARKS = 500
"""Clicks and areas of one frame; more is no annotation by hand."""
MOST_POINTS = 5000
"""Points of all its areas."""
OTHERS, AVERAGE = "others", "average_of"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


@dataclass(frozen=True)
class Frame:
    """What an annotator says about one frame."""

    clicks: tuple[Click, ...] = ()
    areas: tuple[Area, ...] = ()
    state: State = ""
    """`empty`: looked at, and nothing in it matters; `skipped`: not for training, whatever is marked."""
    revision: int = 0
    """Counts the changes; 0 is a frame that nobody has touched."""
    save: str = ""
    """Who made the last change: a name that the page drew for it."""

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise DataError(f"state: expected one of {STATES}, found {self.state!r}")
        points = sum(len(area.points) for area in self.areas)
        if len(self.clicks) + len(self.areas) > MOST_MARKS or points > MOST_POINTS:
            raise DataError(
                f"expected at most {MOST_MARKS} clicks and areas with {MOST_POINTS} points on a frame, found "
                f"{len(self.clicks) + len(self.areas)} with {points}"
            )

    @property
    def trains(self) -> bool:
        """Whether training sees the frame."""
        return self.state == "empty" or (self.state == "" and bool(self.clicks or self.areas))


class Conflict(VisarlError):
    """The frame was changed elsewhere since the page saw it."""

    def __init__(self, current: Frame) -> None:
        super().__init__(f"this frame was changed elsewhere (revision {current.revision}); look at it again")
        self.current = current


def annotator_path(out: Path, annotator: str) -> Path:
    """The file of an annotator: `out` of the nameless one, `clicks.anna.json` beside `clicks.json` of others.

    Raises:
        DataError: a name that is no plain word; it would become part of a path.
    """
    if not annotator:
        return out
    if not NAME.fullmatch(annotator):
        raise DataError(f"annotator: expected at most 40 letters, digits, - and _, found {annotator[:60]!r}")
    return out.with_name(f"{out.stem}.{annotator}{out.suffix}")


def annotators(out: Path) -> list[str]:
    """Names of the annotators who have a file beside `out`, sorted."""
    if not out.parent.is_dir():
        return []
    first, last = f"{out.stem}.", out.suffix
    files = [path.name for path in out.parent.iterdir() if path.name.startswith(first) and path.name.endswith(last)]
    names = [name[len(first) : len(name) - len(last)] for name in files]
    return sorted(name for name in names if NAME.fullmatch(name))


class Store:
    """One annotator's file."""

    def __init__(self, path: Path, preprocess: PreprocessConfig) -> None:
        """
        Raises:
            DataError: the file is there and damaged, clicked on another crop, or an average, which nobody may edit.
        """
        self.path, self.preprocess = path, preprocess
        self.frames()

    def frames(self) -> dict[FrameKey, Frame]:
        """All frames that were ever touched."""
        if not self.path.exists():
            return {}
        content = read_json(self.path)
        if AVERAGE in content:
            raise DataError(
                f"{self.path}: it is the average of {', '.join(map(str, content[AVERAGE]))}, which the next averaging "
                "replaces; give your own name with --annotator"
            )
        frames = self._frames(content, content.get("frames"))
        return {**frames, **self._frames(content, content.get(OTHERS, []))}

    def _frames(self, content: dict[str, Any], entries: Any) -> dict[FrameKey, Frame]:
        parsed = AnnotationFile.parse({**content, "frames": entries}, str(self.path), self.preprocess)
        found = {}
        for key, entry in zip(parsed.frames, entries, strict=True):
            clicks, areas = parsed.frames[key], parsed.areas.get(key, ())
            state = entry.get("state", "" if clicks or areas else "empty")
            found[key] = Frame(clicks, areas, state, int(entry.get("revision", 1)), str(entry.get("save", "")))
        return found

    def annotations(self) -> AnnotationFile:
        """The frames that training sees."""
        return _annotations(self.preprocess, {key: frame for key, frame in self.frames().items() if frame.trains})

    def put(self, key: FrameKey, frame: Frame, unacknowledged: Iterable[str] = ()) -> Frame:
        """Save what a page says about a frame, and return it with its new revision.

        Args:
            frame: with the revision that the page had seen, and the name of this save.
            unacknowledged: names of saves that the page has sent and heard nothing of: an answer may have got lost.

        Raises:
            Conflict: the last change is neither the one that the page had seen nor one of its own.
            DataError: the file cannot be read or written; it is as it was.
        """
        with self._lock():
            frames = self.frames()
            current = frames.get(key, Frame())
            if frame.save and frame.save == current.save:
                return current
            if frame.revision != current.revision and current.save not in set(unacknowledged) - {""}:
                raise Conflict(current)
            frames[key] = Frame(frame.clicks, frame.areas, frame.state, current.revision + 1, frame.save)
            self._write(frames)
            return frames[key]

    def add(self, annotations: AnnotationFile) -> int:
        """Take over the frames about which this annotator has said nothing yet; how many those are.

        Raises:
            DataError: as `put`.
        """
        with self._lock():
            frames = self.frames()
            new = [key for key in annotations.frames if not (key in frames and _says(frames[key]))]
            for key in new:
                clicks, areas = annotations.frames[key], annotations.areas.get(key, ())
                revision = frames[key].revision + 1 if key in frames else 1
                frames[key] = Frame(clicks, areas, "" if clicks or areas else "empty", revision)
            if new:
                self._write(frames)
            return len(new)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            stream = self.path.with_name(f".{self.path.name}.lock").open("w")
        except OSError as error:
            raise DataError(f"{self.path}: its folder cannot be written ({error.strerror}); choose another") from error
        with stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def _write(self, frames: dict[FrameKey, Frame]) -> None:
        """Atomic: a crash leaves the old file or the new one."""
        content = _annotations(self.preprocess, {}).content()
        for name, trains in (("frames", True), (OTHERS, False)):
            part = {key: frame for key, frame in frames.items() if frame.trains == trains}
            content[name] = _annotations(self.preprocess, part).content()["frames"]
            for entry in content[name]:
                frame = part[FrameKey(entry["bag"], entry["stamp_ns"], entry["topic"])]
                entry |= {"state": frame.state, "revision": frame.revision, "save": frame.save}
        write_text(self.path, json.dumps(content, indent=1))


def _says(frame: Frame) -> bool:
    return bool(frame.state or frame.clicks or frame.areas)


def _annotations(preprocess: PreprocessConfig, frames: dict[FrameKey, Frame]) -> AnnotationFile:
    clicks = {key: frame.clicks for key, frame in frames.items()}
    return AnnotationFile(preprocess, clicks, {key: frame.areas for key, frame in frames.items() if frame.areas})


def parse_marks(
    clicks: list[dict[str, Any]], areas: list[dict[str, Any]]
) -> tuple[tuple[Click, ...], tuple[Area, ...]]:
    """Clicks and areas of JSON values, each within the picture.

    Raises:
        DataError: an unknown key, a value of the wrong type or out of range.
    """
    try:
        found = tuple(Click(**click) for click in clicks), tuple(Area(**area) for area in areas)
    except (TypeError, ValueError) as error:
        raise DataError(f"clicks and areas: {error}") from error
    if any(click.sigma > 1 for click in found[0]):
        raise DataError("click: expected sigma as a share of the picture's side, at most 1")
    for area in found[1]:
        if not all(0 <= x <= 1 for point in area.points for x in point):
            raise DataError(f"area: expected points in [0, 1] of the cropped picture, found {area.points}")
    return found
