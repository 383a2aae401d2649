"""Annotations of several people made into one, and as pictures of their maps, out and in."""

from __future__ import annotations

import dataclasses
import io
import math
import struct
import zipfile
from collections.abc import Collection, Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from visarl.config import PreprocessConfig
from visarl.contract import PLAIN_ROLE, ROLES
from visarl.data.annotations import SIGMA, AnnotationFile, Area, Click, FrameKey, render
from visarl.errors import DataError

SAME = 3 * SIGMA
"""Clicks of two people nearer than this [share of the side] mean the same."""
SIZE = 256
"""Side of the pictures of maps, and of the maps in which areas are averaged [pixels]."""
FINE = 4
"""Outlines are drawn on a grid so much finer, or they would run half a pixel inside."""
LEVELS = 8
"""Heights as which a soft map is taken in."""
UNPACKED = 64 * 2**20
"""An archive that becomes larger than this is refused [bytes]."""
PNG = b"\x89PNG\r\n\x1a\n"


def average(files: Sequence[AnnotationFile]) -> AnnotationFile:
    """One annotation of several people's, each of whom counts alike on the frames that he has annotated.

    Clicks of one role that lie close become one, in their middle, as high as the share of people who made it. Areas
    become outlines as high as the share of people who painted there.

    Raises:
        DataError: none given, or on different crops.
    """
    if not files:
        raise DataError("no annotations to average; expected at least one annotator's")
    for file in files[1:]:
        if file.preprocess.crop != files[0].preprocess.crop:
            raise DataError(f"annotators used different crops, {files[0].preprocess.crop} and {file.preprocess.crop}")
    result = AnnotationFile(files[0].preprocess)
    for key in sorted({key for file in files for key in file.frames}):
        those = [file for file in files if key in file.frames]
        result.frames[key] = _average_clicks([file.frames[key] for file in those])
        areas = _average_areas([file.areas.get(key, ()) for file in those])
        if areas:
            result.areas[key] = areas
    return result


def _average_clicks(people: Sequence[Sequence[Click]]) -> tuple[Click, ...]:
    groups: list[dict[int, Click]] = []  # by person: nobody's two clicks become one
    for person, clicks in enumerate(people):
        for click in clicks:
            near = [(_distance(click, group), group) for group in groups if person not in group]
            near = [(distance, group) for distance, group in near if distance < SAME]
            if near:
                min(near, key=lambda item: item[0])[1][person] = click
            else:
                groups.append({person: click})
    found = []
    for group in groups:
        each = list(group.values())
        u, v, sigma = (float(np.mean([getattr(click, name) for click in each])) for name in ("u", "v", "sigma"))
        found.append(Click(u, v, each[0].role, sigma, sum(click.weight for click in each) / len(people)))
    return tuple(found)


def _distance(click: Click, group: dict[int, Click]) -> float:
    """From a click to the middle of a group, infinite where the group has another role."""
    each = list(group.values())
    if each[0].role != click.role:
        return math.inf
    return math.dist((click.u, click.v), (np.mean([c.u for c in each]), np.mean([c.v for c in each])))


def _average_areas(people: Sequence[Sequence[Area]]) -> tuple[Area, ...]:
    if len(people) == 1:
        return tuple(people[0])
    found: list[Area] = []
    for role in (*ROLES, PLAIN_ROLE):
        if any(area.role == role for areas in people for area in areas):
            each = [render((), (role,), SIZE, None, [area for area in areas if area.role == role]) for areas in people]
            mean = np.mean(each, axis=0)[0]
            heights = np.unique(np.round(mean * 20)) / 20  # antialiased borders are no heights of their own
            area_of = {height: float(np.mean(np.abs(mean - height) < 0.025)) for height in heights if height > 0}
            found.extend(outlines(mean, role, [height for height, share in area_of.items() if share > 1e-4]))
    return tuple(found)


def outlines(values: NDArray[np.floating], role: str, heights: Sequence[float] | None = None) -> list[Area]:
    """A map (S, S) in [0, 1] as outlines at some heights, by default `LEVELS` even ones."""
    import cv2

    found = []
    heights = [(index + 1) / LEVELS for index in range(LEVELS)] if heights is None else sorted(heights)
    side, below = FINE * len(values), 0.0
    smooth = cv2.resize(np.asarray(values, np.float32), (side, side), interpolation=cv2.INTER_LINEAR)
    for height in heights:
        mask = (smooth > (height + below) / 2).astype(np.uint8)
        below = height
        contours, tree = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        few = [np.asarray(cv2.approxPolyDP(contour, 1.0, True)[:, 0], np.int32) for contour in contours]
        for number, outline in enumerate(few):
            if tree[0, number, 3] >= 0:  # a hole in another one
                continue
            for hole, (*_, parent) in zip(few, tree[0], strict=True):
                if parent == number and len(hole) > 2:
                    outline = _cut_out(outline, hole)
            points = tuple(((x + 0.5) / side, (y + 0.5) / side) for x, y in outline.tolist())
            found.append(Area(points, role, 0.0 if len(points) > 2 else 1 / side, float(height)))
    return found


