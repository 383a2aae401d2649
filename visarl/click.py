"""`visarl click`: the clicks that a careful person would make, where the simulator recorded what is true."""

from __future__ import annotations

import json

from visarl.config import get_preset
from visarl.contract import ROLES
from visarl.data.annotations import simulated_clicks
from visarl.data.bags import find_bags
from visarl.data.files import writable
from visarl.errors import ConfigError
from visarl.options import Click


def main(options: Click) -> int:
    """Writes `options.out`; its last line on stdout is one line of JSON."""
    if options.frames < 1:
        raise ConfigError(f"frames: expected at least 1, found {options.frames}")
    writable(options.out)
    preprocess = get_preset(options.preset).preprocess
    # Every role that the truth names: which there are is the task's affair, and training takes those that it finds.
    clicks = simulated_clicks(find_bags(options.bags), options.frames, options.seed, preprocess, ROLES)
    clicks.save(options.out)
    print(json.dumps({"frames": len(clicks.frames), "clicks": sum(len(found) for found in clicks.frames.values())}))
    return 0
