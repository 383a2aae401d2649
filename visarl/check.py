"""`visarl check`: what works on this machine, and what to do about what does not.

Each probe that may crash (a renderer, a GPU driver, a ROS library) runs in a process of its own.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from visarl.contract import CAMERA_HEIGHT, CAMERA_WIDTH
from visarl.errors import VisarlError
from visarl.options import Check
from visarl.ros.graph import PROFILE

Status = Literal["ok", "missing", "optional"]

SHM_BYTES = 64 * 2**20
"""A dozen frames in flight between the nodes' shared-memory segments."""
FRAME_BYTES = 3 * CAMERA_WIDTH * CAMERA_HEIGHT
IDLE = ("FASTDDS_BUILTIN_TRANSPORTS", "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
"""Settings of Fast DDS in a shell that the graph's own profile replaces."""
DISK_GB = 5.0
"""Ten recorded demonstrations take 0.2 GB, a pipeline's checkpoints and caches about 2."""
MEMORY_GB = 4.0
"""The whole simulated graph's resident memory, at most."""
PROBE_TIMEOUT_S = 60.0

SETUP = "make setup"


def install(extra: str) -> str:
    """Advice where Python packages of an extra of pyproject.toml are missing."""
    return f"{SETUP}, or pip install -e '.[{extra}]' in the repository"


@dataclass(frozen=True)
class Finding:
    """One line of the answer. `optional` is missing, too, but the demo and the tests do without it."""

    name: str
    status: Status
    detail: str
    advice: str = ""

    def __str__(self) -> str:
        line = f"{self.status:<9} {self.name:<12} {self.detail}"
        return line + (f"\n{'':<23}→ {self.advice}" if self.advice else "")


def probe(code: str, environment: dict[str, str] | None = None) -> tuple[bool, str]:
    """Run Python `code` in a process of its own: whether it ended well, and its last line."""
    try:
        result = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_S,
            env={**os.environ, **(environment or {})},
        )
    except subprocess.TimeoutExpired:
        return False, f"no answer within {PROBE_TIMEOUT_S:g} s"
    text = (result.stdout if result.returncode == 0 else result.stderr).strip()
    last = text.splitlines()[-1] if text else f"ended with status {result.returncode}"
    return result.returncode == 0, re.sub(r"^visarl\.errors\.\w+: ", "", last)


def check_python() -> Finding:
    return Finding("Python", "ok", f"{platform.python_version()} in {sys.prefix}, {os.cpu_count()} cores")


def check_ros() -> Finding:
    good, last = probe("import rclpy; rclpy.init(); rclpy.shutdown(); print(rclpy.__file__)")
    if not good:
        return Finding(
            "ROS 2", "missing", last, f"source /opt/ros/<distro>/setup.bash where ROS is installed, otherwise {SETUP}"
        )
    if Path(last).is_relative_to(sys.prefix):
        return Finding("ROS 2", "ok", f"rclpy {importlib.metadata.version('ros-rclpy')} from wheels")
    return Finding("ROS 2", "ok", f"{os.environ.get('ROS_DISTRO', 'unknown distribution')}, {last}")


def check_launch() -> Finding:
    if importlib.util.find_spec("launch_ros") is None:
        return Finding(
            "ros2 launch", "optional", "launch_ros is not installed", "`visarl up` starts the same graph without it"
        )
    return Finding("ros2 launch", "ok", "launch_ros is importable")


def check_workspace() -> Finding:
    good, last = probe(
        "from visarl.ros.workspace import activate; activate(); import visarl_msgs; print(visarl_msgs.__file__)"
    )
    if not good:
        return Finding("workspace", "missing", last, SETUP)
    return Finding("workspace", "ok", f"visarl_msgs in {last}")


SEGMENT = """
import os, re
from visarl.ros.graph import GraphOptions, environment
from visarl.ros.stranger import free_domain
from visarl.ros.workspace import activate
os.environ.update(environment(GraphOptions(domain=free_domain())))
activate()
import rclpy
rclpy.init()
node = rclpy.create_node("visarl_check")
lines = [line for line in open("/proc/self/maps") if re.search("/dev/shm/fast(dds|rtps)_[0-9a-f]+$", line.rstrip())]
spans = [[int(end, 16) for end in line.split()[0].split("-")] for line in lines]
print(max((last - first for first, last in spans), default=0))
node.destroy_node()
rclpy.shutdown()
"""
"""Prints how large a shared-memory segment a node gets in a graph's environment [bytes]."""


