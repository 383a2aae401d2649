"""From bags to one episode file, one frame in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from visarl.config import PreprocessConfig
from visarl.contract import BASE_FRAME, CONTROL_RATE_HZ, ArmContract, get_contract
from visarl.data.align import Steps, active_range, align, nearest
from visarl.data.bags import ARM_STATE, IMAGE, TELEOP_ACTION, TRUTH, Bag, frames_from_bag, to_ns
from visarl.data.episodes import (
    NUMBERS_BYTES,
    create,
    finish,
    new_dataset,
    normalise,
    reserve,
    write_header,
    write_steps,
    write_truth,
)
from visarl.data.labels import Label, load_label
from visarl.errors import DataError, VisarlError
from visarl.preprocess import crop

MIN_STEPS = 10
"""A shorter episode is a mistake of the person at the keyboard, not a demonstration."""


@dataclass(frozen=True)
class EpisodeReport:
    """What became of one bag."""

    bag: str
    demo: str
    task: str
    label: str
    steps: int
    frames: int
    """Camera frames in the bag."""
    idle_head: int
    """Steps cut from the beginning because nothing moved."""
    idle_tail: int
    gaps: int
    """Pauses between steps longer than one and a half control periods."""
    unpaired: int
    """Actions from before the first frame, left out."""
    stale: int
    """Actions without a fresh frame or arm state, left out."""
    clipped: int
    """Actions outside the contract's bounds, cut to them."""
    frame_age_ms_p50: float
    frame_age_ms_max: float
    state_error_ms_p50: float
    state_error_ms_max: float


@dataclass
class ConversionReport:
    """What `convert` did."""

    out: Path
    episodes: list[EpisodeReport] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """Bags left out because they are labelled as failures."""
    unlabelled: list[str] = field(default_factory=list)
    """Bags left out because nobody has said whether they succeeded."""
    bad: list[str] = field(default_factory=list)
    """Bags left out because they cannot be used, with the reason."""

    @property
    def steps(self) -> int:
        return sum(episode.steps for episode in self.episodes)

    def as_json(self) -> dict[str, Any]:
        ages = [e.frame_age_ms_p50 for e in self.episodes]
        return {
            "out": str(self.out),
            "demos": len(self.episodes),
            "steps": self.steps,
            "frames": sum(e.frames for e in self.episodes),
            "trimmed": sum(e.idle_head + e.idle_tail for e in self.episodes),
            "stale": sum(e.stale for e in self.episodes),
            "clipped": sum(e.clipped for e in self.episodes),
            "frame_age_ms": {
                "p50": round(float(np.median(ages)), 3),
                "max": max(e.frame_age_ms_max for e in self.episodes),
            },
            "state_error_ms": {
                "p50": round(float(np.median([e.state_error_ms_p50 for e in self.episodes])), 3),
                "max": max(e.state_error_ms_max for e in self.episodes),
            },
            "failures": len(self.failures),
            "unlabelled": len(self.unlabelled),
            "bad": len(self.bad),
        }


@dataclass
class _Recorded:
    """The light topics of a bag, in the order of arrival."""

    frames: list[int] = field(default_factory=list)
    action_stamps: list[int] = field(default_factory=list)
    actions: list[NDArray[np.float64]] = field(default_factory=list)
    observed: list[int] = field(default_factory=list)
    state_stamps: list[int] = field(default_factory=list)
    states: list[NDArray[np.float64]] = field(default_factory=list)
    truth_stamps: list[int] = field(default_factory=list)
    truths: list[Any] = field(default_factory=list)