def _cut_out(outline: NDArray[np.int32], hole: NDArray[np.int32]) -> NDArray[np.int32]:
    """An outline (N, 2) that runs to the hole (M, 2), around it and back the same way: one line, nothing inside it.

    OpenCV gives holes the other sense of rotation, so that it is a hole by every rule of filling.
    """
    apart = np.linalg.norm(outline[:, None] - hole[None], axis=2)
    here, there = np.unravel_index(int(apart.argmin()), apart.shape)
    around = np.roll(hole, -there, axis=0)
    return np.concatenate([outline[: here + 1], around, around[:1], outline[here:]])


def maps_archive(annotations: AnnotationFile) -> bytes:
    """A ZIP of grey PNGs, `bag/stamp.role.png`, 255 for 1: a map for every role that is used anywhere."""
    import cv2

    used = {click.role for clicks in annotations.frames.values() for click in clicks}
    used |= {area.role for areas in annotations.areas.values() for area in areas}
    roles = [role for role in (*ROLES, PLAIN_ROLE) if role in used] or [PLAIN_ROLE]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for key in sorted(annotations.frames):
            maps = render(annotations.frames[key], roles, SIZE, None, annotations.areas.get(key, ()))
            for role, values in zip(roles, maps, strict=True):
                _, data = cv2.imencode(".png", np.round(values * 255).astype(np.uint8))
                archive.writestr(f"{key.bag}/{key.stamp_ns}.{role}.png", data.tobytes())
    return stream.getvalue()


def read_maps(data: bytes, known: Collection[str], topic: str, preprocess: PreprocessConfig) -> AnnotationFile:
    """The inverse of `maps_archive`, for maps of any program: each becomes areas of `LEVELS` heights.

    Args:
        known: names of the bags; PNGs of others are left out.
        topic: of the frames.

    Raises:
        DataError: no ZIP, a too large one, or one with a file that is no such map.
    """
    result = AnnotationFile(preprocess)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            if (size := sum(member.file_size for member in members)) > UNPACKED:
                raise DataError(f"the archive unpacks to {size} bytes, at most {UNPACKED} are read; send it in parts")
            for member in members:
                path = PurePosixPath(member.filename)
                stamp, role, *_ = [*path.name.split("."), "", ""]
                if path.suffix != ".png" or not stamp.isdecimal() or role not in (*ROLES, PLAIN_ROLE):
                    raise DataError(f"{member.filename[:80]!r}: expected maps named bag/stamp.role.png")
                if path.parent.name not in known:
                    continue
                key = FrameKey(path.parent.name, int(stamp), topic)
                values = _grey(archive.read(member), member.filename[:80])
                areas = (*result.areas.get(key, ()), *outlines(values, role))
                result.frames[key] = ()
                if areas:
                    result.areas[key] = areas
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise DataError(f"expected a ZIP archive of PNG maps, {error}") from error
    return result


def _grey(data: bytes, name: str) -> NDArray[np.float32]:
    """A square PNG as a map (S, S) in [0, 1]."""
    import cv2

    # The size stands in the first bytes: a bomb is refused before it unfolds.
    side = struct.unpack(">II", data[16:24]) if data.startswith(PNG) and len(data) >= 24 else (0, 1)
    if side[0] != side[1] or not 0 < side[0] <= 4096:
        raise DataError(f"{name}: expected a square PNG of at most 4096 pixels, found {side[0]}x{side[1]}")
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise DataError(f"{name}: damaged PNG")
    small = cv2.resize(picture, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) / np.float32(255)


def only(annotations: AnnotationFile, keys: Collection[FrameKey]) -> AnnotationFile:
    """Those of the frames that are among `keys`."""
    return dataclasses.replace(
        annotations,
        frames={key: clicks for key, clicks in annotations.frames.items() if key in keys},
        areas={key: areas for key, areas in annotations.areas.items() if key in keys},
    )
