"""A webcam and a Kinova arm, and the policy of a bundle: ros2 launch visarl_bringup real.launch.py --show-args"""

from visarl.ros.launching import describe


def generate_launch_description():
    return describe("real")
