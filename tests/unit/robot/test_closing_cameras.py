"""Closing a camera frees whoever waits for its next frame; and what ends a device's own thread is told."""

from __future__ import annotations

import threading

import cv2
import numpy as np
import pytest

from visarl.errors import CameraError
from visarl.robot.webcam import DeviceCamera, open_camera
from visarl.sim.jaco import SimCamera


class Capture:
    """An open device whose driver hangs, or breaks."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.released = error, threading.Event()
        self.plugged = threading.Event()

    def read(self):
        if self.error is not None:
            raise self.error
        self.plugged.wait(60.0)
        return False, None

    def release(self) -> None:
        self.released.set()


class Scene:
    def render_with_truth(self, width, height):
        return np.zeros((height, width, 3), np.uint8), None, 1


def folder_camera(tmp_path):
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((480, 640, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((480, 640, 3), np.uint8))
    camera = open_camera(str(tmp_path), rate_hz=0.01)
    camera.read(1.0)  # the next one is due in 100 s
    return camera


def sim_camera(tmp_path):
    camera = SimCamera(Scene(), rate_hz=0.01)
    camera.read(1.0)
    return camera


def device_camera(tmp_path):
    return DeviceCamera("/dev/video7", 640, 480, 30.0, Capture())


@pytest.mark.parametrize("make", [folder_camera, sim_camera, device_camera])
@pytest.mark.parametrize("timeout_s", [60.0, 200.0], ids=["due too late", "due in time"])
def test_closing_wakes_the_reader(make, timeout_s, tmp_path) -> None:
    camera = make(tmp_path)
    reading, said = threading.Event(), []

    def read() -> None:
        reading.set()
        with pytest.raises(CameraError) as caught:
            camera.read(timeout_s)
        said.append(str(caught.value))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reading.wait(10.0)
    camera.close()
    reader.join(30.0)
    assert len(said) == 1


def test_what_breaks_a_device_s_thread_reaches_the_reader() -> None:
    capture = Capture(cv2.error("select() timeout"))
    camera = DeviceCamera("/dev/video7", 640, 480, 30.0, capture)
    with pytest.raises(CameraError, match=r"camera /dev/video7: its frames cannot be read \(error: select\(\) timeout"):
        camera.read(30.0)
    assert capture.released.wait(10.0)
    camera.close()


def test_a_frame_of_another_size_names_the_parameters_to_set(tmp_path) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((240, 320, 3), np.uint8))
    with pytest.raises(CameraError, match="camera_node's `width` and `height` in the bench file"):
        open_camera(str(tmp_path)).read(1.0)
    assert open_camera(str(tmp_path), 320, 240).read(1.0).image.shape == (240, 320, 3)
