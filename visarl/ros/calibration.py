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
            k=[float(v) for v in values["camera_matrix"]["data"]],
            r=[float(v) for v in values["rectification_matrix"]["data"]],
            p=[float(v) for v in values["projection_matrix"]["data"]],
        )
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AssertionError) as error:
        raise CameraError(
            f"calibration {path}: cannot be read ({type(error).__name__}: {error}); expected the YAML file that "
            "`ros2 run camera_calibration cameracalibrator` saves"
        ) from error
