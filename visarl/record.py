"""`visarl record`: the scripted expert demonstrates through the real graph, and the recorder keeps it."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from visarl.data.bags import IMAGE
from visarl.data.files import writable
from visarl.data.labels import load_label, save_label
from visarl.data.recorder import episodes
from visarl.errors import ConfigError, VisarlError
from visarl.options import Record
from visarl.ros.graph import GraphOptions, graph
from visarl.ros.supervisor import Supervisor
from visarl.sim.seeds import TRAIN_SEEDS
from visarl.sim.tasks import get_task

if TYPE_CHECKING:
    from visarl.ros.client import GraphClient

DISCOVERY_S = 10.0
"""Nodes on a busy machine find each other within this time."""

PATIENCE = 5
"""Failures allowed beyond one for each demonstration asked for; the expert succeeds nearly always."""


class RecordError(VisarlError):
    """The demonstrations could not be recorded."""


def main(options: Record) -> int:
    """Records until the folder holds enough; its last line on stdout is one line of JSON."""
    result = record(options)
    print(json.dumps(result))
    return 0


def record(options: Record, console: Console | None = None) -> dict[str, Any]:
    """Bring `options.out` to `options.episodes` successful demonstrations of the task; what is there counts.

    Each attempt takes the seed after the last one's, so that an interrupted recording goes on where it stopped.

    Returns:
        task, episodes; attempts and failures, those of interrupted runs into the same folder included; seconds,
        bytes_per_second and image rate of what is kept; out.

    Raises:
        RecordError: the expert fails too often; ConfigError: no such task, no episodes, or seeds kept for validation;
        DataError: `options.out` cannot be written; and the graph's errors.
    """
    if options.episodes < 1:
        raise ConfigError(f"record: expected at least one demonstration, found --episodes {options.episodes}")
    get_task(options.task)
    out = options.out.expanduser().absolute()
    writable(out, folder=True)
    have = len(episodes(out, options.task))
    first = options.seed + attempts_in(out, options.task)
    last = first + max(0, options.episodes - have)
    if options.seed < TRAIN_SEEDS.start or last > TRAIN_SEEDS.stop:
        raise ConfigError(
            f"record: scenes {first} to {last} are not all in {TRAIN_SEEDS.start} to {TRAIN_SEEDS.stop - 1}; those "
            "above are kept for validation and evaluation, choose a lower --seed"
        )
    began_s = time.monotonic()
    if have < options.episodes:
        wanted = GraphOptions(
            task=options.task, seed=first, disturbance=options.disturbance, record=out, domain=options.domain
        )
        out.mkdir(parents=True, exist_ok=True)
        with (out / "graph.log").open("a", buffering=1) as log, _progress(console) as progress:
            bar = progress.add_task(f"demonstrating {options.task}", total=options.episodes, completed=have)
            for success in _attempts(wanted, options, have, lambda line: print(line, file=log)):
                progress.update(bar, advance=int(success))
    kept, failures = episodes(out, options.task), len(episodes(out, options.task, "failure"))
    return {
        "task": options.task,
        "episodes": len(kept),
        "attempts": len(kept) + failures,
        "failures": failures,
        "took_s": round(time.monotonic() - began_s, 1),
        **figures(kept),
        "out": str(options.out),
    }


def attempts_in(out: Path, task: str) -> int:
    """Episodes of the task below `out`, good, bad and unfinished."""
    return sum(1 for path in out.glob(f"{task}-*") if path.is_dir()) if out.exists() else 0


def figures(bags: list[Path]) -> dict[str, Any]:
    """Length, size and camera rate of finished bags, from their labels' reports and their files."""
    spans, size, rates, drops = 0.0, 0, [], 0
    for bag in bags:
        size += sum(path.stat().st_size for path in bag.glob("*.mcap"))
        image = next((rate for rate in load_label(bag).rates if rate["topic"] == IMAGE), None)
        if image and image["rate_hz"]:
            spans += (image["count"] - 1) / image["rate_hz"]
            rates.append(image["rate_hz"])
            drops += image["drops"]
    return {
        "seconds": round(spans, 1),
        "bytes_per_second": round(size / spans) if spans else 0,
        "image_hz": round(sum(rates) / len(rates), 2) if rates else 0.0,
        "image_drops": drops,
    }


def _attempts(wanted: GraphOptions, options: Record, have: int, say: Callable[[str], None]) -> Any:
    """Yields for each attempt whether it succeeded, until there are enough."""
    nodes = graph("teleop", wanted)
    from visarl.ros.client import GraphClient  # these need ROS
    from visarl.ros.stranger import refuse_strangers

    refuse_strangers(wanted)
    with Supervisor(nodes, say) as supervisor, GraphClient(wanted, alive=supervisor.check) as client:
        client.wait_ready(recorder=True)
        seed, failures = wanted.seed, 0
        limit_s = get_task(options.task).limit_s if options.limit_s is None else options.limit_s
        while have < options.episodes:
            if seed not in TRAIN_SEEDS:
                raise RecordError(f"{options.task}: no training scene left after {TRAIN_SEEDS.stop - 1}")
            success = demonstrate(client, wanted.record or options.out, options.task, seed, limit_s)
            have, failures, seed = have + success, failures + (not success), seed + 1
            yield success
            if failures > options.episodes + PATIENCE:
                raise RecordError(
                    f"{options.task}: the expert failed {failures} times for {have} demonstrations; is the machine "
                    f"too busy for real time? See {wanted.record}/graph.log"
                )


def demonstrate(client: GraphClient, root: Path, task: str, seed: int, limit_s: float) -> bool:
    """Record one demonstration in a fresh scene and label it; whether it succeeded.

    The recording is deleted if anything goes wrong, Ctrl-C included: half an episode teaches nothing.
    """
    client.reset(task, seed)
    try:
        episode = _start(client, task)
        client.teleop(True)
        limit = time.monotonic() + limit_s
        client.wait_for(
            lambda: _succeeded(client, seed) or time.monotonic() > limit, limit_s + 10.0, "the end of the episode"
        )
        success = _succeeded(client, seed)
        client.teleop(False)
        client.stop_recording()
    except BaseException:
        _give_up(client)
        raise
    client.label_recording("success" if success else "failure", episode)
    save_label(root / episode, replace(load_label(root / episode), seed=seed))
    return success


def _start(client: GraphClient, task: str) -> str:
    """Start the recorder. Just after the graph has come up it may not have found the camera and the arm yet."""
    limit = time.monotonic() + DISCOVERY_S
    while True:
        try:
            return client.start_recording(task)
        except VisarlError:
            if time.monotonic() > limit:
                raise
        time.sleep(0.2)


def _succeeded(client: GraphClient, seed: int) -> bool:
    truth = client.truth
    return truth is not None and truth.seed == seed and bool(truth.success)


def _give_up(client: GraphClient) -> None:
    # Each by itself: the recording goes also where the demonstrator does not answer. The graph may be gone as a whole;
    # the error that brought us here says why.
    with contextlib.suppress(VisarlError):
        client.teleop(False)
    with contextlib.suppress(VisarlError):
        client.discard_recording()


def _progress(console: Console | None) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console or Console(stderr=True),
    )
