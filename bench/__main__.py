"""`make bench`: every figure beside what it is compared with in the same run; JSON in runs/bench.json."""

from __future__ import annotations

import json
import os
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro
from rich import box
from rich.console import Console
from rich.table import Table

from visarl.cli import guarded


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Measure the whole graph, an image's hop between two processes, the engines, the renderer and the machine."""

    bundle: Path = Path("bundles/pick_red_block")
    """Folder with the trained models."""
    seconds: float = 40.0
    """How long the policy drives in each way of running the graph [s]."""
    frames: int = 240
    """Images of each hop measurement."""
    out: Path = Path("runs")
    """Folder that receives bench.json."""


def main(options: Bench) -> int:
    from visarl.ros.workspace import ROOT, activate

    activate()
    import torch  # before anything that renders

    from bench import engines, graph, hop, machine
    from visarl.bundle import load_bundle
    from visarl.ros.stranger import free_domain

    torch.set_num_threads(1)
    console = Console(stderr=True, highlight=False)
    bundle = load_bundle(options.bundle if options.bundle.exists() else ROOT / options.bundle)
    load = os.getloadavg()[0]
    if load > 0.5:
        console.print(
            f"[yellow]This machine is busy already (load {load:.1f}); the figures will be worse than its best.[/]"
        )
    options.out.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {}

    with console.status("image hop between two processes"):
        hops = {
            name: hop.measure(variables, options.frames).figures()
            for name, variables in hop.environments(free_domain()).items()
        }
    ways = {}
    with graph.open_log(options.out) as log:
        for name, fused in (("one process a node", False), ("perception fused", True)):
            with console.status(f"whole graph, {name}"):
                ways[name] = graph.measure(bundle, options.seconds, log, fused)
    with console.status("engines"):
        models, asked = engines.measure(bundle), engines.megaflops(bundle)
    with console.status("renderer and machine"):
        render = machine.render_ms(bundle.task)
        peak = {
            f"{n} thread{'s' * (n > 1)}": round(machine.matmul_gflops(n), 1) for n in sorted({1, os.cpu_count() or 1})
        }
    reached = engines.gflops(asked, models)

    whole, fused_whole = ways["one process a node"], ways["perception fused"]
    result = {
        "frame_to_command_ms": whole.latency_ms,
        "frame_to_command_fused_ms": fused_whole.latency_ms,
        "rate_hz": whole.rate_hz,
        "camera_hz": whole.camera_hz,
        "dropped": whole.dropped,
        "rss_gb": whole.rss_gb,
        "pss_gb": whole.pss_gb,
        "cpu_cores": whole.cpu_cores,
        "fused": asdict(fused_whole),
        "hop_ms": hops["shipped"],
        "hop_default_dds_ms": hops["default"],
        "engines_ms": models,
        "render_ms": round(render, 2),
        "matmul_gflops": peak,
        "models_mflop": asked,
        "models_gflops": reached,
        "models_share_of_matmul": {name: round(value / peak["1 thread"], 3) for name, value in reached.items()},
        "bundle": bundle.id,
        "machine": {"cpu": _cpu(), "cores": os.cpu_count(), "python": platform.python_version(), "load_before": load},
    }
    console.print(_table(result))
    (options.out / "bench.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))
    return 0


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _ms(figures: dict[str, float | None]) -> str:
    return " / ".join("–" if value is None else f"{value:.1f}" for name, value in figures.items() if name[0] == "p")


def _table(result: dict[str, Any]) -> Table:
    shown = Table(box=box.SIMPLE_HEAD)
    for head in ("what", "measured", "compared with"):
        shown.add_column(head)
    fused, default = result["fused"], result["hop_default_dds_ms"]
    shown.add_row(
        "camera stamp → executed command, p50 / p95 / p99 ms",
        _ms(result["frame_to_command_ms"]),
        f"{_ms(result['frame_to_command_fused_ms'])} with perception in one process",
    )
    shown.add_row("commands a second", f"{result['rate_hz']:.1f}", f"{fused['rate_hz']:.1f} fused; 10 asked for")
    shown.add_row(
        "pictures a second that reached a listener, dropped",
        f"{result['camera_hz']:.1f}, {result['dropped']}",
        f"{fused['camera_hz']:.1f}, {fused['dropped']} fused; 30 offered",
    )
    shown.add_row(
        "image 640x480 between two processes, p50 / p95 / p99 ms",
        f"{_ms(result['hop_ms'])}, {result['hop_ms']['arrived']:.0%} arrived",
        f"{_ms(default)}, {default['arrived']:.0%} arrived with Fast DDS's default transports",
    )
    for model, taken in result["engines_ms"].items():
        if "openvino" in taken:
            shown.add_row(f"{model}, one frame, ms", f"{taken['openvino']:.1f} openvino", f"{taken['torch']:.1f} torch")
        else:
            shown.add_row(f"{model}, one frame, ms", f"{taken['torch']:.1f} torch", "")
    shown.add_row("render 640x480, ms", f"{result['render_ms']:.1f}", "33.3, the camera's period")
    shown.add_row(
        "peak resident memory of the graph, GB",
        f"{result['rss_gb']:.2f}",
        f"{result['pss_gb']:.2f} at a scene's end with shared pages once; 4 at most",
    )
    shown.add_row("busy cores", f"{result['cpu_cores']:.2f}", f"{fused['cpu_cores']:.2f} fused; {os.cpu_count()} here")
    peak = ", ".join(f"{value:.0f} with {name}" for name, value in result["matmul_gflops"].items())
    for model, reached in result["models_gflops"].items():
        share = result["models_share_of_matmul"][model]
        one = result["matmul_gflops"]["1 thread"]
        shown.add_row(
            f"{model}, GFLOP/s", f"{reached:.1f}", f"{share:.0%} of a matrix multiplication's {one:.0f}, one thread"
        )
    shown.add_row("matrix multiplication, GFLOP/s", peak, "")
    return shown


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(tyro.cli(Bench, prog="python -m bench"))))
