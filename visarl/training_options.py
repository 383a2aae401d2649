"""Options of the training scripts. Light on purpose: the command line reads them without loading torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from visarl.config import Head, ReadoutConfig, ReadoutKind, SaliencyKind
from visarl.sim.perturb import Perturbation

Device = Literal["auto", "cpu", "cuda"]
Engine = Literal["auto", "torch", "openvino"]
Maps = Literal["predicted", "oracle", "shuffled"]


@dataclass(frozen=True, kw_only=True)
class Training:
    """What every training script shares."""

    out: Path
    """Folder for the result, checkpoints and TensorBoard curves."""
    seed: int = 0
    """Everything random follows from it."""
    device: Device = "auto"
    """auto takes CUDA where there is one."""
    threads: int = 2
    """CPU threads of torch."""
    checkpoint_every: int = 100
    """Iterations between checkpoints; an interrupted run goes on from the last one with the same result."""
    restart: bool = False
    """Throw away the checkpoints in `out` and begin anew."""


@dataclass(frozen=True, kw_only=True)
class TrainSaliency(Training):
    """Train a saliency model on the clicked frames."""

    bags: Path
    """Folder of recorded episodes, one bag each."""
    clicks: Path
    """The clicks (JSON)."""
    preset: str = "64"
    """Sizes of the models: 64, 112, 224, 224p8, or a JSON file with a configuration."""
    model: SaliencyKind | None = None
    """picanet, unet, or frozen: a small head on a backbone that does not learn. None takes the preset's."""
    roles: tuple[str, ...] | None = None
    """Of the maps; None takes those that were clicked."""
    backbone: str | None = None
    """Any timm model with pyramid features; None takes the preset's, and for frozen features DINOv2's small one."""
    pretrained: bool = False
    """Begin with ImageNet weights from timm's hub; where it cannot be reached, with 600 iterations of `pretraining`."""
    weights: Path | None = None
    """Begin with those of this file: a download of what the hub has."""
    pretraining: int = 0
    """Iterations of painting what is hidden of the bags' frames, before the clicks are looked at."""
    iterations: int = 1000
    batch: int = 8
    lr: float | None = None
    """Of AdamW, annealed by a cosine. None takes 3e-3, and with pretrained weights the paper's 3e-4."""
    weight_decay: float = 0.01
    soft: float = 5.0
    """Weight of the mean absolute difference of the maps, beside the paper's cross-entropy."""
    jitter: float = 0.4
    """Strength of the paper's ColorJitter(0.4, 0.4, 0.4, 0.2); 0 switches it off. At full strength it turns a red thing
    into a green one, and a model of five frames then does without colours."""
    flips: bool = True
    """Horizontal and vertical flips (paper)."""
    shapes: int = 8
    """At most so many random shapes are pasted into a picture, as things that nobody clicked on."""
    lookalikes: float = 0.9
    """Share of those shapes that take the colour of something clicked."""
    disguised: float = 0.6
    """Probability that a thing on the table that nobody clicked on takes the colour of one that was clicked."""
    covered: float = 0.3
    """Probability that something covers a part of a clicked thing, up to the click itself."""


@dataclass(frozen=True, kw_only=True)
class Label:
    """Write the saliency model's maps, or what estimators make of it, beside every picture of an episode file."""

    episodes: Path
    """Episode file (HDF5); gets `obs/saliency` and, where it has frames, their maps."""
    saliency: Path | None = None
    """The saliency part (safetensors)."""
    estimators: tuple[str, ...] = ()
    """What else is made of the pictures, for an encoder that sees it: depth=package.module:function, or normals=..."""
    device: Device = "auto"
    threads: int = 2


