"""The whole simulated graph with a bundle: latency, rates and memory while the policy drives."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import psutil

from visarl.bundle import Bundle
from visarl.errors import VisarlError
from visarl.report import EpisodeRecord, all_latencies_ms, mean_rate_hz
from visarl.ros.graph import GraphOptions, graph
from visarl.ros.supervisor import Supervisor
from visarl.timing import summary

SCENE_S = 8.0
"""Before a fresh scene: long enough for the hand to reach the object, so that contacts are simulated too."""


@dataclass(frozen=True)
class GraphFigures:
    """What one way of running the graph measured."""

    latency_ms: dict[str, float | None]
    """Camera stamp to executed command."""
    rate_hz: float
    """Commands a second that answer a new camera frame."""
    camera_hz: float
    """Pictures that reached it."""
    dropped: int
    """Pictures (camera/image_raw) that did not reach a listener beside the perception, of 30 a second."""
    rss_gb: float
    """Each process's peak since its start, as the kernel kept it, summed: what they share counts once a process."""
    pss_gb: float
    """Resident at the end of a scene, the largest, with shared pages divided among their users."""
    cpu_cores: float
    """Busy cores, all processes together."""


def measure(bundle: Bundle, seconds: float, log: TextIO, fused: bool = False, first_seed: int = 1000) -> GraphFigures:
    """Let the policy drive for about `seconds`, in a fresh scene every few; the graph's output goes into `log`."""
    from visarl.ros.stranger import free_domain, refuse_strangers

    wanted = GraphOptions(
        bundle=bundle.folder, task=bundle.task, seed=first_seed, fused=fused, domain=free_domain(), engine="auto"
    )
    nodes = graph("sim", wanted)
    refuse_strangers(wanted)
    from visarl.ros.client import GraphClient
    from visarl.ros.witness import Witness

    episodes: list[EpisodeRecord] = []
    with (
        Supervisor(nodes, lambda line: print(line, file=log)) as supervisor,
        GraphClient(wanted, alive=supervisor.check) as client,
    ):
        client.wait_ready(perception=True)
        witness = Witness(client, pictures=False)
        processes = [psutil.Process(pid) for pid in supervisor.pids.values()]
        pss, busy_s = [], 0.0
        seed = first_seed
        while sum(e.seconds for e in episodes) < seconds:
            client.reset(bundle.task, seed)
            client.enable(True)
            # The first frames of a scene still pay for what the reset made cold.
            _let_pass(client, 0.5)
            before, began = _cpu_s(processes), time.monotonic()
            witness.begin()
            _let_pass(client, SCENE_S)
            episodes.append(witness.end(seed, success=False))
            busy_s += (_cpu_s(processes) - before) * episodes[-1].seconds / (time.monotonic() - began)
            client.enable(False)
            pss.append(sum(process.memory_full_info().pss for process in processes))
            seed += 1
        peak = sum(peak_bytes(process.pid) for process in processes)
    driven_s = sum(e.seconds for e in episodes)
    return GraphFigures(
        latency_ms=summary(all_latencies_ms(episodes), digits=1),
        rate_hz=round(mean_rate_hz(episodes), 2),
        camera_hz=round(sum(e.frames for e in episodes) / driven_s, 1),
        dropped=sum(e.dropped for e in episodes),
        rss_gb=round(peak / 1e9, 2),
        pss_gb=round(max(pss) / 1e9, 2),
        cpu_cores=round(busy_s / driven_s, 2),
    )


def peak_bytes(pid: int) -> int:
    """The most memory that a process was ever resident with (`man proc_pid_status`, VmHWM)."""
    for line in Path("/proc", str(pid), "status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise VisarlError(f"bench: the kernel tells no peak memory of process {pid}; this needs Linux")


def _let_pass(client: Any, seconds: float) -> None:
    end = time.monotonic() + seconds
    client.wait_for(lambda: time.monotonic() > end, seconds + 10.0, "time to pass")


def _cpu_s(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def open_log(folder: Path) -> TextIO:
    folder.mkdir(parents=True, exist_ok=True)
    return (folder / "bench-graph.log").open("w", buffering=1, encoding="utf-8")
