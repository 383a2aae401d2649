"""What is compared: encoders by what they saw, and arms by what the policy gets of them."""

from __future__ import annotations

from dataclasses import dataclass

from visarl.config import Head, ReadoutConfig, ReadoutKind
from visarl.training_options import Maps


@dataclass(frozen=True)
class EncoderKind:
    """A MultiMAE, by its modalities and by where its maps come from."""

    modalities: tuple[str, ...]
    """In pretraining."""
    inputs: tuple[str, ...]
    """In use."""
    maps: Maps = "predicted"
    full_decoder: bool = False
    """Whether pretraining paints every masked patch with the paper's decoder, whatever the preset says."""


ENCODERS = {
    "rgb": EncoderKind(("rgb",), ("rgb",)),
    "pretraining_only": EncoderKind(("rgb", "saliency"), ("rgb",)),
    "saliency": EncoderKind(("rgb", "saliency"), ("rgb", "saliency")),
    "shuffled": EncoderKind(("rgb", "saliency"), ("rgb", "saliency"), "shuffled"),
    "oracle": EncoderKind(("rgb", "saliency"), ("rgb", "saliency"), "oracle"),
    "full_decoder": EncoderKind(("rgb", "saliency"), ("rgb", "saliency"), full_decoder=True),
}


ENCODER_TITLES = {
    "rgb": "RGB",
    "pretraining_only": "RGB, saliency in pretraining only",
    "saliency": "RGB + saliency",
    "shuffled": "RGB + shuffled saliency",
    "oracle": "RGB + oracle saliency",
    "full_decoder": "RGB + saliency, full decoder in pretraining",
}


@dataclass(frozen=True)
class StudyArm:
    """One row of the table."""

    title: str
    encoder: str | None
    """A key of `ENCODERS`, of which keypoints alone take the maps only; None is told the true state instead."""
    readout: ReadoutKind = "mean"
    components: int = ReadoutConfig.components
    head: Head = "step"

    @property
    def reads_tokens(self) -> bool:
        """Whether the encoder runs at all."""
        return self.encoder is not None and ReadoutConfig(self.readout, self.components).reads_tokens

    @property
    def maps(self) -> Maps:
        return "predicted" if self.encoder is None else ENCODERS[self.encoder].maps


ARMS = {
    "rgb": StudyArm("RGB, mean of tokens (the paper's RGB)", "rgb"),
    "rgb_softmax": StudyArm("RGB, learned spatial-softmax keypoints", "rgb", "spatial_softmax"),
    "pretraining_only": StudyArm("RGB, saliency in pretraining only", "pretraining_only"),
    "saliency_mean": StudyArm("RGB + saliency, mean of tokens (the paper's ViSaRL)", "saliency"),
    "saliency": StudyArm("RGB + saliency, keypoints", "saliency", "keypoints"),
    "saliency_chunk": StudyArm("RGB + saliency, keypoints, action chunks (L1)", "saliency", "keypoints", head="chunk"),
    "keypoints": StudyArm("keypoints alone", "saliency", "keypoints", components=0),
    "shuffled": StudyArm("RGB + shuffled saliency, keypoints (control)", "shuffled", "keypoints"),
    "oracle": StudyArm("RGB + oracle saliency, keypoints (control)", "oracle", "keypoints"),
    "state": StudyArm("true positions (ceiling)", None),
}
"""In the order of the table."""

OURS = "saliency"
"""The arm that is shipped."""

RGB_ARMS = ("rgb", "rgb_softmax")

PAPER = {
    "rgb": {"pick_apple": 6, "pick_red_block": 4, "bread_to_plate": 3, "apple_to_bowl": 1},
    "saliency_mean": {"pick_apple": 8, "pick_red_block": 7, "bread_to_plate": 6, "apple_to_bowl": 6},
}
"""Table V of the paper: successes of 10 on the real arm."""
PAPER_CLAIM = ("saliency_mean", "rgb")
"""What the paper compares: its own readout with saliency and without."""
WHERE_IT_HELPS = (("pretraining_only", "rgb"), ("saliency_mean", "pretraining_only"))
"""All by the paper's readout: what saliency in pretraining adds, and what maps in the robot's eyes add to that."""
PAPER_STARTS = 10

PAPER_TASKS = ("pick_apple", "pick_red_block", "bread_to_plate", "apple_to_bowl")
"""In the paper's order."""
