#!/usr/bin/env bash
# Everything that the demo, the tests and the benchmarks need, from nothing: system packages, .venv, the ROS 2 workspace.
# Each step leaves a stamp with a hash of what it was made from, only once it has succeeded; a step whose stamp still
# fits is skipped, so that a second run takes no time and needs no network. With the word `browser` also the one that the
# tests drive.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
parts=${1:-}
venv=$root/.venv
stamps=$venv/.visarl
log=$root/runs/setup.log

say() { printf '%s\n' "$*" >&2; }
fail() { say "setup: $*"; exit 1; }

# step NAME COMMAND...: one line of progress, the output into the log, its end on the screen if it failed.
step() {
    local name=$1 start=$SECONDS tick=
    shift
    printf '\n== %s: %s\n' "$(date -Is)" "$name" >>"$log"
    if [ -t 2 ]; then
        # Neither it nor the step holds the lock: both may outlive a script that is killed.
        while sleep 1 && kill -0 $$ 2>/dev/null; do
            printf '\r  … %s, %d s' "$name" $((SECONDS - start)) >&2
        done 9>&- &
        tick=$!
    else
        say "  … $name"
    fi
    # In the background, because only then is a signal heard at once; in a group of its own, so that `stop` reaches
    # whatever it has started.
    local status=0
    set -m
    "$@" >>"$log" 2>&1 </dev/null 9>&- &
    set +m
    wait $! || status=$?
    if [ -n "$tick" ]; then
        kill "$tick" 2>/dev/null || true
        wait "$tick" 2>/dev/null || true
        printf '\r\033[K' >&2
    fi
    if [ "$status" -ne 0 ]; then
        grep -v '^WARNING: Location' "$log" | tail -n 15 | sed 's/^/    /' >&2
        fail "$name failed after $((SECONDS - start)) s; the whole output is in ${log#"$root"/}"
    fi
    say "  ✓ $name, $((SECONDS - start)) s"
}

# stop SIGNAL STATUS: passes the signal on and waits: after a Ctrl-C, pip removes what it has half unpacked.
stop() {
    trap - HUP INT TERM # a second signal does not wait
    local started
    for started in $(jobs -p); do
        kill -s "$1" -- "-$started" 2>/dev/null || kill "$started" 2>/dev/null || true
    done
    wait 2>/dev/null
    [ ! -t 2 ] || printf '\r\033[K' >&2
    say "setup: stopped; run the same make again"
    exit "$2"
}

hash_of() { sha256sum | cut -d' ' -f1; }
stamped() { [ "$(cat "$stamps/$1" 2>/dev/null)" = "$2" ]; }
stamp() { mkdir -p "$stamps" && printf '%s\n' "$2" >"$stamps/$1"; }

# ---------------------------------------------------------------------------------------------- which ROS, which Python

# The venv's own ROS wheels re-execute Python once and mark it in the environment; a mark inherited from another
# environment would keep ours from finding its libraries.
unset _ROS_WHEELS_BOOTSTRAP_COMPLETE

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }
supported() { case $1 in 3.10 | 3.11 | 3.12 | 3.13 | 3.14) ;; *) return 1 ;; esac; }

outside_venv() { # the first program of that name on the PATH that is not in our own environment
    local candidate
    while read -r candidate; do
        case $candidate in "$venv"/*) ;; *) printf '%s\n' "$candidate" && return ;; esac
    done < <(type -aP "$1" || true)
}

choose_python() {
    python= version=
    if [ -n "${ROS_DISTRO:-}" ] && [ -n "${AMENT_PREFIX_PATH:-}" ]; then
        python=${PYTHON:-$(outside_venv python3)}
        [ -n "$python" ] && "$python" -c 'import rclpy' 2>/dev/null ||
            fail "ROS 2 $ROS_DISTRO is sourced, but ${python:-python3} cannot import its rclpy." \
                "Set PYTHON to the interpreter that it was built for, or run in a shell where no ROS is sourced."
        ros=$ROS_DISTRO
        version=$(version_of "$python")
        return
    fi
    ros=wheels
    [ "$(uname -sm)" = "Linux x86_64" ] ||
        fail "no ROS 2 is sourced, and its wheels exist for x86-64 Linux only, not for $(uname -sm)." \
            "Install ROS 2 (Humble or newer), source its setup.bash, and run this again."
    local candidate
    # The newest last: the simulator's packages have ready wheels for 3.10 to 3.12 first.
    for candidate in ${PYTHON:-python3 python3.12 python3.11 python3.10 python3.13 python3.14}; do
        candidate=$(outside_venv "$candidate")
        if [ -n "$candidate" ] && version=$(version_of "$candidate") && supported "$version"; then
            python=$candidate
            break
        fi
    done
    for candidate in /opt/ros/*/setup.bash; do
        [ -e "$candidate" ] && [ ! -e "$stamps/packages" ] &&
            say "note: ${candidate%/setup.bash} exists but is not sourced; using ROS 2 from wheels." \
                "To use it: source $candidate, make clean, and run this again."
    done
    return 0
}

