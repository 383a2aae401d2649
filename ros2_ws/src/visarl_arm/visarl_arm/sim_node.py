"""sim_node: one simulator, whose arm and camera are given to the same nodes that the real ones get."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from rclpy.node import Node
from visarl_msgs.srv import ResetScene
from visarl_perception.camera_node import CameraNode
from visarl_perception.camera_node import Options as CameraOptions

from visarl.errors import VisarlError
from visarl.robot.interfaces import Frame
from visarl.ros import qos
from visarl.ros.convert import truth_to_message
from visarl.ros.params import declare, parameter, read
from visarl.ros.process import run
from visarl_arm.arm_node import ArmNode
from visarl_arm.arm_node import Options as ArmOptions


@dataclass(frozen=True)
class Options:
    task: str = parameter("pick_red_block", "scene to begin with")
    seed: int = parameter(0, "of the first scene", 0, 2**31 - 1)
    disturbance: float = parameter(0.0, "[m/s] rms of the noise on the executed motion, for demonstrations", 0.0, 0.1)
    bundle_id: str = parameter("", "the only bundle whose commands are taken; empty takes any")


class SimNode(Node):
    """The simulator's own topics and services; runs it in real time."""

    def __init__(self) -> None:
        super().__init__("sim_node")
        # Here, so that what these lack on a machine (OpenGL) is told in a line: outside `run` it would be a traceback.
        from visarl.sim.jaco import RealTime, SimArm, SimCamera
        from visarl.sim.tabletop import Simulator

        options = declare(self, Options)
        # A bench's limits and camera settings hold here too; what stands for the hardware does not.
        arm_options = replace(read("arm_node", ArmOptions), backend="sim", bundle_id=options.bundle_id)
        camera_options = replace(read("camera_node", CameraOptions), source="simulator")
        arm_options.limits()
        with ExitStack() as opened:  # if anything below fails, what was opened before it is closed, the last one first
            self._simulator = Simulator(options.task, options.seed, options.disturbance)
            opened.callback(self._simulator.close)
            real_time = RealTime(self._simulator)
            opened.callback(real_time.stop)
            self._camera = SimCamera(self._simulator, camera_options.rate_hz)
            self._truth = qos.publisher(self, qos.TRUTH)
            self.camera = CameraNode(self._camera, camera_options, self._publish_truth)
            opened.callback(self.camera.close)
            arm = SimArm(self._simulator)
            opened.callback(arm.close)
            arm.connect()
            self.arm = ArmNode(arm, arm_options)
            opened.callback(self.arm.close)
            qos.serve(self, "sim/reset", self._reset)
            self._check = self.create_timer(0.1, real_time.check)
            real_time.start()
            self._opened = opened.pop_all()

    def _publish_truth(self, frame: Frame) -> None:
        if self._camera.truth is not None:
            self._truth.publish(truth_to_message(self._camera.truth, frame.stamp_ns))

    def _reset(self, request: ResetScene.Request, response: ResetScene.Response) -> Any:
        try:
            # Whoever drives now meant the old scene, and the policy remembers it: its gate has to be opened anew.
            self.arm.driver.enable_policy(False)
            self.arm.driver.drop()
            self._simulator.reset(request.task or None, int(request.seed))
            self.arm.driver.drop()  # what was accepted meanwhile was meant for the old scene too
            response.success, response.message = True, f"{request.task} with seed {request.seed}"
        except VisarlError as error:
            response.success, response.message = False, str(error)
        return response

    def close(self) -> None:
        self._opened.close()  # the arm first: the physics, which end last, have to execute its last command


def make() -> list[Node]:
    node = SimNode()
    return [node, node.arm, node.camera]


def main() -> None:
    run("sim_node", make)
