"""What the benchmark says, from the parts that measure it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from bench import engines, graph, hop
from tests.tiny import TINY_RGB, tiny_bundle
from visarl.ros.graph import PROFILE


def test_operations_are_counted_recurrent_cells_too() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.cell = nn.Conv2d(3, 4, 5, padding=2), nn.LSTM(4, 8, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.cell(self.conv(x).flatten(2).transpose(1, 2))[0]

    expected = 16 * 16 * (2 * 3 * 4 * 25 + 2 * (4 + 8) * 4 * 8)
    assert engines._counted(Both().eval(), [(3, 16)]) == pytest.approx(expected / 1e6, abs=0.06)


def test_each_model_that_the_bundle_has_is_set_against_its_fastest_engine(tmp_path: Path) -> None:
    assert set(engines.megaflops(tiny_bundle(tmp_path / "both"))) == {"saliency", "encoder"}
    asked = engines.megaflops(tiny_bundle(tmp_path / "rgb", TINY_RGB))
    assert set(asked) == {"encoder"} and asked["encoder"] > 0
    assert engines.gflops({"encoder": 80.0}, {"encoder": {"torch": 8.0, "openvino": 2.0}}) == {"encoder": 40.0}


def test_the_memory_is_the_peak_though_it_was_given_back() -> None:
    code = "block = bytearray(300 * 2**20); del block; print(flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()  # the block is gone by now
    try:
        assert 300 * 2**20 < graph.peak_bytes(process.pid) < 400 * 2**20
    finally:
        process.communicate(b"\n")


def test_the_default_settings_are_fast_dds_own_and_stay_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTDDS_BUILTIN_TRANSPORTS", "LARGE_DATA")
    found = hop.environments(domain=17)
    shipped, default = found["shipped"], found["default"]
    assert str(PROFILE) in shipped.values() and str(PROFILE) not in default.values()
    assert not {"FASTDDS_BUILTIN_TRANSPORTS", "ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOCALHOST_ONLY"} & set(default)
    assert default["ROS_DOMAIN_ID"] == "17"
    text = hop.DEFAULT.read_text(encoding="utf-8")
    assert str(hop.DEFAULT) in default.values() and "127.0.0.1" in text
    assert "egment_size" not in text and "axMessageSize" not in text
    assert os.environ["FASTDDS_BUILTIN_TRANSPORTS"] == "LARGE_DATA"  # this process keeps its own
