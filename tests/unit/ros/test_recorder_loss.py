"""Why a recording ended by itself is told to whoever stops it later."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from visarl.data.bags import ARM_STATE
from visarl.data.recorder import Recorder
from visarl.errors import DataError

TASK = "pick_red_block"


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """A disk that takes no file beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_the_answer_to_the_stop_that_comes_too_late(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, min_free_bytes=0)
    episode = recorder.start(TASK)
    with largest_file(200_000), pytest.raises(DataError, match="File too large"):
        for log_time in range(100):
            recorder.write(ARM_STATE, bytes(10_000), log_time)
            recorder.flush()
    for call in (recorder.stop, recorder.pause, recorder.discard):
        with pytest.raises(DataError, match="nothing is being recorded: .*File too large.*--recover"):
            call()
    assert [path.name for path in tmp_path.iterdir()] == [f"{episode}.partial"]
    # It is over with the next recording.
    recorder.start(TASK)
    recorder.discard()
    with pytest.raises(DataError, match="nothing is being recorded$"):
        recorder.stop()
