"""What this machine can do at most, to see the other figures against."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def median_ms(work: Callable[[], object], seconds: float = 1.5, least: int = 10) -> float:
    """Median time of `work` over about `seconds`, after three calls that do not count [ms]."""
    for _ in range(3):
        work()
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while len(taken) < least or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return 1e3 * statistics.median(taken)


def matmul_gflops(threads: int, size: int = 1024) -> float:
    """Peak of a float32 matrix multiplication: the fastest of ten, in GFLOP/s."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        a, b = torch.rand(size, size), torch.rand(size, size)
        fastest = float("inf")
        for _ in range(10):
            start = time.perf_counter()
            a @ b
            fastest = min(fastest, time.perf_counter() - start)
    finally:
        torch.set_num_threads(before)
    return 2 * size**3 / fastest / 1e9


def render_ms(task: str) -> float:
    """One 640x480 picture of the scene, median."""
    import torch  # noqa: F401  before MuJoCo's renderer, which crashes the process otherwise

    from visarl.sim.tabletop import Simulator

    simulator = Simulator(task, seed=0)
    try:
        return median_ms(simulator.render)
    finally:
        simulator.close()
