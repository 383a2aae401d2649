"""What the study's encoders know of the scenes: the jobs that ask them, and the part of the page that tells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from training import train_encoder, train_saliency
from training.stages import settings_of
from training.study.arms import ENCODER_TITLES, EncoderKind
from training.study.jobs import Job
from visarl.config import EncoderConfig, ModelConfig
from visarl.contract import ROLES
from visarl.sim.seeds import EVALUATION_SEEDS
from visarl.training_options import Probe, Table5

DECODER = ("decoder_dim", "decoder_depth", "decoder_heads", "decode_share")
"""What of an encoder's configuration is the decoder's, which is gone after pretraining."""
PROBE_S = 120.0
"""One encoder on one task, for the estimate."""
CONDITIONS = {
    "none": "as they are", "colours_easy": "other colours", "video_easy": "moving pictures",
    "distractors": "unseen things",
}  # fmt: skip
READOUTS = {"mean": "mean", "global": "global token", "modality_mean": "mean a modality"}
TRIVIAL = "trivial"


def with_full_decoder(config: ModelConfig) -> ModelConfig:
    """The configuration with the paper's decoder, which paints every masked patch."""
    full = {name: EncoderConfig.__dataclass_fields__[name].default for name in DECODER}
    return replace(config, encoder=replace(config.encoder, **full))


def job(out: Path, task: str, kinds: Mapping[str, EncoderKind], options: Table5) -> Job:
    """To ask the encoders of the first training seed where the things of a task are."""
    asked = EVALUATION_SEEDS[: max(1, options.probe_scenes // 2)]
    several = [
        Probe(
            encoder=out / "encoder" / f"{name}-0" / train_encoder.PART,
            saliency=out / "saliency" / task / train_saliency.PART if "saliency" in kind.inputs else None,
            task=task, maps=kind.maps, scenes=options.probe_scenes,
            seeds=f"{asked.start}:{asked.stop}", device=options.device, threads=1,
        )
        for name, kind in kinds.items()
    ]  # fmt: skip
    settings = {"encoders": list(kinds), "probes": [settings_of(one, ModelConfig()) for one in several]}
    return Job(
        f"probe/{task}",
        "training.study.cells:probes",
        {"kinds": list(kinds), "several": several},
        settings,
        tuple(f"encoder/{name}-0" for name in kinds),
        PROBE_S * len(several),
    )


def tables(found: Mapping[str, Any]) -> list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    """Caption, heads and rows of each table.

    Args:
        found: {task: {encoder: {condition: {readout or trivial: {role: {xy, ...}}}}}}, errors in mm.
    """
    kinds = list(dict.fromkeys(kind for of in found.values() for kind in of))
    roles = [role for role in ROLES if any(_values(found, kinds[0], "none", "mean", role))]
    made = []
    for role in roles:
        rows = [
            (ENCODER_TITLES[kind], *(_mean(_values(found, kind, condition, "mean", role)) for condition in CONDITIONS))
            for kind in kinds
        ]
        trivial = (_mean(_values(found, kinds[0], condition, TRIVIAL, role)) for condition in CONDITIONS)
        rows.append(("*always the mean position*", *trivial))
        made.append((f"Of the {role}, from the mean of the tokens:", ("encoder", *CONDITIONS.values()), rows))
    rows = [
        (
            ENCODER_TITLES[kind],
            *(
                _mean([e for role in roles for e in _values(found, kind, condition, readout, role)])
                for condition in ("none", "distractors") for readout in READOUTS
            ),
        )
        for kind in kinds
    ]  # fmt: skip
    heads = [f"{words}, {CONDITIONS[c]}" for c in ("none", "distractors") for words in READOUTS.values()]
    return [*made, ("By readout, over all roles:", ("encoder", *heads), rows)]


def _values(found: Mapping[str, Any], kind: str, condition: str, readout: str, role: str) -> list[float]:
    """Of all tasks that have the role [mm]."""
    errors = (of[kind][condition][readout] for of in found.values() if kind in of)
    return [e[role]["xy"] for e in errors if role in e]


def _mean(values: Iterable[float]) -> str:
    values = list(values)
    return f"{sum(values) / len(values):.0f}" if values else ""
