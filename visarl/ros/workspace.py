"""Where the built ROS workspace is, and how a process comes to see it without `source install/setup.bash`."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
import sysconfig
from pathlib import Path

from visarl.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
_FIX = "run `make setup` in the repository, or `source ros2_ws/install/setup.bash` where it was built"


def install_folder() -> Path | None:
    """The workspace's install folder beside this library, or None where it was not built (or not from a checkout)."""
    folder = ROOT / "ros2_ws" / "install"
    return folder if (folder / "share" / "visarl_msgs").is_dir() else None


def activate() -> None:
    """Make `import rclpy, visarl_msgs` work in this process.

    Raises:
        ConfigError: there is no ROS 2, or the workspace was not built; says what to run.
    """
    if importlib.util.find_spec("rclpy") is None:
        raise ConfigError(f"no ROS 2 here: {sys.executable} cannot import rclpy; source ROS 2 or {_FIX}")
    if importlib.util.find_spec("visarl_msgs") is not None:
        return
    folder = install_folder()
    if folder is None:
        raise ConfigError(f"the ROS workspace is not built ({ROOT / 'ros2_ws'}); {_FIX}")
    for variable, value in _paths(folder).items():
        os.environ[variable] = value
    sys.path[:0] = [path for path in _python_paths(folder) if path not in sys.path]
    # The dynamic linker read LD_LIBRARY_PATH when this process began; a library that is already loaded is found by
    # its name. Repeated, because they need one another.
    waiting = sorted((folder / "lib").glob("libvisarl_msgs__*.so"))
    while waiting:
        failed = []
        for library in waiting:
            try:
                ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
            except OSError as error:
                failed.append((library, error))
        if len(failed) == len(waiting):
            raise ConfigError(f"cannot load {failed[0][0]}: {failed[0][1]}; {_FIX}")
        waiting = [library for library, _ in failed]
    if importlib.util.find_spec("visarl_msgs") is None:
        raise ConfigError(f"visarl_msgs was built for another Python than {sys.version.split()[0]}; {_FIX}")


def child_environment() -> dict[str, str]:
    """This process's environment with what a child needs to import rclpy, the messages, the nodes and this library."""
    environment = dict(os.environ)
    folder = install_folder()
    if folder is not None:
        environment.update(_paths(folder))
    return environment


def executable(package: str, name: str) -> Path:
    """The script of a node.

    Raises:
        ConfigError: no workspace on the path has it.
    """
    prefixes = [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    folder = install_folder()
    for prefix in ([folder] if folder else []) + prefixes:
        path = prefix / "lib" / package / name
        if path.is_file():
            return path
    raise ConfigError(f"no node {package}/{name} in any built workspace; {_FIX}")


def _python_paths(folder: Path) -> list[str]:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    # Debian's and Ubuntu's Pythons install into other folders than a virtual environment's.
    candidates = [
        folder / "lib" / version / "site-packages",
        folder / "local" / "lib" / version / "dist-packages",
        folder / Path(sysconfig.get_path("purelib", vars={"base": "", "platbase": ""})).relative_to("/"),
    ]
    return [str(path) for path in dict.fromkeys(candidates) if path.is_dir()]


def _paths(folder: Path) -> dict[str, str]:
    """Environment variables with the workspace in front, each entry once."""
    first = {
        "PYTHONPATH": [*_python_paths(folder), str(ROOT)],
        "AMENT_PREFIX_PATH": [str(folder)],
        "LD_LIBRARY_PATH": [str(folder / "lib")],
    }
    return {
        variable: os.pathsep.join(dict.fromkeys([*new, *filter(None, os.environ.get(variable, "").split(os.pathsep))]))
        for variable, new in first.items()
    }
