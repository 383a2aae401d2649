"""What the study of saliency found, as a part of the results page and as pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.markdown import grid

Cell = dict[str, Any]

TITLES = {
    "picanet": "PiCANet", "unet": "U-Net", "unet_painted": "U-Net, pretrained by painting",
    "frozen": "head on a frozen backbone",
}  # fmt: skip
COLOURS = {"picanet": "#0072B2", "unet": "#D55E00", "unet_painted": "#E69F00", "frozen": "#009E73"}
"""Of Okabe and Ito's palette."""
FIGURES = {
    "f_adaptive": "F (adaptive)", "f_max": "F (max)", "f_mean": "F (mean)", "mae": "MAE", "nss": "NSS", "cc": "CC",
    "kl": "KL",
}  # fmt: skip
TRIVIAL = {"zero": "*zeros*", "mean_map": "*the mean map*", "centre": "*the centre prior*"}
TARGET_FRAMES, TARGET_F, TARGET_SHARE = 5, 0.85, 0.5
"""With so many clicked frames: at least this adaptive F, and at most this share of the best trivial map's MAE."""
CURVES, CONFIDENCE = "pictures/saliency-curves.png", "pictures/saliency-confidence.png"


def pictures_of(task: str, variant: str) -> str:
    """Path of the best and the worst maps, from the page's folder."""
    return f"pictures/saliency-{task}-{variant}.png"


def mae_share(cell: Cell) -> float:
    """Of the best trivial map's MAE."""
    return float(cell["mae"] / min(found["mae"] for found in cell["trivial"].values()))


def fragment(results: Mapping[str, Any]) -> str:
    """The page's part about saliency, Markdown; its pictures are those of `plots`."""
    found, about = results["saliency"], results["saliency_about"]
    made = about["command"]
    cells: list[Cell] = found["cells"]
    tasks = list(dict.fromkeys(cell["task"] for cell in cells))
    counts = sorted({cell["count"] for cell in cells})
    told = TARGET_FRAMES if TARGET_FRAMES in counts else counts[-1]
    lines = [
        "## Saliency",
        "",
        "Clicked frames of ten demonstrations; scored on frames of unseen scenes, on whose table stand things that no "
        "demonstration shows. Truth is a Gaussian where the simulator projects each role to; the map is the maximum "
        "over the roles. Adaptive F cuts the map at twice its mean, and the truth, whose edges are soft too, by the "
        "same rule, so that a perfect map has 1. The other two cut the truth at half its height. Means over "
        f"{_seeds(cells)}.",
        "",
        *_target(cells, tasks, told),
        f"### With {told} clicked frames, beside maps that know nothing of the picture",
        "",
    ]
    for task in tasks:
        mine = [cell for cell in cells if (cell["task"], cell["count"]) == (task, told)]
        rows = [
            [TITLES[variant], *(f"{_mean(of, lambda c, k=key: c[k]):.4f}" for key in FIGURES)]
            for variant, of in _by_variant(mine).items()
        ]
        rows += [
            [title, *(f"{_mean(mine, lambda c, n=name, k=key: c['trivial'][n][k]):.4f}" for key in FIGURES)]
            for name, title in TRIVIAL.items()
        ]
        lines += [f"`{task}`, {mine[0]['frames']} frames:", "", grid(["map", *FIGURES.values()], rows, made), ""]
    lines += ["### How many clicked frames", "", "Adaptive F, and the MAE as a share of the best trivial map's:", ""]
    rows = [
        [f"`{task}`", TITLES[variant], *(_curve_cell(of, count) for count in counts)]
        for task in tasks
        for variant, of in _by_variant([cell for cell in cells if cell["task"] == task]).items()
    ]
    lines += [grid(["task", "model", *map(str, counts)], rows, made), "", f"![Curves]({CURVES})", ""]
    lines += _peaks(cells, tasks, told, made) + _steady(cells, tasks, told, made) + _times(found["time"], made)
    shown = next(iter(_by_variant(cells)))
    lines += ["### Best and worst", "", f"{TITLES[shown]} after {told} clicked frames; the truth is circled.", ""]
    lines += [f"![The best and the worst maps of {task}]({pictures_of(task, shown)})\n" for task in tasks]
    rows = [
        ("commit", about["commit"]),
        ("made", about["made"]),
        ("machine", f"{about['machine']}; torch {about['torch']}"),
        ("computing time", f"{about['seconds'] / 3600:.1f} h"),
    ]
    lines += ["### How the figures on saliency were made", "", grid(("", ""), [("command", f"`{made}`"), *rows], "")]
    return "\n".join(lines)