# ---------------------------------------------------------------------------------------------- system packages

system_packages() {
    local wanted=(libegl1 libgles2 libgl1-mesa-dri libegl-mesa0 libgl1 g++ make) missing=() name
    # Ubuntu has Chromium as a snap only, which needs a person: without one the web tests are skipped there, and say so.
    if [ "$parts" = browser ] && grep -qx 'ID=debian' /etc/os-release; then wanted+=(chromium chromium-driver); fi
    if ! command -v dpkg-query >/dev/null; then
        ldconfig -p 2>/dev/null | grep -q 'libEGL\.so\.1' ||
            say "note: no libEGL.so.1 found; install Mesa's EGL and a C++ compiler with this system's package manager."
        return 0
    fi
    if [ -z "$python" ]; then
        wanted+=(python3 python3-venv python3-dev)
    elif [ ! -e "$stamps/workspace" ]; then # what only the installation itself needs
        "$python" -c 'import ensurepip, venv' 2>/dev/null || wanted+=("python$version-venv")
        "$python" -c 'import sys, sysconfig, pathlib
sys.exit(not (pathlib.Path(sysconfig.get_paths()["include"]) / "Python.h").exists())' || wanted+=("python$version-dev")
    fi
    local installed
    installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "${wanted[@]}" 2>/dev/null || true)
    for name in "${wanted[@]}"; do
        grep -qx "installed $name" <<<"$installed" || missing+=("$name")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    local sudo=
    if [ "$(id -u)" -ne 0 ]; then
        sudo -n true 2>/dev/null ||
            fail "these system packages are missing and need an administrator. Run this line, then the same make again:
    sudo apt-get install -y ${missing[*]}"
        sudo="sudo -n"
    fi
    # The lists may be stale or the machine offline with everything in the cache: the install decides.
    $sudo apt-get update -qq >>"$log" 2>&1 9>&- || true
    # shellcheck disable=SC2086
    step "system packages (${missing[*]})" $sudo env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=120 "${missing[@]}"
    [ -n "$python" ] || choose_python
}

# ---------------------------------------------------------------------------------------------- Python packages

install_packages() {
    "$venv/bin/python" -m pip install --disable-pip-version-check "setuptools>=70,<80" || return
    "$venv/bin/python" -m pip install --disable-pip-version-check --no-build-isolation -e ".[$extras]"
}

python_packages() {
    extras=all
    local options=()
    if [ "$ros" = wheels ]; then extras=all,ros; else options=(--system-site-packages); fi
    local environment="$ros $version"
    if [ -e "$stamps/environment" ] && ! stamped environment "$environment"; then
        fail ".venv was made for \"$(cat "$stamps/environment")\" (ROS, Python), and this shell has \"$environment\"." \
            "Run make clean, then this again."
    fi
    local hash
    # Below that line of pyproject.toml are the settings of the tools, which change nothing that is installed.
    hash=$({ printf '%s %s\n' "$environment" "$extras"; sed '/^# scripts\/setup.sh installs again/,$d' pyproject.toml; } | hash_of)
    stamped packages "$hash" && return 0
    local free_gb
    free_gb=$(($(df -Pk "$root" | awk 'NR == 2 {print $4}') / 1024 / 1024))
    [ -x "$venv/bin/torchrun" ] || [ "$free_gb" -ge 9 ] ||
        fail "the Python packages need 7 GB and some room to unpack, and $root has $free_gb GB free. Make room first."
    if [ ! -x "$venv/bin/pip" ]; then
        step "virtual environment (.venv, $("$python" --version))" "$python" -m venv --clear "${options[@]}" "$venv"
    fi
    rm -f "$stamps/packages" "$stamps/workspace"
    step "Python packages (7 GB, some minutes the first time)" install_packages
    stamp environment "$environment"
    stamp packages "$hash"
}

# ---------------------------------------------------------------------------------------------- ROS 2 workspace

workspace() {
    local hash
    hash=$({ cat "$stamps/packages"; find ros2_ws/src launch scripts/build_ws.sh -type f -not -path '*/__pycache__/*' \
        -not -path '*.egg-info/*' -print0 | sort -z | xargs -0 sha256sum; } | hash_of)
    stamped workspace "$hash" && [ -e ros2_ws/install ] && return 0
    rm -f "$stamps/workspace"
    step "ROS 2 workspace (colcon build)" scripts/build_ws.sh
    stamp workspace "$hash"
}

mkdir -p "$root/runs"
exec 9>"$root/runs/.setup.lock"
flock -n 9 || { say "waiting for another setup of this folder to end"; flock 9; }
trap 'stop HUP 129' HUP
trap 'stop INT 130' INT
trap 'stop TERM 143' TERM

choose_python
system_packages
[ -n "$python" ] || fail "no Python 3.10 to 3.14 found. Install one (3.11 was tried), or set PYTHON to it."
python_packages
workspace
