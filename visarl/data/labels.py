"""What became of an episode: a small file inside its bag's folder, so that a label never touches the recording."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from visarl.data.files import read_json, write_text
from visarl.errors import DataError, suggest

FILE = "label.json"
LABELS = ("success", "failure")


@dataclass(frozen=True)
class Label:
    """`label` is one of `LABELS`, or empty where nobody has said."""

    episode: str
    task: str
    label: str = ""
    note: str = ""
    seed: int | None = None
    """Of the scene, in simulation."""
    rates: list[dict[str, Any]] = field(default_factory=list)
    """The recording's report, see `rates.TopicReport`."""

    def __post_init__(self) -> None:
        if self.label and self.label not in LABELS:
            raise DataError(f"episode {self.episode}: no label {self.label!r}; {suggest(self.label, LABELS)}")


def save_label(bag: Path, label: Label) -> None:
    write_text(bag / FILE, json.dumps(asdict(label), indent=1))


def load_label(bag: Path) -> Label:
    """The bag's label; an empty one for a bag that has none, such as one that another tool recorded.

    Raises:
        DataError: the file is damaged.
    """
    path = bag / FILE
    if not path.exists():
        return Label(episode=bag.name, task="")
    values = read_json(path)
    try:
        return Label(**values)
    except TypeError as error:
        raise DataError(f"{path}: expected {', '.join(Label.__dataclass_fields__)}, found {sorted(values)}") from error