def convert(
    bags: Sequence[Path],
    out: Path,
    preprocess: PreprocessConfig,
    *,
    arm: str = "jaco2",
    action_topic: str = TELEOP_ACTION,
    every_frame: bool = False,
    failures: bool = False,
    unlabelled: bool = False,
    skip_bad: bool = False,
    validation_share: float = 0.1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ConversionReport:
    """Write `out` from `bags`, in their order, and say how well the stamps agreed.

    Args:
        every_frame: also keep all camera frames, for pretraining.
        failures: also convert episodes labelled as failures.
        unlabelled: also convert episodes that nobody has labelled.
        skip_bad: leave out what cannot be used and list it in the report; otherwise nothing is written then.
        progress: called with bags done and bags in all.

    Raises:
        DataError: a bag cannot be used, none is left, or `out` cannot be written.
    """
    contract = get_contract(arm)
    report = ConversionReport(out=Path(out))
    with create(report.out) as file:
        write_header(file, contract, preprocess)
        for index, bag in enumerate(bags):
            progress(index, len(bags))
            label = load_label(bag)
            if label.label == "failure" and not failures:
                report.failures.append(bag.name)
                continue
            if not label.label and not unlabelled:
                report.unlabelled.append(bag.name)
                continue
            demo = f"demo_{len(report.episodes)}"
            try:
                episode = _convert_bag(file, demo, bag, label, contract, preprocess, action_topic, every_frame)
            except VisarlError as error:
                report.bad.append(str(error) if str(bag) in str(error) else f"{bag}: {error}")
                for group in (f"data/{demo}", f"frames/{demo}"):
                    if group in file:
                        del file[group]
                continue
            report.episodes.append(episode)
        progress(len(bags), len(bags))
        if report.bad and not skip_bad:
            raise DataError(
                "\n".join(report.bad) + f"\n{len(report.bad)} of {len(bags)} bags cannot be used, nothing was "
                "written; remove them, or leave them out with --skip-bad"
            )
        if not report.episodes:
            reasons = [*report.bad, *(f"{name}: labelled as a failure" for name in report.failures)]
            reasons += [f"{name}: without a label, --unlabelled takes it" for name in report.unlabelled]
            raise DataError("\n".join([f"{out}: no episode to convert", *reasons]))
        finish(file, validation_share)
    return report


def _convert_bag(
    file: h5py.File,
    demo: str,
    bag: Path,
    label: Label,
    contract: ArmContract,
    preprocess: PreprocessConfig,
    action_topic: str,
    every_frame: bool,
) -> EpisodeReport:
    recorded = _read(bag, contract, action_topic)
    frame_stamps = np.unique(np.array(recorded.frames, dtype=np.int64))
    steps = align(
        np.array(recorded.action_stamps, dtype=np.int64),
        np.array(recorded.actions),
        np.array(recorded.observed, dtype=np.int64),
        frame_stamps,
        np.array(recorded.state_stamps, dtype=np.int64),
    )
    shares = normalise(steps.action, contract)
    first, last = active_range(shares)
    head, tail = first, len(steps) - last
    steps, shares = steps.keep(first, last), shares[first:last]
    if len(steps) < MIN_STEPS:
        raise DataError(
            f"{bag}: expected an episode of at least {MIN_STEPS} steps ({MIN_STEPS / CONTROL_RATE_HZ:g} s) of motion, "
            f"found {len(steps)} of {len(steps) + head + tail}; delete it or label it as a failure"
        )
    pictures = len(steps) + (len(frame_stamps) if every_frame else 0)
    reserve(file, pictures * preprocess.size**2 * 3 + len(steps) * NUMBERS_BYTES)
    clipped = int(np.sum(np.abs(shares).max(axis=1) > 1 + 1e-6))
    group = file["data"].create_group(demo)
    write_steps(
        group,
        contract,
        stamps=steps.stamp,
        actions=steps.action,
        states=np.stack([contract.proprioception.validate(recorded.states[i]) for i in steps.state]),
        image_stamps=steps.frame_stamp,
        state_stamps=steps.state_stamp,
        success=label.label != "failure",
    )
    if recorded.truths:
        _write_truth(group, steps, recorded, preprocess)
    everything = file.create_group(f"frames/{demo}") if every_frame else None
    _write_frames(bag, group["obs"], everything, steps, frame_stamps, preprocess)
    task = label.task or (recorded.truths[0].task if recorded.truths else "unknown")
    age, error = steps.frame_age_ms, steps.state_error_ms
    report = EpisodeReport(
        bag=bag.name,
        demo=demo,
        task=task,
        label=label.label,
        steps=len(steps),
        frames=len(frame_stamps),
        idle_head=head,
        idle_tail=tail,
        gaps=steps.gaps,
        unpaired=steps.unpaired,
        stale=steps.stale,
        clipped=clipped,
        frame_age_ms_p50=round(float(np.median(age)), 3),
        frame_age_ms_max=round(float(age.max()), 3),
        state_error_ms_p50=round(float(np.median(error)), 3),
        state_error_ms_max=round(float(error.max()), 3),
    )
    for key, value in asdict(report).items():
        if key not in ("demo", "steps"):
            group.attrs[key] = value
    return report


def _read(path: Path, contract: ArmContract, action_topic: str) -> _Recorded:
    found = _Recorded()
    with Bag(path) as bag:
        bag.require(IMAGE, ARM_STATE, action_topic)
        for topic, stamp, _, data in bag.raw([IMAGE, ARM_STATE, action_topic, TRUTH]):
            if topic == IMAGE:
                found.frames.append(stamp)
                continue
            message = bag.decode(topic, data)
            if topic == TRUTH:
                found.truth_stamps.append(stamp)
                found.truths.append(message)
            elif topic == ARM_STATE:
                if message.arm != contract.name:
                    raise DataError(f"{path}: expected the arm {contract.name!r}, found {message.arm!r}")
                found.state_stamps.append(stamp)
                found.states.append(np.concatenate([message.position, message.velocity, message.fingers]))
            else:
                if message.header.frame_id not in ("", BASE_FRAME):
                    raise DataError(
                        f"{path}: {topic}: expected twists in {BASE_FRAME!r}, found {message.header.frame_id!r}"
                    )
                found.action_stamps.append(stamp)
                found.actions.append(_action(message))
                found.observed.append(to_ns(message.observed))
    if not np.isfinite(np.array(found.actions)).all():
        raise DataError(f"{path}: {action_topic}: expected finite numbers, found NaN or Inf")
    return found


def _action(message: Any) -> NDArray[np.float64]:
    """The contract's action: motion in one period, and the gripper's speed."""
    linear, angular = message.twist.linear, message.twist.angular
    twist = np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])
    return np.append(twist / CONTROL_RATE_HZ, message.gripper)


