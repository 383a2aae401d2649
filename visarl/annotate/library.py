"""The frames of a folder of bags: all their stamps at once, a picture when it is asked for."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visarl.config import PreprocessConfig
from visarl.data.annotations import FrameKey
from visarl.data.bags import IMAGE, Bag, decode_image, plain
from visarl.errors import DataError
from visarl.preprocess import crop


class BagGone(DataError):
    """A bag that was there when the library was made is not there any more, or is another one now."""


@dataclass(frozen=True)
class Episode:
    """Where a bag is, and which frames it has."""

    path: Path
    frames: dict[int, int]
    """Time of recording [ns] by stamp [ns], in the order of the stamps."""


class Library:
    """Frames by key. A name that is not among the bags found at the start leads nowhere, whatever it spells."""

    def __init__(self, bags: Sequence[Path], preprocess: PreprocessConfig, topic: str = IMAGE) -> None:
        """Reads the stamps of all bags; one that cannot be used is named on stderr and left out.

        Raises:
            DataError: no bag can be used.
        """
        self.preprocess, self.topic = preprocess, plain(topic)
        self.episodes: dict[str, Episode] = {}
        problem: DataError | None = None
        for path in bags:
            try:
                with Bag(path) as bag:
                    bag.require(self.topic)
                    times = {stamp: time for _, stamp, time, _ in bag.raw([self.topic])}
            except DataError as error:
                print(f"left out: {error}", file=sys.stderr)
                problem = error
                continue
            self.episodes[path.name] = Episode(path, dict(sorted(times.items())))
        if not self.episodes:
            raise problem or DataError("no bags were given; expected at least one")

    def __contains__(self, key: object) -> bool:
        return (
            isinstance(key, FrameKey)
            and key.topic == self.topic
            and key.bag in self.episodes
            and key.stamp_ns in self.episodes[key.bag].frames
        )

    def picture(self, key: FrameKey) -> NDArray[np.uint8]:
        """The cropped frame in the camera's own resolution, (S, S, 3) uint8 RGB.

        Raises:
            BagGone: its bag was deleted or replaced meanwhile.
            DataError: there was no such frame, or it is no picture.
        """
        if key not in self:
            raise DataError(f"no frame {key.stamp_ns} of {key.topic!r} in {key.bag!r} among the bags of this session")
        episode = self.episodes[key.bag]
        try:
            with Bag(episode.path) as bag:
                for topic, stamp, _, data in bag.raw([self.topic], episode.frames[key.stamp_ns]):
                    if stamp == key.stamp_ns:
                        return self._cut(decode_image(bag.decode(topic, data), f"{episode.path}: {topic} at {stamp}"))
        except DataError as error:
            if episode.path.exists():
                raise
            raise BagGone(f"the bag {key.bag!r} is gone from its folder; put it back, or go on with others") from error
        raise BagGone(f"the bag {key.bag!r} has no such frame any more; was it recorded again? Start anew")

    def candidates(self, step_ns: int) -> list[FrameKey]:
        """Frames of each bag at least `step_ns` apart, in order."""
        found = []
        for name, episode in self.episodes.items():
            last = -step_ns
            for stamp in episode.frames:
                if stamp - last >= step_ns:
                    found.append(FrameKey(name, stamp, self.topic))
                    last = stamp
        return found

    def pictures(self, keys: Collection[FrameKey]) -> Iterator[tuple[FrameKey, NDArray[np.uint8]]]:
        """Frames and their cropped pictures (s, s, 3) in the models' size, bag by bag, each in the order of recording.

        Much faster than one `picture` after the other, which opens the bag anew.
        """
        for name, episode in self.episodes.items():
            stamps = {key.stamp_ns for key in keys if key.bag == name}
            if not stamps:
                continue
            with Bag(episode.path) as bag:
                for topic, stamp, _, data in bag.raw([self.topic]):
                    if stamp in stamps:
                        image = decode_image(bag.decode(topic, data), f"{episode.path}: {topic} at {stamp}")
                        yield FrameKey(name, stamp, self.topic), crop(image, self.preprocess)

    def _cut(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        side = round(self.preprocess.crop[3] * image.shape[0])
        return crop(image, dataclasses.replace(self.preprocess, size=side))
