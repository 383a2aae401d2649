"""Table V of the paper with controls, on the simulated Jaco: everything from demonstrations to a results page.

    visarl study table5 --out runs/table5

Demonstrations are recorded through the ROS graph, one task after the other; then saliency models, encoders, policies
and closed-loop starts run side by side. The same command goes on where it was interrupted. One saliency model serves a
task, as in the paper; one encoder of each kind and training seed serves all tasks; policies have a seed each, and share
out the evaluation scenes among them.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from training import evaluate, train_encoder, train_policy, train_saliency
from training.closed_loop import STAY_S
from training.collect import Collection, collect
from training.common import console, provenance
from training.stages import Stages, settings_of
from training.study import probes, results, showcase
from training.study.arms import ARMS, ENCODERS, OURS, EncoderKind
from training.study.jobs import Figures, Job, Plan, estimate, executor, run
from visarl.config import ModelConfig, get_preset, to_dict
from visarl.errors import ConfigError, suggest
from visarl.process import commit
from visarl.sim.seeds import EVALUATION_SEEDS, VALIDATION_SEEDS
from visarl.sim.tasks import get_task
from visarl.training_options import (
    Evaluate,
    Label,
    ScoreSaliency,
    Table5,
    TrainEncoder,
    TrainPolicy,
    TrainSaliency,
)

CELLS = "training.study.cells"

SALIENCY_STEP_S, RGB_IMAGE_S, BOTH_IMAGE_S, POLICY_STEP_S, START_S = 0.38, 0.004, 0.007, 0.09, 7.0
"""What a training step of a saliency model, a picture in pretraining (RGB alone, with saliency), a training step of a
policy and a start take on one core of an AMD EPYC with AVX-512. Only the estimate uses them."""
FULL_IMAGE_S = 0.02
"""A picture in pretraining with the paper's decoder."""
HELD_OUT_S = 10.0
"""One policy on the test demonstrations of a task."""
RECORDING_S, GRAPH_START_S = 18.0, 20.0
"""A demonstration and a start over the graph take about so long, in real time."""


def main(options: Table5) -> None:
    found = study(options)
    print(json.dumps(found["table5_sums"]))


def study(options: Table5) -> dict[str, Any]:
    """Do what is not done yet; the results, see `training.study.results`.

    Raises:
        ConfigError: an option is refused; StudyError: a job failed; what recording and the graph raise.
    """
    began, made_by = time.monotonic(), commit()
    check(options)
    config = get_preset(options.preset)
    out = options.out.absolute()
    collections = [collection(options, out, task) for task in options.tasks]
    names = [name for one in collections for name in one.stages] + [f"graph/{task}" for task in options.tasks]
    stages = Stages(out / "stages", [*names, "videos"])
    workers = executor(options.workers, options.ray)
    try:
        if (seconds := recording_seconds(options, collections)) > 0:  # else the better estimate below follows at once
            console().print(
                f"demonstrations: about {seconds / 60:.0f} minutes in real time; then at most "
                + estimate(make_plan(options, config, collections, None), workers.slots)
                + ("" if options.preset == "64" else f"; that is of preset 64 on CPU cores, not of {options.preset}")
            )
        recorded = {one.task: collect(one, config, stages) for one in collections}
        plan = make_plan(options, config, collections, stages)
        console().print(estimate(plan, workers.slots, len(options.tasks) * options.graph_starts * GRAPH_START_S))
        figures = run(plan, workers)
    finally:
        workers.close()
    graph = {task: on_graph(options, config, stages, plan, task, figures) for task in options.tasks}
    origin = provenance(0, time.monotonic() - began, made_by)
    found = results.table5(options, figures, recorded, graph, origin, plan)
    showcase.make(options, config, stages, plan, figures, found)
    results.publish(options.docs or out, found)
    return found


