"""Camera calibration files, as ROS's camera_calibration writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from sensor_msgs.msg import CameraInfo

from visarl.errors import CameraError


def load_calibration(path: str) -> CameraInfo:
    """The intrinsics in the YAML file at `path`.

    Raises:
        CameraError: the file is missing, no YAML, or lacks one of the matrices.
    """
    try:
        values: dict[str, Any] = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        return CameraInfo(
            width=int(values["image_width"]),
            height=int(values["image_height"]),
            distortion_model=str(values["distortion_model"]),
            d=[float(v) for v in values["distortion_coefficients"]["data"]],
            k=_matrix(values, "camera_matrix", 9),
            r=_matrix(values, "rectification_matrix", 9),
            p=_matrix(values, "projection_matrix", 12),
        )
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise CameraError(
            f"calibration {path}: cannot be read ({type(error).__name__}: {error}); expected the YAML file that "
            "`ros2 run camera_calibration cameracalibrator` saves"
        ) from error


def _matrix(values: dict[str, Any], name: str, size: int) -> list[float]:
    """Checked here: not every ROS checks what goes into a message, and the wrong length fails when it is sent."""
    numbers = [float(v) for v in values[name]["data"]]
    if len(numbers) != size:
        raise ValueError(f"{name} has {len(numbers)} numbers; expected {size}")
    return numbers


def check_size(info: CameraInfo, calibration: str, source: str, width: int, height: int) -> None:
    """
    Raises:
        CameraError: the pictures of `source` are not of the size that the file `calibration` is of.
    """
    if (info.width, info.height) != (width, height):
        raise CameraError(
            f"calibration {calibration} is of {info.width}x{info.height} pictures, and {source} gives "
            f"{width}x{height}; calibrate the camera at this size, or leave `calibration` empty"
        )
