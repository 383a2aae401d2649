"""Closed-loop success of a bundle in simulation, in this process or over the ROS graph.

    visarl evaluate --bundle bundles/pick_red_block --seeds 1000:1020
    visarl evaluate --bundle bundles/pick_red_block --seeds 1000:1020 --graph
    visarl evaluate --bundle bundles/pick_red_block --seeds 1000:1020 --perturbation distractors

The last line on stdout is one line of JSON.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from training.agents import BundleAgent
from training.closed_loop import STAY_S, Start, run_starts
from training.common import console, track, write_json
from visarl.bundle import load_bundle
from visarl.contract import CONTROL_RATE_HZ
from visarl.data.files import writable
from visarl.errors import ConfigError
from visarl.estimators import load_estimators
from visarl.sim.seeds import parse_seeds
from visarl.sim.tasks import get_task
from visarl.stats import wilson
from visarl.training_options import Evaluate


def main(options: Evaluate) -> None:
    result = evaluate(options)
    print(json.dumps({key: value for key, value in result.items() if key != "starts"}))


def evaluate(options: Evaluate) -> dict[str, Any]:
    """The figures of the JSON line, and `starts`, one entry a seed.

    Raises:
        BundleError, ConfigError, SimulationError; over the graph also its errors.
    """
    seeds = parse_seeds(options.seeds)
    bundle = load_bundle(options.bundle)  # here, whatever the task: a bad one is told at once
    task = options.task or bundle.task
    get_task(task)
    if options.limit_s is not None and options.limit_s <= 0:
        raise ConfigError(f"limit_s: expected a positive time, found {options.limit_s}")
    if options.graph and (options.estimators or options.smoothing):
        raise ConfigError(
            "estimators, smoothing: over the graph a bench file tells the nodes of them; leave out --graph, or them"
        )
    load_estimators(options.estimators)  # a wrong name is told here, not by a worker
    if options.graph and options.perturbation != "none":
        raise ConfigError(
            f"perturbation {options.perturbation!r}: the graph's simulator shows scenes as they are; leave out "
            "--graph, or --perturbation"
        )
    if options.out is not None:
        writable(options.out)
    with track(len(seeds), f"evaluating {task}") as progress:
        good = 0

        def show(start: Start) -> None:
            nonlocal good
            good += start.success
            progress.update(progress.task_ids[0], advance=1, note=f"{good} succeeded")

        if options.graph:
            starts, rate = on_graph(options, task, seeds, show)
        else:
            starts, rate = in_process(options, task, seeds, show), CONTROL_RATE_HZ
    result = summary(task, options.seeds, starts, rate)
    if options.perturbation != "none":
        result["perturbation"] = options.perturbation
    if options.out is not None:
        write_json(options.out, result)
    return result


def summary(task: str, seeds: str, starts: Sequence[Start], rate_hz: float) -> dict[str, Any]:
    """Rates with Wilson's interval of the success at any time."""
    n, success = len(starts), sum(start.success for start in starts)
    low, high = wilson(success, n)
    return {
        "task": task,
        "seeds": seeds,
        "n": n,
        "success": success,
        "success_final": sum(start.success_final for start in starts),
        "interval": [round(low, 3), round(high, 3)],
        "rate_hz": round(rate_hz, 2),
        "starts": [asdict(start) for start in starts],
    }


def in_process(
    options: Evaluate, task: str, seeds: Sequence[int], on_start: Callable[[Start], None] | None = None
) -> list[Start]:
    """The same models with the graph's latency modelled, in scenes that may be perturbed; the commands come at exactly
    the control rate."""
    return run_starts(
        partial(BundleAgent, options.bundle, options.engine, options.estimators, options.smoothing),
        task,
        seeds,
        latency_s=options.latency_s,
        limit_s=options.limit_s,
        stay_s=STAY_S,
        workers=options.workers,
        perturbation=options.perturbation,
        on_start=on_start,
    )


def on_graph(
    options: Evaluate, task: str, seeds: Sequence[int], on_start: Callable[[Start], None]
) -> tuple[list[Start], float]:
    """One process a node, in real time. Returns the starts and the measured rate of the policy's commands [1/s]."""
    from visarl.ros.workspace import activate

    activate()  # before the modules that import ROS's messages
    from visarl.ros import qos
    from visarl.ros.client import GraphClient
    from visarl.ros.graph import GraphOptions, graph
    from visarl.ros.stranger import free_domain, refuse_strangers
    from visarl.ros.supervisor import Supervisor

    domain = free_domain() if options.domain is None else options.domain
    wanted = GraphOptions(bundle=options.bundle, task=task, seed=seeds[0], engine=options.engine, domain=domain)
    nodes = graph("sim", wanted)
    refuse_strangers(wanted)
    console().print("starting the graph")
    commands: set[int] = set()

    def count(message: Any) -> None:
        if message.source == "policy":
            commands.add(int(message.sequence))  # the arm repeats a command until the next one comes

    limit_s = get_task(task).limit_s if options.limit_s is None else options.limit_s
    starts, driven_s, sent = [], 0.0, 0
    with Supervisor(nodes, _quiet) as supervisor, GraphClient(wanted, alive=supervisor.check) as client:
        client.wait_ready(perception=True)
        client.subscribe(qos.EXECUTED, count)
        for seed in seeds:
            client.enable(False)
            client.reset(task, seed)
            commands.clear()
            client.enable(True)
            began = time.monotonic()

            def ended(seed: int = seed, began: float = began) -> bool:
                truth = client.truth
                success = truth is not None and truth.seed == seed and truth.success
                return success or time.monotonic() - began >= limit_s

            client.wait_for(ended, limit_s + 10, "the end of the episode")
            took, success, steps = time.monotonic() - began, bool(client.truth.success), len(commands)
            if success:
                stays_s = began + took + STAY_S
                client.wait_for(lambda until=stays_s: time.monotonic() >= until, STAY_S + 10, "what becomes of it")
            final = success and bool(client.truth.success)
            client.enable(False)
            start = Start(seed, success, final, round(took, 3), steps)
            driven_s, sent = driven_s + took, sent + steps
            starts.append(start)
            on_start(start)
    return starts, sent / driven_s


def _quiet(line: str) -> None:
    """The nodes' chatter; the supervisor keeps the last lines and quotes them where one fails."""


if __name__ == "__main__":
    import sys

    from visarl import cli

    sys.exit(cli.main(["evaluate", *sys.argv[1:]]))
