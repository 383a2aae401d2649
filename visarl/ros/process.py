"""The life of a node's process: start, spin, end cleanly, and say in one line why it ended."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy import exceptions
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation

from visarl.errors import ConfigError, VisarlError
from visarl.process import TERMINATED
from visarl.ros.graph import QUIET

ORPHAN_TRIES = 10
"""So often, once a second, a process whose supervisor is gone asks itself to end; then it ends the hard way."""

SUPERVISED = "VISARL_SUPERVISED"
"""Set by a supervisor that holds the other end of this process's stdin."""


def _known(module: Any, *names: str) -> tuple[type[Exception], ...]:
    """Those of the exceptions that this ROS distribution has: not all have all of them."""
    return tuple(getattr(module, name) for name in names if hasattr(module, name))


_REFUSED = _known(rclpy_implementation, "RCLError", "RCLInvalidROSArgsError", "UnknownROSArgsError")
"""What `rclpy.init` says to arguments that it cannot read."""
_ENDED = _known(rclpy_implementation, "RCLError") + _known(exceptions, "NotInitializedException")
"""What a call says whose context was shut down beneath it."""


def run(name: str, make: Callable[[], Any]) -> None:
    """Body of every node's `main`: build with `make` (a node or several), spin until a signal, close, exit.

    A node's `close()` is called on every way out. Exit status 0 after Ctrl-C, which is how ROS's launch system ends
    nodes, 143 after SIGTERM, 1 after an error, which is printed in one line if a person can act on it.
    """
    if os.environ.get("PYTHONWARNINGS") == QUIET:
        for category in (DeprecationWarning, FutureWarning):  # again: importing dm_control switches them back on
            warnings.filterwarnings("ignore", category=category)
    # Threads that stream to an arm or a camera wait at most this long for one that computes.
    sys.setswitchinterval(0.001)
    nodes: list[Any] = []
    status = 0
    asked: list[int] = []  # SIGTERMs that came
    if os.environ.get(SUPERVISED):
        threading.Thread(target=_end_with_supervisor, name="supervisor", daemon=True).start()
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # from here on there may be something to close
        signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))  # ROS's own handler calls it
        _init()
        if asked:  # before ROS's handler was there
            raise KeyboardInterrupt
        made = make()
        nodes = list(made) if isinstance(made, (list, tuple)) else [made]
        executor = SingleThreadedExecutor()
        for node in nodes:
            executor.add_node(node)
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass  # asked to end
    except VisarlError as error:
        print(f"{name}: error: {error}", file=sys.stderr, flush=True)
        status = 1
    except _ENDED:
        # Asked to end, too: rclpy's handler of signals shuts the context down from a thread of its own, now and then
        # between the executor's look at it and the wait, which then complains.
        if rclpy.ok():
            raise
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if not close(name, nodes):
            status = 1
        rclpy.try_shutdown()
    sys.exit(TERMINATED if asked and not status else status)


def _init() -> None:
    # By itself, because `rclpy.ok()` is False also where nothing began: an error would look like a clean end.
    try:
        rclpy.init()
    except _REFUSED as error:
        said = re.sub(r", at \S+:\d+", "", " ".join(str(error).split()))  # without the places in ROS's own source
        raise ConfigError(
            f"ROS does not take this process's arguments: {said}; correct what follows --ros-args, or the bench file"
        ) from error


def close(name: str, nodes: list[Any]) -> bool:
    """Close every node, then destroy them. One that fails is told in a line and keeps no other from its end.

    Returns:
        Whether all went well.
    """
    closing = [(node, node.close) for node in nodes if hasattr(node, "close")]
    well = True
    for node, call in closing + [(node, node.destroy_node) for node in nodes]:
        try:
            call()
        except Exception as error:  # whatever it is: the next node may hold the arm
            what = f"{type(node).__name__}.{call.__name__}"
            print(f"{name}: error: {what}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            well = False
    return well


def _end_with_supervisor() -> None:
    """A supervisor that is killed cannot end its children: they end when its pipe closes."""
    os.read(0, 1)  # not sys.stdin: a thread that holds its lock breaks the interpreter's exit
    for _ in range(ORPHAN_TRIES):
        # More than once: a signal that comes while ROS starts, or while a library loads, is lost.
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1.0)
    os._exit(1)
