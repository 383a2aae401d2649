"""`visarl up`: a graph of nodes, until Ctrl-C."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

from visarl.options import Up
from visarl.ros.enable import command
from visarl.ros.graph import GraphOptions, domain_of, doubt, graph
from visarl.ros.supervisor import Supervisor

PATIENCE_S = 30.0
"""A graph that is not ready after each further so long is told of: what it still waits for."""


def main(options: Up) -> int:
    """Start the graph and keep it. 130 after Ctrl-C; raises GraphError with a node's reason when one ends."""
    wanted = GraphOptions(
        bundle=options.bundle,
        task=options.task,
        seed=options.seed,
        camera=options.camera,
        arm=options.arm,
        address=options.address,
        config=options.config,
        record=options.record,
        disturbance=options.disturbance,
        fused=options.fused,
        engine=options.engine,
        threads=options.threads,
        domain=options.domain,
        localhost=options.localhost,
    )
    nodes = graph(options.graph, wanted)
    if said := doubt(options.graph, wanted):
        print(f"warning: {said}", file=sys.stderr, flush=True)
    from visarl.ros.stranger import refuse_strangers  # needs ROS, which `graph` does not

    refuse_strangers(wanted)
    names = ", ".join(spec.name for spec in nodes)
    print(f"starting {options.graph}: {names} (domain {domain_of(wanted.domain)}); Ctrl-C ends it", flush=True)
    with Supervisor(nodes, lambda line: print(line, flush=True)) as supervisor:
        began_s = time.monotonic()
        wait_ready({spec.name for spec in nodes}, wanted, supervisor.check)
        print(f"ready after {time.monotonic() - began_s:.0f} s: {next_step(options)}", flush=True)
        supervisor.wait()
    return 0


def wait_ready(names: set[str], wanted: GraphOptions, alive: Callable[[], None]) -> None:
    """Until pictures and the arm's state flow, the policy has something to act on, and who is to be called answers.

    Args:
        names: of the graph's processes.
        alive: raises when one of them has ended.
    """
    from visarl.ros import qos  # these need ROS
    from visarl.ros.client import ClientError, GraphClient

    with GraphClient(wanted, alive) as client:
        conditions: dict[str, Callable[[], object]] = {"the arm's state": lambda: client.state}
        topics = {"camera frames": qos.CAMERA_INFO}  # as many as frames, and small
        if "policy_node" in names:
            conditions["the policy"] = lambda: client.node.count_publishers(qos.POLICY_ACTION.name)
            topics["embeddings"] = qos.EMBEDDING
        for name, service in (("teleop_node", "teleop/enable"), ("recorder_node", "recorder/start")):
            if name in names:
                conditions[name] = partial(client.serves, service)
        for what, topic in topics.items():
            client.subscribe(topic)
            conditions[what] = partial(client.newest, topic)

        def missing() -> list[str]:
            return [what for what, met in conditions.items() if not met()]

        while missing():
            try:
                client.wait_for(lambda: not missing(), PATIENCE_S, "the graph")
            except ClientError:
                print(f"not ready yet: waiting for {', '.join(missing())}", flush=True)


def next_step(options: Up) -> str:
    """What a person may do with a graph that is ready."""
    who = {"policy": "the policy"} if options.bundle is not None else {}
    if options.graph == "teleop":
        who["teleop"] = "the demonstrator"
    steps = [f"`{command(key, options.domain, options.localhost)}` lets {name} drive" for key, name in who.items()]
    if not steps:
        return "nobody can drive; --bundle DIR brings a policy"
    return "in another terminal, " + ", ".join(steps)
