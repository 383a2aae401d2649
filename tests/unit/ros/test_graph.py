from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.tiny import tiny_bundle
from visarl.errors import ConfigError
from visarl.ros.graph import BENCH, DOMAIN, NODES, PROFILE, TRANSPORTS, GraphOptions, domain_of, doubt, graph


def names(name: str, **options) -> list[str]:
    return [spec.name for spec in graph(name, GraphOptions(**options))]


def test_without_a_bundle_nothing_perceives_and_nothing_decides() -> None:
    assert names("sim") == ["sim_node", "watchdog_node"]
    assert names("real", camera="0") == ["arm_node", "camera_node", "watchdog_node"]
    assert "teleop_node" in names("teleop")


def task_of(given: dict[str, object], name: str = "sim") -> str:
    """What sim_node's last `task` on its command line is, with a bench file of none."""
    spec = graph(name, GraphOptions(**given))[0]
    return str((spec.defaults | spec.parameters)["task"])


def test_the_scene_is_the_bundles_unless_a_person_names_one(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    tiny_bundle(bundle, task="pick_apple")
    assert task_of({}) == "pick_red_block"
    for name in ("sim", "teleop"):
        assert task_of({"bundle": bundle}, name) == "pick_apple"
        assert task_of({"bundle": bundle, "task": "pick_red_block"}, name) == "pick_red_block"


def test_a_scene_that_the_bundle_has_not_learned_is_doubted(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    tiny_bundle(bundle, task="pick_apple")
    other = GraphOptions(bundle=bundle, task="pick_red_block")
    assert "the scene is pick_red_block, but" in doubt("sim", other) and "has learned pick_apple" in doubt("sim", other)
    for name, options in (
        ("sim", GraphOptions(bundle=bundle)),
        ("sim", GraphOptions(bundle=bundle, task="pick_apple")),
        ("sim", GraphOptions(task="pick_apple")),
        ("real", other),  # whose scene nobody sets
    ):
        assert doubt(name, options) == ""


def test_a_recorder_comes_with_a_folder(tmp_path: Path) -> None:
    spec = graph("sim", GraphOptions(record=tmp_path))[-1]
    assert spec.name == "recorder_node" and spec.parameters["root"] == str(tmp_path)


def test_every_process_gets_the_settings_that_make_pictures_cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    assert PROFILE.is_file()
    for spec in graph("sim", GraphOptions(domain=17)):
        assert spec.environment["FASTDDS_DEFAULT_PROFILES_FILE"] == str(PROFILE)
        assert spec.environment["ROS_DOMAIN_ID"] == "17"
        assert spec.environment["OMP_NUM_THREADS"] == "1"
        assert {"ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOCALHOST_ONLY"} & set(spec.environment)


def test_several_machines_are_possible() -> None:
    environment = graph("sim", GraphOptions(localhost=False))[0].environment
    assert environment["FASTDDS_BUILTIN_TRANSPORTS"] == TRANSPORTS
    assert environment["ROS_LOCALHOST_ONLY"] == "" and "ROS_AUTOMATIC_DISCOVERY_RANGE" not in environment


def test_a_switch_of_another_day_does_not_keep_several_machines_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    assert graph("sim", GraphOptions(localhost=False))[0].environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "SUBNET"


@pytest.mark.parametrize(
    ("distribution", "rmw", "only", "reach"),
    [
        ("kilted", "", "", "SUBNET"),  # Fast DDS: the profile keeps it here
        ("jazzy", "rmw_fastrtps_cpp", "", "SUBNET"),
        ("humble", "rmw_fastrtps_cpp", "0", None),
        ("jazzy", "rmw_cyclonedds_cpp", "", "LOCALHOST"),
        ("kilted", "rmw_zenoh_cpp", "", "LOCALHOST"),
        ("humble", "rmw_cyclonedds_cpp", "1", None),
    ],
)
def test_every_dds_stays_on_this_machine(
    monkeypatch: pytest.MonkeyPatch, distribution: str, rmw: str, only: str, reach: str | None
) -> None:
    monkeypatch.setenv("ROS_DISTRO", distribution)
    monkeypatch.setenv("RMW_IMPLEMENTATION", rmw)
    monkeypatch.setenv("ROS_LOCALHOST_ONLY", "1")  # left in the shell
    environment = graph("sim", GraphOptions())[0].environment
    assert environment["ROS_LOCALHOST_ONLY"] == only
    assert environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE") == reach


def test_one_rule_names_the_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROS_DOMAIN_ID", raising=False)
    assert domain_of(None) == DOMAIN == 42
    monkeypatch.setenv("ROS_DOMAIN_ID", "7")
    assert domain_of(None) == 7 and domain_of(17) == 17
    assert {spec.environment["ROS_DOMAIN_ID"] for spec in graph("teleop", GraphOptions())} == {"7"}
    monkeypatch.setenv("ROS_DOMAIN_ID", "many")
    with pytest.raises(ConfigError, match="ROS_DOMAIN_ID many: expected 0 to 101"):
        domain_of(None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("arm_nod:\n  ros__parameters: {linear_speed: 0.1}\n", "did you mean 'arm_node'"),
        ("/arm_node:\n  ros__parameters: {linear_speed: 0.1}\n", "did you mean 'arm_node'"),
        ("arm_node: {linear_speed: 0.1}\n", "ros__parameters"),
        ("- arm_node\n", "one section a node"),
        ("arm_node: [\n", "cannot be read as YAML"),
    ],
)
def test_a_bench_file_that_nobody_would_read_is_refused(tmp_path: Path, text: str, said: str) -> None:
    bench = tmp_path / "bench.yaml"
    bench.write_text(text)
    with pytest.raises(ConfigError, match=said):
        graph("sim", GraphOptions(config=bench))


def after(arguments: list[str], word: str) -> str:
    return arguments[arguments.index(word) + 1]


def test_every_node_of_any_graph_gets_the_bench_file(tmp_path: Path) -> None:
    bench = tmp_path / "bench.yaml"
    bench.write_text("watchdog_node:\n  ros__parameters: {silence_s: 0.4}\n")
    for name in ("sim", "real", "teleop"):
        specs = graph(name, GraphOptions(config=bench, record=tmp_path))
        assert all(after(spec.arguments(), "--params-file") == str(bench) for spec in specs)
        assert {spec.name for spec in specs} <= set(NODES)


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'sim'"):
        graph("simm", GraphOptions())
    with pytest.raises(ConfigError, match="domain 300"):
        graph("sim", GraphOptions(domain=300))
    with pytest.raises(ConfigError, match=r"bench\.yaml"):
        graph("real", GraphOptions(config=tmp_path / "none.yaml"))


def test_the_bench_file_names_nodes_of_the_graph() -> None:
    assert set(yaml.safe_load(BENCH.read_text())) <= set(names("real"))


def test_a_bench_file_counts_more_than_a_default_and_less_than_a_choice(tmp_path: Path) -> None:
    bench = tmp_path / "bench.yaml"
    bench.write_text("watchdog_node:\n  ros__parameters: {silence_s: 0.4}\n")

    def sides(node: str, **options) -> tuple[str, str]:
        """What stands before and behind the bench file."""
        specs = graph("real", GraphOptions(config=bench, **options))
        arguments = next(spec.arguments() for spec in specs if spec.name == node)
        file = arguments.index("--params-file")
        return " ".join(arguments[:file]), " ".join(arguments[file:])

    before, behind = sides("camera_node")
    assert 'camera_node:source:="/dev/video0"' in before and "source" not in behind
    before, behind = sides("camera_node", camera="0")
    assert "source" not in before and 'camera_node:source:="0"' in behind
    before, behind = sides("arm_node", address="10.0.0.7")
    assert 'arm_node:backend:="kortex"' in before and 'arm_node:address:="10.0.0.7"' in behind
    before, behind = sides("watchdog_node")
    assert "watchdog_node:silence_s:=0.5" in before and "silence_s" not in behind
