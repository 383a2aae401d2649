"""ROS parameters as one frozen dataclass a node: each declared once, with type, default, range and description."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter

from visarl.errors import ConfigError, suggest

T = TypeVar("T")

_TYPES = {
    bool: Parameter.Type.BOOL,
    int: Parameter.Type.INTEGER,
    float: Parameter.Type.DOUBLE,
    str: Parameter.Type.STRING,
    tuple: Parameter.Type.DOUBLE_ARRAY,
}

_ROS_OWN = ("use_sim_time", "start_type_description_service", "qos_overrides")
"""Parameters that every ROS node has."""


def parameter(default: Any, description: str, low: float | None = None, high: float | None = None) -> Any:
    """A field of a node's options."""
    return dataclasses.field(default=default, metadata={"description": description, "low": low, "high": high})


def read(name: str, options: type[T]) -> T:
    """The options of the node called `name` before there is one, e.g. to open what the node will own."""
    node = Node(name)
    try:
        return declare(node, options)
    finally:
        node.destroy_node()


def declare(node: Any, options: type[T]) -> T:
    """Declare every field of the dataclass `options` as a read-only parameter and return their values.

    Read-only because none of them may change while an arm moves: a node is started again instead.

    Raises:
        ConfigError: an unknown parameter (a typing error in a YAML file), a wrong type or a value out of range.
    """
    hints = typing.get_type_hints(options)
    names = [item.name for item in dataclasses.fields(options)]  # type: ignore[arg-type]
    # rclpy keeps what the command line and the YAML files gave here; it has no public way to list them.
    for given in getattr(node, "_parameter_overrides", {}):
        if given.split(".")[0] not in (*names, *_ROS_OWN):
            raise ConfigError(f"{node.get_name()}: unknown parameter {given!r}; {suggest(given, names)}")
    values = {}
    for item in dataclasses.fields(options):  # type: ignore[arg-type]
        kind = typing.get_origin(hints[item.name]) or hints[item.name]
        default = list(getattr(options, item.name)) if kind is tuple else item.default
        descriptor = ParameterDescriptor(description=item.metadata["description"], read_only=True)
        low, high = item.metadata["low"], item.metadata["high"]
        if low is not None and high is not None:
            if kind is int:
                descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
            elif kind is float:
                descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
        descriptor.type = _TYPES[kind].value
        try:
            value = node.declare_parameter(item.name, default, descriptor).value
        except ParameterException as error:
            given = node._parameter_overrides.get(item.name)
            limits = "" if low is None else f" in {low:g} .. {high:g}"
            expected = "a list of decimal numbers, as [0.1, 2.0]" if kind is tuple else kind.__name__
            raise ConfigError(
                f"{node.get_name()}: parameter {item.name} ({item.metadata['description']}): expected "
                f"{expected}{limits}, found {given.value if given is not None else default!r}"
            ) from error
        values[item.name] = tuple(value) if kind is tuple else value
    return options(**values)
