"""An encoder that sees depth, in the nodes: the estimator's name is a parameter."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rclpy
from visarl_perception import encoder_node, perception_node

from tests.tiny import tiny_bundle
from tests.unit.test_estimators import DEPTH, brightness
from visarl.contract import CAMERA_FRAME
from visarl.engines import CACHE_VARIABLE
from visarl.errors import ConfigError
from visarl.inference import Perception
from visarl.ros.convert import array_to_image
from visarl.ros.graph import GraphOptions, environment
from visarl.ros.stranger import free_domain

pytestmark = pytest.mark.ros

NODES = {"encoder_node": (encoder_node, "EncoderNode"), "perception_node": (perception_node, "PerceptionNode")}


@pytest.fixture(scope="module", autouse=True)
def _ros(_environment: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    domain = free_domain()
    os.environ.update(environment(GraphOptions(domain=domain)))
    os.environ[CACHE_VARIABLE] = str(tmp_path_factory.mktemp("cache"))
    rclpy.init(args=[], domain_id=domain)
    yield
    rclpy.try_shutdown()


def make(name: str, monkeypatch: pytest.MonkeyPatch, **given: Any) -> Any:
    """The node, as if its parameters had been given."""
    module, kind = NODES[name]
    monkeypatch.setattr(module, "declare", lambda node, options: options(**given))
    return getattr(module, kind)()


@pytest.mark.parametrize("name", NODES)
def test_a_node_embeds_what_the_estimator_makes_of_the_frame(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tiny_bundle(tmp_path / "depth", DEPTH)
    estimators = "depth=tests.unit.test_estimators:brightness"
    node = make(name, monkeypatch, bundle=str(bundle.folder), engine="torch", estimators=estimators)
    try:
        published: list[Any] = []
        node._embeddings = SimpleNamespace(publish=published.append)
        image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
        message = array_to_image(image, "rgb8", 10**9, CAMERA_FRAME)
        (node._take_frame if name == "encoder_node" else node._look)(message)
    finally:
        node.destroy_node()
    expected, _ = Perception(bundle, "torch", estimators={"depth": brightness}).perceive(image)
    np.testing.assert_allclose(published[0].data, expected, rtol=1e-5)


@pytest.mark.parametrize("name", NODES)
def test_a_node_says_what_it_needs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tiny_bundle(tmp_path / "depth", DEPTH)
    with pytest.raises(ConfigError, match="sees depth.*estimators depth=package.module:function"):
        make(name, monkeypatch, bundle=str(bundle.folder), engine="torch")