def _target(cells: Sequence[Cell], tasks: Sequence[str], told: int) -> list[str]:
    verdicts = []
    for task in tasks:
        for variant, of in _by_variant([c for c in cells if (c["task"], c["count"]) == (task, told)]).items():
            f, share = _mean(of, lambda c: c["f_adaptive"]), _mean(of, mae_share)
            met = f >= TARGET_F and share <= TARGET_SHARE
            verdicts.append(
                f"- `{task}`, {TITLES[variant]}: F {f:.3f}, MAE {100 * share:.0f} % of the best trivial map's: "
                + ("met" if met else "missed by " + _gap(f, share))
            )
    heading = (
        f"Target with {TARGET_FRAMES} clicked frames: F (adaptive) at least {TARGET_F}, MAE at most "
        f"{100 * TARGET_SHARE:.0f} % of the best trivial map's."
    )
    return [heading + ("" if told == TARGET_FRAMES else f" Here with {told}."), "", *verdicts, ""]


def _gap(f: float, share: float) -> str:
    gaps = [f"{TARGET_F - f:.3f} in F"] if f < TARGET_F else []
    return " and ".join(gaps + ([f"{100 * (share - TARGET_SHARE):.0f} points in MAE"] if share > TARGET_SHARE else []))


def _peaks(cells: Sequence[Cell], tasks: Sequence[str], told: int, made: str) -> list[str]:
    rows = []
    for task in tasks:
        mine = [c for c in cells if (c["task"], c["count"]) == (task, told) and "peaks" in c]
        for variant, of in _by_variant(mine).items():
            for role in of[0]["peaks"]:
                peaks = [cell["peaks"][role] for cell in of]
                rows.append(
                    [
                        f"`{task}`", TITLES[variant], role, _pair(peaks, "px"), _pair(peaks, "mm"),
                        _percent(peaks, "false"), _percent(peaks, "missed"),
                        f"{np.mean([p['confidence']['ece'] for p in peaks]):.2f}",
                        _number([p["confidence"]["auroc"] for p in peaks], 2),
                    ]
                )  # fmt: skip
    heads = ["task", "model", "role", "px at 256", "mm", "false", "missed if covered", "ECE", "AUROC"]
    return [
        f"### Peaks, with {told} clicked frames",
        "",
        "Distance of each role's soft-argmax from the truth, median / 95th percentile: in the picture, and on the "
        "plane at the thing's height. False: trusted by the policy (confidence of 0.35 and more) and more than 20 px "
        "off. Missed if covered: lost or more than 20 px off where less than half of the thing is to be seen. ECE and "
        "AUROC: of the confidence as a forecast that the peak is within 5 px.",
        "",
        grid(heads, rows, made),
        "",
        f"![How often a peak of some confidence is right]({CONFIDENCE})",
        "",
    ]


def _steady(cells: Sequence[Cell], tasks: Sequence[str], told: int, made: str) -> list[str]:
    rows = []
    for task in tasks:
        for variant, of in _by_variant([c for c in cells if (c["task"], c["count"]) == (task, told)]).items():
            steady = [cell["steady"] for cell in of]
            roles = list(steady[0]["jitter_px"])
            shares = [
                f"{np.mean([s['smoothing'][share]['flicker'] / s['change'] for s in steady]):.2f}, "
                + " / ".join(_number([s["smoothing"][share]["px"][role] for s in steady], 1) for role in roles)
                for share in steady[0]["smoothing"]
            ]
            jitter = " / ".join(_number([s["jitter_px"][role] for s in steady], 2) for role in roles)
            rows.append([f"`{task}`", TITLES[variant], *shares, jitter])
    kept = [f"{float(s):.0%} kept" for s in cells[0]["steady"]["smoothing"]]
    return [
        "### Steadiness on video",
        "",
        "At the control rate: the maps' change from frame to frame that is not the truth's, as a share of the truth's "
        "own, and each role's median distance [px at 256], unsmoothed and with a share of the map before kept. Jitter: "
        "of a peak while a camera with a noise of 4 levels sees a scene at rest [px at 256].",
        "",
        grid(["task", "model", *kept, "jitter"], rows, made),
        "",
    ]


def _times(times: dict[str, Any], made: str) -> list[str]:
    rows = [
        [TITLES[variant], of["parameters_m"], *(of.get(engine, "") for engine in ("openvino", "torch"))]
        for variant, of in times.items()
    ]
    heads = ["model", "million parameters", "OpenVINO [ms]", "torch [ms]"]
    return ["### Time a frame", "", "One thread, median.", "", grid(heads, rows, made), ""]


def plots(cells: Sequence[Cell], folder: Path) -> None:
    """`CURVES` and `CONFIDENCE` into `folder`."""
    (folder / CURVES).parent.mkdir(parents=True, exist_ok=True)
    tasks = list(dict.fromkeys(cell["task"] for cell in cells))
    counts = sorted({cell["count"] for cell in cells})
    _curves(cells, tasks, counts, folder / CURVES)
    _confidence(cells, folder / CONFIDENCE)


