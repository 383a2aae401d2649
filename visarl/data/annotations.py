"""Clicks and painted areas on frames, kept as data; the maps that training sees are rendered from them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visarl.config import PreprocessConfig, from_dict, to_dict
from visarl.contract import PLAIN_ROLE, ROLES
from visarl.data.bags import IMAGE, TRUTH, Bag, decode_image
from visarl.data.files import read_json, write_text
from visarl.errors import DataError, suggest

FORMAT = "visarl-annotations-1"
SIGMA = 10.0 / 256.0
"""Standard deviation of a click's Gaussian as a share of the picture's side (the paper's 10 px at 256)."""

THUMBNAIL = 16
"""Side of the pictures [pixels] by whose difference frames are chosen."""
CANDIDATE_STEP_NS = 200_000_000
"""Frames closer than this in time look the same to an annotator, so only one of them is considered."""


@dataclass(frozen=True)
class Click:
    """One click on the cropped picture."""

    u: float
    """Share of the cropped picture's width, from the left."""
    v: float
    """Share of its height, from the top."""
    role: str = PLAIN_ROLE
    sigma: float = SIGMA
    """Standard deviation of its Gaussian, as a share of the picture's side."""
    weight: float = 1.0
    """Height of its Gaussian, at most 1."""

    def __post_init__(self) -> None:
        _check_role(self.role, "click")
        if not (0 <= self.u <= 1 and 0 <= self.v <= 1):
            raise DataError(f"click: expected u and v in [0, 1] of the cropped picture, found ({self.u}, {self.v})")
        if not self.sigma > 0 or not 0 < self.weight <= 1:
            raise DataError(f"click: expected sigma > 0 and weight in (0, 1], found {self.sigma} and {self.weight}")


@dataclass(frozen=True)
class Area:
    """A painted part of the cropped picture: a filled outline such as a box, or a brush's stroke."""

    points: tuple[tuple[float, float], ...]
    """u, v of the outline's corners, or along the stroke: shares of the cropped picture. One that training has moved
    may leave the picture."""
    role: str = PLAIN_ROLE
    width: float = 0.0
    """Thickness of the stroke, as a share of the picture's side; 0 for a filled outline."""
    weight: float = 1.0
    """Its height in the map, at most 1."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", tuple((float(u), float(v)) for u, v in self.points))
        _check_role(self.role, "area")
        least = 1 if self.width > 0 else 3
        if len(self.points) < least:
            raise DataError(f"area: expected at least {least} points, found {len(self.points)}")
        if not all(math.isfinite(x) and abs(x) < 10 for point in self.points for x in point):
            raise DataError(f"area: expected points as shares of the cropped picture, found {self.points}")
        if not 0 <= self.width <= 1 or not 0 < self.weight <= 1:
            raise DataError(
                f"area: expected width in [0, 1] and weight in (0, 1], found {self.width} and {self.weight}"
            )

    def handles(self) -> tuple[tuple[float, float], ...]:
        """Points that tell all of the area's geometry, for `moved`: one more than its own, a stroke's width away."""
        (u, v), *_ = self.points
        return (*self.points, (u + self.width, v))

    def moved(self, handles: Sequence[Sequence[float]]) -> Area:
        """The area whose `handles()` have gone to `handles`."""
        width = math.dist(handles[0], handles[-1]) if self.width > 0 else 0.0
        return replace(self, points=tuple((u, v) for u, v in handles[:-1]), width=min(width, 1.0))


def _check_role(role: str, what: str) -> None:
    if role not in (*ROLES, PLAIN_ROLE):
        raise DataError(f"{what}: no role {role!r}; {suggest(str(role), (*ROLES, PLAIN_ROLE))}")


@dataclass(frozen=True, order=True)
class FrameKey:
    """Which frame: never its position in a list, which changes when a bag is added."""

    bag: str
    """Name of the bag's folder."""
    stamp_ns: int
    """The frame's stamp."""
    topic: str = IMAGE


@dataclass
class AnnotationFile:
    """Annotated frames, and the preprocessing whose crop the clicks refer to.

    A frame without clicks and areas says that nothing in it matters; a frame that is missing says nothing.
    """

    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    frames: dict[FrameKey, tuple[Click, ...]] = field(default_factory=dict)
    areas: dict[FrameKey, tuple[Area, ...]] = field(default_factory=dict)
    """Of the frames that have any; each is among `frames`, too."""

    def save(self, path: Path) -> None:
        """Replace the file in one step."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_text(Path(path), json.dumps(self.content(), indent=1))

    def content(self) -> dict[str, Any]:
        """The file as plain JSON values, frames in the order of their keys."""
        frames = []
        for key in sorted(self.frames):
            frames.append({**asdict(key), "clicks": [asdict(click) for click in self.frames[key]]})
            if self.areas.get(key):  # a file without areas is what it was before there were any
                frames[-1]["areas"] = [asdict(area) for area in self.areas[key]]
        return {"format": FORMAT, "preprocess": to_dict(self.preprocess), "frames": frames}

    @classmethod
    def load(cls, path: Path, preprocess: PreprocessConfig | None = None) -> AnnotationFile:
        """
        Raises:
            DataError: missing, damaged, of another format, or, where `preprocess` is given, clicked on another crop.
        """
        if not Path(path).exists():
            raise DataError(
                f"{path}: no such file; `visarl annotate --bags DIR --out {path}` makes it, or `visarl click`"
            )
        return cls.parse(read_json(Path(path)), str(path), preprocess)

    @classmethod
    def parse(cls, content: dict[str, Any], where: str, preprocess: PreprocessConfig | None = None) -> AnnotationFile:
        """The inverse of `content`; `where` names it in the errors, which are those of `load`."""
        if content.get("format") != FORMAT:
            raise DataError(
                f"{where}: expected annotations of format {FORMAT!r}, found {content.get('format')!r}; give a file "
                "that `visarl annotate` or `visarl click` has written"
            )
        try:
            found = cls(from_dict(PreprocessConfig, content["preprocess"]))
            for entry in content["frames"]:
                key = FrameKey(str(entry["bag"]), int(entry["stamp_ns"]), str(entry["topic"]))
                if key in found.frames:
                    raise DataError(f"two annotations of {key}")
                found.frames[key] = tuple(Click(**click) for click in entry["clicks"])
                areas = tuple(Area(**area) for area in entry.get("areas", ()))
                if areas:
                    found.areas[key] = areas
        except DataError as error:
            raise DataError(f"{where}: {error}; replace the file by a good copy, or correct it") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"{where}: damaged annotations, {type(error).__name__}: {error}; replace the file by a good copy, or "
                "remove it and annotate anew"
            ) from error
        if preprocess is not None and preprocess.crop != found.preprocess.crop:
            raise DataError(
                f"{where}: its clicks are on the crop {found.preprocess.crop}, expected {preprocess.crop}; annotate "
                "again, or train with that crop"
            )
        return found

    def pictures(self, bags: Iterable[Path]) -> list[tuple[FrameKey, NDArray[np.uint8]]]:
        """The annotated frames, cropped, (S, S, 3) uint8 each, in the order of their keys.

        Raises:
            DataError: a bag or a frame that was annotated is not there.
        """
        from visarl.preprocess import crop

        by_name = {Path(bag).name: Path(bag) for bag in bags}
        found: dict[FrameKey, NDArray[np.uint8]] = {}
        for name in sorted({key.bag for key in self.frames}):
            if name not in by_name:
                raise DataError(
                    f"annotated bag {name!r} is not there; put it back, or take its frames out of the clicks; "
                    f"{suggest(name, by_name)}"
                )
            with Bag(by_name[name]) as bag:
                wanted = {(key.topic, key.stamp_ns) for key in self.frames if key.bag == name}
                for topic, stamp, _, data in bag.raw({topic for topic, _ in wanted}):
                    if (topic, stamp) in wanted:
                        image = decode_image(bag.decode(topic, data), f"{by_name[name]}: {topic} at {stamp}")
                        found[FrameKey(name, stamp, topic)] = crop(image, self.preprocess)
        missing = sorted(set(self.frames) - set(found))
        if missing:
            raise DataError(
                f"annotated frame is not in its bag: {missing[0]}; was the bag recorded again? Then annotate it anew"
            )
        return [(key, found[key]) for key in sorted(found)]


def render(
    clicks: Sequence[Click],
    roles: Sequence[str],
    size: int,
    sigma: float | None = None,
    areas: Sequence[Area] = (),
) -> NDArray[np.float32]:
    """Maps (R, size, size) in [0, 1], one a role: the maximum of the clicks' Gaussians and of the areas, zeros where
    there are none.

    With the single role `plain` (the paper's case) every click counts, whatever its role.

    Args:
        sigma: standard deviation of an ordinary click, as a share of the side, in the place of `SIGMA`; a click that
            somebody made wider or narrower stays so in proportion.

    Raises:
        DataError: the role of a click or an area has no map among `roles`.
    """
    maps = np.zeros((len(roles), size, size), dtype=np.float32)
    centres = (np.arange(size) + 0.5) / size
    scale = 1.0 if sigma is None else sigma / SIGMA
    for click in clicks:
        found = _map_of(click.role, roles, maps)
        width = 2 * (scale * click.sigma) ** 2
        rows, columns = np.exp(-((centres - click.v) ** 2) / width), np.exp(-((centres - click.u) ** 2) / width)
        np.maximum(found, (click.weight * np.outer(rows, columns)).astype(np.float32), out=found)
    for area in areas:
        found = _map_of(area.role, roles, maps)
        np.maximum(found, np.float32(area.weight) * _mask(area, size), out=found)
    return maps


def _map_of(role: str, roles: Sequence[str], maps: NDArray[np.float32]) -> NDArray[np.float32]:
    role = PLAIN_ROLE if tuple(roles) == (PLAIN_ROLE,) else role
    if role not in roles:
        raise DataError(f"a click has the role {role!r}, but the maps are {tuple(roles)}; adapt saliency.roles")
    return maps[list(roles).index(role)]


_FINE = 4  # OpenCV fills the border pixels, too: on a finer grid they are too narrow to matter


def _mask(area: Area, size: int) -> NDArray[np.float32]:
    """(size, size) in [0, 1]: the share of each pixel that the area covers."""
    import cv2

    side = _FINE * size
    mask = np.zeros((side, side), np.uint8)
    points = np.round(np.array(area.points) * side - 0.5).astype(np.int32)
    if area.width <= 0:
        cv2.fillPoly(mask, [points], (255,))
    elif np.all(points == points[0]):
        cv2.circle(mask, (int(points[0, 0]), int(points[0, 1])), round(area.width * side / 2), (255,), -1)
    else:
        cv2.polylines(mask, [points], False, (255,), max(1, round(area.width * side)))
    return cv2.resize(mask, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255)


def simulated_clicks(
    bags: Sequence[Path],
    n_frames: int,
    seed: int,
    preprocess: PreprocessConfig,
    roles: Sequence[str] = ("effector", "object"),
) -> AnnotationFile:
    """What a careful person would click on `n_frames` frames: effector and object, where the simulator projects them.

    Frames are chosen as a tool can choose them for a person, by what they show: every episode gets its share, half of
    them begin theirs, and within that each next frame differs most, as a thumbnail, from all taken before. `seed` draws
    the first. A role outside the cropped picture gets no click.

    Raises:
        DataError: a bag has no truth, or there are fewer frames than asked for.
    """
    from visarl.preprocess import crop

    wanted = ROLES if tuple(roles) == (PLAIN_ROLE,) else tuple(roles)
    keys: list[FrameKey] = []
    clicks: list[tuple[Click, ...]] = []
    features, episodes = [], []
    for number, path in enumerate(bags):
        last = -CANDIDATE_STEP_NS
        with Bag(path) as bag:
            bag.require(IMAGE, TRUTH)
            truths = {stamp: message for _, stamp, message in bag.messages([TRUTH])}
            for _, stamp, _, data in bag.raw([IMAGE]):
                if stamp not in truths or stamp - last < CANDIDATE_STEP_NS:
                    continue  # without its truth, a click on a frame would be a guess
                last = stamp
                picture = crop(decode_image(bag.decode(IMAGE, data), f"{path} at {stamp}"), preprocess)
                keys.append(FrameKey(Path(path).name, stamp))
                clicks.append(truth_clicks(truths[stamp], wanted, preprocess))
                features.append(looks(picture))
                episodes.append(number)
    if len(keys) < n_frames:
        raise DataError(f"expected at least {n_frames} frames with truth in {len(bags)} bags, found {len(keys)}")
    chosen = spread(np.stack(features), np.array(episodes), n_frames, seed)
    return AnnotationFile(preprocess, {keys[i]: clicks[i] for i in chosen})


def truth_clicks(truth: object, roles: Sequence[str], preprocess: PreprocessConfig) -> tuple[Click, ...]:
    """What a careful person would click on the frame of a `SceneTruth`; nothing for what its crop does not show."""
    left, top, width, height = preprocess.crop
    found = []
    for name, u, v, visible in zip(truth.names, truth.u, truth.v, truth.visible, strict=True):  # type: ignore[attr-defined]
        u, v = (float(u) - left) / width, (float(v) - top) / height
        if name in roles and visible and 0 <= u <= 1 and 0 <= v <= 1:
            found.append(Click(u, v, name))
    return tuple(found)


def looks(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A cropped picture (S, S, 3) uint8 as the vector by whose distance `spread` tells frames apart: a thumbnail."""
    import cv2

    from visarl.preprocess import shrink

    return cv2.cvtColor(shrink(picture, THUMBNAIL), cv2.COLOR_RGB2LAB).astype(np.float32).ravel()


def spread(
    features: NDArray[np.float32],
    episodes: NDArray[np.int64],
    count: int,
    seed: int,
    taken: Sequence[int] = (),
    apart: float = 0.0,
    begins: NDArray[np.bool_] | None = None,
) -> list[int]:
    """Indices of `count` rows of `features` (N, D), of episodes (N,): each is the farthest from those before it among
    the rows of the episodes taken least often; the first is random.

    Every second one begins its episode: there nothing is in the hand or under it yet, and of things that are mostly
    seen in the hand a saliency model learns the hand.

    Args:
        taken: rows that count as chosen before; they are not returned.
        apart: rows nearer than this to one before are left out, so that there may be fewer than `count`.
        begins: (N,) which rows begin their episode; None takes the first row of each.
    """
    chosen, skip = list(taken) or [int(np.random.default_rng(seed).integers(len(features)))], len(taken)
    distance = np.min([np.linalg.norm(features - features[i], axis=1) for i in chosen], axis=0)
    if begins is None:
        begins = first_of_each(episodes)
    while len(chosen) < count + skip:
        free = ~np.isin(np.arange(len(features)), chosen) & (distance >= apart)
        if not free.any():
            break
        often = np.array([np.sum(episodes[chosen] == episode) for episode in episodes])
        free &= often == often[free].min()
        if len(chosen) % 2 and (free & begins).any():
            free &= begins
        chosen.append(int(np.where(free, distance, -1.0).argmax()))
        distance = np.minimum(distance, np.linalg.norm(features - features[chosen[-1]], axis=1))
    return chosen[skip:]


def first_of_each(episodes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(N,) whether a row is the first of its episode, for the episodes (N,) of rows."""
    return np.isin(np.arange(len(episodes)), np.unique(episodes, return_index=True)[1])
