"""An annotator's file: whole at every moment, several kept apart, averaged, in and out."""

from __future__ import annotations

import io
import json
import threading
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from training.augment import Augmentation
from training.train_saliency import ClickedPicture, draw_batch
from visarl.annotate import exchange
from visarl.annotate.main import clicks_file, main
from visarl.annotate.store import Conflict, Frame, Store, annotator_path, annotators, parse_marks
from visarl.config import ModelConfig, PreprocessConfig, SaliencyConfig
from visarl.data.annotations import SIGMA, AnnotationFile, Area, Click, FrameKey, render
from visarl.errors import DataError
from visarl.options import Annotate

SMALL = PreprocessConfig(size=64)
KEY = FrameKey("ep0", 1_795_252_449_081_240_020)  # larger than a double holds
CLICK = Click(0.25, 0.5, "effector")
ANGLES = np.linspace(0, 2 * np.pi, 60)
BOX = Area(((0.5, 0.5), (0.75, 0.5), (0.75, 1.0), (0.5, 1.0)), "object")
STROKE = Area(((0.2, 0.2), (0.8, 0.2)), "goal", width=0.1, weight=0.5)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "clicks.json", SMALL)


def test_training_reads_what_was_saved(store: Store) -> None:
    assert store.put(KEY, Frame((CLICK,), (BOX, STROKE), save="a")).revision == 1
    other = FrameKey("ep1", 5)
    store.put(other, Frame(state="empty", save="b"))
    store.put(FrameKey("ep1", 6), Frame((CLICK,), state="skipped", save="c"))
    store.put(FrameKey("ep1", 7), Frame(save="d"))
    found = AnnotationFile.load(store.path, SMALL)
    assert found == store.annotations()
    assert found.frames == {KEY: (CLICK,), other: ()} and found.areas == {KEY: (BOX, STROKE)}
    # The others are not forgotten either: another start shows them.
    again = Store(store.path, SMALL).frames()
    assert again[FrameKey("ep1", 6)].clicks == (CLICK,) and again[FrameKey("ep1", 6)].state == "skipped"
    assert again[FrameKey("ep1", 7)].revision == 1


def test_a_page_that_saw_an_older_version_is_told_and_changes_nothing(store: Store) -> None:
    store.put(KEY, Frame((CLICK,), save="one"))
    with pytest.raises(Conflict, match="revision 1") as error:
        store.put(KEY, Frame((), (BOX,), save="two"))
    assert error.value.current.clicks == (CLICK,)
    assert store.frames()[KEY].clicks == (CLICK,)
    assert store.put(KEY, Frame((), (BOX,), revision=1, save="two")).revision == 2


def test_an_answer_that_got_lost_is_no_conflict(store: Store) -> None:
    store.put(KEY, Frame((CLICK,), save="one"))
    assert store.put(KEY, Frame((CLICK,), save="one")).revision == 1  # sent again
    assert store.put(KEY, Frame((), (BOX,), save="two"), ["one"]).revision == 2  # and after another change
    with pytest.raises(Conflict):
        store.put(KEY, Frame(save="three"), ["one"])


