"""What every camera must do. A back-end's test inherits `CameraTests` and says how to make one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from visarl.contract import CAMERA_HEIGHT, CAMERA_WIDTH
from visarl.errors import CameraError
from visarl.robot.interfaces import Camera


class CameraTests:
    """Inherit and implement `make` with a camera of at least ten frames."""

    def make(self) -> tuple[Camera, Callable[[], None]]:
        """A camera, and what frees whatever it needs."""
        raise NotImplementedError

    @pytest.fixture
    def camera(self) -> Iterator[Camera]:
        camera, free = self.make()
        yield camera
        camera.close()
        free()

    def test_frames_are_rgb_of_the_contract_size(self, camera: Camera) -> None:
        frame = camera.read(5.0)
        assert frame is not None
        assert frame.image.shape == (CAMERA_HEIGHT, CAMERA_WIDTH, 3) and frame.image.dtype == np.uint8
        assert frame.image.max() > frame.image.min()

    def test_stamps_are_now_and_rise(self, camera: Camera) -> None:
        stamps = []
        for _ in range(3):
            frame = camera.read(5.0)
            assert frame is not None
            stamps.append(frame.stamp_ns)
        assert stamps == sorted(set(stamps))
        assert abs(time.time_ns() - stamps[-1]) < 5e9

    def test_a_frame_is_the_readers_to_keep(self, camera: Camera) -> None:
        first = camera.read(5.0)
        assert first is not None
        kept = first.image.copy()
        for _ in range(3):
            camera.read(5.0)
        assert (first.image == kept).all()

    def test_closes_twice_and_then_refuses(self, camera: Camera) -> None:
        camera.read(5.0)
        camera.close()
        camera.close()
        with pytest.raises(CameraError, match="closed"):
            camera.read(0.1)
