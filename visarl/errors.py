"""The errors a person may see. Each names the value, the expectation and the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class VisarlError(Exception):
    """A mistake or a fault that a person can act on; the command line prints it without a traceback."""


class ContractError(VisarlError):
    """An array, a message or a file does not keep the contract."""


class ConfigError(VisarlError):
    """A hyper-parameter or an option is unknown or out of range."""


class HubError(ConfigError):
    """The hub that has a model's weights cannot be reached."""


class BundleError(VisarlError):
    """A bundle is missing, damaged, or made for something else."""


class DataError(VisarlError):
    """A bag, an episode file or an annotation cannot be used."""


class CameraError(VisarlError):
    """A camera is missing, was unplugged, or sends frames of another kind."""


class ArmError(VisarlError):
    """An arm refuses, is unreachable, or is in fault."""


class SimulationError(VisarlError):
    """The simulator or its renderer cannot run here."""


_FULL_MEMORY = ("DefaultCPUAllocator", "out of memory", "ALLOC_FAILED", "bad_alloc")
"""torch raises a type of its own on a GPU, and else a RuntimeError that only its words tell apart: those of its
allocator on a CPU, of the driver, of cuBLAS and cuDNN, of C++."""


def out_of_memory(error: BaseException) -> bool:
    """Whether numpy, torch or Python found no memory."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _FULL_MEMORY)


def suggest(name: str, known: Iterable[str]) -> str:
    """`known` as a list for an error message, with the closest name first if one is close to `name`."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(names)}"
