"""The simulated bench: physics, pictures, what is true of the scene, and whether the task is done.

Trap: torch must be imported before the first picture is drawn where a process uses both; the other way round
software OpenGL's LLVM and torch's collide.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visarl.contract import CAMERA_HEIGHT, CAMERA_WIDTH, ArmContract, get_contract
from visarl.errors import ArmError, SimulationError
from visarl.robot.interfaces import ArmState
from visarl.sim import clips, judge, layout, scene
from visarl.sim.backend import mujoco
from visarl.sim.controller import TOOL_SITE_FULL, TwistController
from visarl.sim.looks import Looks
from visarl.sim.modalities import normals
from visarl.sim.perturb import get_change
from visarl.sim.props import GOALS, OBJECTS, DistractorSet
from visarl.sim.renderer import SceneRenderer
from visarl.sim.scatter import scatter
from visarl.sim.tasks import TASKS, Task, get_task

__all__ = ["TASKS", "SceneTruth", "Simulator", "Task", "get_task"]

TICK_S = 0.01
"""The arm's controller and the judge run this often."""
NOISE_TIME_S = 0.5
NOISE_TURN = 1.5
"""Disturbance of rotation beside that of translation [rad/m]."""
NUDGE_EVERY_S, NUDGE = 2.0, 4.0
"""Mean time between sudden pushes of a disturbed arm, and their speed beside the slow noise's rms."""


