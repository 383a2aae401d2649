"""All of it from nothing: record demonstrations, click, train, evaluate, write the bundle and its card.

    visarl pipeline --task pick_red_block --out runs/pick_red_block

Each stage leaves a marker in `out/stages`; the same command goes on where it was
interrupted; with further arms it adds theirs. The bundle is `out/bundle`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from training import evaluate, label, score, train_encoder, train_policy, train_saliency
from training.card import write_card
from training.collect import STAGES, TEST_SCENES, Collection, collect
from training.common import check_ranges, console, provenance
from training.stages import Stages, settings_of
from visarl.bundle import Bundle, load_bundle, save_bundle
from visarl.config import ModelConfig, ReadoutKind, get_preset
from visarl.data.files import writable
from visarl.errors import ConfigError
from visarl.sim.seeds import TRAIN_SEEDS, parse_seeds
from visarl.sim.tasks import get_task
from visarl.training_options import (
    Evaluate,
    Label,
    Pipeline,
    ScoreSaliency,
    TrainEncoder,
    Training,
    TrainPolicy,
    TrainSaliency,
)


def main(options: Pipeline) -> None:
    bundle = pipeline(options)
    result = {"bundle": str(bundle.folder), "id": bundle.id, **bundle.metrics["evaluation"]["keypoints"]}
    print(json.dumps(result))


def stage_names(options: Pipeline) -> list[str]:
    """The run's stages in their order."""
    names = [*STAGES, "saliency", "label", "encoder", "policy", "score", "evaluate"]
    names += ["evaluate_graph"] if options.graph else []
    names += ["policy_mean", "evaluate_mean"] if "mean" in options.arms else []
    return names + (["encoder_rgb", "policy_rgb", "evaluate_rgb"] if "rgb" in options.arms else [])


def pipeline(options: Pipeline) -> Bundle:
    """Every stage in its order; the finished bundle.

    Raises:
        what its stages raise; the markers of the stages before stay.
    """
    config = _check(options)
    out = options.out.absolute()
    stages = Stages(out / "stages", stage_names(options))
    collection = Collection(
        out, options.task, options.demos, options.test_demos, options.disturbance, options.frames, options.seed,
        options.domain,
    )  # fmt: skip
    bags, file, clicks = collection.bags, collection.episodes, collection.clicks
    scored = collection.test_bags if options.test_demos else bags
    saliency_part = out / "saliency" / train_saliency.PART
    shared: dict[str, Any] = {"seed": options.seed, "device": options.device, "threads": options.threads}

    def settings(wanted: Any) -> dict[str, Any]:
        return settings_of(wanted, config)

    def do_label(fresh: bool) -> dict[str, Any]:
        label.main(Label(episodes=file, saliency=saliency_part, device=options.device, threads=options.threads))
        return {}

    def train(name: str, wanted: Training, work: Callable[[Any], Any], after: tuple[str, ...]) -> dict[str, Any]:
        def restartable(fresh: bool) -> dict[str, Any]:
            made = work(replace(wanted, restart=fresh))
            return made.metrics if isinstance(made, Bundle) else {}

        return stages.run(name, settings(wanted), restartable, after)

    def encoder(name: str, modalities: tuple[str, ...], after: str) -> None:
        wanted = TrainEncoder(
            out=out / name,
            episodes=[file],
            preset=options.preset,
            modalities=modalities,
            iterations=options.encoder_iterations,
            **shared,
        )
        train(name, wanted, train_encoder.main, (after,))

    def policy(name: str, encoder: str, readout: ReadoutKind) -> dict[str, Any]:
        wanted = TrainPolicy(
            out=out / name,
            episodes=file,
            saliency=None if encoder == "encoder_rgb" else saliency_part,
            encoder=out / encoder / train_encoder.PART,
            readout=readout,
            iterations=options.policy_iterations,
            select=options.select,
            diagnostics=name == "policy",
            diagnostic_starts=options.diagnostic_starts,
            **shared,
        )
        return train(name, wanted, train_policy.train, (encoder,))

    def closed_loop(name: str, policy: str, graph: bool = False) -> dict[str, Any]:
        wanted = Evaluate(
            bundle=out / policy / train_policy.BUNDLE,
            seeds=options.seeds,
            graph=graph,
            limit_s=options.limit_s,
            workers=options.workers,
            domain=options.domain,
        )
        found = stages.run(name, settings(wanted), lambda fresh: evaluate.evaluate(wanted), (policy,))
        return _without(found, "starts")

    metrics = collect(collection, config, stages)
    wanted = TrainSaliency(
        out=out / "saliency",
        bags=bags,
        clicks=clicks,
        preset=options.preset,
        iterations=options.saliency_iterations,
        **shared,
    )
    train("saliency", wanted, train_saliency.main, ("click",))
    stages.run("label", {}, do_label, ("convert", "saliency"))
    encoder("encoder", ("rgb", "saliency"), "label")
    metrics |= policy("policy", "encoder", "keypoints")
    scoring = ScoreSaliency(bundle=out / "policy" / train_policy.BUNDLE, bags=scored, clicks=clicks)
    found = stages.run("score", settings(scoring), lambda fresh: score.score(scoring), ("record_test", "policy"))
    metrics["saliency"] = found | {"test_demos": options.test_demos}
    metrics["evaluation"] = {"keypoints": closed_loop("evaluate", "policy")}
    if options.graph:
        metrics["evaluation"]["graph"] = closed_loop("evaluate_graph", "policy", graph=True)
    if "mean" in options.arms:
        policy("policy_mean", "encoder", "mean")
        metrics["evaluation"]["mean"] = closed_loop("evaluate_mean", "policy_mean")
    if "rgb" in options.arms:
        encoder("encoder_rgb", ("rgb",), "convert")
        policy("policy_rgb", "encoder_rgb", "mean")
        metrics["evaluation"]["rgb"] = closed_loop("evaluate_rgb", "policy_rgb")
    return finish(options, out, metrics, stages)