@dataclass(frozen=True, kw_only=True)
class TrainEncoder(Training):
    """Pretrain MultiMAE on the labelled episodes."""

    episodes: list[Path]
    """Episode files (HDF5); one a task, or several for an encoder that serves them all."""
    preset: str = "64"
    """Sizes of the models: 64, 112, 224, 224p8, or a JSON file with a configuration."""
    modalities: tuple[str, ...] = ("rgb", "saliency")
    """Seen in pretraining."""
    inputs: tuple[str, ...] | None = None
    """Seen in use; None takes `modalities`. ("rgb",) of both is the paper's "saliency in pretraining only"."""
    maps: Maps = "predicted"
    """Whose saliency maps: the model's (`visarl label`); as controls, true ones of the simulator, or the model's of
    other pictures."""
    iterations: int = 700
    """About 45 passes over the thousand pictures of ten demonstrations."""
    batch: int = 64
    lr: float = 6e-4
    """At this batch size. The paper's 1e-4 x batch/256 is for 400 epochs; minutes on a CPU need a higher rate."""
    weight_decay: float = 0.05
    warmup: float = 0.1
    """Share of the iterations in which the rate rises (paper: 40 of 400 epochs)."""
    crop: float = 0.6
    """Smallest share of the picture's area in a random crop; 1 switches crops off."""
    flips: bool = False
    """Horizontal flips. Off: left and right mean something to a policy."""
    amp: bool = True
    """Mixed precision (bfloat16): twice as fast on a CPU that has it."""


@dataclass(frozen=True, kw_only=True)
class TrainPolicy(Training):
    """Clone the demonstrations with the LSTM policy on the frozen encoder's embeddings."""

    episodes: Path
    """Labelled episode file (HDF5)."""
    saliency: Path | None = None
    """The saliency part; None where the encoder's inputs are RGB alone."""
    encoder: Path | None = None
    """The encoder part; not needed for keypoints without components."""
    maps: Maps = "predicted"
    """Whose saliency maps the policy learns from, and sees when a rung of the ladder is chosen: the model's; as
    controls, true ones of the simulator, or the model's of other pictures. The robot always sees the model's."""
    readout: ReadoutKind = "keypoints"
    """What the policy sees of tokens and maps: keypoints; the tokens' mean (paper), global token or mean a modality;
    or trained with the policy: attention, spatial_softmax."""
    components: int = ReadoutConfig.components
    """Whitened principal components of the tokens' mean kept beside the keypoints; 0 leaves the keypoints alone."""
    head: Head = "step"
    """step: each action from the one before, squared error (paper); chunk: all at once, absolute error."""
    horizon: int | None = None
    """Actions predicted a step; None takes 1, of chunks 8."""
    iterations: int = 700
    batch: int = 8
    """Whole episodes an iteration."""
    lr: float = 1e-3
    """Of AdamW, annealed by a cosine."""
    weight_decay: float = 1e-4
    noise: float = 0.02
    """Standard deviation of the noise on normalised proprioception."""
    embedding_noise: float | None = None
    """Standard deviation of the noise on the normalised embedding, never on keypoints. None takes 1 for the components
    beside keypoints, by which a clone tells the demonstrations apart, and 0 elsewhere."""
    goal_shift: float = 0.05
    """Until the object is grasped the goal is seen elsewhere, by so much [m], in every iteration: what is done there
    must not depend on it, and ten demonstrations cannot tell."""
    holdout: int = 0
    """Last demos kept out of training and only scored, for a validation loss."""
    ladder: int = 4
    """Checkpoints kept, evenly over the last half of training."""
    select: int = 0
    """Closed-loop starts (validation seeds) that choose from the ladder; 0 takes the last."""
    diagnostics: bool = True
    """Also train on the true positions and on proprioception alone; they tell where the bottleneck is."""
    diagnostic_starts: int = 10
    """Closed-loop starts (validation seeds) of each diagnostic; 0 reports its losses only."""
    workers: int = 2
    """Processes of closed-loop starts."""
    amp: bool = True
    """Mixed precision (bfloat16), where the machine computes with it."""
    half: bool = True
    """Store the bundle's weights in half precision."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """How well a frozen encoder tells where things are: linear regression from its embedding, on unseen scenes."""

    encoder: Path
    """The encoder part (safetensors)."""
    saliency: Path | None = None
    """The saliency part; None where the encoder's inputs are RGB alone, or the maps oracle."""
    task: str = "pick_red_block"
    """Scene of the simulator."""
    maps: Maps = "predicted"
    """Whose saliency maps the encoder is given; as in its pretraining."""
    scenes: int = 60
    """Training scenes from whose frames the regression learns."""
    seeds: str = "1000:1030"
    """Scenes on which it is tested: first:last+1, or a comma-separated list."""
    conditions: tuple[Perturbation, ...] = ("none", "colours_easy", "video_easy", "distractors")
    """Looks of the test scenes."""
    every: int = 10
    """One frame in so many control steps."""
    seed: int = 0
    """Draws shuffled maps."""
    out: Path | None = None
    """Also write the result as JSON."""
    device: Device = "auto"
    threads: int = 2


