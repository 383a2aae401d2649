"""`visarl annotate`: choose frames, and serve the page until Ctrl-C."""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import webbrowser
from collections.abc import Collection
from pathlib import Path

from visarl.annotate.store import AVERAGE, Store, annotator_path, annotators
from visarl.config import get_preset
from visarl.data.annotations import AnnotationFile, FrameKey
from visarl.data.bags import find_bags
from visarl.data.files import read_json, write_text
from visarl.errors import ConfigError, DataError
from visarl.options import Annotate


def main(options: Annotate) -> int:
    """Ends with Ctrl-C; with `options.average` at once."""
    out = clicks_file(options)
    if options.average:
        return write_average(options, out)
    if options.frames < 1:
        raise ConfigError(f"frames: expected at least 1, found {options.frames}")
    if not 0 <= options.port <= 65535:
        raise ConfigError(f"port: expected 0 to 65535, found {options.port}")
    import cv2
    import uvicorn

    from visarl.annotate.choose import propose
    from visarl.annotate.guard import cookie_name, is_loopback
    from visarl.annotate.library import Library
    from visarl.annotate.predict import Predictor
    from visarl.annotate.server import Session, make_app

    config = get_preset(options.preset)
    store = Store(annotator_path(out, options.annotator), config.preprocess)
    store.add(AnnotationFile(config.preprocess))  # nothing: but a folder that cannot be written is said now
    listening = listen(options.host, options.port)  # before the slow part: a port in use is said at once
    cv2.setNumThreads(0)  # its pool would fight torch's for the cores
    bags = find_bags(options.bags)
    where = "" if options.saliency is None else f" of which {options.saliency} is least sure"
    print(f"looking through {len(bags)} bags for {options.frames} frames{where}", flush=True)
    library = Library(bags, config.preprocess, options.topic)
    predictor = None if options.saliency is None else Predictor(options.saliency, config.preprocess)
    # Without a model, a second start and another annotator get the same frames; a model asks for new ones.
    done: Collection[FrameKey] = () if predictor is None else [k for k, frame in store.frames().items() if frame.trains]
    proposals = propose(library, options.frames, options.seed, predictor, done)
    port, token = listening.getsockname()[1], "" if is_loopback(options.host) else secrets.token_urlsafe(24)
    roles = config.saliency.roles
    session = Session(library, out, options.annotator, roles, proposals, predictor, token, cookie_name(port))
    own = socket.gethostname()  # not getfqdn(), which may wait for a name server that is not there
    names = ["localhost"] if not token else ["localhost", own, f"{own}.local", options.host]
    address = link(options.host, port, token)
    print(f"annotate at {address} (Ctrl-C ends; saved in {store.path})", flush=True)
    if not token and has_screen():
        webbrowser.open(address)  # waits in the socket until the server runs, one moment from now
    settings = uvicorn.Config(make_app(session, names), log_level="warning", timeout_graceful_shutdown=2)
    try:
        uvicorn.Server(settings).run([listening])
    finally:
        print(farewell(store, options.bags), flush=True)
    return 0


def clicks_file(options: Annotate) -> Path:
    """Where the clicks are kept."""
    return options.bags.absolute().parent / "clicks.json" if options.out is None else options.out


def has_screen() -> bool:
    """Whether a browser would show here: over SSH a text browser would take the terminal."""
    return sys.platform != "linux" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def farewell(store: Store, bags: Path) -> str:
    """What the person who closes the page has, and what comes next."""
    try:
        count = sum(frame.trains for frame in store.frames().values())
    except DataError as error:  # somebody spoilt the file meanwhile: that is what has to be said
        return str(error)
    if not count:
        return "nothing annotated" + ("" if store.path.exists() else f"; {store.path} is not written")
    learn = f"visarl train saliency --bags {bags} --clicks {store.path} --out DIR"
    return f"annotated frames: {count}; `{learn}` learns from them"


def listen(host: str, port: int) -> socket.socket:
    """A socket that already takes connections, so that the printed link works at once.

    Raises:
        ConfigError: no such address here, or the port is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(128)
    except OSError as error:
        raise ConfigError(
            f"cannot listen at {host} port {port} ({error.strerror or error}); choose others with --host and --port"
        ) from error
    return found


def link(host: str, port: int, token: str) -> str:
    """The page's address, for a browser."""
    if host in ("0.0.0.0", "::", ""):
        host = socket.gethostname()
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/" + (f"?token={token}" if token else "")


def write_average(options: Annotate, out: Path) -> int:
    """Average the named annotators into `out`; the last line on stdout is one line of JSON.

    Raises:
        DataError: nobody has annotated, or `out` holds somebody's own clicks.
    """
    from visarl.annotate.exchange import average

    names = annotators(out)
    if not names:
        expected = out.with_name(f"{out.stem}.NAME{out.suffix}")
        raise DataError(f"no files {expected}; annotate with --annotator NAME first")
    check_replaceable(out)
    preprocess = get_preset(options.preset).preprocess
    files = [Store(annotator_path(out, name), preprocess).annotations() for name in names]
    found = average(files)
    write_text(out, json.dumps({**found.content(), AVERAGE: names}, indent=1))
    marks = sum(map(len, found.frames.values())) + sum(map(len, found.areas.values()))
    print(json.dumps({"annotators": names, "frames": len(found.frames), "marks": marks}))
    return 0


def check_replaceable(out: Path) -> None:
    """Raises DataError where an average would overwrite what somebody clicked."""
    if out.exists() and AVERAGE not in read_json(out):
        raise DataError(
            f"{out}: holds somebody's own clicks, no average; rename it to {out.stem}.NAME{out.suffix}, and it counts"
        )