def test_two_writers_of_a_file_lose_nothing(tmp_path: Path) -> None:
    def write(first: int) -> None:
        store = Store(tmp_path / "clicks.json", SMALL)
        for stamp in range(first, first + 10):
            store.put(FrameKey("ep", stamp), Frame((CLICK,), save=str(stamp)))

    threads = [threading.Thread(target=write, args=(100 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(Store(tmp_path / "clicks.json", SMALL).frames()) == 40
    assert {path.name for path in tmp_path.iterdir()} == {"clicks.json", ".clicks.json.lock"}


def test_a_full_disk_leaves_the_file_as_it_was(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(KEY, Frame((CLICK,), save="a"))
    before = store.path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("visarl.data.files.os.fsync", full)
    with pytest.raises(DataError, match="not saved, No space left"):
        store.put(KEY, Frame(revision=1, save="b"))
    assert store.path.read_bytes() == before and len(list(store.path.parent.glob(".*tmp"))) == 0


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="its folder cannot be written"):
        Store(tmp_path / "file" / "clicks.json", SMALL).put(KEY, Frame(save="a"))


def test_files_of_before_load_and_are_gone_on_with(store: Store) -> None:
    AnnotationFile(SMALL, {KEY: (CLICK,), FrameKey("a", 1): ()}).save(store.path)
    assert "areas" not in store.path.read_text()
    assert store.frames() == {KEY: Frame((CLICK,), revision=1), FrameKey("a", 1): Frame(state="empty", revision=1)}
    assert store.put(KEY, Frame((), (BOX,), revision=1, save="x")).revision == 2


def test_files_that_nobody_may_edit(tmp_path: Path) -> None:
    path = tmp_path / "clicks.json"
    path.write_text("{")
    with pytest.raises(DataError, match="expected a JSON file"):
        Store(path, SMALL)
    AnnotationFile(PreprocessConfig(crop=(0, 0, 0.75, 1.0))).save(path)
    with pytest.raises(DataError, match="its clicks are on the crop"):
        Store(path, SMALL)


@pytest.mark.parametrize("name", ["../x", "a/b", ".", "", "a" * 41, "-x", "ä", "a.b"])
def test_an_annotator_s_name_never_becomes_a_path(tmp_path: Path, name: str) -> None:
    if name == "":
        assert annotator_path(tmp_path / "clicks.json", name) == tmp_path / "clicks.json"
        return
    with pytest.raises(DataError, match="annotator: expected"):
        annotator_path(tmp_path / "clicks.json", name)


@pytest.mark.parametrize(
    ("clicks", "areas"),
    [
        ([{"u": 2, "v": 0}], []),
        ([{"u": "a", "v": 0}], []),
        ([{"u": 0.1, "v": 0.1, "what": 1}], []),
        ([{"u": 0.1, "v": 0.1, "sigma": float("inf")}], []),
        ([], [{"points": [[0, 0], [1, 1]]}]),
        ([], [{"points": [[0, 0], [1, 1], [2, 0]]}]),
        ([], [{"points": [[0, 0], [1, 1], [float("nan"), 0]]}]),
        ([], [{"points": [[0, 0]], "width": 0.1, "role": "hand"}]),
        ([], [{"points": 3}]),
    ],
)
def test_impossible_marks(clicks: list, areas: list) -> None:
    with pytest.raises(DataError, match="click|area"):
        parse_marks(clicks, areas)


def test_areas_reach_the_rendered_map() -> None:
    maps = render((CLICK,), ("effector", "object", "goal"), 64, areas=(BOX, STROKE))
    assert maps[1, 48, 40] == 1 and maps[1, 20, 20] == 0
    assert maps[1].mean() == pytest.approx(0.125, abs=0.005)
    assert maps[2, 12, 32] == pytest.approx(0.5) and maps[2, 30, 32] == 0
    assert maps[2].mean() == pytest.approx(0.5 * (0.06 + np.pi * 0.05**2), rel=0.15)
    plain = render((CLICK,), ("plain",), 64, areas=(BOX, STROKE))
    assert np.array_equal(plain[0], maps.max(axis=0))
    dot = render((), ("goal",), 64, areas=(Area(((0.5, 0.5),), "goal", 0.25),))
    assert dot.mean() == pytest.approx(np.pi / 64, rel=0.1)
    with pytest.raises(DataError, match="role 'object'"):
        render((), ("effector",), 64, areas=(BOX,))


def test_a_click_that_was_made_wider_stays_wider_in_training() -> None:
    narrow, wide = (render((Click(0.5, 0.5, "goal", sigma=s),), ("goal",), 64, 2 * SIGMA) for s in (SIGMA, 2 * SIGMA))
    assert wide.sum() == pytest.approx(4 * narrow.sum(), rel=0.05)
    assert narrow.sum() == pytest.approx(2 * np.pi * (2 * SIGMA * 64) ** 2, rel=0.05)


def test_areas_move_with_the_picture_in_training() -> None:
    config = ModelConfig(saliency=SaliencyConfig(roles=("effector", "object", "goal"), image_size=64))
    picture = np.zeros((64, 64, 3), np.uint8)
    cv2.rectangle(picture, (32, 32), (47, 47), (0, 255, 0), -1)
    box = Area(((0.5, 0.5), (0.75, 0.5), (0.75, 0.75), (0.5, 0.75)), "object")
    clicked = [ClickedPicture(picture, (Click(0.1, 0.9, "goal"),), (box, STROKE))]
    how = Augmentation(jitter=0, shapes=0)
    for seed in range(6):
        inputs, targets = draw_batch(clicked, 1, np.random.default_rng(seed), how, config)
        green = (inputs[0, ..., 1] > 128) & (inputs[0, ..., 0] < 64) & (inputs[0, ..., 2] < 64)
        painted = targets[0, 1] > 0.5
        assert green.sum() > 50 and (green & painted).sum() / (green | painted).sum() > 0.7
        assert targets[0, 2].max() > 0.4  # the stroke is still there


def test_people_are_averaged() -> None:
    one = AnnotationFile(SMALL, {KEY: (Click(0.50, 0.5, "object"), Click(0.1, 0.1, "effector"))}, {KEY: (BOX,)})
    two = AnnotationFile(SMALL, {KEY: (Click(0.54, 0.5, "object"),), FrameKey("b", 1): (CLICK,)})
    found = exchange.average([one, two])
    near, alone = found.frames[KEY]
    assert (near.u, near.weight, near.role) == (pytest.approx(0.52), 1.0, "object")
    assert (alone.u, alone.weight, alone.role) == (0.1, 0.5, "effector")
    assert found.frames[FrameKey("b", 1)] == (CLICK,)  # the other one has said nothing about this frame
    wanted = (render((), ("object",), 128, areas=(BOX,))[0]) / 2
    assert np.abs(render((), ("object",), 128, areas=found.areas[KEY])[0] - wanted).mean() < 0.01
    both = exchange.average([one, one])
    assert render((), ("object",), 128, areas=both.areas[KEY]).max() == 1
    assert [click.weight for click in both.frames[KEY]] == [1, 1]


def test_holes_are_averaged_too() -> None:
    u, v = 0.5 + 0.3 * np.cos(ANGLES), 0.5 + 0.3 * np.sin(ANGLES)
    ring = Area(tuple(zip(u, v, strict=True)), "object", width=0.1)
    block = Area(((0.4, 0.4), (0.6, 0.4), (0.6, 0.6), (0.4, 0.6)), "object", weight=0.5)  # in its middle
    people = [AnnotationFile(SMALL, {KEY: ()}, {KEY: (ring, block)})] * 2
    wanted = render((), ("object",), 128, areas=(ring, block))[0]
    found = render((), ("object",), 128, areas=exchange.average(people).areas[KEY])[0]
    assert found[64, 64] == 0.5 and found[64, 40] == 0 and found[64, 26] == 1
    assert np.abs(found - wanted).mean() < 0.02
    holes = Area(((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9)), "object")
    values = render((), ("object",), 128, areas=(holes,))[0]
    values[30:50, 30:50] = values[70:90, 70:90] = values[30:50, 70:90] = 0  # several in one
    found = render((), ("object",), 128, areas=exchange.outlines(values, "object", [1.0]))[0]
    assert np.abs(found - values).mean() < 0.02 and found[40, 40] == found[80, 80] == found[40, 80] == 0


def test_clicks_far_apart_or_of_one_person_do_not_merge() -> None:
    one = AnnotationFile(SMALL, {KEY: (Click(0.50, 0.5, "object"), Click(0.54, 0.5, "object"))})
    assert len(exchange.average([one]).frames[KEY]) == 2
    two = AnnotationFile(SMALL, {KEY: (Click(0.9, 0.5, "object"),)})
    assert sorted(click.weight for click in exchange.average([one, two]).frames[KEY]) == [0.5, 0.5, 0.5]
    with pytest.raises(DataError, match="no annotations to average"):
        exchange.average([])


def test_the_command_averages_named_annotators(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "clicks.json"
    with pytest.raises(DataError, match="--annotator NAME first"):
        main(Annotate(bags=tmp_path, out=out, average=True))
    for name, u in (("anna", 0.4), ("bo", 0.42)):
        Store(annotator_path(out, name), SMALL).put(KEY, Frame((Click(u, 0.5, "object"),), save=name))
    assert annotators(out) == ["anna", "bo"]
    for _ in range(2):  # an average may be replaced
        assert main(Annotate(bags=tmp_path, out=out, average=True)) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {
        "annotators": ["anna", "bo"],
        "frames": 1,
        "marks": 1,
    }
    assert AnnotationFile.load(out).frames[KEY][0].u == pytest.approx(0.41)
    with pytest.raises(DataError, match="it is the average of anna, bo"):
        Store(out, SMALL)
    AnnotationFile(SMALL).save(out)
    with pytest.raises(DataError, match="holds somebody's own clicks"):
        main(Annotate(bags=tmp_path, out=out, average=True))


def test_maps_go_out_and_come_back() -> None:
    clicks = {KEY: (CLICK, Click(0.7, 0.3, "object")), FrameKey("ep1", 2): ()}
    written = AnnotationFile(SMALL, clicks, {KEY: (BOX,)})
    data = exchange.maps_archive(written)
    names = zipfile.ZipFile(io.BytesIO(data)).namelist()
    assert f"ep0/{KEY.stamp_ns}.effector.png" in names and len(names) == 4
    read = exchange.read_maps(data, {"ep0", "ep1"}, KEY.topic, SMALL)
    assert set(read.frames) == set(written.frames) and FrameKey("ep1", 2) not in read.areas
    roles = ("effector", "object")
    before = render(written.frames[KEY], roles, 128, areas=written.areas[KEY])
    after = render(read.frames[KEY], roles, 128, areas=read.areas[KEY])
    assert np.abs(before - after).mean() < 0.01
    assert np.abs(before - after).max() < 0.4  # eight heights, and a soft border
    assert not exchange.read_maps(data, {"other"}, KEY.topic, SMALL).frames


def archive(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as found:
        for name, data in files.items():
            found.writestr(name, data)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PK rubbish", "expected a ZIP"),
        (archive({"ep0/x.txt": b""}), "expected maps named"),
        (archive({"ep0/5.hand.png": b""}), "expected maps named"),
        (archive({"ep0/5.object.png": b"no picture"}), "expected a square PNG"),
        (archive({"ep0/5.object.png": exchange.PNG + b"\0\0\0\rIHDR" + b"\0\1\0\0" * 2}), "found 65536x65536"),
        (archive({"ep0/5.object.png": exchange.PNG + b"\0\0\0\rIHDR" + b"\0\0\0\x08" * 2}), "damaged PNG"),
        (archive({f"ep0/{i}.object.png": bytes(2**23) for i in range(9)}), "unpacks to"),
    ],
    ids=["rubbish", "text", "role", "picture", "huge", "cut", "bomb"],
)
def test_archives_that_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        exchange.read_maps(data, {"ep0"}, KEY.topic, SMALL)


def test_an_import_overwrites_nobody_s_clicks(store: Store) -> None:
    store.put(KEY, Frame((CLICK,), save="a"))
    store.put(FrameKey("ep0", 2), Frame(save="b"))
    found = AnnotationFile(SMALL, {KEY: (), FrameKey("ep0", 2): (CLICK,), FrameKey("ep0", 3): ()}, {KEY: (BOX,)})
    assert store.add(found) == 2
    frames = store.frames()
    assert frames[KEY] == Frame((CLICK,), revision=1, save="a")
    assert frames[FrameKey("ep0", 2)].revision == 2 and frames[FrameKey("ep0", 3)].state == "empty"


def test_clicks_lie_beside_the_bags_unless_told(tmp_path: Path) -> None:
    assert clicks_file(Annotate(bags=tmp_path / "red" / "bags")) == tmp_path / "red" / "clicks.json"
    assert clicks_file(Annotate(bags=tmp_path / "bags", out=tmp_path / "other.json")) == tmp_path / "other.json"
