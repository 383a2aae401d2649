"""The simulated arm under the scripted expert, for recording: ros2 launch visarl_bringup teleop.launch.py"""

from visarl.ros.launching import describe


def generate_launch_description():
    return describe("teleop")
