"""The annotation page in a real browser: a session from opening to a trained suggestion, and what goes wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from tests.tiny import TINY
from tests.web.driver import REDO, UNDO, Page, Server, wait
from training import train_saliency
from visarl.bundle import load_part, save_part
from visarl.config import to_dict
from visarl.data.annotations import AnnotationFile, FrameKey, render
from visarl.data.bags import find_bags
from visarl.training_options import TrainSaliency


def near(value: float) -> object:
    """To a pixel of the page's picture."""
    return pytest.approx(value, abs=0.01)


def test_a_session_from_opening_to_a_trained_suggestion(recorded: Path, tmp_path: Path, page: Page) -> None:
    out = tmp_path / "clicks.json"
    server = Server(recorded, out).start()
    try:
        page.open(server.link)
        assert len(page.all("#proposals .frame")) == 4 and page.text("#progress span") == "0 of 4"
        assert page.errors() == []
        first = page.here()

        # Mouse: a click, which is dragged on, wheeled, undone and done again.
        page.at(0.3, 0.4).click().perform()
        page.saved()
        key = FrameKey(first[0], first[1])
        (click,) = AnnotationFile.load(out).frames[key]
        assert (click.role, click.u, click.v) == ("effector", near(0.3), near(0.4))
        assert click.sigma == pytest.approx(10 / 256)
        page.drag((0.3, 0.4), (0.4, 0.5), (0.5, 0.6))
        page.saved()
        assert AnnotationFile.load(out).frames[key][0].u == near(0.5)
        page.browser.execute_script(
            "const c = document.querySelector('#canvas'), b = c.getBoundingClientRect();"
            "const x = b.left + b.width / 2, y = b.top + b.height / 2 + 0.1 * (Math.min(b.width, b.height) - 36);"
            "c.dispatchEvent(new WheelEvent('wheel', {deltaY: -100, cancelable: true, clientX: x, clientY: y}))"
        )
        page.saved()
        assert AnnotationFile.load(out).frames[key][0].sigma == pytest.approx(11 / 256)
        page.chord(*UNDO)
        page.chord(*UNDO)
        page.chord(*REDO)
        page.saved()
        moved = AnnotationFile.load(out).frames[key][0]
        assert moved.sigma == pytest.approx(10 / 256) and moved.u == near(0.5)

        # Brush and box for areas; a right click removes.
        page.keys("2", "b")
        page.drag((0.1, 0.1), (0.2, 0.1), (0.3, 0.2))
        page.keys("3", "x")
        page.drag((0.7, 0.7), (0.9, 0.8))
        page.keys("c", "4")
        page.at(0.1, 0.9).click().perform()
        assert page.marks() == [("clicks", "effector"), ("clicks", "plain"), ("areas", "object"), ("areas", "goal")]
        page.at(0.1, 0.9).context_click().perform()
        page.saved()
        found = AnnotationFile.load(out)
        assert [area.role for area in found.areas[key]] == ["object", "goal"] and len(found.frames[key]) == 1
        roles = ("effector", "object", "goal")
        maps = render(found.frames[key], roles, 64, areas=found.areas[key])
        assert maps[2, 48, 51] == 1 and maps[2, 30, 30] == 0 and maps[1].max() == 1
        assert page.text("#progress span") == "1 of 4"
        # Several roles need the effector: the page says so before training does.
        assert not page.find("#rule").is_displayed()
        page.keys("m", Keys.DELETE)
        assert "Click the effector, too (key 1)" in page.text("#rule")
        page.chord(*UNDO)
        assert not page.find("#rule").is_displayed()

        # The next frame, all on the keyboard: cross, Enter, roles, sizes, removal, copy.
        page.keys("n")
        page.wait_for("shown")
        second = page.here()
        assert second != first
        page.keys("c", "1", Keys.ARROW_LEFT, Keys.ARROW_LEFT, Keys.ENTER, "2")
        page.chord(Keys.SHIFT, Keys.ARROW_DOWN)
        page.keys(Keys.ENTER)
        assert page.marks() == [("clicks", "effector"), ("clicks", "object")]
        page.keys("m", "]", "]")
        page.chord(Keys.SHIFT, "[")
        page.keys(Keys.ARROW_RIGHT, "m", Keys.DELETE)
        page.saved()
        (left,) = AnnotationFile.load(out).frames[FrameKey(*second)]
        assert left.sigma == pytest.approx(12.1 / 256) and left.v == pytest.approx(0.5)
        page.keys("v")
        assert page.marks() == [("clicks", "effector")] * 2 + [("areas", "object"), ("areas", "goal")]
        page.keys("n", "s")  # the third is skipped, which leads on to the fourth
        wait(lambda: page.data("frame") == "shown" and page.here() not in (first, second), "the fourth frame")
        page.keys("e")
        page.saved()
        assert page.text("#progress span") == "3 of 4"
        page.keys("?")
        assert page.find("#help").is_displayed()
        page.keys(Keys.ESCAPE)
        # Any frame of any episode.
        page.keys(Keys.PAGE_UP, Keys.PAGE_UP, Keys.PAGE_UP, Keys.PAGE_DOWN, ".", ".")
        page.wait_for("shown")
        assert page.here()[0] == "ep1" and " 3 / " in page.text("#where")
        page.keys("+", "+")
        page.at(0.6, 0.5).click().perform()
        page.saved()
        assert len(page.all("#others .frame")) == 1
        (zoomed,) = AnnotationFile.load(out).frames[FrameKey(*page.here())]
        assert (zoomed.u, zoomed.v) == (near(0.5 + 0.1 / 1.25**2), near(0.5))

        # Closed and reloaded: all of it is there.
        page.reload()
        assert page.text("#progress span") == "3 of 4" and len(page.all("#others .frame")) == 1
        page.find("#proposals .frame").click()
        wait(lambda: page.data("frame") == "shown" and page.here() == first, "the first frame")
        assert page.marks() == [("clicks", "effector"), ("areas", "object"), ("areas", "goal")]
        assert page.errors() == []
        assert server.stop() == 130 and "Traceback" not in server.log
        assert f"annotated frames: 4; `visarl train saliency --bags {recorded} --clicks {out}" in server.log
    finally:
        server.kill()

    # What was clicked teaches a model, and the model suggests.
    preset = tmp_path / "preset.json"
    preset.write_text(json.dumps(to_dict(TINY)))
    trained = AnnotationFile.load(out)
    assert len(trained.frames) == 4 and len(trained.areas) == 2
    assert len(trained.pictures(find_bags(recorded))) == 4
    options = TrainSaliency(
        out=tmp_path / "part", bags=recorded, clicks=out, preset=str(preset), iterations=2, batch=2, threads=1
    )
    train_saliency.main(options)
    assert load_part(tmp_path / "part" / train_saliency.PART)[1]["saliency"]["roles"] == ["effector", "object", "goal"]
    sure(tmp_path / "part" / train_saliency.PART)
    server = Server(recorded, out, "--saliency", str(tmp_path / "part" / train_saliency.PART)).start()
    try:
        page.open(server.link)
        assert "unsure" in page.text("#proposals .told")
        wait(lambda: page.data("suggested") == page.data("key"), "a suggestion")
        assert page.find("#suggestion").is_displayed() and page.marks() == []
        page.keys("a")
        page.saved()
        assert {role for _, role in page.marks()} <= {"effector", "object", "goal"} and page.marks()
        assert len(AnnotationFile.load(out).frames) == 5
        page.keys("m", Keys.ARROW_UP)  # corrected
        page.saved()
        assert page.errors() == []
    finally:
        server.stop()


