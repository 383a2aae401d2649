"""What the policy sees and says, in its own units. No torch: a launcher imports it with the bundle."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from visarl.aim import AIM_SIZE, REACH_SIZE, aim, locate, reach, trust
from visarl.contract import ArmContract
from visarl.errors import ContractError
from visarl.robot.kinematics import tool_axes, tool_position
from visarl.tracking import Tracker

CLIP = 10.0
"""Normalised observations are cut here: a keypoint that gets lost must not drown all else."""

Array = NDArray[np.float64]


def _none() -> Array:
    return np.zeros(0)


@dataclass(frozen=True, eq=False)
class Normalisation:
    """What the policy sees has zero mean and unit deviation; what it says is in [-1, 1].

    A policy without targets sees the embedding, all of the proprioception, and where the joints put the hand. One with
    targets sees where they are from the hand, and nothing that tells where on the table hand or things are: told the
    place as well, a clone of ten demonstrations learns the ten places by heart, and stops at others.
    """

    proprioception_mean: Array
    proprioception_std: Array
    embedding_mean: Array
    embedding_std: Array
    tool_mean: Array
    """Of what follows from the joint positions: (3,) the pinch point [m]; (6,) with targets, `tool_axes`."""
    tool_std: Array
    action_scale: Array
    """Physical action = policy's output * scale."""
    camera: Array = field(default_factory=_none)
    """(12,) projection of the base frame into the picture (`visarl.aim`); empty where the readout has no keypoints"""
    targets: Array = field(default_factory=_none)
    """(K,) where in the embedding begins what the hand aims at: keypoints, each x, y, confidence, where there is a
    camera; else true positions, each x, y, z [m]"""
    planes: Array = field(default_factory=_none)
    """(K,) height of the plane on which each keypoint is sought [m]; empty in bundles that aim in the picture"""
    heights: Array = field(default_factory=_none)
    """(K,) height of the hand when it does its work there [m]"""
    proprioception_seen: Array = field(default_factory=_none)
    """Which numbers of the proprioception the policy sees; empty: all."""

    def __post_init__(self) -> None:
        for item in fields(self):
            value = np.asarray(getattr(self, item.name), dtype=np.float64)
            object.__setattr__(self, item.name, value)  # the dataclass is frozen for everybody else
            if value.ndim != 1 or not np.isfinite(value).all():
                raise ContractError(f"normalisation.{item.name}: expected finite numbers in a row, found {value}")
            if item.name.endswith(("std", "scale")) and (value <= 0).any():
                raise ContractError(f"normalisation.{item.name}: expected numbers above 0, found {value}")
        if len(self.camera) not in ((0, 12) if len(self.targets) else (0,)):
            raise ContractError(f"normalisation.camera: expected 12 numbers or, without keypoints, none: {self.camera}")
        if not len(self.planes) == len(self.heights) in ((0, len(self.targets)) if len(self.camera) else (0,)):
            raise ContractError(
                f"normalisation: expected a plane and a height for each of {len(self.targets)} keypoints, found "
                f"{self.planes} and {self.heights}"
            )
        for name in ("proprioception", "embedding", "tool"):
            sizes = len(getattr(self, f"{name}_mean")), len(getattr(self, f"{name}_std"))
            if sizes[0] != sizes[1]:
                raise ContractError(f"normalisation: {sizes[0]} means but {sizes[1]} deviations of the {name}")

    @property
    def relative(self) -> bool:
        """Whether the policy sees places from the hand only. Bundles that aim in the picture see all."""
        return len(self.targets) > 0 and (len(self.planes) > 0 or not len(self.camera))

    @property
    def embedding_seen(self) -> NDArray[np.int64]:
        """Which numbers of the embedding the policy sees as they are.

        Never the effector's keypoint: the joints tell better where the hand is. In new scenes the predicted peak is off
        by up to a few centimetres, and a policy that saw it would follow it.
        """
        if not len(self.targets):
            return np.arange(len(self.embedding_mean))
        first = self.targets.astype(int)
        rest = np.arange(first[-1] + 3, len(self.embedding_mean))
        if not self.relative:
            return np.arange(first[0], len(self.embedding_mean))
        return np.concatenate([first + 2, rest]) if len(self.camera) else rest

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Lengths of the three stretches of the policy's input: of the embedding, of the arm, of the way to targets."""
        arm = len(self.proprioception_seen) or len(self.proprioception_mean)
        aimed = REACH_SIZE if self.relative else AIM_SIZE
        return len(self.embedding_seen), arm + len(self.tool_mean), aimed * len(self.targets)

    @property
    def state_dim(self) -> int:
        """Length of the policy's input."""
        return sum(self.sizes)

    def state(self, embedding: ArrayLike, proprioception: ArrayLike, contract: ArmContract) -> NDArray[np.float32]:
        """(..., E) and (..., P) as the policy's input (..., state_dim): normalised, cut at `CLIP`. In this order:

        - of the embedding, `embedding_seen`: with keypoints the `trust` in the targets' and the components;
        - of the proprioception, `proprioception_seen`, and what follows from it by known geometry, which ten
          demonstrations are too few to learn: where the hand is (3) or, with targets, how it is turned (6);
        - the way from the hand to each target, at three scales (`reach`, 9 each).
        """
        embedding = np.asarray(embedding, dtype=np.float64)
        proprioception = np.asarray(proprioception, dtype=np.float64)
        tool = tool_position(contract, proprioception)
        arm = (proprioception - self.proprioception_mean) / self.proprioception_std
        if len(self.proprioception_seen):
            arm = arm[..., self.proprioception_seen.astype(int)]
        hand = tool_axes(contract, proprioception) if self.relative else tool
        parts = (
            ((self._trusted(embedding) - self.embedding_mean) / self.embedding_std)[..., self.embedding_seen],
            arm,
            (hand - self.tool_mean) / self.tool_std,
            *(self._aim(k, tool, embedding[..., i : i + 3]) for k, i in enumerate(self.targets.astype(int))),
        )
        return np.concatenate(parts, axis=-1).clip(-CLIP, CLIP).astype(np.float32)

    def _trusted(self, embedding: Array) -> Array:
        """With the trust in the targets instead of their confidences.

        In ten demonstrations every thing is seen clearly. To a policy that was told how clearly, one that is seen half
        as clearly among things like it would be eight deviations from all it knows, and it would do anything.
        """
        if not len(self.planes):
            return embedding
        embedding, confidences = embedding.copy(), self.targets.astype(int) + 2
        embedding[..., confidences] = trust(embedding[..., confidences])
        return embedding

    def _aim(self, k: int, tool: Array, target: Array) -> Array:
        if not len(self.camera):
            return reach(tool, target)
        if not len(self.planes):
            return aim(self.camera, tool, target)
        place = locate(self.camera, target[..., :2], self.planes[k])
        return reach(tool, np.concatenate([place, np.full_like(place[..., :1], self.heights[k])], axis=-1))

    def track(self, tracker: Tracker, embedding: ArrayLike, proprioception: ArrayLike, contract: ArmContract) -> Array:
        """(E,) with the keypoints that are aimed at where `tracker` believes them; one call a control period."""
        embedding = np.array(embedding, dtype=np.float64)
        if len(self.camera):
            index = self.targets.astype(int)[:, None] + np.arange(3)
            embedding[index] = tracker.update(tool_position(contract, proprioception), embedding[index])
        return embedding

    def track_all(self, embedding: ArrayLike, proprioception: ArrayLike, contract: ArmContract) -> Array:
        """The same for an episode from its beginning, (T, E) and (T, P)."""
        tracker = Tracker(self.camera)
        pairs = zip(np.asarray(embedding), np.asarray(proprioception), strict=True)
        return np.stack([self.track(tracker, seen, joints, contract) for seen, joints in pairs])

    def action(self, output: ArrayLike) -> Array:
        """The policy's output (..., A) in physical units; what leaves [-1, 1] is cut."""
        return np.asarray(output, dtype=np.float64).clip(-1.0, 1.0) * self.action_scale