@dataclass(frozen=True)
class SceneTruth:
    """What the simulator knows. For the scripted expert, simulated clicks and judging; never for the policy."""

    task: str
    seed: int
    time_s: float
    """Simulated time since the reset."""
    positions: dict[str, NDArray[np.float64]]
    """By role, (3,) in the base frame [m]."""
    uv: dict[str, tuple[float, float]]
    """By role, where the camera sees it: shares of the frame's width from the left and height from the top."""
    visible: dict[str, bool]
    """By role, inside the frame and in front of the camera."""
    success: bool
    success_ever: bool
    """Since the reset."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.positions)


class Simulator:
    """A Jaco 2 at a table. Its methods may be called from several threads.

    Args:
        task: a key of `TASKS`.
        seed: everything random in the scene follows from it.
        disturbance: rms of a slow random velocity [m/s] added to the executed motion, for demonstrations that visit
            states beside the expert's path while the recorded command stays clean; zero for evaluation.
        perturbation: a key of `perturb.CHANGES`: other looks than those of the demonstrations.
        videos: folder with the moving pictures of perturbations that have one; None generates them.
    """

    contract: ArmContract = get_contract("jaco2")

    def __init__(
        self,
        task: str = "pick_red_block",
        seed: int = 0,
        disturbance: float = 0.0,
        perturbation: str = "none",
        videos: Path | None = None,
    ) -> None:
        if not 0.0 <= disturbance <= 0.1:
            raise SimulationError(f"disturbance {disturbance} m/s: expected 0 to 0.1")
        self.disturbance = disturbance
        self.seed, self.perturbation = 0, perturbation
        self._videos = videos
        self._lock = threading.RLock()  # state of the physics
        self._drawing = threading.Lock()  # the model's looks; always taken before _lock
        self._stopped = False
        self._renderer: SceneRenderer | None = None
        self._closed = False
        self._clock: Callable[[], float] | None = None
        self.reset(task, seed)

    # ---- scene -------------------------------------------------------------------------------------------------

    def reset(self, task: str | None = None, seed: int | None = None, perturbation: str | None = None) -> SceneTruth:
        """Start an episode: the scene of `task`, everything random drawn from `seed`. What is None stays as it is."""
        if seed is not None and seed < 0:
            raise SimulationError(f"seed {seed}: expected a number from 0 up")
        with self._drawing:
            self._check_open()
            spec = get_task(task) if task is not None else self.task
            wanted = self.perturbation if perturbation is None else perturbation
            change, number = get_change(wanted), self.seed if seed is None else int(seed)
            clip = clips.clip(number, self._videos) if change.table_share is not None else None
            others = self._distractor_set(spec, number, change.unseen_distractors)
            new = self._renderer is None or (spec, others) != (self.task, self._others)
            # Without _lock: a scene may take seconds to compile, and an arm that is silent for so long counts as hung.
            built = self._build(spec, others) if new else None
            if built is not None and self._renderer is not None:
                self._renderer.close()  # nobody draws: _drawing is ours
            with self._lock:
                if built is not None:
                    self._take(spec, others, *built)
                self.seed, self.perturbation = number, wanted
                self._noise_rng = np.random.default_rng([self.seed, 1])
                self._looks.restore()
                scatter(self._model, self._data, self.contract, spec, number, others)
                self._looks.apply(change, self.seed, clip)
                self._settle()
                return self.truth()

    @staticmethod
    def _distractor_set(task: Task, seed: int, unseen: bool) -> DistractorSet | None:
        if unseen:
            return "unseen"
        return layout.distractor_set(seed) if task.distractors else None

    def _build(
        self, task: Task, others: DistractorSet | None
    ) -> tuple[mujoco.MjModel, mujoco.MjData, SceneRenderer, TwistController]:
        model = scene.build_model(task, others)
        return model, mujoco.MjData(model), SceneRenderer(model), TwistController(model, self.contract.joints)

    def _take(
        self,
        task: Task,
        others: DistractorSet | None,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        renderer: SceneRenderer,
        controller: TwistController,
    ) -> None:
        self.task, self._others = task, others
        self._model, self._data, self._renderer, self._controller = model, data, renderer, controller
        self._looks = Looks(model)
        self._tool = self._model.site(TOOL_SITE_FULL).id
        self._camera = self._model.camera(scene.CAMERA).id
        self._body = self._model.body(scene.OBJECT).id
        self._object_qpos = int(self._model.joint(scene.OBJECT_JOINT).qposadr[0])
        self._object_qvel = int(self._model.joint(scene.OBJECT_JOINT).dofadr[0])
        self._goal = None if task.goal is None else GOALS[task.goal]
        bodies = np.array([self._model.body(i).name for i in self._model.geom_bodyid])
        self._finger_geoms = np.char.find(bodies, "finger") >= 0
        marks = {"effector": scene.HAND, "object": scene.OBJECT, "goal": scene.GOAL}
        self._role_geoms = {role: np.char.startswith(bodies, marks[role]) for role in task.roles}

    def _settle(self) -> None:
        data = self._data
        mujoco.mj_forward(self._model, data)
        self._controller.forget()
        self._controller.stopped = self._stopped
        self._noise = np.zeros(6)
        self._rest_height = float(data.xpos[self._body][2])
        self._judge = judge.Judge(judge.LIFTED_HELD_S if self._goal is None else judge.PLACED_HELD_S)

    # ---- time --------------------------------------------------------------------------------------------------

    @property
    def time_s(self) -> float:
        """Simulated time since the reset."""
        return float(self._data.time)

    def use_clock(self, clock: Callable[[], float] | None) -> None:
        """Age of a set-point counts on `clock` (`time.monotonic` in real time), or on simulated time if None."""
        with self._lock:
            self._clock = clock
            self._controller.forget()

    def _now(self) -> float:
        return self._clock() if self._clock is not None else self.time_s

    def advance(self, dt_s: float) -> None:
        """Run the physics for `dt_s`, rounded to whole ticks, by the newest set-point."""
        steps = round(TICK_S / scene.TIMESTEP_S)
        for _ in range(round(dt_s / TICK_S)):
            with self._lock:  # one tick at a time, so that a reader never waits for long
                self._check_open()
                self._controller.step(self._data, self._now(), TICK_S, self._disturb())
                mujoco.mj_step(self._model, self._data, nstep=steps)
                self._judge.update(self._holds(), TICK_S)

    def _disturb(self) -> NDArray[np.float64]:
        if self.disturbance > 0:
            rms = self.disturbance * np.array([1.0] * 3 + [NOISE_TURN] * 3)
            kick = np.sqrt(2 * TICK_S / NOISE_TIME_S) * rms * self._noise_rng.standard_normal(6)
            self._noise = self._noise * (1 - TICK_S / NOISE_TIME_S) + kick
            if self._noise_rng.random() < TICK_S / NUDGE_EVERY_S:
                push = self._noise_rng.standard_normal(3)
                self._noise[:3] += NUDGE * self.disturbance * push / np.linalg.norm(push)
        return self._noise

    def _holds(self) -> bool:
        """Whether what the task asks for is so at this tick."""
        place = self._data.xpos[self._body]
        if self._goal is None:
            return float(place[2]) - self._rest_height >= judge.LIFTED_M and self._touched()
        distance = float(np.linalg.norm(place[:2] - self._model.body(scene.GOAL).pos[:2]))
        height = float(place[2]) - self._goal.floor_height - OBJECTS[self.task.object].rest_height
        speed = float(np.linalg.norm(self._data.qvel[self._object_qvel : self._object_qvel + 3]))
        return judge.placed(distance, height, speed, self._goal.rim_radius) and not self._touched()

    def _touched(self) -> bool:
        """Whether a finger touches the object."""
        one, other = self._data.contact.geom[:, 0], self._data.contact.geom[:, 1]
        fingers, things = self._finger_geoms, self._role_geoms["object"]
        return bool(((fingers[one] & things[other]) | (things[one] & fingers[other])).any())

    # ---- arm ---------------------------------------------------------------------------------------------------

    def command(self, twist: NDArray[np.float64], gripper: float) -> None:
        """Set-point of the arm, see `Arm.send`. Without effect while stopped."""
        twist = np.asarray(twist, dtype=np.float64)
        if twist.shape != (6,) or not np.isfinite(twist).all() or not np.isfinite(gripper):
            raise ArmError(f"expected a finite twist of shape (6,) and gripper speed, found {twist}, {gripper}")
        with self._lock:
            self._controller.command(twist, float(np.clip(gripper, -1.0, 1.0)), self._now())

    def stop(self) -> None:
        """Zero velocity, latched until `clear`; a reset of the scene does not clear it."""
        with self._lock:
            self._stopped = self._controller.stopped = True
            self._controller.forget()

    def clear(self) -> None:
        with self._lock:
            self._stopped = self._controller.stopped = False
            self._controller.forget()

    def home(self) -> None:
        with self._lock:
            self._controller.home()

    @property
    def homing(self) -> bool:
        """Whether the arm is on its way to the ready pose."""
        return self._controller.homing

    def state(self) -> ArmState:
        """What the arm measures now."""
        with self._lock:
            self._check_open()
            joints, fingers = self.contract.joints, self.contract.fingers
            hand = self._data.qpos[joints : joints + fingers]
            quaternion = np.empty(4)
            mujoco.mju_mat2Quat(quaternion, self._data.site_xmat[self._tool])
            return ArmState(
                stamp_ns=time.time_ns(),
                position=self._data.qpos[:joints].copy(),
                velocity=self._data.qvel[:joints].copy(),
                fingers=(hand - scene.FINGER_OPEN_RAD) / (scene.FINGER_CLOSED_RAD - scene.FINGER_OPEN_RAD),
                tool_position=self._data.site_xpos[self._tool].copy(),
                tool_quaternion=np.roll(quaternion, -1),  # MuJoCo puts w first
                fault="stopped; `clear` releases it" if self._stopped else "",
            )

    # ---- pictures and truth ------------------------------------------------------------------------------------

    def render(self, width: int = CAMERA_WIDTH, height: int = CAMERA_HEIGHT) -> NDArray[np.uint8]:
        """The front camera's picture, (height, width, 3) uint8 RGB."""
        return self.render_with_truth(width, height)[0]

    def render_with_truth(
        self, width: int = CAMERA_WIDTH, height: int = CAMERA_HEIGHT
    ) -> tuple[NDArray[np.uint8], SceneTruth, int]:
        """A picture, what is true of the very same instant, and that instant's system time [ns]."""
        with self._drawing:
            with self._lock:
                self._check_open()
                qpos, truth, stamp_ns = self._data.qpos.copy(), self.truth(), time.time_ns()
                renderer = self._renderer
            assert renderer is not None  # _check_open
            picture = renderer.draw(qpos, width, height)
            return self._looks.finish(picture, renderer, qpos, truth.time_s), truth, stamp_ns

    def render_modalities(
        self, width: int = CAMERA_WIDTH, height: int = CAMERA_HEIGHT
    ) -> dict[str, NDArray[np.float32]]:
        """What a depth camera in the front camera's place would see, float32: `depth` (height, width), the distance [m]
        along the camera's axis, and `normals` (height, width, 3), see `modalities.normals`.

        A moving picture of a perturbation is not there: it has no depth of its own.
        """
        with self._drawing:
            with self._lock:
                self._check_open()
                qpos, renderer = self._data.qpos.copy(), self._renderer
                fovy = float(self._model.cam_fovy[self._camera])
            assert renderer is not None  # _check_open
            depth = renderer.draw_depth(qpos, width, height)
            return {"depth": depth, "normals": normals(depth, fovy)}

    def render_segmentation(self, width: int = CAMERA_WIDTH, height: int = CAMERA_HEIGHT) -> NDArray[np.int32]:
        """The geom of `model` that each pixel of the picture shows, (height, width); -1 where none is."""
        with self._drawing:
            with self._lock:
                self._check_open()
                qpos, renderer = self._data.qpos.copy(), self._renderer
            assert renderer is not None  # _check_open
            return renderer.draw_segmentation(qpos, width, height)

    def visibility(self, width: int = CAMERA_WIDTH, height: int = CAMERA_HEIGHT) -> dict[str, float]:
        """By role, how much of it the picture shows, as a share of what it would show if nothing else was there: 1 in
        the open, 0 where it is hidden or outside. The effector is the whole hand."""
        with self._drawing:
            with self._lock:
                self._check_open()
                qpos, renderer = self._data.qpos.copy(), self._renderer
            assert renderer is not None  # _check_open
            shown, found = renderer.draw_segmentation(qpos, width, height), {}
            for role, geoms in self._role_geoms.items():
                alone = int((renderer.draw_segmentation(qpos, width, height, geoms) >= 0).sum())
                found[role] = float(np.isin(shown, np.flatnonzero(geoms)).sum()) / max(alone, 1)
            return found

    def truth(self) -> SceneTruth:
        """What is true of the scene now."""
        with self._lock:
            self._check_open()
            positions = {
                "effector": self._data.site_xpos[self._tool].copy(),
                "object": self._data.xpos[self._body].copy(),
            }
            if self._goal is not None:
                positions["goal"] = self._model.body(scene.GOAL).pos.copy()
            projected = {name: self._project(point) for name, point in positions.items()}
            return SceneTruth(
                task=self.task.name,
                seed=self.seed,
                time_s=self.time_s,
                positions=positions,
                uv={name: (u, v) for name, (u, v, _) in projected.items()},
                visible={n: depth > 0 and 0 <= u < 1 and 0 <= v < 1 for n, (u, v, depth) in projected.items()},
                success=self._judge.success,
                success_ever=self._judge.success_ever,
            )

    def _project(self, point: NDArray[np.float64]) -> tuple[float, float, float]:
        """(u, v, depth) of a point in the base frame: shares of the frame, and metres before the camera."""
        axes = np.empty(9)
        mujoco.mju_quat2Mat(axes, self._model.cam_quat[self._camera])
        x, y, z = axes.reshape(3, 3).T @ (point - self._model.cam_pos[self._camera])
        depth = -float(z)  # MuJoCo's cameras look along their own -z
        scale = 0.5 / (np.tan(np.deg2rad(self._model.cam_fovy[self._camera]) / 2) * max(depth, 1e-6))
        return float(0.5 + x * scale * CAMERA_HEIGHT / CAMERA_WIDTH), float(0.5 - y * scale), depth

    def _check_open(self) -> None:
        if self._closed:
            raise SimulationError("the simulator is closed; build a new one")

    def close(self) -> None:
        """Free the renderer. Safe to call twice."""
        with self._drawing, self._lock:
            self._closed = True
            if self._renderer is not None:
                self._renderer.close()
