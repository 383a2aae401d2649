"""Variations of a few clicked pictures, so that a saliency model trained on ten of them meets more than ten."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

BRIGHTNESS = CONTRAST = SATURATION = 0.4
HUE = 0.2
"""The paper's ColorJitter(0.4, 0.4, 0.4, 0.2): factors within 1 +- 0.4, hue turned by at most 0.2 of the circle."""

STANDS_OUT = 22
"""Least difference from the most frequent colour, in 8-bit L*a*b*, of what counts as a thing."""
THING = (0.0008, 0.03)
"""Least and largest share of the picture that a thing takes."""


@dataclass(frozen=True)
class Augmentation:
    """How far a picture may be moved and recoloured."""

    shift: float = 0.15
    """Largest shift, as a share of the side."""
    rotation_deg: float = 25.0
    scale: float = 0.25
    """Largest zoom in or out, as a share (log-uniform)."""
    flips: bool = True
    jitter: float = 1.0
    """Multiplies the paper's ColorJitter; 0 switches it off."""
    shapes: int = 3
    """At most so many random shapes are pasted, as things that nobody clicked on."""
    clearance: float = 0.09
    """Shapes keep this far from every click [share of the side], so that none hides what was clicked."""
    lookalikes: float = 0.0
    """Share of the shapes that have the colour of something clicked."""
    disguised: float = 0.0
    """Probability that a thing which nobody clicked on takes the colour of one that was clicked."""
    covered: float = 0.0
    """Probability that something covers a part of a clicked thing, up to the click itself."""