def check_dds() -> Iterator[Finding]:
    middleware = os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp")
    if middleware != "rmw_fastrtps_cpp":
        yield Finding(
            "DDS",
            "optional",
            f"RMW_IMPLEMENTATION is {middleware}; the image settings shipped are for Fast DDS",
            "unset RMW_IMPLEMENTATION, or measure with `make bench`",
        )
    else:
        yield check_fast_dds()
    shared = Path("/dev/shm")
    free = shutil.disk_usage(shared).free if shared.is_dir() else 0
    if free < SHM_BYTES or not os.access(shared, os.W_OK):
        yield Finding(
            "shared mem.",
            "missing",
            f"/dev/shm has {free / 2**20:.0f} MiB free, needs {SHM_BYTES / 2**20:.0f}",
            "in a container: docker run --shm-size=512m",
        )
    else:
        yield Finding("shared mem.", "ok", f"/dev/shm has {free / 2**20:.0f} MiB free")


def check_fast_dds() -> Finding:
    """What a graph on this machine gets: its profile decides, not what this shell sets."""
    good, last = probe(SEGMENT)
    if not good or not last.isdigit():
        return Finding("DDS", "missing", f"no node starts with the graph's settings: {last}", SETUP)
    if int(last) < FRAME_BYTES:
        return Finding(
            "DDS",
            "missing",
            f"Fast DDS gives a node {int(last) / 2**20:.1f} MiB of shared memory, less than a camera frame "
            f"({FRAME_BYTES / 2**20:.1f}): the settings shipped ({PROFILE.name}) do not take effect, pictures get lost",
            "unset ROS_LOCALHOST_ONLY and RMW_FASTRTPS_USE_QOS_FROM_XML, then check again",
        )
    detail = f"Fast DDS; {PROFILE.name} gives each node {int(last) / 2**20:.0f} MiB of shared memory for pictures"
    idle = [name for name in IDLE if name in os.environ]
    if idle:
        detail += f"; this shell's {', '.join(idle)} do not count in a graph on this machine"
    return Finding("DDS", "ok", detail)


def check_camera(source: str, asked: bool) -> Finding:
    """`asked`: a person wants this very camera; otherwise the demo and the tests do without it."""
    absent: Status = "missing" if asked else "optional"
    devices = sorted(str(path) for path in Path("/dev").glob("video*"))
    simulated = "the simulated graph needs none; for the real one plug a webcam in"
    if source.startswith("/dev/") and not Path(source).exists():
        found = f", found {', '.join(devices)}" if devices else ""
        advice = f"--camera {devices[0]}" if devices else simulated
        return Finding("camera", absent, f"{source} does not exist{found}", advice)
    if source.startswith("/dev/") and not os.access(source, os.R_OK | os.W_OK):
        return Finding(
            "camera", absent, f"{source} may not be opened", "sudo usermod -aG video $USER, then log in again"
        )
    good, last = probe(
        "from visarl.robot.webcam import open_camera\n"
        f"camera = open_camera({source!r})\n"
        "frame = camera.read(5.0)\n"
        "camera.close()\n"
        "print('%d x %d' % frame.image.shape[1::-1])"
    )
    if not good:
        return Finding("camera", absent, f"{source}: {last}", "another program may hold it; `fuser -v` names it")
    return Finding("camera", "ok", f"{source}: {last}")


RENDER = """
import time, mujoco
model = mujoco.MjModel.from_xml_string('<mujoco><worldbody><geom size="1"/></worldbody></mujoco>')
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = mujoco.Renderer(model, 240, 320)
start = time.perf_counter()
renderer.update_scene(data)
assert renderer.render().any()
print('%.0f ms for the first picture' % (1e3 * (time.perf_counter() - start)))
renderer.close()
"""


def check_renderer() -> Finding:
    failures = []
    for backend in dict.fromkeys((os.environ.get("MUJOCO_GL", "egl"), "egl", "osmesa")):
        good, last = probe(RENDER, {"MUJOCO_GL": backend})
        if good:
            advice = "" if backend == "egl" else f"export MUJOCO_GL={backend}"
            return Finding("renderer", "ok", f"MuJoCo with {backend}, {last}", advice)
        failures.append(f"{backend}: {last}")
    return Finding(
        "renderer",
        "missing",
        "; ".join(failures),
        "sudo apt-get install -y libegl1 libgles2 libgl1-mesa-dri libegl-mesa0 libgl1",
    )


