"""A task's scene as a MuJoCo model: the Jaco 2 from dm_control, things on a table, a lamp and the front camera."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np

from visarl.sim.backend import kinova, mjcf, mujoco
from visarl.sim.props import GOALS, OBJECTS, DistractorSet, distractors
from visarl.sim.tasks import LEFT, Task

TIMESTEP_S = 0.002
TOOL_SITE, CAMERA, LIGHT, OBJECT, GOAL = "tool", "front", "lamp", "object", "goal"
OBJECT_JOINT = "object_joint"
HAND = "jaco/hand/"
"""What the names of the hand's bodies begin with."""

PARKED = np.array([0.2, 0.0, -0.4])
"""Distractors that take no part float below the table, where nothing sees or touches them."""

CAMERA_TARGET = np.array([0.47, 0.0, 0.115])
CAMERA_DISTANCE_M = 0.60
CAMERA_ELEVATION_DEG = 42.0
CAMERA_FOVY_DEG = 40.0

JOINT_SPEED_RAD_S = np.deg2rad([36.0, 36.0, 36.0, 48.0, 48.0, 48.0])
"""Jaco 2 user guide: large actuators 36 deg/s, small ones 48 deg/s."""
FINGER_OPEN_RAD, FINGER_CLOSED_RAD = 0.15, 1.35
"""Travel of the finger joints in dm_control's model."""
FINGER_SPEED_RAD_S = 1.0
"""At gripper = 1: the whole travel in 1.2 s, the data sheet's closing time."""
HOME_POSITION = np.array([0.13, 2.51, 4.65, 0.32, -1.17, 0.45])
"""Ready pose [rad]: hand straight above the workspace, fingers down, elbow up."""


def joint_of(name: str) -> str:
    """The free joint of the distractor called `name`."""
    return f"{name}_joint"


def build_model(task: Task, others: DistractorSet | None = None) -> mujoco.MjModel:
    """The scene of a task, compiled. Nothing in it is random: `Simulator.reset` moves what varies.

    Args:
        others: set of distractors, all of whose things get a body; None builds none.
    """
    root = mjcf.RootElement(model="tabletop")
    root.compiler.angle = "radian"
    root.option.timestep = TIMESTEP_S
    root.option.cone = "elliptic"  # together with impratio: a held object does not creep out of the fingers
    root.option.impratio = 10
    root.option.integrator = "implicitfast"
    root.option.flag.nativeccd = "disable"
    quality = root.visual.quality
    quality.offsamples, quality.shadowsize = 0, 0  # multisampling and shadows cost five times the rest of a picture
    getattr(root.visual, "global").offwidth, getattr(root.visual, "global").offheight = 1280, 960
    root.visual.map.znear, root.visual.map.zfar = 0.01, 20
    root.visual.headlight.ambient = [0.38, 0.38, 0.38]
    root.visual.headlight.diffuse = [0.18, 0.18, 0.18]
    root.visual.headlight.specular = [0.05, 0.05, 0.05]

    world = root.worldbody
    for name, size in (("wood", 256), ("peel", 128)):
        # Blank here; `paint` writes the pixels, so that no picture file has to travel with the code.
        root.asset.add("texture", name=name, type="2d", builtin="flat", rgb1=[0.5] * 3, width=size, height=size)
    root.asset.add(
        "texture",
        name="sky",
        type="skybox",
        builtin="gradient",
        rgb1=[0.80, 0.84, 0.88],
        rgb2=[0.45, 0.47, 0.50],
        width=64,
        height=64,
    )
    root.asset.add("material", name="table", texture="wood", texrepeat=[1, 1], specular=0.1, shininess=0.2)
    root.asset.add("material", name="apple", texture="peel", specular=0.5, shininess=0.6)
    world.add(
        "geom",
        name="table",
        type="box",
        size=[0.75, 0.7, 0.02],
        pos=[0.45, 0, -0.02],
        material="table",
        friction=[1.0, 0.02, 0.001],
    )
    world.add(
        "geom",
        name="floor",
        type="plane",
        size=[3, 3, 0.1],
        pos=[0, 0, -0.75],
        rgba=[0.55, 0.55, 0.53, 1],
        contype=0,
        conaffinity=0,
    )
    world.add(
        "light",
        name=LIGHT,
        pos=[0.6, -0.6, 1.4],
        dir=[-0.1, 0.4, -1],
        directional=True,
        castshadow=False,
        diffuse=[0.62, 0.61, 0.58],
        specular=[0.25, 0.25, 0.25],
    )
    world.add("camera", name=CAMERA, pos=[1, 0, 0.5], fovy=CAMERA_FOVY_DEG)

    arm, hand = kinova.JacoArm(name="jaco"), kinova.JacoHand(name="hand")
    palm = hand.mjcf_model.find("body", "hand")
    # Between the fingertips, z out of the palm, y in the direction in which the fingers close.
    palm.add("site", name=TOOL_SITE, pos=[0, 0, -0.185], quat=[0, 1, 0, 0], group=4)
    arm.attach(hand)
    world.attach(arm.mjcf_model)

    block = world.add("body", name=OBJECT, pos=[*task.area.centre, OBJECTS[task.object].rest_height])
    block.add("joint", name=OBJECT_JOINT, type="free", damping=2e-4)
    OBJECTS[task.object].add_geoms(block)
    if task.goal is not None:
        GOALS[task.goal].add_geoms(world.add("body", name=GOAL, pos=[*LEFT.centre, 0]))
    for i, (name, prop) in enumerate(distractors(others, task).items() if others is not None else ()):
        body = world.add("body", name=name, pos=PARKED + [0.1 * i, 0, 0])
        body.add("joint", name=joint_of(name), type="free", damping=2e-4)
        prop.add_geoms(body)

    tree = ElementTree.fromstring(root.to_xml_string())
    for element in tree.iter("body"):
        if element.get("name", "").startswith("jaco/"):
            element.set("gravcomp", "1")  # the arm's firmware carries its own weight; mjcf does not know the attribute
    model = mujoco.MjModel.from_xml_string(ElementTree.tostring(tree, encoding="unicode"), root.get_assets())
    _paint(model, "wood", _wood(256))
    _paint(model, "peel", _peel(128))
    return model


