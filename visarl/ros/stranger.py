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

_DISCOVERY_S = 1.0
"""Nodes on one machine find each other within this time."""

_FIRST_PORT, _PORTS_A_DOMAIN = 7400, 250
"""Where DDS puts a domain's discovery (RTPS specification, 9.6.1)."""


class StrangerError(VisarlError):
    """Another graph runs in this domain."""


def refuse_strangers(options: GraphOptions, wait_s: float = _DISCOVERY_S) -> None:
    """Look round in the domain that `options` names.

    Raises:
        StrangerError: somebody publishes what our graph would; names who and what.
    """
    activate()
    os.environ.update(environment(options))
    import rclpy

    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain_of(options.domain))
    node = rclpy.create_node("looking_round", context=context)
    try:
        limit_s = time.monotonic() + wait_s
        found: dict[str, list[str]] = {}
        while not found and time.monotonic() < limit_s:
            for topic in OURS:
                publishers = node.get_publishers_info_by_topic(topic)
                if publishers:
                    found[topic] = sorted({info.node_name for info in publishers})
            time.sleep(0.05)
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
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                # Fails where a participant of the domain listens: every one binds this port.
                probe.bind(("", _FIRST_PORT + _PORTS_A_DOMAIN * domain))
            except OSError:
                continue
            return domain
    raise StrangerError(f"every ROS domain from {first} to {last} is in use on this machine; end some graphs")