def augment(
    picture: NDArray[np.uint8],
    points: NDArray[np.float64],
    rng: np.random.Generator,
    how: Augmentation,
    alike: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A variation of one picture and where its clicks went.

    Args:
        picture: (S, S, 3) uint8.
        points: (K, 2) clicks u, v as shares of the side; one that leaves the picture keeps its outside position.
        alike: (L, 2) those whose colours lookalikes take; None means all.

    Returns:
        The same shapes. The input is left as it is.
    """
    alike = points if alike is None else alike
    picture = _disguise(picture.copy(), points, alike, rng, how)
    picture = _cover(_paste_shapes(picture, points, alike, rng, how), points, rng, how)
    picture, points = _move(picture, points, rng, how)
    return (_recolour(picture, rng, how.jitter) if how.jitter > 0 else picture), points


def _move(
    picture: NDArray[np.uint8], points: NDArray[np.float64], rng: np.random.Generator, how: Augmentation
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    side = picture.shape[0]
    angle = np.deg2rad(rng.uniform(-how.rotation_deg, how.rotation_deg))
    zoom = np.exp(rng.uniform(-1, 1) * np.log1p(how.scale))
    mirror = np.where(rng.random(2) < 0.5, -1.0, 1.0) if how.flips else np.ones(2)
    cos, sin = np.cos(angle) * zoom, np.sin(angle) * zoom
    turn = np.array([[cos, -sin], [sin, cos]]) * mirror  # mirror first, then turn
    shift = rng.uniform(-how.shift, how.shift, 2)
    moved = (points - 0.5) @ turn.T + 0.5 + shift
    # The same map on pixel centres: pixel i lies at the share (i + 0.5) / side.
    middle = side / 2 - 0.5
    matrix = np.column_stack([turn, np.array([middle, middle]) - turn @ [middle, middle] + shift * side])
    # Mirrored borders would show the object twice; a plain border says that nothing is there.
    border = cv2.BORDER_REPLICATE if rng.random() < 0.5 else cv2.BORDER_CONSTANT
    colour = tuple(int(c) for c in rng.integers(0, 256, 3))
    return cv2.warpAffine(picture, matrix, (side, side), borderMode=border, borderValue=colour), moved


def _disguise(
    picture: NDArray[np.uint8],
    points: NDArray[np.float64],
    alike: NDArray[np.float64],
    rng: np.random.Generator,
    how: Augmentation,
) -> NDArray[np.uint8]:
    """Lookalikes that are real, with their own shading and shadow: things on the table in a clicked thing's colour.

    A thing is what stands out from the picture's most frequent colour in one piece of a thing's size. Pasted shapes
    alone are told from real things by having no shadow.
    """
    if not how.disguised or not len(alike):
        return picture
    side = len(picture)
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB).astype(np.float32)
    apart = np.abs(lab - np.median(lab.reshape(-1, 3), axis=0)).max(axis=2)
    count, pieces, boxes, _ = cv2.connectedComponentsWithStats((apart > STANDS_OUT).astype(np.uint8))
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV).astype(np.float32)
    seen = picture.copy()
    for piece in range(1, count):
        left, top, width, height, area = boxes[piece]
        if not THING[0] * side**2 < area < THING[1] * side**2 or rng.random() >= how.disguised:
            continue
        low, high = np.array([left, top]) / side, np.array([left + width, top + height]) / side
        off = np.linalg.norm(points - points.clip(low, high), axis=1)
        if len(off) and off.min() < how.clearance / 2:
            continue
        colour = _colour(seen, alike[rng.integers(len(alike))], rng)
        hue, saturation, value = cv2.cvtColor(colour.reshape(1, 1, 3), cv2.COLOR_RGB2HSV)[0, 0].astype(np.float32)
        window = hsv[top : top + height, left : left + width]
        inside = pieces[top : top + height, left : left + width] == piece
        thing = window[inside]
        thing[:, 0] = hue
        thing[:, 1] = np.clip(saturation * rng.uniform(0.85, 1.15), 0, 255)
        thing[:, 2] = np.clip(thing[:, 2] * value / max(1.0, float(np.median(thing[:, 2]))), 0, 255)
        window[inside] = thing
    return cv2.cvtColor(hsv.round().astype(np.uint8), cv2.COLOR_HSV2RGB)


def _paste_shapes(
    picture: NDArray[np.uint8],
    points: NDArray[np.float64],
    alike: NDArray[np.float64],
    rng: np.random.Generator,
    how: Augmentation,
) -> NDArray[np.uint8]:
    seen = picture.copy()
    for _ in range(int(rng.integers(0, how.shapes + 1))):
        radius = rng.uniform(0.02, 0.09)
        centre = rng.uniform(0, 1, 2)
        if len(points) and np.min(np.linalg.norm(points - centre, axis=1)) < how.clearance + radius:
            continue
        if len(alike) and rng.random() < how.lookalikes:
            colour: NDArray[np.integer] = _colour(seen, alike[rng.integers(len(alike))], rng)
        else:
            colour = rng.integers(0, 256, 3)
        _paste(picture, centre, radius, colour, rng)
    return picture


def _cover(
    picture: NDArray[np.uint8], points: NDArray[np.float64], rng: np.random.Generator, how: Augmentation
) -> NDArray[np.uint8]:
    """Something hides a part of what was clicked, in a colour of this picture: a hand, say, or another thing."""
    seen = picture.copy()
    for point in points:
        if rng.random() < how.covered:
            radius, angle = rng.uniform(0.03, 0.08), rng.uniform(0, 2 * np.pi)
            centre = point + (radius + rng.uniform(0, 0.03)) * np.array([np.cos(angle), np.sin(angle)])
            _paste(picture, centre, radius, _colour(seen, rng.uniform(0, 1, 2), rng), rng)
    return picture


def _colour(picture: NDArray[np.uint8], point: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Of the picture near a point: a thing's shades lie around its middle."""
    column, row = np.clip((point + rng.normal(0, 0.015, 2)) * len(picture), 0, len(picture) - 1).astype(int)
    return picture[row, column]


def _paste(
    picture: NDArray[np.uint8],
    centre: NDArray[np.float64],
    radius: float,
    colour: NDArray[np.integer],
    rng: np.random.Generator,
) -> None:
    """A thing of one colour, in place: something flat, or a solid under a lamp."""
    side = len(picture)
    kind = rng.choice(("polygon", "ellipse", "ball", "prism"))
    if kind == "prism":
        faces = _prism(radius, rng)
    elif kind == "polygon":
        count = int(rng.integers(3, 9))
        turns = np.sort(rng.uniform(0, 2 * np.pi, count))
        faces = [(radius * rng.uniform(0.6, 1.0, (count, 1)) * np.column_stack([np.cos(turns), np.sin(turns)]), 1.0)]
    else:
        rim = radius * np.array([1.0, 1.0 if kind == "ball" else rng.uniform(0.5, 1.0)])
        faces = [(_ring(24) * rim @ _turn(rng.uniform(0, np.pi)).T, 1.0)]
    slope, angle = rng.uniform(0, 0.4), rng.uniform(0, 2 * np.pi)  # brighter on one side
    for corners, shade in faces:
        corners = side * (centre + corners)
        low = np.clip(np.floor(corners.min(axis=0)).astype(int) - 1, 0, side)
        high = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 2, 0, side)
        columns, rows = high - low
        if not rows > 0 or not columns > 0:
            continue  # outside
        mask = np.zeros((rows, columns), np.uint8)
        # Sixteenths of a pixel: small things keep their shape.
        cv2.fillPoly(mask, [np.round(16 * (corners - low)).astype(np.int32)], (255,), cv2.LINE_AA, 4)
        x = (np.arange(low[0], high[0]) / side - centre[0])[None, :] / radius
        y = (np.arange(low[1], high[1]) / side - centre[1])[:, None] / radius
        light = shade + slope * (x * np.cos(angle) + y * np.sin(angle))
        if kind == "ball":
            light = light - 0.4 * (x * x + y * y)
        window = picture[low[1] : high[1], low[0] : high[0]]
        share = mask[..., None] / 255
        seen = np.clip(light[..., None] * colour, 0, 255)
        window[:] = np.round((1 - share) * window + share * seen).astype(np.uint8)


