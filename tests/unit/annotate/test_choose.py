"""Proposed frames: of every episode, none like another, and those of which a model is least sure."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.unit.data.synthetic import Scene, compressed, synthetic_bag, synthetic_messages, write_bag
from visarl.annotate.choose import propose
from visarl.annotate.library import BagGone, Library
from visarl.annotate.predict import doubts, least_sure, peaks
from visarl.config import PreprocessConfig
from visarl.data.annotations import Click as Mark
from visarl.data.annotations import FrameKey, render, truth_clicks
from visarl.data.bags import IMAGE, TRUTH, Bag
from visarl.errors import DataError

SMALL = PreprocessConfig(size=64)
ROLES = ("effector", "object")


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("bags")
    return [synthetic_bag(root / f"ep{i}", Scene(seconds=2.0, seed=i)) for i in range(3)]


@pytest.fixture(scope="module")
def library(bags: list[Path]) -> Library:
    return Library(bags, SMALL)


class Unsure:
    """A model that is sure of all frames but some."""

    roles = ROLES

    def __init__(self, library: Library, unsure: set[FrameKey]) -> None:
        self._unsure = [picture for _, picture in library.pictures(unsure)]

    def maps(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        sure = render([Mark(0.5, 0.5, role) for role in ROLES], ROLES, 32)
        return np.stack([sure * 0.3 if any(np.array_equal(p, q) for q in self._unsure) else sure for p in pictures])


def place_of_the_hand(library: Library, bag: Path, key: FrameKey) -> float:
    with Bag(bag) as opened:
        truth = {stamp: message for _, stamp, message in opened.messages([TRUTH])}[key.stamp_ns]
    return truth_clicks(truth, ("effector",), SMALL)[0].u


def test_every_episode_gets_its_share_and_no_two_frames_look_alike(library: Library, bags: list[Path]) -> None:
    found = [proposal.key for proposal in propose(library, 9)]
    assert len(set(found)) == 9 and all(key in library for key in found)
    assert sorted(key.bag for key in found) == sorted(["ep0", "ep1", "ep2"] * 3)
    places = [place_of_the_hand(library, library.episodes[key.bag].path, key) for key in found]
    assert max(places) - min(places) > 0.3  # the hand's whole way
    assert min(np.diff(sorted(places))) > 0.005


def test_the_same_frames_for_every_annotator_and_more_of_them_on_demand(library: Library) -> None:
    few = propose(library, 4, seed=2)
    assert propose(library, 4, seed=2) == few
    assert propose(library, 8, seed=2)[:4] == few


def test_an_arm_that_never_moves_is_worth_one_frame_an_episode_at_most(tmp_path: Path) -> None:
    still = synthetic_messages(Scene(seconds=2.0, truth=False))
    image = np.full((480, 640, 3), 90, np.uint8)
    cv2.circle(image, (320, 240), 60, (200, 30, 30), -1)
    messages = [
        (time, topic, compressed(message.header.stamp.sec * 10**9 + message.header.stamp.nanosec, image))
        for time, topic, message in still
        if topic == IMAGE
    ]
    found = propose(Library([write_bag(tmp_path / "still", messages)], SMALL), 10)
    assert len(found) == 1


def test_with_a_model_the_frames_it_is_least_sure_of_come_first(library: Library) -> None:
    unlike = [proposal.key for proposal in propose(library, 20)]
    doubtful = set(unlike[4:7])
    found = propose(library, 3, predictor=Unsure(library, doubtful))  # type: ignore[arg-type]
    assert found[0].key in doubtful
    assert found[0].doubt is not None and found[0].doubt > 0.5
    assert len({proposal.key for proposal in found} & doubtful) == 3


def test_what_is_done_is_not_proposed_again(library: Library) -> None:
    done = {proposal.key for proposal in propose(library, 3)}
    again = propose(library, 5, done=done)
    assert not done & {proposal.key for proposal in again}
    between = FrameKey("ep1", list(library.episodes["ep1"].frames)[31])  # no candidate: somebody scrubbed there
    near = {proposal.key for proposal in propose(library, 30, done={between})}
    stamps = [key.stamp_ns for key in near if key.bag == "ep1"]
    assert between not in near and min(abs(stamp - between.stamp_ns) for stamp in stamps) > 30_000_000


def at(*marks: tuple[float, float, float]) -> np.ndarray:
    """A map of one role with marks of the heights given: u, v, height."""
    return render([Mark(u, v, "object", weight=height) for u, v, height in marks], ("object",), 64)[0]


def test_every_peak_that_is_high_enough_is_suggested_and_no_flank() -> None:
    found = peaks(at((0.2, 0.5, 0.9), (0.8, 0.5, 0.6), (0.5, 0.1, 0.2)))
    assert [round(height, 1) for height, _ in found] == [0.9, 0.6]  # the third is too low
    assert [mask[32, 12] for _, mask in found] == [True, False] and found[1][1][32, 51]
    (_, left), (_, right) = peaks(at((0.42, 0.5, 0.9), (0.58, 0.5, 0.8)))  # each pixel is of the nearer one alone
    assert left[32, 30] and not right[32, 30] and right[32, 33] and not left[32, 33]
    wide = render([Mark(0.5, 0.5, "object", sigma=0.15)], ("object",), 64)[0]
    assert len(peaks(wide)) == 1
    assert len(peaks(at((0.50, 0.5, 0.9), (0.58, 0.5, 0.8)))) == 1  # one thing with two bumps
    crowd = [(u, v, 0.5 + 0.1 * u) for u in (0.1, 0.5, 0.9) for v in (0.1, 0.9)]
    assert [round(height, 2) for height, _ in peaks(at(*crowd))] == [0.59, 0.59, 0.54]
    assert peaks(at()) == [] and len(peaks(np.ones((64, 64), np.float32))) <= 3


def test_doubt_is_small_for_one_high_peak_only() -> None:
    one = render([Mark(0.5, 0.5, "object")], ("object",), 64)
    two = render([Mark(0.2, 0.5, "object"), Mark(0.8, 0.5, "object")], ("object",), 64)
    found = doubts(np.stack([one, 0.3 * one, two, 0 * one]))
    assert found[0] < 0.1 and found[1] > 0.6 and 0.4 < found[2] < 0.6 and found[3] == 1
    assert least_sure(found, 0.5).tolist() == [3, 1]
    assert least_sure([0.1], 0.01).tolist() == [0]


def test_the_library_finds_what_was_there_and_nothing_else(library: Library, bags: list[Path]) -> None:
    key = FrameKey("ep1", list(library.episodes["ep1"].frames)[7])
    assert library.picture(key).shape == (480, 480, 3)
    for other in (
        FrameKey("../ep1", key.stamp_ns),
        FrameKey(str(bags[1]), key.stamp_ns),
        FrameKey("ep1", 1),
        FrameKey("ep1", key.stamp_ns, "other"),
    ):
        assert other not in library
        with pytest.raises(DataError, match="no frame"):
            library.picture(other)


def test_a_bag_that_goes_or_changes_meanwhile_is_named(tmp_path: Path) -> None:
    path = synthetic_bag(tmp_path / "ep", Scene(seconds=0.5))
    library = Library([path], SMALL)
    key = FrameKey("ep", next(iter(library.episodes["ep"].frames)))
    path.rename(tmp_path / "elsewhere")
    with pytest.raises(BagGone, match="'ep' is gone"):
        library.picture(key)
    write_bag(path, [(time, topic, m) for time, topic, m in synthetic_messages(Scene(seconds=0.5)) if topic != IMAGE])
    with pytest.raises(BagGone, match="recorded again"):
        library.picture(key)


def test_bags_without_the_topic_are_left_out_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = synthetic_bag(tmp_path / "good", Scene(seconds=0.5))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "metadata.yaml").write_text("rubbish")
    assert list(Library([tmp_path / "bad", good], SMALL).episodes) == ["good"]
    assert "left out" in capsys.readouterr().err
    with pytest.raises(DataError, match="no messages of front/image"):
        Library([good], SMALL, "front/image")
