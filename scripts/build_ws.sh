#!/usr/bin/env bash
# Builds the packages of ros2_ws/src and launch/ with colcon, against a sourced ROS 2 or against the ROS wheels in the virtual environment.
# Does nothing when nothing changed. PYTHON chooses the interpreter (default: the active or the local environment's).
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
PYTHON="${PYTHON:-${VIRTUAL_ENV:-$root/.venv}/bin/python}"
workspace="$root/ros2_ws"

fail() { echo "build_ws: $*" >&2; exit 1; }

[ -x "$PYTHON" ] || fail "no Python at $PYTHON; run 'make setup' first"
"$PYTHON" -c 'import rclpy' 2>/dev/null \
    || fail "$PYTHON cannot import rclpy; source ROS 2 (source /opt/ros/<distro>/setup.bash) or run 'make setup'"
prefix="$("$PYTHON" -c 'import sys; print(sys.prefix)')"
rclpy="$("$PYTHON" -c 'import rclpy; print(rclpy.__file__)')"

# What the result depends on: sources, interpreter and ROS. Editing any of them builds again.
fingerprint="$( (echo "$PYTHON $rclpy"; "$PYTHON" --version
    find "$workspace/src" "$root/launch" "$root/scripts/build_ws.sh" -type f -not -name '*.pyc' -not -path '*/.*' -print0 \
        | LC_ALL=C sort -z | xargs -0 sha256sum) | sha256sum | cut -d' ' -f1)"
stamp="$workspace/install/.visarl_fingerprint"
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$fingerprint" ]; then
    echo "build_ws: ros2_ws is up to date"
    exit 0
fi

site="$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')"
case "$rclpy" in
"$prefix"/*)
    # ROS from wheels: the virtual environment is the ROS prefix. The wheels' CMake files name include directories of
    # the machine that built them; put this machine's in their place.
    "$PYTHON" - <<'PY' || fail "Python's headers are missing; install python3-dev (sudo apt install python3-dev)"
import pathlib, re, sys, sysconfig
import numpy
include = sysconfig.get_paths()["include"]
if not pathlib.Path(include, "Python.h").is_file():
    sys.exit(f"no Python.h in {include}")
repairs = [
    (re.compile(r'/opt/python/[^;"]*?/include/python3\.\d+'), include),
    (re.compile(r'/opt/python/[^;"]*?/numpy/(?:_core|core)/include'), numpy.get_include()),
]
for path in pathlib.Path(sys.prefix, "share").rglob("*.cmake"):
    text = repaired = path.read_text(encoding="utf-8", errors="surrogateescape")
    for pattern, replacement in repairs:
        repaired = pattern.sub(lambda match, r=replacement: r, repaired)
    if repaired != text:
        path.write_text(repaired, encoding="utf-8", errors="surrogateescape")
PY
    export AMENT_PREFIX_PATH="$prefix" CMAKE_PREFIX_PATH="$prefix"
    libraries="$prefix/lib"
    for directory in "$site"/ros_*.libs; do
        [ -d "$directory" ] && libraries="$libraries:$directory"
    done
    export LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    pythonpath=""
    ;;
*)
    pythonpath="$site"
    ;;
esac
export PATH="$prefix/bin:$PATH"
command -v colcon >/dev/null || fail "colcon is missing; run 'make setup' or install python3-colcon-common-extensions"

# A build directory of another interpreter or prefix keeps stale paths in its cache.
origin="$PYTHON $rclpy"
if [ -f "$workspace/build/.visarl_origin" ] && [ "$(cat "$workspace/build/.visarl_origin")" != "$origin" ]; then
    rm -rf "$workspace/build" "$workspace/install" "$workspace/log"
fi
mkdir -p "$workspace/build" "$workspace/install"
echo "$origin" >"$workspace/build/.visarl_origin"

cd "$workspace"
rm -f "$stamp"
colcon --log-level error build --base-paths src ../launch --merge-install --event-handlers console_cohesion- \
    --cmake-args -DBUILD_TESTING=OFF -DPython3_EXECUTABLE="$PYTHON" -DVISARL_PYTHONPATH="$pythonpath"
echo "$fingerprint" >"$stamp"
