"""Stages of a run that are done once: each leaves a marker, and a second call skips what is done."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from training.common import console, write_json
from visarl.config import ModelConfig, to_dict
from visarl.process import commit

Work = Callable[[bool], dict[str, Any]]
"""The stage: told whether an earlier attempt with other settings has to be thrown away; returns its figures."""


class Stage:
    """One stage's marker on disk.

    Args:
        folder: receives `<name>.json` when the stage is done.
        name: may contain slashes.
        settings: plain values, all that the result depends on.
        after: the stages that it builds on.
    """

    def __init__(self, folder: Path, name: str, settings: dict[str, Any], after: Iterable[Stage] = ()) -> None:
        self.name = name
        depends = [[other.hash for other in after], name, settings]
        self.hash = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:16]
        self._marker, self._begun = folder / f"{name}.json", folder / f"{name}.begun"

    def done(self) -> dict[str, Any] | None:
        """The marker (`figures`, `seconds`, `commits`) if the stage is done with these settings."""
        found = json.loads(self._marker.read_text()) if self._marker.exists() else {}
        return found if found.get("hash") == self.hash else None

    def run(self, work: Work) -> dict[str, Any]:
        """Do it, done before or not; the marker. An exception leaves none: the next call takes the stage up again."""
        self._marker.unlink(missing_ok=True)
        new = {"hash": self.hash, "seconds": 0.0, "commits": []}
        before = json.loads(self._begun.read_text()) if self._begun.exists() else new
        fresh = before["hash"] != self.hash
        spent, commits = (0.0, []) if fresh else (float(before["seconds"]), list(before["commits"]))
        if commits[-1:] != [commit()]:
            commits.append(commit())  # now: at its end the tree may hold another version than the one that ran
        write_json(self._begun, {"hash": self.hash, "seconds": spent, "commits": commits})
        began = time.monotonic()
        try:
            figures = work(fresh)
        except BaseException:
            # What an interrupted attempt took is part of what the result took.
            taken = spent + time.monotonic() - began
            write_json(self._begun, {"hash": self.hash, "seconds": taken, "commits": commits})
            raise
        taken = round(spent + time.monotonic() - began, 1)
        done = {"hash": self.hash, "seconds": taken, "commits": commits, "figures": figures}
        write_json(self._marker, done)
        return done


_NOT_THE_RESULT = ("preset", "device", "threads", "workers", "domain", "checkpoint_every", "restart")
"""Options that a stage's result does not depend on, and the preset, which stands there as the configuration it means.
Nor do paths: they follow from the run's folder."""


def settings_of(options: Any, config: ModelConfig) -> dict[str, Any]:
    """The options that a stage's result depends on, and the configuration where they choose one, as plain values."""
    plain = {k: v for k, v in asdict(options).items() if k not in _NOT_THE_RESULT and not isinstance(v, (Path, list))}
    return plain | ({"config": to_dict(config)} if hasattr(options, "preset") else {})


class Stages:
    """The stages of one run, one after the other.

    A marker holds a hash of the stage's settings and of those of the stages that it builds on, so that a changed option
    does that stage and what follows from it again, and nothing else. It also holds the commit that did the work.

    Args:
        folder: receives a marker, `<stage>.json`, for each stage that is done.
        names: of all stages in their order, for the display.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder, self.names = folder, list(names)
        self.seconds: dict[str, float] = {}
        self.commits: dict[str, list[str]] = {}
        """By stage; several where one was interrupted and went on after an update."""
        self.stages: dict[str, Stage] = {}

    def run(self, name: str, settings: dict[str, Any], work: Work, after: Sequence[str] = ()) -> dict[str, Any]:
        """Do the stage unless it is done; its figures either way.

        Args:
            settings: plain values, all that the result depends on.
            work: does it. An exception leaves no marker, so the next call takes up the stage again.
            after: stages of this run that it builds on.
        """
        stage = self.stages[name] = Stage(self.folder, name, settings, [self.stages[other] for other in after])
        title = f"[{self.names.index(name) + 1}/{len(self.names)}] {name}"
        done = stage.done()
        if done is not None:
            console().print(f"{title}: done before, in {done['seconds']:.0f} s")
        else:
            console().print(title)
            done = stage.run(work)
        self.seconds[name] = float(done["seconds"])
        self.commits[name] = list(done["commits"])
        return dict(done["figures"])