def sure(part: Path) -> None:
    """Two steps teach a model no peak: make its output high enough to suggest something."""
    weights, description = load_part(part)
    last = max(name for name in weights if name.startswith("levels.") and name.endswith("predict.bias"))
    weights[last] += 5.0
    save_part(part, weights, description)


def test_two_tabs_show_the_newer_version_and_lose_neither(shared: Server, page: Page) -> None:
    out = shared.out.with_name("clicks.tabs.json")
    page.open(f"{shared.link}?annotator=tabs")
    key = FrameKey(*page.here())
    # This tab shall not look for news when it comes to the front: its next save has to notice.
    page.browser.execute_script(
        "document.addEventListener('visibilitychange', (event) => event.stopImmediatePropagation(), true)"
    )
    page.browser.switch_to.new_window("tab")
    other = Page(page.browser).open(f"{shared.link}?annotator=tabs")
    assert FrameKey(*other.here()) == key
    other.at(0.2, 0.2).click().perform()
    other.saved()

    page.browser.switch_to.window(page.tab)
    assert page.marks() == []
    page.keys("2")
    page.at(0.8, 0.8).click().perform()
    wait(lambda: page.marks() == [("clicks", "effector")], "the other tab's click")
    assert "changed elsewhere" in page.data("told")
    page.saved()
    assert [click.role for click in AnnotationFile.load(out).frames[key]] == ["effector"]
    page.chord(*UNDO)  # ours was not lost
    page.saved()
    assert [click.role for click in AnnotationFile.load(out).frames[key]] == ["object"]

    other.browser.switch_to.window(other.tab)  # and a tab that comes to the front shows what is new
    other.browser.execute_script("window.dispatchEvent(new Event('visibilitychange'))")
    wait(lambda: other.marks() == [("clicks", "object")], "the first tab's click")


