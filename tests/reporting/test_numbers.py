"""Numbers are printed the same, however they were come by."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_bench.analysis.numbers import ABSENT, number, signed


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.40125, "0.4013"), (0.4012500001, "0.4013"), (0.40124, "0.4012"), (-0.00004, "0.0000"), (23.6, "23.6000")],
)
def test_a_half_is_rounded_up_however_it_lies_in_memory(value: float, text: str) -> None:
    assert number(value) == text


@given(st.integers(-(10**9), 10**9), st.floats(-4e-7, 4e-7))
def test_a_recorded_value_and_the_computed_one_print_as_one(millionths: int, rest: float) -> None:
    computed = millionths / 10**6 + rest
    assert number(computed) == number(round(computed, 6))


@given(st.floats(-1e6, 1e6))
def test_a_sign_is_all_that_is_added(value: float) -> None:
    assert signed(value).lstrip("+") == number(value)
    assert abs(float(number(value)) - value) <= 0.00005 + 1e-6


def test_what_is_not_there_is_a_dash() -> None:
    assert number(None) == number(math.nan) == signed(None) == ABSENT