@dataclass(frozen=True, kw_only=True)
class Diagnose:
    """Why a policy is bad: what stands out in the demonstrations, their timing, and what the bundle makes of them."""

    episodes: Path
    """Episode file (HDF5) of the bundle's task: best of demonstrations on which it was not trained."""
    bundle: Path | None = None
    """Whose policy; None looks at the demonstrations alone."""
    bags: Path | None = None
    """Folder with their recordings: tells which frames and states were lost."""
    out: Path | None = None
    """Also write all figures as JSON."""
    device: Device = "auto"
    threads: int = 2


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Closed-loop success of a bundle in simulation."""

    bundle: Path
    task: str | None = None
    """None takes the bundle's."""
    seeds: str = "1000:1020"
    """first:last+1, or a comma-separated list."""
    graph: bool = False
    """Through the ROS graph, one process a node; otherwise in this process with the graph's latency modelled."""
    limit_s: float | None = None
    """An episode that has not succeeded by then has failed; None takes the task's."""
    engine: Engine = "auto"
    latency_s: float = 0.05
    """Without the graph: from the frame's stamp to the action's effect [s]."""
    workers: int = 2
    """Without the graph: processes that share the starts."""
    domain: int | None = None
    """ROS domain of the graph; None takes one in which nobody on this machine is."""
    out: Path | None = None
    """Also write the result, start by start, as JSON."""
    perturbation: Perturbation = "none"
    """Without the graph: other looks than those of the demonstrations: other colours, a moving picture behind and on
    the table, or things that no demonstration shows."""
    estimators: tuple[str, ...] = ()
    """Without the graph: what makes depth or normals of the picture, as depth=package.module:function; the simulator
    renders what the encoder sees and none of them makes."""
    smoothing: float = 0.0
    """Without the graph: share of the saliency maps before that is kept from frame to frame."""


@dataclass(frozen=True, kw_only=True)
class ScoreSaliency:
    """Score saliency maps and their peaks on recorded bags or fresh scenes, against the simulator's clicks."""

    bundle: Path | None = None
    """Whose saliency model."""
    saliency: Path | None = None
    """Or the saliency part (safetensors)."""
    bags: Path | None = None
    """Folder of recorded episodes with `sim/truth`; None takes scenes of the simulator."""
    clicks: Path | None = None
    """The training clicks: their frames of the bags take no part."""
    task: str | None = None
    """Without bags: whose scenes; None takes the bundle's."""
    seeds: str = "1000:1020"
    """Without bags: which scenes, first:last+1 or a comma-separated list."""
    perturbation: Perturbation = "distractors"
    """Without bags: what the scenes have that demonstrations lack."""
    every_s: float = 0.5
    """Time between scored frames of an episode [s]."""
    engine: Engine = "auto"
    out: Path | None = None
    """Also write the scores as JSON."""


SaliencyVariant = Literal["picanet", "unet", "unet_painted", "frozen"]


@dataclass(frozen=True, kw_only=True)
class SaliencyStudy:
    """Saliency models over numbers of clicked frames, on unseen scenes with unseen things; resumable."""

    out: Path = Path("runs/saliency")
    """Folder of the study."""
    docs: Path | None = None
    """Folder of results.md and results.json; None leaves them in `out`."""
    preset: Literal["tiny", "small", "full"] = "small"
    """How much: two tasks in about two hours on two cores, or all four with three seeds."""
    models: str = "64"
    """Sizes of the models: a preset's name, or a JSON file with a configuration."""
    variants: tuple[SaliencyVariant, ...] = ("picanet", "unet", "unet_painted", "frozen")
    """What is compared; see training/saliency_study.py."""
    device: Device = "auto"
    threads: int = 2