def _prism(radius: float, rng: np.random.Generator) -> list[tuple[NDArray[np.float64], float]]:
    """The visible faces of a box or a cylinder on a table, seen from above at a slant: corners and brightness.

    Never about as wide as high: what was clicked may be a cube, and its likeness would be called wrong.
    """
    rise = rng.uniform(0.5, 0.85)  # sine of the camera's elevation
    ring = _ring(20) if rng.random() < 0.5 else _ring(4) * [1.0, rng.uniform(0.35, 1.0)]
    ring = ring @ _turn(rng.uniform(0, 2 * np.pi)).T
    height = rng.choice((rng.uniform(0.1, 0.5), rng.uniform(1.8, 2.5)))
    size = radius / max(1.0, height)
    top = size * ring * [1.0, rise]
    down = np.array([0.0, size * height * np.sqrt(1 - rise**2)])
    lamp = rng.uniform(0, 2 * np.pi)
    faces = []
    for here, there, a, b in zip(top, np.roll(top, -1, 0), ring, np.roll(ring, -1, 0), strict=True):
        normal = (a + b) / np.linalg.norm(a + b)
        if normal[1] > 0:  # towards the camera
            shade = 0.7 + 0.25 * float(np.cos(np.arctan2(normal[1], normal[0]) - lamp))
            faces.append((np.array([here, there, there + down, here + down]) - down / 2, shade))
    return [*faces, (top - down / 2, 1.05)]


def _ring(count: int) -> NDArray[np.float64]:
    turns = 2 * np.pi * np.arange(count) / count
    return np.column_stack([np.cos(turns), np.sin(turns)])


def _turn(angle: float) -> NDArray[np.float64]:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _recolour(picture: NDArray[np.uint8], rng: np.random.Generator, strength: float) -> NDArray[np.uint8]:
    """ColorJitter: the four changes in a random order."""
    image = picture.astype(np.float32) / 255
    factors = 1 + strength * np.array([BRIGHTNESS, CONTRAST, SATURATION]) * rng.uniform(-1, 1, 3)
    turn = strength * HUE * rng.uniform(-1, 1)
    for change in rng.permutation(4):
        if change == 0:
            image = image * np.float32(factors[0])
        elif change == 1:
            grey = np.float32(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).mean())
            image = grey + (image - grey) * np.float32(factors[1])
        elif change == 2:
            grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
            image = grey + (image - grey) * np.float32(factors[2])
        else:
            hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
            hsv[..., 0] = (hsv[..., 0] + np.float32(360 * turn)) % 360
            image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
        image = np.clip(image, 0, 1)
    return np.round(image * 255).astype(np.uint8)
