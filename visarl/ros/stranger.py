"""Notices another graph in the same ROS domain before two of them drive one arm."""

from __future__ import annotations

import os
import random
import socket
import time

from visarl.errors import VisarlError
from visarl.ros.graph import GraphOptions, domain_of, environment
from visarl.ros.workspace import activate

OURS = ("arm/state", "arm/executed", "camera/image_raw", "policy/action", "teleop/action", "encoder/embedding")
"""Topics that only one graph may publish."""

_DISCOVERY_S = 10.0
"""Nodes find each other within this time, on a busy machine too."""

_UNKNOWN = "NODE_NAME_UNKNOWN"
"""In what ROS calls a node of which it knows nothing but an endpoint."""

_FIRST_PORT, _PORTS_A_DOMAIN = 7400, 250
_OWN_PORTS = range(10, 10 + 2 * 64, 2)
"""Where DDS puts a domain's discovery (RTPS specification, 9.6.1): everybody's, and each participant's own. As many as
find each other in `fastdds_localhost.xml`."""


class StrangerError(VisarlError):
    """Another graph runs in this domain."""


def refuse_strangers(options: GraphOptions) -> None:
    """Look round in the domain that `options` names: not at all where nobody on this machine is in it, which is all
    that counts unless the graph spans machines; otherwise until somebody shows, or _DISCOVERY_S have passed.

    Raises:
        StrangerError: somebody publishes what our graph would; names who and what.
    """
    activate()
    if options.localhost and not _taken(domain_of(options.domain)):
        return
    os.environ.update(environment(options))
    import rclpy

    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain_of(options.domain))
    node = rclpy.create_node("looking_round", context=context)
    try:
        limit_s = time.monotonic() + _DISCOVERY_S
        found: dict[str, list[str]] = {}
        # A publisher is found before the name of its node is.
        while (not found or _UNKNOWN in str(found)) and time.monotonic() < limit_s:
            time.sleep(0.05)
            publishers = {topic: node.get_publishers_info_by_topic(topic) for topic in OURS}
            found = {topic: sorted({info.node_name for info in infos}) for topic, infos in publishers.items() if infos}
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)
    if found:
        whom = "; ".join(f"{topic} by {', '.join(names)}" for topic, names in found.items())
        raise StrangerError(
            f"another graph runs in ROS domain {domain_of(options.domain)} ({whom}); end it, or choose another domain "
            "(--domain, or domain:= of a launch file)"
        )


def free_domain(first: int = 1, last: int = 99) -> int:
    """A ROS domain in which nobody on this machine is, drawn at random.

    Raises:
        StrangerError: all of them are taken.
    """
    domains = list(range(first, last + 1))
    random.SystemRandom().shuffle(domains)
    for domain in domains:
        if not _taken(domain):
            return domain
    raise StrangerError(f"every ROS domain from {first} to {last} is in use on this machine; end some graphs")


def _taken(domain: int) -> bool:
    """Whether a participant of the domain runs on this machine: it binds one of the ports of discovery."""
    for offset in (0, *_OWN_PORTS):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("", _FIRST_PORT + _PORTS_A_DOMAIN * domain + offset))
            except OSError:
                return True
    return False