def check(options: Table5) -> None:
    """
    Raises:
        ConfigError: no such task or arm, or counts that make no sense.
    """
    for task in options.tasks:
        get_task(task)
    for arm in options.arms:
        if arm not in ARMS:
            raise ConfigError(f"arms: {suggest(arm, ARMS)}, found {arm!r}")
    for name in ("seeds", "rollouts", "demos", "frames", "workers"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ConfigError(f"{name}: expected at least 1, found {value}")
    if options.saliency == "frozen":
        raise ConfigError(
            "saliency 'frozen': its features come from a hub or a file, which the study does not ask for; expected "
            "picanet or unet. `visarl study saliency` compares all three"
        )
    if options.rollouts < options.seeds or options.rollouts > len(EVALUATION_SEEDS):
        raise ConfigError(
            f"rollouts: expected {options.seeds} (one a training seed) to {len(EVALUATION_SEEDS)}, "
            f"found {options.rollouts}"
        )
    if not 0 <= options.select <= len(VALIDATION_SEEDS):
        raise ConfigError(f"select: expected 0 to {len(VALIDATION_SEEDS)}, found {options.select}")


def collection(options: Table5, out: Path, task: str) -> Collection:
    """Where a task's demonstrations lie."""
    return Collection(
        out / "demos" / task, task, options.demos, options.test_demos, options.disturbance, options.frames, 0,
        options.domain, f"demos/{task}/",
    )  # fmt: skip


def recording_seconds(options: Table5, collections: list[Collection]) -> float:
    """What recording would take [s]; demonstrations that are there count as done."""
    have = sum(len(list(one.bags.glob("*/"))) + len(list(one.test_bags.glob("*/"))) for one in collections)
    return max(0, len(collections) * (options.demos + options.test_demos) - have) * RECORDING_S


def evaluation_seeds(options: Table5, seed: int) -> list[int]:
    """The scenes of one training seed's policies: each scene is met by the same seed in every arm."""
    scenes = EVALUATION_SEEDS[: options.rollouts]
    share = [round(i * len(scenes) / options.seeds) for i in range(options.seeds + 1)]
    return list(scenes[share[seed] : share[seed + 1]])


def make_plan(options: Table5, config: ModelConfig, collections: list[Collection], stages: Stages | None) -> Plan:
    """The jobs of the study; without `stages` nothing counts as recorded."""
    out = options.out.absolute()
    before = {} if stages is None else {name: stages.stages[name] for one in collections for name in one.stages}
    shared: dict[str, Any] = {"device": options.device, "threads": 1}
    jobs: list[Job] = []

    def add(
        name: str, function: str, wanted: Any, after: tuple[str, ...], seconds: float, model: ModelConfig = config
    ) -> None:
        known = tuple(one for one in after if stages is not None or not one.startswith("demos/"))
        arguments = {"options": wanted} | ({} if model is config else {"config": to_dict(model)})
        jobs.append(Job(name, f"{CELLS}:{function}", arguments, settings_of(wanted, model), known, seconds))

    arms = [ARMS[arm] for arm in options.arms]
    kinds = {str(arm.encoder): ENCODERS[str(arm.encoder)] for arm in arms if arm.reads_tokens}
    clicked = any("saliency" in ENCODERS[arm.encoder].modalities for arm in arms if arm.encoder is not None)
    for one in collections if clicked else []:
        part = out / "saliency" / one.task / train_saliency.PART
        training = TrainSaliency(
            out=part.parent, bags=one.bags, clicks=one.clicks, preset=options.preset, model=options.saliency,
            iterations=options.saliency_iterations, **shared,
        )  # fmt: skip
        seconds = SALIENCY_STEP_S * options.saliency_iterations
        add(f"saliency/{one.task}", "saliency", training, (f"demos/{one.task}/click",), seconds)
        labelling = Label(episodes=one.episodes, saliency=part, **shared)
        add(f"label/{one.task}", "labels", labelling, (f"saliency/{one.task}", f"demos/{one.task}/convert"), 40.0)

    probed = dict(kinds)
    if "saliency" in kinds and probes.with_full_decoder(config) != config:
        probed["full_decoder"] = ENCODERS["full_decoder"]
    for seed in range(options.seeds):
        for name, kind in (kinds if seed else probed).items():
            wanted = TrainEncoder(
                out=out / "encoder" / f"{name}-{seed}",
                episodes=[one.episodes for one in collections],
                preset=options.preset,
                modalities=kind.modalities,
                inputs=kind.inputs,
                maps=kind.maps,
                iterations=options.encoder_iterations,
                seed=seed,
                **shared,
            )
            model, image_s = config, BOTH_IMAGE_S if "saliency" in kind.modalities else RGB_IMAGE_S
            if kind.full_decoder:
                model, image_s = probes.with_full_decoder(config), FULL_IMAGE_S
            seconds = options.encoder_iterations * wanted.batch * image_s
            add(f"encoder/{name}-{seed}", "encoder", wanted, _maps_of(kind, collections), seconds, model)
        for arm in options.arms:
            for one in collections:
                jobs += cell(options, config, one, arm, seed, stages is not None)
    scored = [one for one in collections if options.test_demos and OURS in options.arms]
    for one in scored:
        bundle = policy_folder(out, OURS, one.task, 0) / train_policy.BUNDLE
        scoring = ScoreSaliency(bundle=bundle, bags=one.test_bags, clicks=one.clicks)
        after = (f"policy/{OURS}/{one.task}-0", f"demos/{one.task}/record_test")
        add(f"score/{one.task}", "saliency_scores", scoring, after, 30.0)
    for one in collections if options.test_demos else []:
        jobs += held_out(options, one, stages is not None)
    for one in collections if probed else []:
        jobs.append(probes.job(out, one.task, probed, options))
    return Plan(out, jobs, before)


def _maps_of(kind: EncoderKind, collections: list[Collection]) -> tuple[str, ...]:
    predicted = "saliency" in kind.modalities and kind.maps != "oracle"
    return tuple(f"label/{one.task}" if predicted else f"demos/{one.task}/convert" for one in collections)


def policy_folder(out: Path, arm: str, task: str, seed: int) -> Path:
    """Where an arm's policy lies."""
    return out / "policy" / arm / f"{task}-{seed}"


def cell(options: Table5, config: ModelConfig, one: Collection, arm: str, seed: int, recorded: bool) -> list[Job]:
    """Training one policy, and its closed-loop starts."""
    out, kind = options.out.absolute(), ARMS[arm]
    folder = policy_folder(out, arm, one.task, seed)
    saliency_part = out / "saliency" / one.task / train_saliency.PART
    sees_maps = kind.encoder is not None and "saliency" in ENCODERS[kind.encoder].inputs
    wanted = TrainPolicy(
        out=folder,
        episodes=one.episodes,
        saliency=saliency_part if sees_maps else None,
        encoder=out / "encoder" / f"{kind.encoder}-{seed}" / train_encoder.PART if kind.reads_tokens else None,
        maps=kind.maps,
        readout=kind.readout,
        components=kind.components,
        # Noise on the components beside keypoints; on validation scenes it made the mean of RGB's tokens no better.
        embedding_noise=None if kind.reads_tokens and kind.readout == "keypoints" else 0.0,
        head=kind.head,
        iterations=options.policy_iterations,
        ladder=options.ladder,
        select=options.select,
        workers=1,
        diagnostics=False,
        seed=seed,
        device=options.device,
        threads=1,
    )
    if kind.encoder is None:
        function, after = "state_policy", (f"demos/{one.task}/convert",) if recorded else ()
    else:
        function, after = "policy", (f"encoder/{kind.encoder}-{seed}" if kind.reads_tokens else f"label/{one.task}",)
        after += (f"saliency/{one.task}",) if sees_maps else ()
    rungs = options.ladder * options.select
    seconds = POLICY_STEP_S * options.policy_iterations + START_S * rungs
    train = Job(
        f"policy/{arm}/{one.task}-{seed}", f"{CELLS}:{function}", {"options": wanted}, settings_of(wanted, config),
        after, seconds,
    )  # fmt: skip
    scenes = evaluation_seeds(options, seed)
    arguments = {
        "policy": folder / (train_policy.STATE_PART if kind.encoder is None else train_policy.BUNDLE),
        "maps": None if kind.encoder is None else kind.maps,
        "episodes": one.episodes,
        "task": one.task,
        "seeds": scenes,
        "limit_s": options.limit_s,
        "stay_s": STAY_S,
    }
    settings = {"seeds": scenes, "limit_s": options.limit_s, "stay_s": STAY_S}
    starts = Job(
        f"starts/{arm}/{one.task}-{seed}", f"{CELLS}:rollouts", arguments, settings, (train.name,),
        START_S * len(scenes),
    )  # fmt: skip
    return [train, starts]


def held_out(options: Table5, one: Collection, recorded: bool) -> list[Job]:
    """Asking the policies of the first training seed whether they look at the picture; none where no arm's policy sees
    what the robot would."""
    out, name = options.out.absolute(), f"held_out/{one.task}"
    arms = [arm for arm in options.arms if ARMS[arm].encoder is not None and ARMS[arm].maps == "predicted"]
    if not arms:
        return []
    arguments = {
        "bundles": {arm: policy_folder(out, arm, one.task, 0) / train_policy.BUNDLE for arm in arms},
        "bags": one.test_bags,
        "task": one.task,
    }
    after = tuple(f"policy/{arm}/{one.task}-0" for arm in arms)
    after += (f"demos/{one.task}/record_test",) if recorded else ()
    return [Job(name, f"{CELLS}:held_out", arguments, {"arms": arms}, after, HELD_OUT_S * len(arms))]


def on_graph(
    options: Table5, config: ModelConfig, stages: Stages, plan: Plan, task: str, figures: Figures
) -> dict[str, Any]:
    """Some of our arm's starts again through the ROS graph, beside how they ended in process."""
    if options.graph_starts < 1 or OURS not in options.arms:
        return {}
    scenes = evaluation_seeds(options, 0)[: options.graph_starts]
    wanted = Evaluate(
        bundle=policy_folder(options.out.absolute(), OURS, task, 0) / train_policy.BUNDLE,
        seeds=",".join(map(str, scenes)),
        graph=True,
        limit_s=options.limit_s,
        domain=options.domain,
    )
    name = f"starts/{OURS}/{task}-0"
    stages.stages[name] = plan.stages[name]
    done = stages.run(f"graph/{task}", settings_of(wanted, config), lambda fresh: evaluate.evaluate(wanted), (name,))
    here = {start["seed"]: start["success"] for start in figures[name]["starts"]}
    there = {start["seed"]: start["success"] for start in done["starts"]}
    return {
        "n": len(scenes),
        "graph": sum(there.values()),
        "process": sum(here[seed] for seed in scenes),
        "agree": sum(here[seed] == there[seed] for seed in scenes),
        "rate_hz": done["rate_hz"],
    }
