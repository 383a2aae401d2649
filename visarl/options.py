"""What the commands can be told, one dataclass a verb; the command line is made from them. Nothing heavy here.

The options of the training scripts are in `visarl.training_options`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from visarl.sim.perturb import Perturbation


@dataclass(frozen=True, kw_only=True)
class Up:
    """Start a graph of nodes, one process each, and keep it until Ctrl-C; one dying node ends them all."""

    graph: Annotated[Literal["sim", "real", "teleop"], tyro.conf.Positional]
    """sim: the simulated arm and camera; real: a webcam and a Kinova; teleop: the simulated ones and a scripted
    demonstrator."""
    bundle: Path | None = None
    """Folder with the trained models. Without one, no perception and no policy is started."""
    task: str | None = None
    """Scene of the simulator: pick_red_block, pick_apple, bread_to_plate or apple_to_bowl. By default the one that the
    bundle has learned; without a bundle, pick_red_block."""
    seed: int = 0
    """Seed of the simulator's first scene."""
    camera: str = "/dev/video0"
    """Source of the real graph's pictures: a device, a video file, a folder of images, or a bag."""
    arm: str = "kortex"
    """Back-end of the real graph's arm: kortex (Gen3, Gen3 lite) or jaco2."""
    address: str = ""
    """Where the real arm is in the network, e.g. 192.168.1.10."""
    config: Path | None = None
    """YAML file of this bench, a section of parameters for any node of the graph: camera calibration, tighter limits.
    By default launch/config/bench.yaml for the real graph."""
    record: Path | None = None
    """Folder for recordings, which the service `recorder/start` begins; without one there is no recorder."""
    disturbance: float = 0.0
    """Noise on the simulated arm's motion [m/s rms], for demonstrations only."""
    fused: bool = False
    """Saliency and encoder in one process instead of two."""
    engine: Literal["auto", "torch", "openvino"] = "auto"
    """What runs the models; auto takes the fastest that is installed."""
    threads: int = 1
    """CPU threads of each model; pools of several processes on the same cores fight."""
    domain: int | None = None
    """ROS domain, so that graphs on one machine do not meet. By default the environment's ROS_DOMAIN_ID, else 42."""
    localhost: bool = True
    """Stay on this machine; off (--no-localhost, in a launch file localhost:=false) where perception or the arm runs on
    another."""


@dataclass(frozen=True, kw_only=True)
class Enable:
    """Let the policy of a running graph drive the arm, or the demonstrator; or take it away again."""

    who: Annotated[Literal["policy", "teleop"], tyro.conf.Positional] = "policy"
    """policy: the trained one, of a graph with a bundle; teleop: the demonstrator of `visarl up teleop`, who wins over
    the policy."""
    off: bool = False
    """Close the gate instead of opening it: the arm comes to rest, unless the other one drives."""
    domain: int | None = None
    """ROS domain of the graph. By default the environment's ROS_DOMAIN_ID, else 42."""
    localhost: bool = True
    """The graph stays on this machine; --no-localhost where it was started so."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """Start the simulated graph and record demonstrations of the scripted expert through it, one bag an episode.

    What is in the folder already counts: interrupted, the same command goes on."""

    out: Path
    """Folder that receives one bag folder an episode."""
    task: str = "pick_red_block"
    """Scene of the simulator: pick_red_block, pick_apple, bread_to_plate or apple_to_bowl."""
    episodes: int = 10
    """How many successful demonstrations the folder shall hold; failed ones are kept, labelled, and tried again."""
    seed: int = 0
    """Seed of the first scene; the next scene takes the next seed."""
    disturbance: float = 0.015
    """Noise on the executed motion [m/s rms], so that the demonstrations show recoveries; 0 for none."""
    limit_s: float | None = None
    """Longest episode [s]; None takes the task's."""
    domain: int | None = None
    """ROS domain, so that graphs on one machine do not meet. By default the environment's ROS_DOMAIN_ID, else 42."""


