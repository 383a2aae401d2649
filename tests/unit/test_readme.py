"""The README's commands are ones that the command line takes."""

from __future__ import annotations

import importlib
import re
import shlex

import pytest
import tyro

from visarl.cli import VERBS, find
from visarl.ros.workspace import ROOT

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"`(visarl [a-z][^`]*)`", TEXT)))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_is_taken(command: str) -> None:
    verb, arguments = find(shlex.split(command)[1:])
    module, name = VERBS[verb].options.split(":")
    if not arguments:
        return  # named only
    tyro.cli(getattr(importlib.import_module(module), name), args=arguments)


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 8