def _curves(cells: Sequence[Cell], tasks: Sequence[str], counts: Sequence[int], path: Path) -> None:
    figure, axes = _figure(2, len(tasks), (1.2 + 4.4 * len(tasks), 6.6))
    panels: list[tuple[str, Callable[[Cell], float], float]] = [
        ("F (adaptive)", lambda c: float(c["f_adaptive"]), TARGET_F),
        ("MAE / best trivial map's", mae_share, TARGET_SHARE),
    ]
    for row, (label, value, target) in enumerate(panels):
        for axis, task in zip(axes[row], tasks, strict=True):
            for variant, of in _by_variant([cell for cell in cells if cell["task"] == task]).items():
                values = [[value(cell) for cell in of if cell["count"] == count] for count in counts]
                shown = [(count, found) for count, found in zip(counts, values, strict=True) if found]
                x, means = [count for count, _ in shown], [float(np.mean(found)) for _, found in shown]
                axis.plot(x, means, "o-", color=COLOURS[variant], label=TITLES[variant])
                axis.fill_between(
                    x, [min(f) for _, f in shown], [max(f) for _, f in shown], color=COLOURS[variant], alpha=0.15
                )
            axis.axhline(target, color="#777777", lw=1, ls="--")
            axis.set_xscale("log")
            axis.set_xticks(counts, [str(count) for count in counts])
            axis.set_xticks([], minor=True)
            axis.set_ylim(0, 1.05)
            axis.set_title(task.replace("_", " "), fontsize=11)
            axis.set_xlabel("clicked frames")
            axis.set_ylabel(label)
            axis.grid(color="#DDDDDD")
    axes[0][0].legend(fontsize=9)
    figure.savefig(path)


def _confidence(cells: Sequence[Cell], path: Path) -> None:
    roles = list(dict.fromkeys(role for cell in cells for role in cell.get("peaks", {})))
    figure, axes = _figure(1, max(1, len(roles)), (1.2 + 3.4 * max(1, len(roles)), 3.8))
    for axis, role in zip(axes[0], roles, strict=False):
        for variant, of in _by_variant([cell for cell in cells if role in cell.get("peaks", {})]).items():
            bins: dict[float, list[float]] = {}
            for cell in of:
                for low, _, count, said, right in cell["peaks"][role]["confidence"]["bins"]:
                    total = bins.setdefault(low, [0.0, 0.0, 0.0])
                    bins[low] = [total[0] + count, total[1] + count * said, total[2] + count * right]
            totals = [total for _, total in sorted(bins.items())]
            x, y = [said / count for count, said, _ in totals], [right / count for count, _, right in totals]
            axis.plot(x, y, "o-", color=COLOURS[variant], label=TITLES[variant])
        axis.plot([0, 1], [0, 1], color="#777777", lw=1, ls="--")
        axis.set_title(role, fontsize=11)
        axis.set_xlabel("confidence")
        axis.set_ylabel("share within 5 px")
        axis.grid(color="#DDDDDD")
    if roles:
        axes[0][0].legend(fontsize=9)
    figure.savefig(path)


def _figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _by_variant(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    names = dict.fromkeys(cell["variant"] for cell in cells)
    return {name: [cell for cell in cells if cell["variant"] == name] for name in names}


def _curve_cell(cells: Sequence[Cell], count: int) -> str:
    of = [cell for cell in cells if cell["count"] == count]
    return f"{_mean(of, lambda c: c['f_adaptive']):.2f}, {_mean(of, mae_share):.2f}" if of else ""


def _mean(cells: Sequence[Cell], value: Callable[[Cell], float]) -> float:
    return float(np.mean([value(cell) for cell in cells]))


def _seeds(cells: Sequence[Cell]) -> str:
    seeds = len({cell["seed"] for cell in cells})
    return "one training seed" if seeds == 1 else f"{seeds} training seeds"


def _number(values: Sequence[float | None], digits: int) -> str:
    known = [value for value in values if value is not None and np.isfinite(value)]
    return f"{np.mean(known):.{digits}f}" if known else "–"


def _pair(peaks: Sequence[Cell], key: str) -> str:
    known = [peak[key] for peak in peaks if peak[key] is not None]
    return " / ".join(f"{value:.1f}" for value in np.mean(known, axis=0)) if known else "–"


def _percent(peaks: Sequence[Cell], key: str) -> str:
    known = [peak[key] for peak in peaks if peak[key] is not None]
    return f"{100 * float(np.mean(known)):.0f} %" if known else "–"
