from __future__ import annotations

import math

import numpy as np
import pytest

from visarl.timing import percentiles, summary


def test_percentiles_come_in_the_order_of_their_names_whatever_the_order_of_the_values() -> None:
    values = np.random.default_rng(0).permutation(201) / 2
    assert percentiles(values) == pytest.approx((50.0, 95.0, 99.0))
    assert summary(list(values)) == {"p50": 50.0, "p95": 95.0, "p99": 99.0}


def test_no_values_are_no_figures_but_as_many() -> None:
    found = percentiles(np.zeros(0))
    assert len(found) == len(percentiles([1.0])) == 3 and all(map(math.isnan, found))


def test_a_summary_is_rounded_to_the_digits_asked() -> None:
    assert summary([1.23456], digits=3) == {"p50": 1.235, "p95": 1.235, "p99": 1.235}
    assert summary([12.6], digits=0)["p99"] == 13
    assert all(type(value) is float for value in percentiles(np.array([1, 2], np.int32))), "plain numbers for JSON"
