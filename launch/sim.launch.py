"""The simulated arm and camera, and the policy of a bundle: ros2 launch visarl_bringup sim.launch.py --show-args"""

from visarl.ros.launching import describe


def generate_launch_description():
    return describe("sim")
