"""Outward rounding against exact rational arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certlip.base.rounding import (
    UNIT,
    add_up,
    coarsen_down,
    coarsen_up,
    down,
    gamma,
    hypot_up,
    multiply_up,
    scale_down,
    scale_up,
    sqrt_up,
    up,
)

nonnegative = st.floats(0.0, 1e150, allow_subnormal=True)
factors = st.lists(st.floats(0.0, 1e30, allow_subnormal=True), max_size=6)


@given(factors)
def test_a_product_rounded_up_is_never_below_the_exact_one(values: list[float]) -> None:
    exact = math.prod(map(Fraction, values), start=Fraction(1))
    product = multiply_up(values)
    assert Fraction(product) >= exact
    assert (product == 0) == (exact == 0)


@given(st.lists(nonnegative, max_size=8))
def test_a_sum_rounded_up_is_never_below_the_exact_one(values: list[float]) -> None:
    assert Fraction(add_up(values)) >= sum(map(Fraction, values), Fraction(0))


@given(nonnegative)
def test_a_root_rounded_up_is_never_below_the_exact_one(x: float) -> None:
    assert Fraction(sqrt_up(x)) ** 2 >= Fraction(x)


@given(st.lists(st.floats(0.0, 1e307, allow_subnormal=True), max_size=6))
def test_the_root_of_squares_rounded_up_is_never_below_the_exact_one_nor_much_above(values: list[float]) -> None:
    exact, found = sum((Fraction(value) ** 2 for value in values), Fraction(0)), Fraction(hypot_up(values))
    assert exact <= found**2
    assert found == 0 or found**2 <= exact * Fraction(1 + 1e-14) or found < Fraction(1e-300)


@given(st.floats(0.0, allow_nan=False, allow_infinity=False), st.integers(-3000, 3000))
def test_a_power_of_two_is_exact_or_rounded_outwards(x: float, exponent: int) -> None:
    exact, below, above = Fraction(x) * Fraction(2) ** exponent, scale_down(x, exponent), scale_up(x, exponent)
    assert below <= exact <= above
    if x == 0 or Fraction(2) ** -1022 <= exact < Fraction(2) ** 1024:
        assert below == exact == above


@given(st.floats(1e-300, 1e300))
def test_a_coarser_number_is_never_below_the_finer_one(x: float) -> None:
    assert x <= coarsen_up(x) <= x * (1 + 1.1e-8)
    assert x >= coarsen_down(x) >= x * (1 - 1.1e-8)


@pytest.mark.parametrize("n", [1, 2, 100, 10**6, 2**40])
def test_gamma_is_never_below_its_definition(n: int) -> None:
    u = Fraction(UNIT)
    assert Fraction(gamma(n)) >= n * u / (1 - n * u)


def test_gamma_of_too_many_roundings_is_refused() -> None:
    with pytest.raises(OverflowError, match="no error bound"):
        gamma(2.0**53)


def test_neutral_factors_and_terms_stay_exact() -> None:
    assert multiply_up([1.0, 3.0, 1.0]) == 3.0
    assert multiply_up([]) == 1.0
    assert add_up([0.0, 0.1, 0.0]) == 0.1
    assert sqrt_up(0.0) == 0.0


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_up_and_down_step_outwards(x: float) -> None:
    assert up(x) > x
    assert down(x) < x or x == 0
    assert x < 0 or down(x) >= 0


def test_what_is_not_a_number_is_never_rounded_away() -> None:
    assert math.isnan(multiply_up([2.0, math.nan, 3.0]))
    assert math.isnan(add_up([2.0, math.nan]))
    assert multiply_up([2.0, math.inf]) == math.inf
