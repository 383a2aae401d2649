"""Pictures into an H.264 video that every browser plays."""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from visarl.errors import DataError

CONSTANT_QUALITY = 27
"""x264's crf: a 640x320 run of 25 s stays below 1 MB and looks clean."""


def encode(pictures: Iterable[NDArray[np.uint8]], rate_hz: float, quality: int = CONSTANT_QUALITY) -> bytes:
    """An MP4 file of `pictures` (H, W, 3) uint8 RGB, even sides, one size.

    Args:
        quality: x264's crf; 6 more is about half the size.

    Raises:
        DataError: no picture, an odd side, or pictures of different sizes.
    """
    import av

    buffer = io.BytesIO()
    stream = None
    with av.open(buffer, "w", format="mp4") as container:
        for picture in pictures:
            height, width = picture.shape[:2]
            if stream is None:
                if height % 2 or width % 2:
                    raise DataError(f"video: expected pictures with even sides, found {width}x{height}; crop one pixel")
                options = {"crf": str(quality), "preset": "veryfast"}
                stream = container.add_stream(
                    "libx264", rate=Fraction(rate_hz).limit_denominator(1000), options=options
                )
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            elif (height, width) != (stream.height, stream.width):
                raise DataError(
                    f"video: expected {stream.width}x{stream.height} like the first, found {width}x{height}"
                )
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        if stream is None:
            raise DataError("video: no picture to encode; was the camera running?")
        container.mux(stream.encode())
    return buffer.getvalue()
