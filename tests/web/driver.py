"""The real server in a process of its own, and a real browser that a person's hands drive."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

ROOT = Path(__file__).parents[2]
LIMIT_S = 60.0
START_S = 150.0
"""The first import of torch from a fresh disk takes minutes."""
FLAGS = (
    "headless=new no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
    "disable-component-update disable-sync window-size=1280,720"
)

T = TypeVar("T")


def wait(condition: Callable[[], T], what: str, limit_s: float = LIMIT_S) -> T:
    """The first true value of `condition`."""
    limit = time.monotonic() + limit_s
    while not (value := condition()):
        assert time.monotonic() < limit, f"waited {limit_s:g} s for {what}"
        time.sleep(0.03)
    return value


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Server:
    """`visarl annotate` as a person starts it."""

    def __init__(self, bags: Path, out: Path, *options: str, env: Mapping[str, str] | None = None) -> None:
        self.port, self.out = free_port(), out
        self._command = [sys.executable, "-m", "visarl.cli", "annotate", "--bags", str(bags), "--out", str(out)]
        self._command += ["--port", str(self.port), "--frames", "4", *options]
        # Without a screen: it would open a window on that of the person who runs the tests.
        self._env = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
        self._env |= {"OMP_NUM_THREADS": "1", **(env or {})}
        self._log = out.parent / f"server-{self.port}.log"
        self.link = ""
        self.process: subprocess.Popen[bytes]

    def start(self) -> Server:
        with self._log.open("wb") as stream:
            self.process = subprocess.Popen(
                self._command,
                stdout=stream,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=self._env,
            )
        self.link = wait(self._link, "the server's link", START_S)
        return self

    def _link(self) -> str:
        text = self._log.read_text()
        assert self.process.poll() is None, text
        return text.split("annotate at ")[1].split()[0] if "saved in" in text else ""

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(LIMIT_S)

    def stop(self) -> int:
        """Ctrl-C."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(LIMIT_S)

    @property
    def log(self) -> str:
        return self._log.read_text()


def open_browser(profile: Path) -> webdriver.Chrome:
    """Headless Chromium with a fresh profile; skips the test where it is not installed."""
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("needs Chromium and its driver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in FLAGS.split():
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    found.set_script_timeout(LIMIT_S)
    found.set_page_load_timeout(LIMIT_S)
    # The window's height is less its frame; a laptop's whole screen shall be the page.
    size = {"width": 1280, "height": 720, "deviceScaleFactor": 1, "mobile": False}
    found.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    return found


class Page:
    """A person at one tab."""

    def __init__(self, browser: webdriver.Chrome) -> None:
        self.browser = browser
        self.tab = browser.current_window_handle

    def open(self, link: str) -> Page:
        self.browser.get(link)
        self.wait_for("shown")
        return self

    def reload(self) -> None:
        self.browser.refresh()
        self.wait_for("shown")

    def find(self, css: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, css)

    def all(self, css: str) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, css)

    def text(self, css: str) -> str:
        return str(self.browser.execute_script("return document.querySelector(arguments[0]).textContent", css))

    def data(self, name: str) -> str:
        return str(self.browser.execute_script("return document.body.dataset[arguments[0]] ?? ''", name))

    def wait_for(self, frame: str) -> None:
        wait(lambda: self.data("frame") == frame, f"a frame that is {frame}, now {self.data('frame')!r}")

    def saved(self) -> None:
        wait(lambda: self.data("save") == "saved", f"'saved', now {self.text('#save')!r}")

    def marks(self) -> list[tuple[str, str]]:
        """(kind, role) of all marks on the frame."""
        script = (
            "return [...document.querySelectorAll('#marks li[data-kind]')].map(x => [x.dataset.kind, x.dataset.role])"
        )
        return [(kind, role) for kind, role in self.browser.execute_script(script)]

    def keys(self, *names: str) -> None:
        for name in names:
            ActionChains(self.browser, 0).send_keys(name).perform()

    def chord(self, *names: str) -> None:
        *held, last = names
        chain = ActionChains(self.browser, 0)
        for name in held:
            chain.key_down(name)
        chain.send_keys(last)
        for name in held:
            chain.key_up(name)
        chain.perform()

    def at(self, u: float, v: float) -> ActionChains:
        """The mouse at a share of the picture, not yet performed."""
        canvas = self.find("#canvas")
        side = min(canvas.size["width"], canvas.size["height"]) - 36
        return ActionChains(self.browser, 0).move_to_element_with_offset(
            canvas, round((u - 0.5) * side), round((v - 0.5) * side)
        )

    def drag(self, start: tuple[float, float], *way: tuple[float, float]) -> None:
        canvas = self.find("#canvas")
        side = min(canvas.size["width"], canvas.size["height"]) - 36
        chain, last = self.at(*start).click_and_hold(), start
        for u, v in way:
            chain.move_by_offset(round((u - last[0]) * side), round((v - last[1]) * side))
            last = (u, v)
        chain.release().perform()

    def here(self) -> tuple[str, int]:
        """The bag and the stamp of the frame on the screen."""
        bag, stamp = self.data("key").split("|")
        return bag, int(stamp)

    def errors(self) -> list[Any]:
        """What the page's own code complained about."""
        return [line for line in self.browser.get_log("browser") if "net::ERR" not in line["message"]]


UNDO = (Keys.CONTROL, "z")
REDO = (Keys.CONTROL, Keys.SHIFT, "z")
