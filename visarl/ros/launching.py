"""The graph for ROS's launch system: what the files in launch/ return. Starts the same description as `visarl up`."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any

import docstring_parser
from launch.actions import DeclareLaunchArgument, EmitEvent, LogInfo, OpaqueFunction, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchDescription  # type: ignore[attr-defined,unused-ignore]  # mypy sees our folder of that name
from visarl.errors import ConfigError
from visarl.options import Up
from visarl.ros.graph import GraphOptions, NodeSpec, doubt, graph
from visarl.ros.stranger import refuse_strangers
from visarl.ros.supervisor import GraphError

ARGUMENTS = {
    "sim": (
        "bundle", "task", "seed", "disturbance", "config", "fused", "engine", "threads", "record", "domain",
        "localhost",
    ),
    "real": (
        "bundle", "camera", "arm", "address", "config", "fused", "engine", "threads", "record", "domain", "localhost",
    ),
    "teleop": (
        "bundle", "task", "seed", "disturbance", "config", "fused", "engine", "threads", "record", "domain",
        "localhost",
    ),
}  # fmt: skip
"""Which options each launch file offers."""


def describe(name: str) -> LaunchDescription:
    """The launch description of the graph called `name`."""
    defaults = GraphOptions()
    # What `visarl up --help` says of them, which is the one place where they are explained.
    said = {one.arg_name: one.description or "" for one in docstring_parser.parse_from_object(Up).params}
    arguments = [
        DeclareLaunchArgument(
            key,
            default_value="" if (value := getattr(defaults, key)) is None else str(value),
            description=" ".join(said[key].split()),
        )
        for key in ARGUMENTS[name]
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=lambda context: _actions(name, context))])


def _actions(name: str, context: Any) -> list[Any]:
    given = {key: LaunchConfiguration(key).perform(context) for key in ARGUMENTS[name]}
    options = GraphOptions(**{key: _parse(key, text) for key, text in given.items() if text})
    specs = graph(name, options)
    refuse_strangers(options)  # two launches in one domain would both drive the arm
    said = doubt(name, options)
    actions: list[Any] = [LogInfo(msg=f"warning: {said}")] if said else []
    for spec in specs:
        node = Node(
            package=spec.package,
            executable=spec.executable,
            # Not `parameters`: those go to every node of a process, and sim_node's holds three.
            ros_arguments=spec.arguments(),
            additional_env=spec.environment,
            output="screen",
            sigterm_timeout="5",
        )
        actions += [node, RegisterEventHandler(OnProcessExit(target_action=node, on_exit=_ender(spec)))]
    return actions


def _ender(spec: NodeSpec) -> Any:
    """One process ends: all end, and `ros2 launch` exits with an error that names it."""

    def ended(event: Any, context: Any) -> list[Any] | None:
        if context.is_shutdown:
            return None
        reason = f"{spec.name} ended (exit status {event.returncode}); its reason is printed above"

        def fail(_: Any) -> None:
            raise GraphError(reason)

        return [LogInfo(msg=reason), EmitEvent(event=Shutdown(reason=reason)), OpaqueFunction(function=fail)]

    return ended


def _parse(key: str, text: str) -> Any:
    """A launch argument as the type of its option."""
    hint = typing.get_type_hints(GraphOptions)[key]
    kinds = [kind for kind in typing.get_args(hint) or (hint,) if kind is not type(None)]
    kind = kinds[0]
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ConfigError(f"launch argument {key}: expected true or false, found {text!r}")
        return text.lower() == "true"
    try:
        return Path(text) if kind is Path else kind(text)
    except ValueError as error:
        raise ConfigError(f"launch argument {key}: expected {kind.__name__}, found {text!r}") from error
