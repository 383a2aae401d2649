"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def grid(heads: Sequence[object], rows: Sequence[Sequence[object]], command: str) -> str:
    """A table, and beneath it the command that made it unless that is empty."""
    lines = [f"| {' | '.join(map(str, heads))} |", "|" + "---|" * len(heads)]
    lines += [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join(lines) + (f"\n\nMade by `{command}`." if command else "")
