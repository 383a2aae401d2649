"""Who else is in a ROS domain."""

from __future__ import annotations

import os
import socket
import subprocess

import pytest

from tests.conftest import running
from tests.ros.conftest import publishing
from visarl.ros.client import GraphClient
from visarl.ros.graph import GraphOptions, environment
from visarl.ros.stranger import StrangerError, free_domain, refuse_strangers

pytestmark = pytest.mark.ros


@pytest.mark.parametrize("offset", [0, 10, 12], ids=["everybody's", "the first one's", "the second one's"])
def test_a_domain_whose_port_is_taken_is_not_free(offset: int) -> None:
    domain = free_domain()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", 7400 + 250 * domain + offset))
        with pytest.raises(StrangerError, match=f"every ROS domain from {domain} to {domain} is in use"):
            free_domain(domain, domain)
    assert free_domain(domain, domain) == domain


def test_a_domain_with_one_of_ours_is_not_free(domain: int) -> None:
    with GraphClient(GraphOptions(domain=domain)), pytest.raises(StrangerError, match="in use on this machine"):
        free_domain(domain, domain)


def test_a_tool_that_only_listens_is_no_stranger(domain: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visarl.ros.stranger._DISCOVERY_S", 1.0)  # so long nobody has to be found
    with GraphClient(GraphOptions(domain=domain)):
        refuse_strangers(GraphOptions(domain=domain))


def test_a_stranger_with_other_dds_settings_is_noticed() -> None:
    options = GraphOptions(domain=free_domain())
    theirs = os.environ | environment(options) | {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    for profile in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS"):
        theirs.pop(profile, None)
    command = publishing("somebody_elses_arm", "arm/state")
    with running(command, env=theirs, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as stranger:
        assert stranger.stdout is not None and stranger.stdout.readline() == "up\n"
        with pytest.raises(StrangerError, match="arm/state by somebody_elses_arm"):
            refuse_strangers(options)
