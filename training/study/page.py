"""The results page: Markdown from `results.json` alone, so that every figure on it has a file behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from training import saliency_report
from training.markdown import grid
from training.study import plots, probes
from training.study.arms import ARMS, OURS, PAPER, PAPER_STARTS, PAPER_TASKS, RGB_ARMS
from training.study.verdict import (
    ALL,
    DISTRACTORS,
    LOOKS,
    Rate,
    best,
    bottleneck,
    holm,
    look,
    p_value,
    pooled,
    readings,
    targets,
    tasks_of,
    with_distractors,
)
from visarl.sim.judge import LIFTED_HELD_S, PLACED_HELD_S

PLOT = "pictures/table5.png"

Results = Mapping[str, Any]


def render(results: Results, folder: Path) -> str:
    """The page, Markdown; its plots are drawn into `folder`.

    Args:
        results: what `results.json` holds; keys of a study that was not run are missing.
    """
    parts = [
        "# Results",
        "Written by the studies from [results.json](results.json), which holds every figure and every start; nothing "
        "here is typed by hand.",
    ]
    if "table5" in results:
        plots.bars(results["table5"], _titles(results), folder / PLOT)
        parts += table5(results)
    if "saliency" in results:
        saliency_report.plots(results["saliency"]["cells"], folder)
        parts.append(saliency_report.fragment(results).strip())
    return "\n\n".join(part for part in parts if part) + "\n"


def table5(results: Results) -> list[str]:
    """Paragraphs of the study of Table V; those whose figures are missing are left out."""
    sections: tuple[tuple[str, Callable[[Results], list[str]]], ...] = (
        ("Targets", _targets),
        ("What the controls say", _controls),
        ("Success", _success),
        ("Beside the paper", _paper),
        ("Paired tests", _tests),
        ("Does the policy look at the picture?", _looks),
        ("The ROS graph and one process agree", _graph),
        ("Saliency in the loop", _saliency),
        ("What the encoders know", _probes),
        ("Demonstrations", _demonstrations),
        ("To look at", _showcase),
        ("How it was made", _origin),
    )
    parts = ["## Table V in simulation", _claim(results)]
    for title, write in sections:
        if body := write(results):
            parts += [f"### {title}", *body]
    return parts


def _titles(results: Results) -> dict[str, str]:
    """Of the arms that the results have."""
    known = results.get("table5_about", {}).get("titles", {})
    return {arm: known.get(arm, ARMS[arm].title if arm in ARMS else arm) for arm in results["table5"]}


def _command(results: Results) -> str:
    return str(results.get("table5_about", {}).get("command", "visarl study table5"))


def _claim(results: Results) -> str:
    table, titles = results["table5"], _titles(results)
    tasks = tasks_of(table)
    count = f"{len(tasks)} tasks" if len(tasks) > 1 else "one task"
    ours = pooled(table, OURS, tasks)
    if ours is None:
        return f"The arm `{OURS}` was left out: there is no claim to judge. Successes over {count}:"
    others = []
    if (found := best(table, RGB_ARMS, tasks)) is not None:
        others.append(f"the best RGB arm ({titles[found[0]]}) in {found[1]}")
    for arm, words in (
        ("saliency_mean", "the paper's own way of reading RGB + saliency, the mean of the tokens, in"),
        ("shuffled", "shuffled saliency in"),
        ("oracle", "oracle saliency in"),
        ("state", "a policy that is told the true positions in"),
    ):
        if (rate := pooled(table, arm, tasks)) is not None:
            others.append(f"{words} {rate}")
    text = f"**In simulation, {titles[OURS]}, succeeds in {ours} of the starts over {count}**"
    if others:
        text += "; " + "; ".join(others)
    real = {arm: sum(PAPER[arm].values()) for arm in ("saliency_mean", "rgb")}
    starts = PAPER_STARTS * len(PAPER_TASKS)
    verdicts = [one for one in targets(table) if one.met is not None]
    missed = [f"{one.target} (by {one.by})" for one in verdicts if not one.met]
    unknown = len(targets(table)) - len(verdicts)
    judged = "All targets are met." if not unknown else f"The {len(verdicts)} targets that are measured are met."
    if missed:
        judged = f"Of {len(verdicts)} targets {len(missed)} missed: {'; '.join(missed)}."
    return (
        f"{text}. {judged} The paper reports {real['saliency_mean']} of {starts} for RGB + saliency and {real['rgb']} "
        f"of {starts} for RGB on a real arm. Rates are of success at any time of a start, with the 95 % interval by "
        "Wilson."
    )


def _targets(results: Results) -> list[str]:
    words = {True: "met", False: "**missed**", None: "not measured"}
    rows = [(one.target, one.measured, words[one.met], one.by) for one in targets(results["table5"])]
    return [grid(("target", "measured", "", "by"), rows, _command(results))]


def _controls(results: Results) -> list[str]:
    table = results["table5"]
    tasks = tasks_of(table)
    body = ["\n".join(f"- {sentence}" for sentence in readings(results))]
    hard, rows = with_distractors(tasks), []
    for task in tasks:
        ours, oracle, state = (pooled(table, arm, [task]) for arm in (OURS, "oracle", "state"))
        if ours is None:
            return body
        target = DISTRACTORS if task in hard else ALL
        shares = ["" if rate is None else f"{100 * rate.share:.0f} %" for rate in (ours, oracle, state)]
        rows.append((f"`{task}`", *shares, f"{100 * target:.0f} %", bottleneck(ours, oracle, state, target)))
    heads = ("task", "ours", "oracle saliency", "true positions", "target", "what holds it back")
    return [*body, grid(heads, rows, _command(results))]


def _success(results: Results) -> list[str]:
    table, titles = results["table5"], _titles(results)
    tasks = tasks_of(table)
    hard = with_distractors(tasks)
    columns = [[task] for task in tasks] + ([tasks] if len(tasks) > 1 else [])
    heads = [f"{task}{' *' if task in hard else ''}" for task in tasks] + (["sum"] if len(tasks) > 1 else [])
    rows = [(_strong(arm, titles[arm]), *(_cell(pooled(table, arm, of)) for of in columns)) for arm in table]
    ends = []
    for arm in table:
        cells = [table[arm].get(task) for task in tasks]
        ends.append((titles[arm], *("" if cell is None else _ends(cell) for cell in cells)))
    marked = " * with distractors that training did not show." if hard else ""
    return [
        f"![Success of each arm on each task, with intervals]({PLOT})",
        f"Success at any time of a start, in %, with the 95 % interval.{marked} The starts of one training seed share "
        "a policy, which the interval does not know; the next table shows them apart.",
        grid(("arm", *heads), rows, _command(results)),
        f"Successes at any time (in brackets those that still are {_stay(results)} later, for which the policy goes "
        f"on), and at any time by training seed. A pick has succeeded once the thing was held up for {LIFTED_HELD_S:g} "
        f"s, a placing once it lay in its place for {PLACED_HELD_S:g} s with no finger on it.",
        grid(("arm", *tasks), ends, _command(results)),
    ]


def _stay(results: Results) -> str:
    seconds = results.get("table5_about", {}).get("stay_s")
    return "a moment" if seconds is None else f"{seconds:g} s"


def _strong(arm: str, text: str) -> str:
    return f"**{text}**" if arm == OURS else text


def _cell(rate: Rate | None) -> str:
    if rate is None:
        return ""
    low, high = rate.interval
    return f"{100 * rate.share:.0f} ({100 * low:.0f} to {100 * high:.0f}), {rate.success}/{rate.n}"


def _ends(cell: Mapping[str, Any]) -> str:
    final = f" ({cell['success_final']})" if "success_final" in cell else ""
    seeds = " + ".join(map(str, cell.get("by_training_seed", [])))
    return f"{cell['success']}{final}" + (f", {seeds}" if seeds else "")


def _paper(results: Results) -> list[str]:
    table = results["table5"]
    tasks = [task for task in tasks_of(table) if task in PAPER_TASKS]
    columns = [[task] for task in tasks] + ([tasks] if len(tasks) > 1 else [])
    rows: list[Sequence[object]] = []
    for arm, words in (("rgb", "RGB"), ("saliency_mean", "RGB + saliency"), (OURS, "")):
        if arm in PAPER:
            known = [Rate(sum(PAPER[arm][task] for task in of), PAPER_STARTS * len(of)) for of in columns]
            rows.append((f"{words}, the paper, real arm", *map(_cell, known)))
        if arm in table:
            rows.append((f"{_titles(results)[arm]}, here", *(_cell(pooled(table, arm, of)) for of in columns)))
    heads = ("arm", *tasks, *(["sum"] if len(tasks) > 1 else []))
    return [
        "The paper's rates (its Table V) are of ten starts a task on a real Jaco 2 with a webcam, demonstrated and "
        "clicked by people, and its things and distractors look otherwise. Here the arm, the demonstrator and the "
        "clicks are simulated, several policies share the starts, and the distractors of evaluation are not those of "
        "training. The difference between arms can be compared, the rates cannot.",
        grid(heads, rows, _command(results)),
    ]


def _tests(results: Results) -> list[str]:
    tests = results.get("table5_tests", [])
    if not tests:
        return []
    titles = _titles(results)
    rows = [
        (*(titles.get(arm, arm) for arm in test["arms"]), test["n"], test["only_first"], test["only_second"],
         p_value(test["p"]), p_value(raised))
        for test, raised in zip(tests, holm([test["p"] for test in tests]), strict=True)
    ]  # fmt: skip
    heads = ("arm", "against", "scenes", "only the first succeeds", "only the second", "McNemar", "with Holm's")
    return [
        "Every arm meets the same scenes, each with the policy of the same training seed, so they are compared scene "
        "by scene: McNemar's exact test on those that ended differently, and Holm's correction for there being "
        f"{len(tests)} tests.",
        grid(heads, rows, _command(results)),
    ]


def _looks(results: Results) -> list[str]:
    held_out = results.get("table5_about", {}).get("held_out", {})
    tasks = [task for task in tasks_of(results["table5"]) if task in held_out]
    rows = [
        (title, *(f"{look(held_out[task][arm]):.1f}" for task in tasks))
        for arm, title in _titles(results).items()
        if tasks and all(arm in held_out[task] for task in tasks)
    ]
    if not rows:
        return []
    return [
        "How many times larger the loss is with the pictures of another episode than with its own, on the test "
        "demonstrations, which nothing was trained on; of the first training seed. A policy that ignores the picture "
        f"has 1; below {LOOKS:g} it hardly looks. A large number is needed, and not enough: it tells nothing of scenes "
        "that are further away. It compares within one loss: that of action chunks is an absolute one, whose ratio is "
        "about the root of a squared one's. Controls see maps that no demonstration has, and are left out.",
        grid(("arm", *tasks), rows, _command(results)),
    ]


def _graph(results: Results) -> list[str]:
    graph = {task: of for task, of in results.get("table5_about", {}).get("graph", {}).items() if of}
    if not graph:
        return []
    keys = ("n", "graph", "process", "agree")
    rows = [(f"`{task}`", *(of[key] for key in keys), f"{of['rate_hz']:.2f}") for task, of in graph.items()]
    rows.append(("sum", *(sum(of[key] for of in graph.values()) for key in keys), ""))
    heads = ("task", "starts", "succeed over the graph", "in one process", "end alike", "commands a second")
    return [
        "The table's starts run in one process, where the simulator waits for the policy and the graph's latency is "
        "modelled. Some of our arm's again over the ROS graph, one process a node, in real time:",
        grid(heads, rows, _command(results)),
    ]


SCORES = {
    "frames": "frames", "f_adaptive": "F (adaptive)", "f_max": "F (max)", "f_mean": "F (mean)", "mae": "MAE",
    "mae_zero": "MAE of zeros", "mae_mean_map": "MAE of the mean map", "mae_centre": "MAE of the centre prior",
    "nss": "NSS", "cc": "CC", "kl": "KL",
}  # fmt: skip


def _saliency(results: Results) -> list[str]:
    scores = results.get("table5_about", {}).get("saliency", {})
    if not scores:
        return []
    keys = [key for key in SCORES if any(key in of for of in scores.values())]
    rows = [(f"`{task}`", *(_score(of.get(key)) for key in keys)) for task, of in scores.items()]
    return [
        "The maps of our arm's models on demonstrations that nothing was trained on, against the simulator's clicks; "
        "maps that know nothing of the picture beside them, since a small MAE says little alone.",
        grid(("task", *(SCORES[key] for key in keys)), rows, _command(results)),
    ]


def _score(value: object) -> str:
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def _probes(results: Results) -> list[str]:
    found = results.get("table5_about", {}).get("probe", {})
    if not found:
        return []
    body = [
        "How far off a linear regression from the frozen embedding places the things on the table, in mm, as the mean "
        "over the tasks. It learns on training scenes and is asked about evaluation scenes with four looks; 95 % "
        "intervals and heights are in `results.json`. To grasp takes about 15 mm.",
    ]
    for caption, heads, rows in probes.tables(found):
        body += [caption, grid(heads, rows, _command(results))]
    return body


def _demonstrations(results: Results) -> list[str]:
    found = results.get("table5_about", {}).get("demonstrations", {})
    heads = {"demos": "demos", "steps": "steps", "seconds": "seconds", "frames": "clicked frames", "clicks": "clicks"}
    if not found:
        return []
    rows = [(f"`{task}`", *(_number(of.get(key)) for key in heads)) for task, of in found.items()]
    return [
        "Recorded through the ROS graph, one bag each, by a scripted expert; clicked by a simulated annotator.",
        grid(("task", *heads.values()), rows, _command(results)),
    ]


def _number(value: object) -> str:
    return "" if value is None else f"{value:.0f}" if isinstance(value, (int, float)) else str(value)


def _showcase(results: Results) -> list[str]:
    found = results.get("table5_showcase", {})
    body = []
    if rows := [
        (f"`{task}`", *(f"[scene {of[end]['seed']}]({of[end]['file']})" if end in of else "none" for end in ENDS))
        for task, of in found.get("videos", {}).items()
    ]:
        body += [
            "The first start of our arm that succeeds and the first that fails, the camera's picture beside what the "
            "policy looks at:",
            grid(("task", *ENDS), rows, _command(results)),
        ]
    if rows := [
        (f"`{task}`", of["id"], of["training_seed"], f"{of['success']} of {of['n']}", f"{of['megabytes']:.1f} MB")
        for task, of in found.get("bundles", {}).items()
    ]:
        body += [
            "The bundles that are shipped: of each task the policy of the training seed that did best on validation "
            "scenes, and its successes on its share of the evaluation scenes, by which nothing was chosen.",
            grid(("task", "bundle", "training seed", "success", "size"), rows, _command(results)),
        ]
    for name, file in found.get("pictures", {}).items():
        body.append(f"What the encoder `{name}` makes of masked pictures:\n\n![Reconstructions of {name}]({file})")
    return body


ENDS = ("success", "failure")


def _origin(results: Results) -> list[str]:
    about = results.get("table5_about", {})
    if not about:
        return []
    seeds = about.get("seeds", {})
    rows = [("command", f"`{about['command']}`"), ("commit", about.get("commit", ""))]
    if seeds:
        validation, evaluation = seeds["validation"], seeds["evaluation"]
        chosen = f"{validation[0]} to {validation[-1]}" if validation else "none; the last checkpoint is taken"
        rows += [
            ("training seeds", ", ".join(map(str, seeds["training"]))),
            ("validation scenes, which choose checkpoints", chosen),
            ("evaluation scenes, by which nothing is chosen", f"{evaluation[0]} to {evaluation[1] - 1}"),
        ]
    rows += [
        ("made", about.get("made", "")),
        ("machine", f"{about.get('machine', '')}; torch {about.get('torch', '')}"),
        ("computing time, all jobs", f"{about.get('core_seconds', 0) / 3600:.1f} h of one core"),
        ("duration of the last call", f"{about.get('seconds', 0) / 60:.1f} minutes"),
    ]
    return [grid(("", ""), rows, "")]
