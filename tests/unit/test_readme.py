"""The documents' commands are ones that the command line takes, and what they point to exists."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest
import tyro

from visarl.cli import VERBS, find
from visarl.ros.workspace import ROOT

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in DOCUMENTS}


def found(pattern: str) -> list[tuple[str, str]]:
    """Documents and what of them matches."""
    return sorted({(name, words) for name, text in TEXTS.items() for words in re.findall(pattern, text)})


COMMANDS = found(r"`(visarl [a-z][^`]*)`")
LINKS = found(r"\]\(([^)#:\s]+)[^)]*\)")


@pytest.mark.parametrize(("document", "command"), COMMANDS)
def test_a_command_of_a_document_is_taken(document: str, command: str) -> None:
    verb, arguments = find(shlex.split(command)[1:])
    module, name = VERBS[verb].options.split(":")
    if not arguments or arguments == ["--help"]:
        return  # named only
    tyro.cli(getattr(importlib.import_module(module), name), args=arguments)


@pytest.mark.parametrize(("document", "link"), LINKS)
def test_what_a_document_points_to_is_there(document: str, link: str) -> None:
    assert (ROOT / Path(document).parent / link).exists()


def test_there_are_commands_and_links() -> None:
    assert sum(document == "README.md" for document, _ in COMMANDS) > 8
    assert ("README.md", "docs/demo.png") in LINKS
