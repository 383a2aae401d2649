"""Where frames come from on a real bench: a V4L2 device, a video file, a folder of pictures, or a recorded bag."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from visarl.contract import CAMERA_HEIGHT, CAMERA_RATE_HZ, CAMERA_WIDTH
from visarl.errors import CameraError, DataError
from visarl.robot.interfaces import Camera, Frame

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".webm")
PICTURE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png")


def open_camera(
    source: str,
    width: int = CAMERA_WIDTH,
    height: int = CAMERA_HEIGHT,
    rate_hz: float = CAMERA_RATE_HZ,
    loop: bool = False,
) -> Camera:
    """The camera that `source` names.

    Args:
        source: `/dev/video0` or `0`; or the path of a video file, a folder of pictures, or a bag.
        width: of every frame [pixels]; so `height`. A frame of another size is an error, never resized in silence.
        rate_hz: asked of a device; the pace at which a file, a folder or a bag is played.
        loop: begin a file, a folder or a bag again at its end, for a bench without a camera.

    Raises:
        CameraError: nothing there, or nothing that shows pictures.
    """
    if rate_hz <= 0:
        raise CameraError(f"camera rate {rate_hz} Hz: expected a number above 0")
    if source.isdigit() or source.startswith("/dev/"):
        return DeviceCamera(f"/dev/video{source}" if source.isdigit() else source, width, height, rate_hz)
    path = Path(source).expanduser()
    if not path.exists():
        raise CameraError(
            f"camera source {source!r}: no such file or device; give a device (/dev/video0 or 0), a video file, "
            f"a folder of pictures, or a bag{_devices()}"
        )
    return PlayedCamera(source, _player(path), width, height, rate_hz, loop)


def _devices() -> str:
    found = ", ".join(sorted(str(p) for p in Path("/dev").glob("video*")))
    return f"; devices here: {found or 'none'}"


class DeviceCamera:
    """A V4L2 device, read in a thread of its own: a call to `read` is bounded, and its frame is the newest.

    Args:
        capture: an open capture to use in place of the device at `path`.

    Raises:
        CameraError: the device is missing, busy, or not allowed.
    """

    def __init__(
        self, path: str, width: int, height: int, rate_hz: float, capture: cv2.VideoCapture | None = None
    ) -> None:
        self._path, self._size = path, (height, width)
        self._capture = _open_device(path, width, height, rate_hz) if capture is None else capture
        self._news = threading.Condition()
        self._frame: Frame | None = None
        self._fault = ""
        self._closed = False
        self._thread = threading.Thread(target=self._grab, name="camera", daemon=True)
        self._thread.start()

    def _grab(self) -> None:
        fault = ""
        try:
            while not self._closed:
                there, picture = self._capture.read()
                stamp_ns = time.time_ns()
                if not there:
                    fault = "the device sends no more frames; is it still plugged in?"
                    break
                frame = Frame(np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8), stamp_ns)
                with self._news:
                    self._frame = frame
                    self._news.notify_all()
        except Exception as error:  # whatever it is: a thread has no caller, and the reader would wait in vain
            fault = f"its frames cannot be read ({type(error).__name__}: {error}); plug it in again or use another"
        finally:
            with self._news:
                self._fault = fault and f"camera {self._path}: {fault}"
                self._news.notify_all()
            self._capture.release()

    def read(self, timeout_s: float) -> Frame | None:
        with self._news:
            self._news.wait_for(lambda: self._frame is not None or self._fault or self._closed, timeout_s)
            frame, self._frame = self._frame, None
        if self._closed:
            raise CameraError(f"camera {self._path}: already closed; open it again")
        if frame is not None:
            return _sized(frame, self._size, self._path)
        raise CameraError(
            self._fault or f"camera {self._path}: no frame within {timeout_s:g} s; is it in use elsewhere?"
        )

    def close(self) -> None:
        self._closed = True
        with self._news:
            self._news.notify_all()
        # A driver may hang in its read; the thread is a daemon and releases the device when it comes back.
        self._thread.join(timeout=1.0)


def _open_device(path: str, width: int, height: int, rate_hz: float) -> cv2.VideoCapture:
    if not Path(path).exists():
        raise CameraError(f"camera {path}: no such device; plug it in or name another{_devices()}")
    capture = cv2.VideoCapture(path, cv2.CAP_V4L2)
    if not capture.isOpened():
        raise CameraError(
            f"camera {path}: cannot be opened as a video device; another program may hold it, or you may not: "
            "`sudo usermod -aG video $USER` and log in again"
        )
    # Raw frames at this size and rate are more than USB 2 carries; MJPG is what webcams offer instead.
    capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
    capture.set(cv2.CAP_PROP_FRAME_WIDTH, width)
    capture.set(cv2.CAP_PROP_FRAME_HEIGHT, height)
    capture.set(cv2.CAP_PROP_FPS, rate_hz)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # old frames are worth nothing
    return capture


class PlayedCamera:
    """Pictures from a file, offered at the pace of a camera and stamped with the time of their showing.

    A reader that is slower than the pace gets the next picture late; none is left out.

    Args:
        pictures: opens the source and yields (H, W, 3) uint8 RGB.
    """

    def __init__(
        self,
        name: str,
        pictures: Callable[[], Iterator[NDArray[np.uint8]]],
        width: int,
        height: int,
        rate_hz: float,
        loop: bool,
    ) -> None:
        self._name, self._open, self._loop = name, pictures, loop
        self._size, self._period_s = (height, width), 1.0 / rate_hz
        self._pictures = pictures()
        self._waiting = self._next()  # so that an empty or unreadable source is an error now
        if self._waiting is None:
            raise CameraError(f"camera source {name}: holds no pictures")
        self._due_s = time.monotonic()
        self._closed = threading.Event()

    def _next(self) -> NDArray[np.uint8] | None:
        try:
            return next(self._pictures, None)
        except (DataError, OSError) as error:
            raise CameraError(f"camera source {self._name}: {error}") from error

    def read(self, timeout_s: float) -> Frame | None:
        if self._closed.is_set():
            raise CameraError(f"camera source {self._name}: already closed; open it again")
        if self._waiting is None:
            return None
        wait = self._due_s - time.monotonic()
        if self._closed.wait(max(0.0, min(wait, timeout_s))) or wait > timeout_s:
            raise CameraError(f"camera source {self._name}: no frame within {timeout_s:g} s")
        self._due_s = max(self._due_s, time.monotonic() - self._period_s) + self._period_s
        frame = Frame(self._waiting, time.time_ns())
        self._waiting = self._next()
        if self._waiting is None and self._loop:
            self._pictures = self._open()
            self._waiting = self._next()
        return _sized(frame, self._size, self._name)

    def close(self) -> None:
        self._closed.set()


def _sized(frame: Frame, size: tuple[int, int], name: str) -> Frame:
    """`frame`, or CameraError where it is not (height, width) large."""
    found = frame.image.shape[:2]
    if found != size:
        raise CameraError(
            f"camera {name}: expected frames of {size[1]}x{size[0]}, found {found[1]}x{found[0]}; set camera_node's "
            "`width` and `height` in the bench file to a size that it has, and record and train with that size too"
        )
    return frame


def _player(path: Path) -> Callable[[], Iterator[NDArray[np.uint8]]]:
    """What plays the file or folder at `path`, by what it is."""
    if path.is_dir() and not (path / "metadata.yaml").exists():
        pictures = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES)
        if not pictures:
            raise CameraError(
                f"camera source {path}: a folder without pictures ({', '.join(PICTURE_SUFFIXES)}) and without a bag's "
                "metadata.yaml"
            )
        return lambda: _pictures(pictures)
    if path.is_dir() or path.suffix in (".mcap", ".db3"):
        return lambda: _bag(path)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return lambda: _video(path)
    raise CameraError(
        f"camera source {path}: neither a video ({', '.join(VIDEO_SUFFIXES)}), nor a folder of pictures, nor a bag"
    )


def _pictures(paths: list[Path]) -> Iterator[NDArray[np.uint8]]:
    for path in paths:
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if picture is None:
            raise DataError(f"{path.name} is no picture that OpenCV can read")
        yield np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _video(path: Path) -> Iterator[NDArray[np.uint8]]:
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            raise DataError(f"{path.name} is no video that OpenCV can read")
        while True:
            there, picture = capture.read()
            if not there:
                return
            yield np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8)
    finally:
        capture.release()


def _bag(path: Path) -> Iterator[NDArray[np.uint8]]:
    from visarl.data.bags import frames_from_bag  # only a bag needs the readers of bags

    for _, picture in frames_from_bag(path):
        yield picture
