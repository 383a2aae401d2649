"""What a recording's report says of a topic, from its stamps alone."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from visarl.data.rates import TopicReport, TopicStats, as_json, as_table

T0 = 1_700_000_000_000_000_000
MS = 1_000_000


def report(stamps_ms: list[float], ages_ms: list[float] | None = None, topic: str = "camera/image_raw") -> TopicReport:
    stats = TopicStats(topic, "sensor_msgs/msg/Image")
    for stamp, age in zip(stamps_ms, ages_ms or [5.0] * len(stamps_ms), strict=True):
        stats.add(T0 + round(stamp * MS), T0 + round((stamp + age) * MS))
    return stats.report()


def test_a_steady_topic_with_jitter_has_no_gaps() -> None:
    wobble = np.random.default_rng(0).uniform(-4, 4, 301)
    found = report(list(np.arange(301) * 33.0 + wobble))
    assert found.count == 301 and found.rate_hz == pytest.approx(1000 / 33, rel=2e-3)
    assert (found.gaps, found.drops, found.disordered) == (0, 0, 0)
    assert found.median_gap_ms == pytest.approx(33, abs=1) and found.max_gap_ms <= 33 + 8


def test_messages_that_overtake_each_other_are_counted_and_are_no_drops() -> None:
    stamps = [100.0 * i for i in range(20)]
    stamps[5], stamps[6] = stamps[6], stamps[5]
    late, straight = report(stamps), report(sorted(stamps))
    assert late.disordered == 1 and straight.disordered == 0
    assert (late.gaps, late.drops, late.rate_hz, late.max_gap_ms) == (0, 0, straight.rate_hz, 100.0)


def test_a_message_that_came_twice_is_disorder_too() -> None:
    found = report([0, 100, 100, 200, 300])
    assert found.disordered == 1 and found.drops == 0
    # A clock that mostly stands still has no period in which something could be missing.
    still = report([7, 7, 7, 107])
    assert (still.disordered, still.gaps, still.drops, still.max_gap_ms) == (2, 0, 0, 100.0)


def test_the_age_is_the_way_from_the_stamp_to_the_recording() -> None:
    found = report([0, 100, 200, 300, 400], ages_ms=[10, 10, 12, 14, 90])
    assert (found.age_ms_p50, found.age_ms_max) == (12.0, 90.0)


@pytest.mark.parametrize("stamps", [[], [7.0], [7.0, 7.0, 7.0]], ids=["none", "one", "one moment"])
def test_too_little_for_a_rate_is_a_rate_of_zero(stamps: list[float]) -> None:
    found = report(stamps)
    assert (found.count, found.rate_hz, found.gaps, found.drops) == (len(stamps), 0.0, 0, 0)
    numbers = [value for value in as_json([found])[0].values() if not isinstance(value, str)]
    assert all(map(math.isfinite, numbers)), "it goes into a JSON file"


def test_a_line_a_topic_under_one_heading() -> None:
    reports = [report([0, 100, 200, 500], topic="arm/state"), report([0, 50, 100], topic="a/much/longer/topic")]
    heading, *lines = as_table(reports).splitlines()
    assert [line.split()[:2] for line in lines] == [["arm/state", "4"], ["a/much/longer/topic", "3"]]
    assert len({len(line) for line in lines} | {len(heading)}) == 1, "columns stand below each other"
    assert lines[0].split()[2:] == ["6.0", "300", "2", "5.0"]
    assert [TopicReport(**values) for values in json.loads(json.dumps(as_json(reports)))] == reports
