"""What runs together: the one description that `visarl up` and the launch files start. No ROS is imported here."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from visarl.errors import ConfigError, suggest
from visarl.ros.workspace import ROOT

TRANSPORTS = "LARGE_DATA?max_msg_size=4MB&sockets_size=4MB&non_blocking=true"
"""Fast DDS between machines: a shared-memory segment and sockets that hold a whole camera frame."""

PROFILE = Path(__file__).with_name("fastdds_localhost.xml")
"""Fast DDS on one machine: the same segment, and nothing leaves the loopback."""

SIMULATED_SILENCE_S = 10.0
"""The simulated arm shares its cores with models and renderer, and harms nobody; a real one has no such excuse."""

BENCH = ROOT / "launch" / "config" / "bench.yaml"

QUIET = "ignore::DeprecationWarning,ignore::FutureWarning"
"""PYTHONWARNINGS of the nodes, unless the shell has its own."""

DOMAIN = 42
"""The ROS domain where nobody names one: not ROS's own 0, in which everybody else's nodes are."""

TASK = "pick_red_block"
"""The simulated scene where neither a person nor a bundle names one."""

NODES = (
    "arm_node", "sim_node", "watchdog_node", "camera_node", "saliency_node", "encoder_node", "perception_node",
    "policy_node", "teleop_node", "recorder_node",
)  # fmt: skip
"""Every node that a bench file may have a section for."""


def domain_of(domain: int | None) -> int:
    """The ROS domain that everything here uses: `domain`, else the environment's ROS_DOMAIN_ID, else DOMAIN.

    Raises:
        ConfigError: it is no number from 0 to 101.
    """
    said = os.environ.get("ROS_DOMAIN_ID", "").strip()
    where = "ROS domain" if domain is not None else "ROS domain in the environment's ROS_DOMAIN_ID"
    text = str(domain) if domain is not None else said or str(DOMAIN)
    # Above 101 the ports of a domain lie in the range that Linux gives to other connections.
    if not (text.isascii() and text.isdigit()) or int(text) > 101:
        raise ConfigError(f"{where} {text}: expected 0 to 101")
    return int(text)


def localhost_only() -> dict[str, str]:
    """Keep the graph on this machine, whichever DDS the shell chose.

    Fast DDS gets a profile, not ROS's own switches (ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST, and the older
    ROS_LOCALHOST_ONLY=1, which still overrules the newer): they replace the transports by the default ones, in which a
    frame does not fit the segment, and nine best-effort frames of ten were lost. Any other DDS does not read the
    profile and gets the switch.
    """
    distribution = os.environ.get("ROS_DISTRO", "")
    if "fastrtps" not in (os.environ.get("RMW_IMPLEMENTATION") or "rmw_fastrtps_cpp"):
        if distribution == "humble":
            return {"ROS_LOCALHOST_ONLY": "1"}
        return {"ROS_LOCALHOST_ONLY": "", "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    # Fast DDS 3 renamed the variable, and warns of the old name.
    old = distribution in ("humble", "iron", "jazzy")
    profile = {"FASTRTPS_DEFAULT_PROFILES_FILE" if old else "FASTDDS_DEFAULT_PROFILES_FILE": str(PROFILE)}
    if distribution == "humble":
        return profile | {"ROS_LOCALHOST_ONLY": "0"}
    return profile | {"ROS_LOCALHOST_ONLY": "", "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}


def between_machines() -> dict[str, str]:
    """Let the graph span machines: switches that a shell still has from another day would keep it on this one."""
    values = {"FASTDDS_BUILTIN_TRANSPORTS": TRANSPORTS, "ROS_LOCALHOST_ONLY": ""}
    if os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "").upper() in ("LOCALHOST", "OFF"):
        values["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "SUBNET"
    return values


@dataclass(frozen=True)
class GraphOptions:
    """What a person chooses about a graph."""

    bundle: Path | None = None
    """Folder with the trained models; without one there is no perception and no policy."""
    task: str | None = None
    """Scene of the simulator. None: that of the bundle's task, or TASK without a bundle."""
    seed: int = 0
    disturbance: float = 0.0
    """[m/s] rms of the noise on the simulated arm's motion; for demonstrations only."""
    camera: str = "/dev/video0"
    arm: str = "kortex"
    address: str = ""
    fused: bool = False
    """Saliency and encoder in one process."""
    engine: str = "auto"
    threads: int = 1
    record: Path | None = None
    """Folder that receives the recorder's bags; without one there is no recorder."""
    config: Path | None = None
    """YAML file of this bench: parameters of any node, which an option here overrides unless it is at its default.
    None: launch/config/bench.yaml for `real`, none elsewhere."""
    domain: int | None = None
    """ROS domain; None takes the environment's ROS_DOMAIN_ID, else 42."""
    localhost: bool = True
    """Stay on this machine. False where perception or the arm runs on another."""


