"""The card of a bundle: how it was made and how good it is, for a person. Every figure comes from a command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visarl.config import ModelConfig
from visarl.sim.tasks import get_task

ARMS = {
    "graph": "this bundle, over the graph (`visarl evaluate --graph`)",
    "keypoints": "this bundle, in one process with the graph's latency modelled (`visarl evaluate`)",
    "mean": "RGB + saliency, mean of tokens (the paper's readout)",
    "rgb": "RGB alone, mean of tokens",
}
"""What the pipeline's evaluations are called; a study has arms of its own."""
MODELS = {"picanet": "PiCANet on {}", "unet": "a light U-Net", "frozen": "a head on frozen {}"}
SEES = {"state": "true positions", "nothing": "proprioception alone"}


def write_card(
    task: str,
    config: ModelConfig,
    metrics: dict[str, Any],
    provenance: dict[str, Any],
    arms: Mapping[str, str] = ARMS,
    note: str = "",
) -> str:
    """Markdown.

    Args:
        metrics: of the pipeline or the study: `demos`, `steps`, `recording`, `annotation`, `policy_losses`,
            `evaluation` (rates by arm, each with `seeds`), and where there are any `saliency` and `diagnostics`.
        provenance: of `training.common.provenance`, and `stages`, seconds by stage; the commit may be several.
        arms: which rates are shown, in their order, and what they are called.
        note: a paragraph on how this one was made and chosen.
    """
    annotation, recording = metrics["annotation"], metrics["recording"]
    spots = "the object near nine spots in turn" + (" and the goal near five" if get_task(task).goal else "")
    saliency = MODELS[config.saliency.model].format(config.saliency.backbone) + f", {config.saliency.image_size} px"
    lines = [
        f"# {task}: {get_task(task).instruction}",
        "",
        f"Trained on {metrics['demos']} demonstrations ({metrics['steps']} steps) of the scripted expert, recorded "
        f"through the ROS graph, and on {annotation['clicks']} simulated clicks on {annotation['frames']} frames.",
        "",
        f"The demonstrations put {spots} (middle, corners and edges of the area from which evaluation draws freely), "
        f"and the arm was pushed about ({recording['disturbance']:g} m/s rms) so that they show the way back.",
        "",
        *([note, ""] if note else []),
        "| | |",
        "|---|---|",
        f"| command | `{provenance['command']}` |",
        f"| {'commit' if ',' not in provenance['commit'] else 'commits'} | {provenance['commit']} |",
        f"| seed | {provenance['seed']} |",
        f"| made | {provenance['made']}, in {provenance['seconds'] / 60:.1f} minutes |",
        f"| machine | {provenance['machine']}; torch {provenance['torch']} |",
        f"| saliency | {saliency}, roles {', '.join(config.saliency.roles)} |",
        f"| encoder | MultiMAE {config.encoder.image_size} px, patch {config.encoder.patch_size}, "
        f"{config.encoder.depth} x {config.encoder.dim} |",
        "",
        "## Closed loop",
        "",
        "Success at any time of a start, in simulation, with the predicted saliency in the loop where no other is "
        "named. Over the graph: one process a node, in real time; the others in one process. 95 % interval by Wilson.",
        "",
        "| what drives the arm | success | interval |",
        "|---|---|---|",
    ]
    for arm, text in arms.items():
        if arm not in metrics["evaluation"]:
            continue
        found = metrics["evaluation"][arm]
        low, high = found["interval"]
        lines.append(f"| {text} | {found['success']} of {found['n']} | {low:.2f} to {high:.2f} |")
    seeds = dict.fromkeys(found["seeds"] for arm, found in metrics["evaluation"].items() if arm in arms)
    lines += ["", f"Starts: seeds {', '.join(seeds)}, which nothing was chosen by.", ""]
    lines += _diagnostics(metrics.get("diagnostics", {}), metrics["policy_losses"])
    lines += _saliency(metrics["saliency"]) if "saliency" in metrics else []
    lines += ["## Time", "", "| stage | seconds |", "|---|---|"]
    lines += [f"| {name} | {seconds:.0f} |" for name, seconds in provenance["stages"].items()]
    lines += ["", f"Recording: {recording['attempts']} attempts, {recording['failures']} failed.", ""]
    return "\n".join(lines)


def _diagnostics(found: dict[str, Any], losses: dict[str, float]) -> list[str]:
    lines = ["## Diagnostics", ""]
    if found:
        lines += ["The same policy on other inputs, on validation starts:", "", "| sees | success |", "|---|---|"]
        for sees, result in found.items():
            rate = f"{result['success']} of {result['n']}" if "success" in result else "not measured"
            lines.append(f"| {SEES[sees]} | {rate} |")
        lines.append("")
    lines += [
        f"Training loss {losses['train']:.5f}; with the embeddings of another episode {losses['train_shuffled']:.5f} "
        "(a policy that ignores the picture has the same loss in both).",
        "",
    ]
    return lines


def _saliency(scores: dict[str, Any]) -> list[str]:
    frames = (
        f"{scores['frames']} frames of demonstrations that nothing was trained on"
        if scores["test_demos"]
        else f"{scores['frames']} frames of the training demonstrations, without those that were clicked; the saliency "
        "model was not trained on them, encoder and policy were"
    )
    return [
        "## Saliency on unseen frames" if scores["test_demos"] else "## Saliency on frames without clicks",
        "",
        f"{frames} (`visarl score saliency`).",
        "",
        "| F (adaptive) | F (max) | MAE | MAE of zeros | MAE of the mean map | NSS | CC |",
        "|---|---|---|---|---|---|---|",
        f"| {scores['f_adaptive']:.3f} | {scores['f_max']:.3f} | {scores['mae']:.4f} | {scores['mae_zero']:.4f} | "
        f"{scores['mae_mean_map']:.4f} | {scores['nss']:.2f} | {scores['cc']:.3f} |",
        "",
    ]
