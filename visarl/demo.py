"""`visarl demo`: the simulated graph, one process a node, drives the arm with a trained bundle; a report tells how."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from visarl import __version__
from visarl.bundle import Bundle, load_bundle
from visarl.errors import ConfigError
from visarl.options import Demo
from visarl.process import commit
from visarl.report import EpisodeRecord, all_latencies_ms, mean_rate_hz, write_report
from visarl.ros.graph import GraphOptions, graph
from visarl.ros.supervisor import Supervisor
from visarl.ros.workspace import ROOT
from visarl.sim.tasks import get_task
from visarl.timing import percentiles, summary


def main(options: Demo) -> int:
    """Runs the episodes; the table on stderr, one line of JSON as the last on stdout."""
    if options.episodes < 1:
        raise ConfigError(f"demo: expected at least one episode, found --episodes {options.episodes}")
    console = Console(stderr=True, highlight=False)
    bundle = load_bundle(options.bundle if options.bundle.exists() else ROOT / options.bundle)
    folder = options.out or Path("runs") / time.strftime(f"demo-{bundle.task}-%Y%m%d-%H%M%S")
    folder.mkdir(parents=True, exist_ok=True)
    episodes = run(bundle, options, folder, console)
    made = time.strftime("%Y-%m-%d %H:%M")
    with console.status("writing the report"):
        report = write_report(
            folder / "index.html",
            f"{bundle.task}: {sum(e.success for e in episodes)} of {len(episodes)}",
            f"Bundle {bundle.folder.name} ({bundle.id}) drives the simulated Jaco 2 through the ROS 2 graph, "
            + ("with perception in one process." if options.fused else "one process a node."),
            episodes,
            bundle.contract,
            bundle.config.preprocess,
            bundle.config.saliency.roles if bundle.config.needs_saliency else (),
            f"visarl {__version__} {commit()}, {made}. Latency: from the camera frame's stamp to the executed "
            "command's. Frames: whole pictures (camera/image_raw) that reached a listener beside the perception; "
            "dropped: those that did not, of 30 a second, by the stamps.",
        )
    console.print(table(episodes))
    console.print(f"report: {report}", soft_wrap=True)
    result = outcome(bundle.task, episodes, report)
    (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))
    return 0


def run(bundle: Bundle, options: Demo, folder: Path, console: Console) -> list[EpisodeRecord]:
    """Start the graph, let the policy drive in each scene, end the graph.

    Raises:
        VisarlError: a node ended (with its reason), or the graph does not answer.
    """
    from visarl.ros.stranger import free_domain, refuse_strangers

    wanted = GraphOptions(bundle=bundle.folder, task=bundle.task, seed=options.seed, fused=options.fused)
    wanted = replace(wanted, domain=free_domain())
    nodes = graph("sim", wanted)
    refuse_strangers(wanted)
    from visarl.ros.client import GraphClient  # sets the DDS variables of this process from `wanted`, before DDS starts
    from visarl.ros.witness import Witness

    episodes: list[EpisodeRecord] = []
    log_path = folder / "graph.log"
    with log_path.open("w", buffering=1, encoding="utf-8") as log, _progress(console) as progress:
        bar = progress.add_task(f"starting {len(nodes)} nodes", total=options.episodes)
        with (
            Supervisor(nodes, lambda line: print(line, file=log)) as supervisor,
            GraphClient(wanted, alive=supervisor.check) as client,
        ):
            client.wait_ready(perception=True)
            witness = Witness(client)
            limit_s = get_task(bundle.task).limit_s if options.limit_s is None else options.limit_s
            for seed in range(options.seed, options.seed + options.episodes):
                progress.update(bar, description=f"{bundle.task}, scene {seed}")
                client.reset(bundle.task, seed)
                episodes.append(drive(client, witness, seed, limit_s))
                progress.update(bar, advance=1)
            progress.update(bar, description="ending the graph")
    return episodes


def drive(client: Any, witness: Any, seed: int, limit_s: float) -> EpisodeRecord:
    """One episode in the scene that is set: until the task is done, or `limit_s` have passed."""

    def done() -> bool:
        truth = client.truth
        return truth is not None and truth.seed == seed and bool(truth.success)

    witness.begin()
    client.enable(True)
    end_s = time.monotonic() + limit_s
    client.wait_for(lambda: done() or time.monotonic() > end_s, limit_s + 10.0, "the end of the episode")
    record: EpisodeRecord = witness.end(seed, done())
    client.enable(False)
    return record


def table(episodes: Sequence[EpisodeRecord]) -> Table:
    """The result for a person's terminal."""
    shown = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for head in ("scene", "success", "seconds", "rate Hz", "p50 ms", "p95 ms", "p99 ms", "frames", "dropped"):
        shown.add_column(head, justify="left" if head == "scene" else "right", no_wrap=True)
    for episode in episodes:
        figures = [f"{value:.0f}" for value in percentiles(episode.latency_ms)]
        shown.add_row(
            str(episode.seed),
            "[green]yes[/]" if episode.success else "[red]no[/]",
            f"{episode.seconds:.1f}",
            f"{episode.rate_hz:.1f}",
            *figures,
            str(episode.frames),
            str(episode.dropped),
        )
    shown.add_section()
    shown.add_row(
        "all",
        f"{sum(e.success for e in episodes)} of {len(episodes)}",
        f"{sum(e.seconds for e in episodes):.1f}",
        f"{mean_rate_hz(episodes):.1f}",
        *(f"{value:.0f}" for value in percentiles(all_latencies_ms(episodes))),
        str(sum(e.frames for e in episodes)),
        str(sum(e.dropped for e in episodes)),
    )
    return shown


def outcome(task: str, episodes: Sequence[EpisodeRecord], report: Path) -> dict[str, Any]:
    """The last line on stdout."""
    return {
        "task": task,
        "episodes": len(episodes),
        "success": sum(e.success for e in episodes),
        "rate_hz": round(mean_rate_hz(episodes), 2),
        "latency_ms": summary(all_latencies_ms(episodes), digits=1),
        "report": str(report),
    }


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
