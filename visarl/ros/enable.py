"""`visarl enable`: opens or closes a gate of a running graph."""

from __future__ import annotations

from visarl.options import Enable
from visarl.ros.graph import GraphOptions, domain_of

FOUND_S = 30.0
"""A graph that is there is found within this time, on a busy machine too."""


def main(options: Enable) -> int:
    """Print what the graph answered. Raises ClientError with its reason when it refuses or is not there."""
    from visarl.ros.client import ClientError, GraphClient  # needs ROS

    wanted = GraphOptions(domain=options.domain, localhost=options.localhost)
    with GraphClient(wanted) as client:
        try:
            client.wait_for(lambda: client.state is not None, FOUND_S, "arm/state")
        except ClientError as error:
            raise ClientError(
                f"no graph in ROS domain {domain_of(options.domain)}; start one with `visarl up`, or name its domain "
                "(--domain)"
            ) from error
        open_gate = client.enable if options.who == "policy" else client.teleop
        answer = open_gate(not options.off)
    print(f"{options.who} {'disabled' if options.off else 'enabled'}: {answer}")
    return 0
