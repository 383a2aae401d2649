"""A browser, a few made-up bags, and a server that serves them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from tests.unit.data.synthetic import Scene, synthetic_bag
from tests.web.driver import Page, Server, open_browser


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    found = open_browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.quit()


@pytest.fixture
def page(browser: webdriver.Chrome) -> Iterator[Page]:
    """A tab of its own; the browser's complaints about code are the test's."""
    first = browser.current_window_handle
    browser.switch_to.new_window("tab")
    found = Page(browser)
    found.errors()
    yield found
    for handle in browser.window_handles:
        if handle != first:
            browser.switch_to.window(handle)
            browser.close()
    browser.switch_to.window(first)


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("recorded")
    for number in range(3):
        synthetic_bag(root / f"ep{number}", Scene(seconds=1.5, seed=number))
    return root


@pytest.fixture(scope="session")
def shared(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the tests that spoil nothing; each under an annotator of its own."""
    server = Server(recorded, tmp_path_factory.mktemp("shared") / "clicks.json").start()
    yield server
    server.stop()