def _paint(model: mujoco.MjModel, texture: str, picture: np.ndarray) -> None:
    index = model.texture(texture).id
    start = int(model.tex_adr[index])
    model.tex_data[start : start + picture.size] = picture.ravel()


def _wood(size: int) -> np.ndarray:
    """Boards with grain, (size, size, 3) uint8: texture for a learned model to look past."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0:size, 0:size] / size
    grain = np.zeros((size, size))
    for _ in range(5):
        frequency, phase = rng.uniform(20, 120), rng.uniform(0, 2 * np.pi)
        grain += np.sin(2 * np.pi * (frequency * y + rng.uniform(0.2, 0.8) * np.sin(2 * np.pi * x + phase))) / 5
    board = np.floor(y * 8).astype(int)
    tone = rng.uniform(-1, 1, 8)[board] * 0.05 + grain * 0.035 + rng.normal(0, 0.01, (size, size))
    tone[(y * 8) % 1 < 0.03] -= 0.12
    base = np.array([0.74, 0.66, 0.55])
    return (255 * np.clip(base * (1 + tone[..., None]), 0, 1)).astype(np.uint8)


def _peel(size: int) -> np.ndarray:
    """An apple's skin, red with a green-yellow cheek near the stem, (size, size, 3) uint8."""
    rng = np.random.default_rng(11)
    y, x = np.mgrid[0:size, 0:size] / size
    streak = 0.08 * np.sin(2 * np.pi * (14 * x + 0.6 * np.sin(9 * y))) + rng.normal(0, 0.02, (size, size))
    green = np.clip(1.6 * (0.30 - y) + streak, 0, 1)[..., None]
    colour = (1 - green) * np.array([0.72, 0.08, 0.07]) + green * np.array([0.55, 0.65, 0.18])
    return (255 * np.clip(colour, 0, 1)).astype(np.uint8)