def check_gpu() -> Finding:
    good, last = probe("import torch; print(torch.cuda.get_device_name(0) if torch.cuda.is_available() else '')")
    if not good:
        return Finding("torch", "missing", last, SETUP)
    if not last or last.startswith("ended with status 0"):
        return Finding("GPU", "optional", "torch finds no CUDA device", "the 64 and 112 presets are made for a CPU")
    return Finding("GPU", "ok", last)


def check_engine() -> Finding:
    if importlib.util.find_spec("openvino") is None:
        return Finding("OpenVINO", "optional", "not installed; models run in torch", install("openvino"))
    good, last = probe("import openvino; print(openvino.__version__, *openvino.Core().available_devices)")
    return Finding("OpenVINO", "ok", last) if good else Finding("OpenVINO", "missing", last, SETUP)


def check_video() -> Finding:
    good, last = probe("import av; av.codec.Codec('libx264', 'w'); print('PyAV', av.__version__, 'with H.264')")
    return Finding("video", "ok", last) if good else Finding("video", "missing", last, install("report"))


def check_kinova() -> Iterator[Finding]:
    later = "the drivers for real arms are not part of this version; the simulator needs none"
    if importlib.util.find_spec("kortex_api") is None:
        yield Finding("Kinova Gen3", "optional", "kortex_api is not installed (Gen3 and Gen3 lite only)", later)
    else:
        yield Finding("Kinova Gen3", "ok", f"kortex_api {importlib.metadata.version('kortex_api')}; {later}")
    names = ("USBCommandLayerUbuntu.so", "Kinova.API.USBCommandLayerUbuntu.so")
    places = ("/usr/lib", "/usr/local/lib", "/opt/kinova")
    found = [Path(place, name) for place in places for name in names if Path(place, name).exists()]
    if found:
        yield Finding("Kinova Jaco", "ok", f"{found[0]}; {later}")
    else:
        yield Finding("Kinova Jaco", "optional", "no Jaco SDK library (USBCommandLayerUbuntu.so) found", later)


def check_room() -> Iterator[Finding]:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    if free < DISK_GB:
        yield Finding(
            "disk", "missing", f"{free:.1f} GB free here, a pipeline needs {DISK_GB:g}", "make room, or --out elsewhere"
        )
    else:
        yield Finding("disk", "ok", f"{free:.0f} GB free in {Path.cwd()}")
    import psutil

    memory = psutil.virtual_memory().available / 1e9
    if memory < MEMORY_GB:
        yield Finding(
            "memory", "missing", f"{memory:.1f} GB available, the graph needs {MEMORY_GB:g}", "close other programs"
        )
    else:
        yield Finding("memory", "ok", f"{memory:.0f} GB available")


def check_bundles(folder: Path) -> Iterator[Finding]:
    if not folder.is_dir():
        yield Finding("bundles", "optional", f"no folder {folder}", "run this in the repository, or give --bundles")
        return
    from visarl.bundle import load_bundle

    for path in sorted(p.parent for p in folder.glob("*/bundle.json")):
        try:
            bundle = load_bundle(path)
        except VisarlError as error:
            yield Finding("bundle", "missing", f"{path}: {error}")
        else:
            yield Finding("bundle", "ok", f"{path}: {bundle.task}, id {bundle.id}")


def findings(options: Check) -> Iterator[Finding]:
    """Every line, as soon as it is known."""
    checks: list[Callable[[], Finding | Iterator[Finding]]] = [
        check_python,
        check_ros,
        check_workspace,
        check_launch,
        check_dds,
        lambda: check_camera(options.camera, asked=options.camera != Check.camera),
        check_renderer,
        check_gpu,
        check_engine,
        check_video,
        check_kinova,
        check_room,
        lambda: check_bundles(options.bundles),
    ]
    for check in checks:
        found = check()
        if isinstance(found, Finding):
            yield found
        else:
            yield from found


def main(options: Check) -> int:
    """Print the findings; status 1 if something is missing that the demo or the tests need, or that was asked for."""
    missing = []
    for finding in findings(options):
        print(finding, flush=True)
        if finding.status == "missing":
            missing.append(finding.name)
    print()
    print(f"missing: {', '.join(missing)}" if missing else "Everything that the demo and the tests need is here.")
    return 1 if missing else 0
