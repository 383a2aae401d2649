"""What runs a network: torch, or OpenVINO, which is several times faster on a CPU. They agree to rounding."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import visarl.models
from visarl.errors import ConfigError, suggest

ENGINES = ("auto", "torch", "openvino")
"""`auto` takes torch where there is a GPU, else OpenVINO if it is installed, else torch."""

CACHE_VARIABLE = "VISARL_CACHE"
"""Environment variable: where converted networks are kept; ~/.cache/visarl without it."""

Shape = tuple[int, int, int]
Run = Callable[..., Tensor]
"""float32 tensors (N, ...) in, one float32 tensor (N, ...) on the CPU out."""

_TORCH_BATCH = 32  # pictures at once, where many are given
_log = logging.getLogger(__name__)


def make_engine(model: nn.Module, shapes: list[Shape], engine: str, threads: int, name: str) -> Run:
    """A function that runs `model`.

    Args:
        model: in evaluation mode; takes one tensor (N, *shape) for each of `shapes`, gives one tensor (N, ...).
        shapes: of one input each, without the batch.
        engine: one of `ENGINES`.
        threads: of the engine. Torch has one pool a process: the last setting counts for all of it.
        name: the same for the same architecture and weights only; a converted network is kept under it.

    Raises:
        ConfigError: no such engine, or it is not installed.
    """
    if engine not in ENGINES:
        raise ConfigError(f"engine: {suggest(engine, ENGINES)}, found {engine!r}")
    if threads < 1:
        raise ConfigError(f"threads: expected at least 1, found {threads}")
    installed = importlib.util.find_spec("openvino") is not None
    if engine == "openvino" and not installed:
        raise ConfigError(
            "engine 'openvino' is not installed: choose 'torch', run `make setup`, or pip install -e '.[openvino]' in "
            "the repository"
        )
    torch.set_num_threads(threads)  # with OpenVINO too: the readout stays in torch
    if engine == "openvino" or (engine == "auto" and installed and not torch.cuda.is_available()):
        return _openvino(model, shapes, threads, name)
    return _torch(model)


def _torch(model: nn.Module) -> Run:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = model.to(device)

    @torch.inference_mode()
    def run(*inputs: Tensor) -> Tensor:
        batches = zip(*(x.split(_TORCH_BATCH) for x in inputs), strict=True)
        return torch.cat([model(*(x.to(device) for x in batch)).float().cpu() for batch in batches])

    return run


def _openvino(model: nn.Module, shapes: list[Shape], threads: int, name: str) -> Run:
    import openvino as ov

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        # bf16, the default on some CPUs, would move keypoints and differ from one machine to the next.
        "INFERENCE_PRECISION_HINT": "f32",
        # Otherwise every process pins itself to the same first cores.
        "ENABLE_CPU_PINNING": False,
    }
    compiled = ov.Core().compile_model(_converted(model, shapes, name), "CPU", settings)
    request = compiled.create_infer_request()

    def one(*inputs: Tensor) -> Tensor:
        request.infer({i: np.ascontiguousarray(x.numpy()) for i, x in enumerate(inputs)})
        return torch.from_numpy(request.get_output_tensor(0).data.copy())  # the engine reuses its memory

    def run(*inputs: Tensor) -> Tensor:
        return torch.cat([one(*row) for row in zip(*(x.split(1) for x in inputs), strict=True)])

    return run


def _converted(model: nn.Module, shapes: list[Shape], name: str) -> Any:
    """The OpenVINO graph of `model`: converting takes seconds, so every node's start would. Kept on disk instead."""
    import openvino as ov

    key = f"{name}-{_code_digest()}-{ov.__version__.split('-')[0]}"
    folder = cache_folder()
    xml, weights = folder / f"{key}.xml", folder / f"{key}.bin"
    if xml.is_file() and weights.is_file():
        try:
            return ov.Core().read_model(xml, weights)
        except RuntimeError as error:
            _log.warning("%s is damaged and is converted again: %s", xml, error)
    examples = tuple(torch.zeros(1, *shape) for shape in shapes)
    with warnings.catch_warnings(), torch.inference_mode():
        # Shapes are fixed here, so checks of shapes may become constants; and OpenVINO still uses torch.jit.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)
        graph = ov.convert_model(model, example_input=examples, input=[tuple(x.shape) for x in examples])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as partial:
            ov.save_model(graph, Path(partial) / "model.xml", compress_to_fp16=False)
            os.replace(Path(partial) / "model.bin", weights)  # first: who sees the .xml finds both
            os.replace(Path(partial) / "model.xml", xml)
    except OSError as error:  # a full or read-only disk costs time at the next start, nothing else
        _log.warning("converted network not kept in %s: %s", folder, error)
    return graph


def cache_folder() -> Path:
    """Where converted networks are kept; anything in it may be deleted."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "visarl"
    return Path(os.environ.get(CACHE_VARIABLE) or default)


def _code_digest() -> str:
    """Of the models' source: whoever changes an architecture must not run the old one."""
    sources = sorted(Path(visarl.models.__path__[0]).glob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:8]
