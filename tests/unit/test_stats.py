from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visarl.errors import ConfigError
from visarl.stats import wilson


def test_published_values() -> None:
    """Newcombe (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    for successes, trials, expected in (
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ):
        assert wilson(successes, trials) == pytest.approx(expected, abs=1e-4)


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_holds_the_rate_and_stays_in_range(counts: tuple[int, int]) -> None:
    successes, trials = counts
    low, high = wilson(successes, trials)
    assert 0 <= low <= successes / trials <= high <= 1


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (3, 2), (-1, 5)])
def test_refusals(successes: int, trials: int) -> None:
    with pytest.raises(ConfigError, match="at least one trial"):
        wilson(successes, trials)