def test_a_killed_server_loses_nothing(recorded: Path, tmp_path: Path, page: Page) -> None:
    out = tmp_path / "clicks.json"
    server = Server(recorded, out).start()
    try:
        page.open(server.link)
        first = FrameKey(*page.here())
        page.at(0.2, 0.2).click().perform()
        page.saved()
        server.kill()
        page.at(0.4, 0.4).click().perform()
        wait(lambda: page.data("save") == "offline", "'offline'")
        assert page.text("#save") == "offline, will retry"
        page.keys("n", "n")  # the next picture is here already, the one after it cannot come
        page.wait_for("offline")
        assert page.find("#message").is_displayed()
        page.keys("p", "p")
        page.wait_for("shown")
        page.at(0.6, 0.6).click().perform()
        server.start()
        page.saved()
        page.wait_for("shown")
        assert [round(click.u, 1) for click in AnnotationFile.load(out).frames[first]] == [0.2, 0.4, 0.6]

        # Killed again, and the tab is closed before the server is back.
        server.kill()
        page.keys("2")
        page.at(0.8, 0.8).click().perform()
        wait(lambda: page.data("save") == "offline", "'offline'")
        page.browser.get("about:blank")
        server.start()
        page.open(server.link)
        page.saved()
        assert "brought back" in page.data("told")
        assert [click.role for click in AnnotationFile.load(out).frames[first]] == ["effector"] * 3 + ["object"]
    finally:
        server.stop()


def test_a_bag_that_is_deleted_underneath(recorded: Path, tmp_path: Path, page: Page) -> None:
    bags, out = tmp_path / "bags", tmp_path / "clicks.json"
    shutil.copytree(recorded, bags)
    server = Server(bags, out).start()
    try:
        page.open(server.link)
        gone = FrameKey(*page.here())
        page.at(0.2, 0.2).click().perform()
        page.saved()
        shutil.rmtree(bags / gone.bag)
        page.keys(".")
        page.wait_for("gone")
        assert f"{gone.bag!r} is gone" in page.text("#message")
        page.keys("n")
        wait(lambda: page.data("frame") == "shown", "a frame of another bag")
        assert page.here()[0] != gone.bag
        page.at(0.3, 0.3).click().perform()
        page.saved()
        found = AnnotationFile.load(out)
        assert gone in found.frames and len(found.frames) == 2
        server.stop()
        server.start()  # without the bag: its clicks stay in the file, and the page says so
        page.open(server.link)
        assert "1 annotated frames are of bags that are not here" in page.data("told")
        assert gone in AnnotationFile.load(out).frames
    finally:
        server.stop()
