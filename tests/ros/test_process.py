"""How the nodes of one process end."""

from __future__ import annotations

import pytest

from visarl.errors import ArmError
from visarl.ros.process import close

pytestmark = pytest.mark.ros


class Ending:
    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.done = error, []

    def close(self) -> None:
        self.done.append("close")
        if self.error:
            raise self.error

    def destroy_node(self) -> None:
        self.done.append("destroy")


def test_a_node_that_cannot_close_keeps_no_other_from_it(capsys: pytest.CaptureFixture[str]) -> None:
    nodes = [Ending(ArmError("the cable is unplugged")), Ending(RuntimeError("torn")), Ending()]
    assert not close("sim_node", nodes)
    assert all(node.done == ["close", "destroy"] for node in nodes)
    said = capsys.readouterr().err
    assert "sim_node: error: Ending.close: ArmError: the cable is unplugged" in said and "torn" in said
    assert close("sim_node", [Ending()])
