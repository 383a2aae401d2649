"""What a person reads when something is wrong."""

from __future__ import annotations

import pytest

from visarl import errors
from visarl.errors import VisarlError, suggest


def test_a_slip_of_the_finger_gets_the_name_that_was_meant_before_all_others() -> None:
    assert suggest("pick_aple", ["pick_red_block", "pick_apple"]) == (
        "did you mean 'pick_apple'? known: pick_apple, pick_red_block"
    )


def test_another_word_gets_the_list_and_no_guess() -> None:
    assert suggest("kinect", iter(("zed", "arducam"))) == "known: arducam, zed"
    assert suggest("kinect", {}) == "known: "


@pytest.mark.parametrize(
    "kind", [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
)
def test_every_error_is_ours_and_no_bug_looks_like_one(kind: type[Exception]) -> None:
    """The command line prints a `VisarlError` as one line; what a bug raises keeps its traceback."""
    assert issubclass(kind, VisarlError) and not issubclass(kind, (ValueError, LookupError, RuntimeError, OSError))
