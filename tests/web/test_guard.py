"""What comes to the annotation server past its page: no path leads out, no stranger gets in, nothing is too large."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.unit.data.synthetic import T0_NS
from tests.web.driver import ROOT, Page, Server, wait
from visarl.annotate.guard import UPLOAD_LIMIT
from visarl.data.annotations import AnnotationFile


def ask(
    server: Server, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    """One request past the browser; the path goes out as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


@pytest.mark.parametrize(
    "path",
    [
        "/page/../store.py",
        "/page/%2e%2e/store.py",
        "/page/..%2fstore.py",
        "/page//etc/passwd",
        "/api/picture?bag=../recorded0/ep0&stamp=1700000000000000000",
        "/api/picture?bag=%2fetc&stamp=1",
        "/api/annotations?annotator=../clicks",
        "/api/export?what=clicks&annotator=..%2f..%2fx",
        "/api/export?what=../../x",
        "/docs",
    ],
)
def test_a_path_that_tries_to_leave_the_folder(shared: Server, path: str) -> None:
    status, answer = ask(shared, "GET", path)
    assert status in (404, 422) and b"import" not in answer and b"root:" not in answer


def test_nothing_is_written_outside_the_folder(shared: Server) -> None:
    stamp = str(T0_NS)
    good = {"bag": "ep0", "stamp": stamp, "clicks": [], "areas": [], "state": "empty", "revision": 0, "save": "x"}
    before = sorted(shared.out.parent.parent.rglob("*.json"))
    for changed, query in (
        ({}, "?annotator=../escaped"),
        ({"bag": "../ep0"}, ""),
        ({"clicks": [{"u": 7, "v": 0}]}, ""),
    ):
        body = json.dumps({**good, **changed}).encode()
        status, answer = ask(shared, "PUT", f"/api/frame{query}", body, {"Content-Type": "application/json"})
        assert status in (404, 422) and json.loads(answer)["message"]
    assert sorted(shared.out.parent.parent.rglob("*.json")) == before


def test_an_oversized_upload(shared: Server, tmp_path: Path, page: Page) -> None:
    status, answer = ask(shared, "POST", "/api/import", None, {"Content-Length": str(UPLOAD_LIMIT + 1)})
    assert status == 413 and str(UPLOAD_LIMIT) in json.loads(answer)["message"]
    status, _ = ask(shared, "POST", "/api/import", None, {"Transfer-Encoding": "chunked"})
    assert status == 411  # nor one whose size nobody tells
    large = tmp_path / "large.json"
    with large.open("wb") as stream:
        stream.truncate(UPLOAD_LIMIT + 1)
    page.open(f"{shared.link}?annotator=upload")
    page.find("#file").send_keys(str(large))
    wait(lambda: "large.json is too large: at most 16 MB" in page.data("told"), "the page's answer")
    page.at(0.5, 0.5).click().perform()  # and all goes on
    page.saved()


def test_what_was_exported_can_be_imported(shared: Server, tmp_path: Path, page: Page) -> None:
    page.open(f"{shared.link}?annotator=one")
    page.at(0.25, 0.75).click().perform()
    page.saved()
    for what in ("clicks", "maps"):
        status, data = ask(shared, "GET", f"/api/export?what={what}&annotator=one")
        assert status == 200
        (tmp_path / what).write_bytes(data)
    for what, kind in (("clicks", "clicks"), ("maps", "areas")):
        page.open(f"{shared.link}?annotator=from-{what}")
        page.find("#file").send_keys(str(tmp_path / what))
        wait(lambda: "1 frames added" in page.data("told"), "the import")
        assert page.marks()[0] == (kind, "effector")
    page.find("#file").send_keys(str(Path(__file__)))
    wait(lambda: "Not imported: expected clicks (JSON)" in page.data("told"), "the refusal")
    status, data = ask(shared, "GET", "/api/export?what=average")
    assert status == 200 and json.loads(data)["frames"]


def test_other_pages_of_the_browser_can_do_nothing(shared: Server) -> None:
    assert ask(shared, "GET", "/api/session", headers={"Host": "rebound.example.com"})[0] == 421
    assert ask(shared, "GET", "/api/session", headers={"Host": f"localhost:{shared.port}"})[0] == 200
    origin = {"Origin": "https://example.com"}
    assert ask(shared, "POST", "/api/import", b"{}", origin)[0] == 403
    assert ask(shared, "POST", "/api/import", b"{}", {"Origin": f"http://127.0.0.1:{shared.port}"})[0] == 422


def test_beyond_this_machine_only_the_printed_link_opens_the_page(recorded: Path, tmp_path: Path, page: Page) -> None:
    server = Server(recorded, tmp_path / "clicks.json", "--host", "0.0.0.0").start()
    try:
        token = parse_qs(urlsplit(server.link).query)["token"][0]
        assert len(token) >= 32
        for path in (
            "/",
            "/api/session",
            "/page/page.js",
            "/?token=",
            "/?token=wrong",
            "/api/session?token=wr%C3%B6ng",
        ):
            status, answer = ask(server, "GET", path)
            assert status == 403 and "token" in json.loads(answer)["message"]
        assert ask(server, "PUT", "/api/frame", b"{}", {"Cookie": "visarl-annotate=x; ;="})[0] == 403
        assert ask(server, "GET", f"/?token={token}", headers={"Host": "rebound.example.com"})[0] == 421
        page.open(f"http://127.0.0.1:{server.port}/?token={token}")
        page.at(0.5, 0.5).click().perform()
        page.saved()
        assert len(AnnotationFile.load(tmp_path / "clicks.json").frames) == 1
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--bags", "nowhere"], "expected a folder with bags"),
        (["--bags", "BAGS", "--annotator", "../anna"], "annotator: expected"),
        (["--bags", "BAGS", "--frames", "0"], "frames: expected at least 1"),
        (["--bags", "BAGS", "--port", "70000"], "port: expected 0 to 65535"),
        (["--bags", "BAGS", "--host", "192.0.2.1"], "choose others with --host and --port"),
        (["--bags", "BAGS", "--preset", "65"], "unknown preset"),
        (["--bags", "BAGS", "--port", "TAKEN"], "cannot listen at 127.0.0.1 port"),
    ],
)
def test_a_mistake_at_the_start_is_one_line(recorded: Path, tmp_path: Path, options: list[str], expected: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        given = {"BAGS": str(recorded), "TAKEN": str(taken.getsockname()[1])}
        command = [
            sys.executable,
            "-m",
            "visarl.cli",
            "annotate",
            "--out",
            str(tmp_path / "clicks.json"),
            "--port",
            "0",
        ]
        command += [given.get(option, option) for option in options]
        result = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith("visarl: error: ") and expected in result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="a browser by the environment's BROWSER")
def test_the_page_opens_by_itself_where_there_is_a_screen(recorded: Path, tmp_path: Path) -> None:
    opened, browser = tmp_path / "opened", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}.part && mv {opened}.part {opened}\n')
    browser.chmod(0o755)
    environment = {"DISPLAY": ":99", "BROWSER": str(browser)}
    server = Server(recorded, tmp_path / "clicks.json", env=environment).start()
    try:
        wait(opened.exists, "the browser")
        assert opened.read_text().strip() == server.link
        assert ask(server, "GET", "/")[0] == 200
    finally:
        server.kill()