Arm = Literal["mean", "rgb"]


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """Everything from nothing: record, click, train, label, pretrain, clone, evaluate, write the bundle."""

    task: str
    """pick_red_block, pick_apple, bread_to_plate or apple_to_bowl."""
    out: Path
    """Folder of the run; a second call goes on where the first stopped."""
    preset: str = "64"
    """Sizes of the models: 64, 112, 224, 224p8, or a JSON file with a configuration."""
    demos: int = 10
    """Demonstrations to record; those in which the expert fails are recorded anew."""
    test_demos: int = 2
    """Further ones that nothing is trained on: the saliency is scored on their frames."""
    disturbance: float = 0.015
    """Noise on the recorded motion [m/s rms]. The demonstrations then show the way back from beside the path; with
    too much of it the expert itself fails."""
    frames: int = 10
    """Frames that get clicks."""
    seed: int = 0
    """Of training, and of the first recorded scene."""
    arms: tuple[Arm, ...] = ("mean", "rgb")
    """What to compare with: the paper's readout on the same encoder; RGB alone with an encoder of its own. The
    same command with further arms adds theirs to the card and leaves the bundle's function as it is."""
    seeds: str = "1000:1020"
    """Evaluation starts."""
    graph: bool = True
    """Also evaluate the bundle over the ROS graph, in real time."""
    saliency_iterations: int = 600
    encoder_iterations: int = 700
    policy_iterations: int = 700
    select: int = 6
    """Validation starts that choose the policy's checkpoint; 0 takes the last."""
    diagnostic_starts: int = 10
    """Validation starts of each diagnostic policy."""
    limit_s: float | None = None
    """A start that has not succeeded by then has failed; None takes the task's."""
    workers: int = 2
    """Processes of the evaluation."""
    device: Device = "auto"
    threads: int = 2
    """CPU threads of torch."""
    domain: int | None = None
    """ROS domain of the graphs; None takes one in which nobody on this machine is."""


@dataclass(frozen=True, kw_only=True)
class Table5:
    """The paper's Table V with controls, in simulation: everything from demonstrations to a results page.

    A second call goes on where the first stopped, and adds arms, tasks or seeds to it.
    """

    out: Path = Path("runs/table5")
    """Folder of the study; on a Ray cluster, one that all machines share."""
    docs: Path | None = None
    """Folder of results.md and results.json; None leaves them in `out`."""
    tasks: tuple[str, ...] = ("pick_apple", "pick_red_block", "bread_to_plate", "apple_to_bowl")
    arms: tuple[str, ...] = (
        "rgb",
        "rgb_softmax",
        "pretraining_only",
        "saliency_mean",
        "saliency",
        "saliency_chunk",
        "keypoints",
        "shuffled",
        "oracle",
        "state",
    )
    """What is compared; see training/study/arms.py."""
    preset: str = "64"
    """Sizes of the models: 64, 112, 224, 224p8, or a JSON file with a configuration."""
    demos: int = 10
    """Demonstrations a task."""
    test_demos: int = 2
    """Further ones a task, on which the saliency is scored."""
    disturbance: float = 0.015
    """Noise on the recorded motion [m/s rms]."""
    frames: int = 10
    """Frames a task that get clicks."""
    seeds: int = 3
    """Training seeds."""
    rollouts: int = 51
    """Evaluation scenes a task and arm, shared out among the training seeds."""
    select: int = 6
    """Validation scenes that choose a policy's checkpoint; 0 takes the last."""
    ladder: int = 2
    """Checkpoints to choose from."""
    saliency: SaliencyKind = "picanet"
    """The saliency model."""
    saliency_iterations: int = TrainSaliency.iterations
    encoder_iterations: int = 1000
    policy_iterations: int = TrainPolicy.iterations
    probe_scenes: int = 60
    """Training scenes of a task from which a regression learns to read places from the frozen embeddings; it is asked
    about half as many of evaluation."""
    graph_starts: int = 5
    """Starts a task of our arm that are done again over the ROS graph."""
    limit_s: float | None = None
    """A start that has not succeeded by then has failed; None takes the task's."""
    workers: int | None = None
    """Jobs at a time, a thread and 1.5 GB each; None takes one a core."""
    ray: str | None = None
    """Address of a running Ray cluster (`auto`, or ray://HOST:PORT) that does the jobs instead."""
    device: Device = "auto"
    domain: int | None = None
    """ROS domain of the graphs; None takes one in which nobody on this machine is."""