def _check(options: Pipeline) -> ModelConfig:
    """The configuration.

    Raises:
        ConfigError, SimulationError, DataError: what a stage would refuse, before any has begun: one that begins with
        other options throws away what it made with those before.
    """
    get_task(options.task)
    parse_seeds(options.seeds)
    check_ranges(options)
    tests = TEST_SCENES + options.test_demos if options.test_demos else 0
    if options.seed + max(options.demos, tests) > TRAIN_SEEDS.stop:
        raise ConfigError(f"seed {options.seed}: expected scenes of 0 to {TRAIN_SEEDS.stop - 1}; choose a lower --seed")
    if options.limit_s is not None and not options.limit_s > 0:
        raise ConfigError(f"limit_s: expected a positive time, found {options.limit_s}")
    writable(options.out, folder=True)
    return get_preset(options.preset)


def finish(options: Pipeline, out: Path, metrics: dict[str, Any], stages: Stages) -> Bundle:
    """The policy's bundle again, with everything that was measured and the card."""
    trained = load_bundle(out / "policy" / train_policy.BUNDLE)
    names = [path.stem for path in sorted(trained.folder.glob("*.safetensors"))]
    seconds = sum(stages.seconds.values())
    made_by = ", ".join(dict.fromkeys(one for commits in stages.commits.values() for one in commits))
    origin = provenance(options.seed, seconds, made_by) | {"stages": stages.seconds, "commits": stages.commits}
    bundle = save_bundle(
        out / "bundle",
        config=trained.config,
        task=trained.task,
        parts={name: trained.weights(name) for name in names},
        normalisation=trained.normalisation,
        metrics=metrics,
        provenance=origin,
        card=write_card(trained.task, trained.config, metrics, origin),
        half=True,
    )
    console().print(f"bundle: {bundle.folder} ({bundle.id}), made in {seconds / 60:.1f} minutes")
    return bundle


def _without(figures: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in figures.items() if name != key}


if __name__ == "__main__":
    import sys

    from visarl import cli

    sys.exit(cli.main(["pipeline", *sys.argv[1:]]))
