"""Scalar arithmetic rounded outwards: a result is never below (``up``) or above (``down``) the exact one.

IEEE 754 operations are correct to half a unit in the last place, so one step to the next double is enough.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

UNIT = 2.0**-53
"""Unit roundoff of float64, round to nearest."""


def up(x: float) -> float:
    """The next double above x."""
    return math.nextafter(x, math.inf)


def down(x: float) -> float:
    """The next double below x, and never below zero for x >= 0."""
    return math.nextafter(x, 0.0 if x >= 0 else -math.inf)


def multiply_up(factors: Iterable[float]) -> float:
    """Product of nonnegative factors, rounded up; exact ones and zeros stay exact."""
    product = 1.0
    for factor in factors:
        if product == 1.0:
            product = factor
        elif factor != 1.0:
            product = up(product * factor) if product and factor else 0.0
    return product


def add_up(terms: Iterable[float]) -> float:
    """Sum of nonnegative terms, rounded up; zeros add nothing."""
    total = 0.0
    for term in terms:
        total = up(total + term) if total and term else total + term
    return total


def sqrt_up(x: float) -> float:
    """Square root, rounded up."""
    return up(math.sqrt(x)) if x else 0.0


def hypot_up(terms: Iterable[float]) -> float:
    """Root of the sum of squares of nonnegative terms, rounded up; no square over- or underflows."""
    kept = [term for term in terms if term]
    if len(kept) < 2 or not math.isfinite(max(kept)):
        return max(kept, default=0.0)
    largest = max(kept)
    quotients = (up(term / largest) for term in kept)
    return multiply_up([largest, sqrt_up(add_up(multiply_up([q, q]) for q in quotients))])


def scale_up(x: float, exponent: int) -> float:
    """x 2^exponent for x >= 0, exact where it is a normal number, else rounded up."""
    scaled = _ldexp(x, exponent)
    return scaled if _ldexp(scaled, -exponent) >= x else up(scaled)


def scale_down(x: float, exponent: int) -> float:
    """x 2^exponent for x >= 0, exact where it is a normal number, else rounded down."""
    scaled = _ldexp(x, exponent)
    return scaled if _ldexp(scaled, -exponent) <= x else down(scaled)


def _ldexp(x: float, exponent: int) -> float:
    try:
        return math.ldexp(x, exponent)
    except OverflowError:
        return math.inf


def gamma(n: float) -> float:
    """gamma_n = n u / (1 - n u): the relative error of n roundings (Higham, Accuracy and Stability, 3.4)."""
    if n * UNIT >= 0.5:
        raise OverflowError(f"no error bound for {n} roundings in double precision")
    return up(n * UNIT / (1 - n * UNIT)) * (1 + 4 * UNIT)


def coarsen_up(x: float, n_digits: int = 9) -> float:
    """x rounded up to a few decimal digits.

    For values that are computed again to be verified: matrix products round differently on another machine.
    """
    return float(Context(prec=n_digits, rounding=ROUND_CEILING).plus(Decimal(x)))


def coarsen_down(x: float, n_digits: int = 9) -> float:
    """x >= 0 rounded down to a few decimal digits, as `coarsen_up` rounds up."""
    return float(Context(prec=n_digits, rounding=ROUND_FLOOR).plus(Decimal(x)))
