"""The server of the annotation page: frames and suggestions out, annotations in."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from visarl.annotate import exchange
from visarl.annotate.choose import Proposal
from visarl.annotate.guard import UPLOAD_LIMIT, Guard
from visarl.annotate.library import BagGone, Library
from visarl.annotate.predict import Predictor
from visarl.annotate.store import Conflict, Frame, State, Store, annotator_path, annotators, parse_marks
from visarl.contract import PLAIN_ROLE, ROLES
from visarl.data.annotations import SIGMA, AnnotationFile, FrameKey
from visarl.errors import DataError, VisarlError
from visarl.overlay import COLOURS
from visarl.preprocess import shrink

PAGE = Path(__file__).with_name("page")
PLAIN_COLOUR = (214, 170, 255)
THUMBNAIL = 112
"""Side of the pictures in the page's list [pixels]."""
JPEG = [cv2.IMWRITE_JPEG_QUALITY, 93]
HEADERS = {
    # Nothing from anywhere else: the page works offline, and nobody else's page can frame it or read its pictures.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True)
class Session:
    """What one run of the server is about."""

    library: Library
    out: Path
    """The nameless annotator's file; those of others lie beside it."""
    annotator: str
    roles: Sequence[str]
    """Those of the preset; training takes the ones that were clicked, unless this is `plain` alone."""
    proposals: Sequence[Proposal]
    predictor: Predictor | None = None
    token: str = ""
    cookie: str = ""

    def store(self, annotator: str) -> Store:
        return Store(annotator_path(self.out, annotator), self.library.preprocess)

    @property
    def id(self) -> str:
        """Tells a browser whose unsent changes it keeps."""
        return hashlib.sha256(str(self.out.resolve()).encode()).hexdigest()[:12]


class Save(BaseModel):
    """A frame as the page has it."""

    bag: str
    stamp: int
    clicks: list[dict[str, Any]]
    areas: list[dict[str, Any]] = []
    state: State = ""
    revision: int = Field(ge=0)
    save: str = Field(min_length=1, max_length=64)
    unacknowledged: list[str] = Field(default=[], max_length=2000)


def frame_values(key: FrameKey, frame: Frame) -> dict[str, Any]:
    """As the page reads it; a stamp in ns is too large for a number there."""
    values = asdict(frame)
    return {"bag": key.bag, "stamp": str(key.stamp_ns), **{k: values[k] for k in values if k != "save"}}


def make_app(session: Session, names: Iterable[str] = ("localhost",)) -> FastAPI:
    """The application; `names` are those under which it may be asked for (see `Guard`)."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, names=names, token=session.token, cookie=session.cookie)
    app.mount("/page", StaticFiles(directory=PAGE), name="page")
    library = session.library

    @app.middleware("http")
    async def add_headers(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers.update(HEADERS)
        if "cache-control" not in response.headers:
            response.headers["Cache-Control"] = "no-cache"
        return response

    @app.exception_handler(VisarlError)
    async def refused(request: Request, error: VisarlError) -> JSONResponse:
        return JSONResponse({"message": str(error)}, 410 if isinstance(error, BagGone) else 422)

    @app.exception_handler(Conflict)
    async def conflict(request: Request, error: Conflict) -> JSONResponse:
        values = asdict(error.current)
        return JSONResponse({"message": str(error), "frame": values}, 409)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return JSONResponse({"message": f"{'.'.join(map(str, first['loc']))}: {first['msg']}"}, 422)

    @app.exception_handler(HTTPException)
    async def failed(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"message": error.detail}, error.status_code)

    def known(bag: str, stamp: int) -> FrameKey:
        key = FrameKey(bag, stamp, library.topic)
        if key not in library:
            raise HTTPException(404, f"no frame {stamp} in a bag {bag[:80]!r} among those of this session")
        return key

    @app.get("/")
    def page() -> Response:
        response = FileResponse(PAGE / "page.html")
        if session.token:
            response.set_cookie(session.cookie, session.token, httponly=True, samesite="strict")
        return response

    @app.get("/api/session")
    def about() -> dict[str, Any]:
        return {
            "id": session.id,
            "annotator": session.annotator,
            "annotators": annotators(session.out),
            "out": session.out.name,
            "roles": [
                {"name": role, "colour": colour}
                for role, colour in zip((*ROLES, PLAIN_ROLE), (*COLOURS, PLAIN_COLOUR), strict=True)
            ],
            # Several roles cannot be trained without it; they mean nothing where the preset has one map of all.
            "first": "" if tuple(session.roles) == (PLAIN_ROLE,) else ROLES[0],
            "sigma": SIGMA,
            "limit": UPLOAD_LIMIT,
            "model": session.predictor is not None,
            "episodes": [
                {"name": name, "stamps": [str(stamp) for stamp in episode.frames]}
                for name, episode in library.episodes.items()
            ],
            "proposals": [
                {"bag": p.key.bag, "stamp": str(p.key.stamp_ns), "doubt": p.doubt} for p in session.proposals
            ],
        }

    @app.get("/api/annotations")
    def annotations(annotator: str = "") -> dict[str, Any]:
        frames = session.store(annotator).frames()
        return {
            "file": annotator_path(session.out, annotator).name,
            "frames": [frame_values(key, frame) for key, frame in frames.items() if key in library],
            "elsewhere": sum(frame.trains for key, frame in frames.items() if key not in library),
        }

    @app.get("/api/frame")
    def one(bag: str, stamp: int, annotator: str = "") -> dict[str, Any]:
        key = known(bag, stamp)
        return frame_values(key, session.store(annotator).frames().get(key, Frame()))

    @app.put("/api/frame")
    def save(given: Save, annotator: str = "") -> dict[str, Any]:
        key = known(given.bag, given.stamp)
        frame = Frame(*parse_marks(given.clicks, given.areas), given.state, given.revision, given.save)
        path = annotator_path(session.out, annotator)
        try:
            return {"revision": Store(path, library.preprocess).put(key, frame, given.unacknowledged).revision}
        except DataError as error:  # a full disk, a file that somebody spoilt: may be mended, so the page tries again
            raise HTTPException(503, str(error)) from error

    @app.get("/api/picture")
    def picture(bag: str, stamp: int, small: bool = False) -> Response:
        found = library.picture(known(bag, stamp))
        if small:
            found = shrink(found, THUMBNAIL)
        _, data = cv2.imencode(".jpg", cv2.cvtColor(found, cv2.COLOR_RGB2BGR), JPEG)
        return Response(data.tobytes(), media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    @functools.lru_cache(maxsize=256)
    def suggestions(key: FrameKey) -> list[dict[str, Any]]:
        assert session.predictor is not None
        found = session.predictor.suggest(library.picture(key))
        return [{**asdict(suggestion.click), "sure": suggestion.sure} for suggestion in found]

    @app.get("/api/suggestion")
    def suggestion(bag: str, stamp: int) -> list[dict[str, Any]]:
        if session.predictor is None:
            raise HTTPException(404, "no model was given; start with --saliency")
        return suggestions(known(bag, stamp))

    @app.get("/api/export")
    def export(what: Literal["clicks", "maps", "average"], annotator: str = "") -> Response:
        own = annotator_path(session.out, annotator).stem
        name, kind = {
            "clicks": (f"{own}.json", "application/json"),
            "maps": (f"{own}.maps.zip", "application/zip"),
            "average": (f"{session.out.stem}.average.json", "application/json"),
        }[what]
        found = average_of(session.out, library) if what == "average" else session.store(annotator).annotations()
        data = exchange.maps_archive(found) if what == "maps" else json.dumps(found.content(), indent=1)
        return Response(data, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'})

    @app.post("/api/import")
    async def take(request: Request, annotator: str = "") -> dict[str, Any]:
        data = await request.body()
        return await run_in_threadpool(import_, data, annotator)

    def import_(data: bytes, annotator: str) -> dict[str, Any]:
        if data.startswith(b"PK"):
            found = exchange.read_maps(data, library.episodes, library.topic, library.preprocess)
        else:
            try:
                content = json.loads(data)
            except (ValueError, RecursionError) as error:
                raise DataError(f"expected clicks (JSON) or a ZIP of PNG maps, {error}") from error
            if not isinstance(content, dict):
                raise DataError(f"expected clicks (a JSON object), found {type(content).__name__}")
            found = AnnotationFile.parse(content, "the file", library.preprocess)
        here = exchange.only(found, {key for key in found.frames if key in library})
        added = session.store(annotator).add(here)
        return {"added": added, "kept": len(here.frames) - added, "unknown": len(found.frames) - len(here.frames)}

    return app


def average_of(out: Path, library: Library) -> AnnotationFile:
    """The average of all annotators who have a file, the nameless one among them."""
    stores = [Store(annotator_path(out, name), library.preprocess) for name in annotators(out)]
    try:
        stores.append(Store(out, library.preprocess))
    except DataError:
        if not stores:  # `out` may be an average itself: it counts for nobody
            raise
    return exchange.average([store.annotations() for store in stores if store.path.exists()])
