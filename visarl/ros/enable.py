"""`visarl enable`: opens or closes a gate of a running graph, and tells who drives then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from visarl.options import Enable
from visarl.robot.safety import NOBODY, POLICY, TELEOP
from visarl.ros.graph import GraphOptions, domain_of

if TYPE_CHECKING:
    from visarl.ros.client import GraphClient

FOUND_S = 30.0
"""A graph that is there is found within this time, on a busy machine too."""

ANOTHER_S = 10.0
"""Once one node of a graph is found, all that run are found within this time."""

DRIVES_S = 10.0
"""Who may drive, and can, has the arm within this time; and who may not has lost it."""

DRIVES = {POLICY: "the policy drives", TELEOP: "the demonstrator drives", NOBODY: "nobody drives"}


def main(options: Enable) -> int:
    """Print who drives now. Raises ClientError where the graph, or who is to drive, is not there; or it does not."""
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
        _find(client, options)
        (client.enable if options.who == "policy" else client.teleop)(not options.off)
        source = _driver(client, options)
    if options.off:
        print(f"{options.who} disabled: {DRIVES[source]}")
    else:
        hint = f"`{command(options.who, options.domain, options.localhost, off=True)}` takes it away"
        print(f"{options.who} enabled: {DRIVES[source]}; {hint}")
    return 0


def command(who: str, domain: int | None, localhost: bool, off: bool = False) -> str:
    """What a person types for the graph of these options."""
    words = ["visarl enable", who, "--off" if off else "", "" if domain is None else f"--domain {domain}"]
    return " ".join(filter(None, [*words, "" if localhost else "--no-localhost"]))


def _find(client: GraphClient, options: Enable) -> None:
    """Raises ClientError where the graph has nobody whose gate this is. The policy's can be closed all the same."""
    from visarl.ros import qos
    from visarl.ros.client import ClientError

    try:
        if options.who == "teleop":
            client.wait_for(lambda: client.serves("teleop/enable"), ANOTHER_S, "the demonstrator")
        elif not options.off:
            client.wait_for(lambda: client.node.count_publishers(qos.POLICY_ACTION.name), ANOTHER_S, "the policy")
    except ClientError as error:
        missing, fix = {
            "teleop": ("demonstrator", "visarl up teleop"),
            "policy": ("policy", "visarl up sim --bundle bundles/pick_red_block"),
        }[options.who]
        raise ClientError(
            f"no {missing} runs in this graph; where `visarl up` has not said yet that it is ready, wait for it, else "
            f"start a graph with one: `{fix}`"
        ) from error


def _driver(client: GraphClient, options: Enable) -> str:
    """Who drives, once that agrees with the gate."""
    from visarl.ros.client import ClientError

    def settled() -> bool:
        assert client.state is not None
        if options.off:
            return bool(client.state.source != options.who)
        return client.state.source in (options.who, TELEOP)  # who wins over the policy

    try:
        client.wait_for(settled, DRIVES_S, "the arm to obey")
    except ClientError as error:
        assert client.state is not None
        why = client.state.status or "the nodes' own words on the graph's terminal tell why"
        what = "still drives" if options.off else "may drive, but the arm has executed no command of it"
        raise ClientError(f"{options.who} {what}, {DRIVES_S:g} s later: {why}") from error
    return str(client.state.source) if client.state is not None else NOBODY
