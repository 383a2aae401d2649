"""Jobs for `test_jobs`, called by name in worker processes."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from visarl.errors import ConfigError


def note(fresh: bool, folder: Path, who: str) -> dict[str, Any]:
    """Append `who` to a file that tells the order of things."""
    with (folder / "order").open("a") as file:
        file.write(f"{who}\n")
    print(f"{who} was here")
    return {"name": who, "fresh": fresh}


def refuse(fresh: bool) -> dict[str, Any]:
    raise ConfigError("wrong: expected right")


def stumble(fresh: bool) -> dict[str, Any]:
    raise ZeroDivisionError("by accident")


def die_once(fresh: bool, folder: Path) -> dict[str, Any]:
    """As the kernel ends a process for its memory, the first time."""
    if not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"survived": True}


def die(fresh: bool) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}