@dataclass(frozen=True)
class NodeSpec:
    """One process."""

    package: str
    executable: str
    parameters: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    config: Path | None = None
    """YAML file of parameters, which `parameters` override."""
    defaults: dict[str, Any] = field(default_factory=dict)
    """Parameters that `config` overrides: nobody chose them."""

    @property
    def name(self) -> str:
        """The node's name and the prefix of its output. Never remapped: a process may hold several nodes."""
        return self.executable

    def arguments(self) -> list[str]:
        """What follows `--ros-args`, of which the last counts: defaults, the bench file, what a person chose."""
        file = ["--params-file", str(self.config)] if self.config is not None else []
        return ["--disable-external-lib-logs", *self._assign(self.defaults), *file, *self._assign(self.parameters)]

    def _assign(self, values: dict[str, Any]) -> list[str]:
        # With the node's name: a process may hold several.
        return [item for key, value in values.items() for item in ("-p", f"{self.name}:{key}:={_yaml(value)}")]


def environment(options: GraphOptions) -> dict[str, str]:
    """What every process of a graph, and every tool that talks to it, needs beside its own environment."""
    values = {
        # The nodes set their engines' threads by parameter; pools of several processes on the same cores fight.
        "OMP_NUM_THREADS": str(options.threads),
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": str(options.threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        # A camera frame's memory goes back to the system after each message otherwise, and its pages are faulted in
        # again for the next: a third of an image's hop between two processes (`make bench`).
        "MALLOC_MMAP_THRESHOLD_": str(256 << 20),
        "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
        "PYTHONUNBUFFERED": "1",
        # What libraries tell their own developers buries what a node tells a person.
        "PYTHONWARNINGS": os.environ.get("PYTHONWARNINGS") or QUIET,
        "ROS_DOMAIN_ID": str(domain_of(options.domain)),
    }
    return values | (localhost_only() if options.localhost else between_machines())


def graph(name: str, options: GraphOptions) -> list[NodeSpec]:
    """The processes of the graph called `name`, in the order in which they start.

    Raises:
        ConfigError: there is no such graph, or an option is out of range; BundleError: the bundle cannot be used.
    """
    if name not in GRAPHS:
        raise ConfigError(f"no graph {name!r}; {suggest(name, GRAPHS)}")
    common = environment(options)
    config = _bench(name, options)
    return [replace(spec, environment=common | spec.environment, config=config) for spec in GRAPHS[name](options)]


def _bench(name: str, options: GraphOptions) -> Path | None:
    """The bench file, which every node of the graph is given.

    Raises:
        ConfigError: it is missing, no YAML of node parameters, or has a section that no node reads.
    """
    if options.config is None and name != "real":
        return None
    path = _absolute(options.config) if options.config is not None else BENCH
    if not path.is_file():
        raise ConfigError(f"no bench configuration at {path}; copy and edit launch/config/bench.yaml")
    import yaml

    try:
        sections = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(sections, dict):
        raise ConfigError(f"{path}: expected one section a node, as in launch/config/bench.yaml")
    for section, content in sections.items():
        if section not in NODES:  # as `/arm_node` neither: ROS would rank it above what a person chose
            raise ConfigError(f"{path}: no node reads the section {section!r}; {suggest(str(section), NODES)}")
        if not isinstance(content, dict) or set(content) != {"ros__parameters"}:
            raise ConfigError(f"{path}: section {section!r}: expected `ros__parameters:` and the values below it")
    return path if sections else None


def _sim(options: GraphOptions) -> list[NodeSpec]:
    return [_simulator(options), *_watchdog(SIMULATED_SILENCE_S), *_perception(options), *_recorder(options)]


