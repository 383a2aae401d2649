"""Small files written so that a crash leaves the old content or the new, never half of either."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from visarl.errors import DataError


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` in one step.

    Raises:
        DataError: the disk is full or the folder cannot be written; the old file is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise DataError(f"{path}: not saved, {error.strerror}; make room or choose another folder") from error
    finally:
        with contextlib.suppress(OSError):  # it has become `path`; or there was none, or nothing may be written
            temporary.unlink()


def writable(path: Path, folder: bool = False) -> None:
    """Try now what would fail after an hour's work: whether the file `path` can be written there, with the folders that
    it lacks; or, with `folder`, files in the folder `path`. Leaves nothing behind.

    Raises:
        DataError: it cannot; says where it fails.
    """
    place, other = (path, "choose another folder") if folder else (path.parent, "choose another file")
    try:
        if not folder and path.is_dir():
            raise DataError(f"{path}: is a folder; expected the name of a file, such as {path / 'NAME'}")
        while not place.exists():
            place = place.parent
        if not place.is_dir():
            raise DataError(f"{path}: cannot be written, {place} is a file and no folder; {other}")
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        raise DataError(f"{path}: cannot be written, {place}: {error.strerror}; {other}") from error


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`.

    Raises:
        DataError: no such file, or it holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: expected a JSON file, {error.strerror}; check the path") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: expected a JSON file, {error}; replace it by a good copy, or remove it") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object, found {type(value).__name__}; is it another program's?")
    return value