def _write_truth(group: h5py.Group, steps: Steps, recorded: _Recorded, preprocess: PreprocessConfig) -> None:
    chosen = [recorded.truths[i] for i in nearest(np.array(recorded.truth_stamps, dtype=np.int64), steps.frame_stamp)]
    write_truth(
        group,
        preprocess,
        names=chosen[0].names,
        positions=[[[p.x, p.y, p.z] for p in truth.positions] for truth in chosen],
        uv=[np.stack([truth.u, truth.v], axis=-1) for truth in chosen],
        visible=[truth.visible for truth in chosen],
    )


def _write_frames(
    bag: Path,
    observations: h5py.Group,
    everything: h5py.Group | None,
    steps: Steps,
    frame_stamps: NDArray[np.int64],
    preprocess: PreprocessConfig,
) -> None:
    size = (preprocess.size, preprocess.size, 3)
    pictures = new_dataset(observations, "image", (len(steps), *size), np.uint8)
    if everything is not None:
        new_dataset(everything, "image", (len(frame_stamps), *size), np.uint8)
        everything["stamp"] = frame_stamps
    of_frame: dict[int, list[int]] = {}
    for step, stamp in enumerate(steps.frame_stamp.tolist()):
        of_frame.setdefault(stamp, []).append(step)
    wanted = None if everything is not None else set(of_frame)
    for stamp, image in frames_from_bag(bag, stamps=wanted):
        picture = crop(image, preprocess)
        for step in of_frame.get(stamp, ()):
            pictures[step] = picture
        if everything is not None:
            everything["image"][int(np.searchsorted(frame_stamps, stamp))] = picture
