"""`visarl convert`: bags into one HDF5 file, and the repair of broken ones."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from visarl.config import get_preset
from visarl.data.bag_writer import recover
from visarl.data.bags import DAMAGED, PARTIAL, RECOVERING, Bag, find_bags
from visarl.data.convert import ConversionReport, convert
from visarl.data.files import writable
from visarl.errors import ConfigError, DataError
from visarl.options import Convert


def main(options: Convert) -> int:
    """Writes `options.out`; its last line on stdout is the report as JSON."""
    if options.out is None and not options.recover:
        raise ConfigError("visarl convert: expected --out FILE.h5, or --recover")
    if not options.bags:
        raise ConfigError("visarl convert: expected bags, or folders that contain them")
    if options.out is not None:
        writable(options.out)
    if options.recover:
        repaired = repair(options.bags)
        if options.out is None:
            print(json.dumps({"recovered": repaired}))
            return 0
    assert options.out is not None
    bags = [bag for root in options.bags for bag in find_bags(root)]
    unfinished = sorted(path.name for root in options.bags if root.is_dir() for path in root.glob(f"*{PARTIAL}"))
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("converting", total=len(bags))
        report = convert(
            bags,
            options.out,
            get_preset(options.preset).preprocess,
            every_frame=options.every_frame,
            failures=options.failures,
            unlabelled=options.unlabelled,
            skip_bad=options.skip_bad,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    print(table(report), file=sys.stderr)
    for name in unfinished:
        print(f"{name}: left out, unfinished (--recover repairs it)", file=sys.stderr)
    print(json.dumps(report.as_json() | {"unfinished": len(unfinished)}))
    return 0


def repair(roots: Sequence[Path]) -> int:
    """Recover every unfinished or damaged bag below `roots`; how many."""
    count = 0
    for root in roots:
        if root.is_dir() and not (root / "metadata.yaml").exists() and not root.name.endswith(PARTIAL):
            candidates = sorted(path for path in root.iterdir() if path.is_dir() and any(path.glob("*.mcap")))
            # Of a cut bag whose recovery was killed only the original is there, already set aside.
            names = {path.name for path in candidates}
            candidates = [
                path.with_name(path.name.removesuffix(DAMAGED))
                for path in candidates
                if not path.name.endswith(RECOVERING)
                and not (path.name.endswith(DAMAGED) and path.name.removesuffix(DAMAGED) in names)
            ]
        else:
            candidates = [root]
        for bag in candidates:
            if _is_whole(bag):
                continue
            found = recover(bag)
            count += 1
            print(f"{bag.name}: {found.messages} messages, {found.duration_s:.1f} s, now {found.path}", file=sys.stderr)
            if found.label:
                print(
                    f"{found.path.name}: no {found.label} any more, but without a label: its end may be missing "
                    "(--unlabelled converts it all the same)",
                    file=sys.stderr,
                )
    return count


def _is_whole(path: Path) -> bool:
    try:
        Bag(path).close()
    except DataError:
        return False
    return True


def table(report: ConversionReport) -> str:
    """The report for a person, one line a bag."""
    width = max(len(episode.bag) for episode in report.episodes)
    head = f"{'steps':>5} {'cut':>4} {'gaps':>4} {'stale':>5} {'clipped':>7}  frame age ms  state error ms"
    lines = [f"{'bag':<{width}}  {head}"]
    for e in report.episodes:
        counts = f"{e.steps:>5} {e.idle_head + e.idle_tail:>4} {e.gaps:>4} {e.stale:>5} {e.clipped:>7}"
        age = f"{e.frame_age_ms_p50:.1f} (max {e.frame_age_ms_max:.0f})"
        error = f"{e.state_error_ms_p50:.1f} (max {e.state_error_ms_max:.0f})"
        lines.append(f"{e.bag:<{width}}  {counts}  {age:>12}  {error}")
    lines += [f"{name}: left out, labelled as a failure" for name in report.failures]
    lines += [f"{name}: left out, without a label (--unlabelled takes it)" for name in report.unlabelled]
    lines += [f"left out: {reason}" for reason in report.bad]
    return "\n".join(lines)
