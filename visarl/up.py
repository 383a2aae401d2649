"""`visarl up`: a graph of nodes, until Ctrl-C."""

from __future__ import annotations

from visarl.options import Up
from visarl.ros.graph import GraphOptions, domain_of, graph
from visarl.ros.supervisor import Supervisor


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
    from visarl.ros.stranger import refuse_strangers  # needs ROS, which `graph` does not

    refuse_strangers(wanted)
    names = ", ".join(spec.name for spec in nodes)
    print(f"starting {options.graph}: {names} (domain {domain_of(wanted.domain)}); Ctrl-C ends it", flush=True)
    with Supervisor(nodes, lambda line: print(line, flush=True)) as supervisor:
        supervisor.wait()
    return 0