@dataclass(frozen=True, kw_only=True)
class Simulate:
    """Run the simulator in lockstep, without ROS, straight into an episode file as `visarl convert` makes it from bags.

    Sharper than recording: no camera's noise, no compression, no delays. Runs as fast as the machine can."""

    out: Path
    """The HDF5 file to write."""
    task: str = "pick_red_block"
    """Scene of the simulator: pick_red_block, pick_apple, bread_to_plate or apple_to_bowl."""
    episodes: int = 10
    """How many episodes to keep."""
    seed: int = 0
    """Seed of the first scene; the next scene takes the next seed."""
    policy: Literal["expert", "random"] = "expert"
    """expert: demonstrations, those kept that succeed; random: the hand wanders about, for pictures of many states."""
    failures: bool = False
    """Also keep episodes in which the expert fails."""
    modalities: tuple[Literal["depth", "normals"], ...] = ()
    """What a depth camera would see beside the picture: its depth, the surfaces' normals, or both."""
    disturbance: float = 0.015
    """Noise on the executed motion [m/s rms], so that the demonstrations show recoveries; 0 for none."""
    perturbation: Perturbation = "none"
    """Other looks than those of the demonstrations, to test on: other colours, a moving picture behind and on the
    table, or things that no demonstration shows."""
    videos: Path | None = None
    """Folder of videos for the perturbations with a moving picture; by default it is generated."""
    evaluation: bool = False
    """A file to test on: scenes 500 to 1999, which nothing is ever trained on. Without this, scenes 0 to 499."""
    limit_s: float | None = None
    """Longest episode [s]; by default the task's."""
    preset: str = "64"
    """Whose preprocessing to use: 64, 112, 224, 224p8, or a JSON file with a configuration."""


@dataclass(frozen=True, kw_only=True)
class Convert:
    """Convert bags into one HDF5 file in robomimic's schema, aligned by time stamps."""

    bags: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Bags, or folders that contain them."""
    out: Path | None = None
    """The HDF5 file to write. Not needed with --recover alone."""
    preset: str = "64"
    """Whose preprocessing to use: 64, 112, 224, 224p8, or a JSON file with a configuration."""
    every_frame: bool = False
    """Also keep every camera frame, for pretraining; otherwise those of the control steps."""
    failures: bool = False
    """Also convert episodes that are labelled as failures."""
    unlabelled: bool = False
    """Also convert episodes that nobody has labelled, such as those of another recorder."""
    skip_bad: bool = False
    """Leave out bags that cannot be used; without this, one of them means that nothing is written."""
    recover: bool = False
    """First repair what a crash, a kill or a full disk left behind: unfinished and truncated bags. A repaired one is
    without a label, since its end may be missing."""


@dataclass(frozen=True, kw_only=True)
class Click:
    """Write the clicks of a simulated annotator on recorded frames; `train saliency` reads them."""

    bags: Path
    """Folder of recorded episodes with `sim/truth`."""
    out: Path
    """The clicks (JSON) to write."""
    frames: int = 10
    """How many frames get clicks, spread over episodes and looks."""
    seed: int = 0
    """Draws the first frame; the others follow from it."""
    preset: str = "64"
    """Whose preprocessing to use: 64, 112, 224, 224p8, or a JSON file with a configuration."""


@dataclass(frozen=True, kw_only=True)
class Annotate:
    """Open a page on which people click what matters in a few frames; `train saliency` reads the result."""

    bags: Path
    """Folder of recorded episodes."""
    out: Path | None = None
    """The clicks (JSON); None takes clicks.json beside the folder of bags. Saved at every change; a file that is there
    is gone on with."""
    annotator: str = ""
    """Who clicks. Each has a file of his own: with --annotator anna, clicks.anna.json beside clicks.json."""
    average: bool = False
    """Open no page, but write the average of all named annotators' files to --out."""
    saliency: Path | None = None
    """A trained model, saliency.safetensors or a bundle: frames of which it is least sure are proposed, and it suggests
    clicks."""
    frames: int = 10
    """How many frames are proposed, spread over episodes and looks; any other can be annotated, too."""
    seed: int = 0
    """Draws the first frame; the others follow from it."""
    preset: str = "64"
    """Whose preprocessing and roles to use: 64, 112, 224, 224p8, or a JSON file with a configuration."""
    topic: str = "camera/image_raw/compressed"
    """The camera's topic in the bags."""
    host: str = "127.0.0.1"
    """Address to listen at. Beyond this machine, only the printed link with its secret token opens the page."""
    port: int = 8765
    """Port to listen at; 0 takes a free one. Clicks that could not be saved wait in the browser for the same port."""


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Run the simulated graph with a trained bundle, and write a report with a video."""

    bundle: Path = Path("bundles/pick_red_block")
    """Folder with the trained models."""
    episodes: int = 5
    """How many scenes, one after the other."""
    seed: int = 1000
    """Seed of the first scene; training never sees 500 and above."""
    limit_s: float | None = None
    """Longest episode [s]; None takes the task's."""
    out: Path | None = None
    """Folder of the report; by default a new one below runs/."""
    fused: bool = False
    """Saliency and encoder in one process instead of two."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """Tell what works on this machine, and what to do about what does not."""

    bundles: Path = Path("bundles")
    """Folder whose bundles are loaded and verified."""
    camera: str = "/dev/video0"
    """The camera to try."""