def _real(options: GraphOptions) -> list[NodeSpec]:
    return [
        _spec("visarl_arm", "arm_node", options, {"backend": "arm", "address": "address"}, _trusted(options)),
        _spec("visarl_perception", "camera_node", options, {"source": "camera"}),
        *_watchdog(0.5),
        *_perception(options),
        *_recorder(options),
    ]


def _teleop(options: GraphOptions) -> list[NodeSpec]:
    teleop = NodeSpec("visarl_teleop", "teleop_node", defaults={"source": "expert"})
    return [_simulator(options), *_watchdog(SIMULATED_SILENCE_S), teleop, *_perception(options), *_recorder(options)]


GRAPHS: dict[str, Callable[[GraphOptions], list[NodeSpec]]] = {"sim": _sim, "real": _real, "teleop": _teleop}
SIMULATED = ("sim", "teleop")


def _simulator(options: GraphOptions) -> NodeSpec:
    chosen = {"seed": "seed", "disturbance": "disturbance"}
    task = {} if options.task is None else {"task": options.task}
    spec = _spec("visarl_arm", "sim_node", options, chosen, _trusted(options) | task)
    return replace(spec, defaults={"task": _learned_task(options) or TASK} | spec.defaults)


def doubt(name: str, options: GraphOptions) -> str:
    """Why a person may not have meant these options of the graph `name`, in a sentence; empty where nothing is odd."""
    learned = _learned_task(options) if name in SIMULATED else None
    if None in (options.task, learned) or options.task == learned:
        return ""
    return (
        f"the scene is {options.task}, but {options.bundle} has learned {learned}: expect it to fail; leave out the "
        "task to get the bundle's"
    )


def _learned_task(options: GraphOptions) -> str | None:
    if options.bundle is None:
        return None
    from visarl.bundle import load_bundle

    return load_bundle(_absolute(options.bundle)).task


def _spec(
    package: str, executable: str, options: GraphOptions, chosen: dict[str, str], computed: dict[str, Any] | None = None
) -> NodeSpec:
    """A process with the parameters `computed`, and those that `chosen` names after the option that sets them.

    An option at its default gives way to a bench file, which would otherwise have no say in it.
    """
    defaults: dict[str, Any] = {}
    parameters = dict(computed or {})
    for parameter, option in chosen.items():
        value = getattr(options, option)
        (defaults if value == getattr(GraphOptions, option) else parameters)[parameter] = value
    return NodeSpec(package, executable, parameters, defaults=defaults)


def _perception(options: GraphOptions) -> list[NodeSpec]:
    if options.bundle is None:
        return []
    bundle = {"bundle": str(_absolute(options.bundle))}
    names = ["perception_node"] if options.fused else ["encoder_node"]
    if not options.fused and _needs_saliency(options):
        names.insert(0, "saliency_node")
    engine = {"engine": "engine", "threads": "threads"}
    models = [_spec("visarl_perception", name, options, engine, bundle) for name in names]
    return [*models, NodeSpec("visarl_policy", "policy_node", bundle)]


def _watchdog(silence_s: float) -> list[NodeSpec]:
    return [NodeSpec("visarl_arm", "watchdog_node", defaults={"silence_s": silence_s, "answer_s": silence_s})]


def _recorder(options: GraphOptions) -> list[NodeSpec]:
    if options.record is None:
        return []
    return [NodeSpec("visarl_teleop", "recorder_node", {"root": str(_absolute(options.record))})]


def _trusted(options: GraphOptions) -> dict[str, Any]:
    """The only bundle whose commands the arm takes."""
    if options.bundle is None:
        return {}
    from visarl.bundle import load_bundle  # only a graph with a policy needs it

    return {"bundle_id": load_bundle(_absolute(options.bundle)).id}


def _needs_saliency(options: GraphOptions) -> bool:
    from visarl.bundle import load_bundle

    assert options.bundle is not None
    return load_bundle(_absolute(options.bundle)).config.needs_saliency


def _absolute(path: Path) -> Path:
    """A relative path as the person meant it, or, where that does not exist, inside the repository."""
    here = Path(path).expanduser().absolute()
    inside = ROOT / path
    return inside if not here.exists() and inside.exists() else Path(os.path.normpath(here))


def _yaml(value: object) -> str:
    """A parameter's value for `-p name:=value`, which ROS reads as YAML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_yaml(item) for item in value) + "]"
    return repr(value)
