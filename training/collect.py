"""From a task's name to what training begins with: demonstrations, the episode file, clicks on a few frames."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from training.common import console
from training.stages import Stages, settings_of
from visarl.config import ModelConfig, to_dict
from visarl.data.annotations import simulated_clicks
from visarl.data.convert import convert
from visarl.data.recorder import episodes
from visarl.options import Record
from visarl.record import record
from visarl.ros.stranger import free_domain
from visarl.sim.tasks import get_task

TEST_SCENES = 400
"""The first scene of the test demonstrations lies so far behind that of the others."""

STAGES = ("record", "record_test", "convert", "click")


@dataclass(frozen=True)
class Collection:
    """What is recorded of one task, and where: everything lies below `folder`."""

    folder: Path
    task: str
    demos: int
    test_demos: int
    disturbance: float
    frames: int
    """That get clicks."""
    seed: int
    domain: int | None = None
    """ROS domain; None takes one in which nobody on this machine is."""
    prefix: str = ""
    """Of the stages' names."""

    @property
    def bags(self) -> Path:
        return self.folder / "bags"

    @property
    def test_bags(self) -> Path:
        return self.folder / "test_bags"

    @property
    def episodes(self) -> Path:
        return self.folder / "episodes.hdf5"

    @property
    def clicks(self) -> Path:
        return self.folder / "clicks.json"

    @property
    def stages(self) -> list[str]:
        """Names of the stages, in their order."""
        return [self.prefix + name for name in STAGES]


def collect(wanted: Collection, config: ModelConfig, stages: Stages) -> dict[str, Any]:
    """Record through the graph, convert, click; the figures of `recording`, `conversion` and `annotation`.

    Raises:
        what recording and conversion raise; the stages before stay done.
    """
    record_name, test_name, convert_name, click_name = wanted.stages
    roles = get_task(wanted.task).roles

    def demonstrate(name: str, folder: Path, count: int, first: int) -> dict[str, Any]:
        options = Record(out=folder, task=wanted.task, episodes=count, seed=first, disturbance=wanted.disturbance)

        def work(fresh: bool) -> dict[str, Any]:
            if fresh:
                set_aside(folder)
            if count == 0:
                return {}
            domain = free_domain() if wanted.domain is None else wanted.domain
            made = record(replace(options, domain=domain), console())
            return {k: v for k, v in made.items() if k != "out"} | settings_of(options, config)

        return stages.run(name, settings_of(options, config), work)

    def do_convert(fresh: bool) -> dict[str, Any]:
        report = convert(episodes(wanted.bags, wanted.task), wanted.episodes, config.preprocess).as_json()
        return {k: v for k, v in report.items() if k != "out"}

    def do_click(fresh: bool) -> dict[str, Any]:
        chosen = episodes(wanted.bags, wanted.task)
        found = simulated_clicks(chosen, wanted.frames, wanted.seed, config.preprocess, roles)
        found.save(wanted.clicks)
        return {"frames": len(found.frames), "clicks": sum(len(c) for c in found.frames.values())}

    recording = demonstrate(record_name, wanted.bags, wanted.demos, wanted.seed)
    demonstrate(test_name, wanted.test_bags, wanted.test_demos, wanted.seed + TEST_SCENES)
    preprocess = {"preprocess": to_dict(config.preprocess)}
    conversion = stages.run(convert_name, preprocess, do_convert, (record_name,))
    clicking = preprocess | {"frames": wanted.frames, "seed": wanted.seed, "roles": list(roles)}
    return {
        "recording": recording,
        "conversion": conversion,
        "annotation": stages.run(click_name, clicking, do_click, (record_name,)),
    }


def set_aside(folder: Path) -> None:
    """Make room for other recordings. Nobody's are ever deleted."""
    if folder.exists():
        number = 1
        while (aside := folder.with_name(f"{folder.name}-before-{number}")).exists():
            number += 1
        folder.rename(aside)
        console().print(f"{folder}: recorded with other options, kept as {aside}")
