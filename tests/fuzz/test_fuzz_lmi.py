"""Points of the matrix inequality near where its proof begins to hold, against exact arithmetic.

Weights of 1e-160 to 1e160, subnormal, zero and equal ones among them, slopes up to 1e9, metrics and radii: whatever is
proved is positive semidefinite. 20,000 points here, 500,000 others with ``make nightly``.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from exact import Exact, diagonal, is_semidefinite, stack
from numpy.typing import NDArray

from certlip.base.errors import NotCertified
from certlip.network import Array
from certlip.network.slopes import Slopes, slopes_of
from certlip.proof.certify import margin
from certlip.proof.lmi import Lmi, Multipliers
from certlip.proof.proposals import start

N_POINTS, N_NIGHTLY = 20_000, 500_000
N_SHARES = 8
"""Parts of the points that are tests of their own."""


@pytest.mark.parametrize("share", range(N_SHARES))
def test_no_point_that_is_proved_is_outside_the_inequality(share: int, record_property: Any) -> None:
    judge(np.random.default_rng(share), N_POINTS // N_SHARES)
    record_property("points_judged_a_case", N_POINTS // N_SHARES)


@pytest.mark.nightly
@pytest.mark.parametrize("share", range(N_SHARES))
def test_no_point_of_very_many_that_is_proved_is_outside_the_inequality(share: int, record_property: Any) -> None:
    seed = np.random.SeedSequence().entropy
    record_property("seed", seed)
    judge(np.random.default_rng(seed), N_NIGHTLY // N_SHARES)


def judge(rng: np.random.Generator, n_points: int) -> None:
    judged, proved = 0, 0
    while judged < n_points:
        lmi, multipliers = random_problem(rng)
        n_tried, rho = smallest_proved(lmi, multipliers, int(rng.integers(4, 16)))
        judged += n_tried
        if rho is not None:
            # what is proved at a larger rho is implied
            proved += 1
            assert is_semidefinite(exact_matrix(lmi, rho, multipliers)), (lmi, rho, multipliers)
            if lmi.radii:
                signs = [rng.choice([-1.0, 1.0], w.shape) for w in lmi.weights]
                assert is_semidefinite(exact_matrix(lmi, rho, multipliers, signs)), (lmi, rho, multipliers, signs)
    assert proved > n_points / 100


def smallest_proved(lmi: Lmi, multipliers: Multipliers, n_steps: int) -> tuple[int, float | None]:
    """How many rho were judged, and the smallest proved by bisection of the exponent, then of the mantissa."""
    low, high = -1075.0, 1000.0
    if margin(lmi, 2.0**high, multipliers) is None:
        return 1, None
    for _ in range(n_steps):
        middle = (low + high) / 2
        if margin(lmi, 2.0**middle, multipliers) is None:
            low = middle
        else:
            high = middle
    return 1 + n_steps, 2.0**high


def random_problem(rng: np.random.Generator) -> tuple[Lmi, Multipliers]:
    """Half of the problems so small that underflow is what decides: the last weights, and the multipliers with them."""
    tiny = rng.random() < 0.5
    lmi = random_lmi(rng, rng.integers(1, 3 if tiny else 4, rng.integers(2, 4 if tiny else 5)))
    multipliers = random_multipliers(rng, lmi)
    if tiny and lmi.n_multipliers:
        target = rng.integers(-1074, -1030)
        shift = int(target - np.frexp(rng.choice(np.concatenate(multipliers)))[1]) // 2
        scaled = np.ldexp(lmi.weights[-1], shift)
        multipliers = tuple(np.maximum(np.ldexp(t, 2 * shift), 2.0**-1074) for t in multipliers)
        radii = (*lmi.radii[:-1], np.abs(scaled) * 0.01) if lmi.radii else ()
        lmi = replace(lmi, weights=(*lmi.weights[:-1], scaled), radii=radii)
    return lmi, multipliers


def random_lmi(rng: np.random.Generator, sizes: NDArray[np.int64]) -> Lmi:
    while sizes[:-1].sum() > 6:
        sizes = sizes[1:]
    weights = tuple(random_weight(rng, (n, m)) for m, n in pairwise(sizes))
    m, q = (random_metric(rng, n) for n in (sizes[0], sizes[-1]))
    if q is not None and len(q) > 1 and rng.random() < 0.3:
        q[0] = 0.0
    radii: tuple[Array | None, ...] = ()
    if rng.random() < 0.2:
        radii = tuple(np.abs(w) * 10.0 ** rng.uniform(-20, 0) * rng.random(w.shape) for w in weights)
    return Lmi(weights, tuple(random_slopes(rng, len(w)) for w in weights[:-1]), m, q, radii)


def random_weight(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    weight = rng.standard_normal(shape)
    match rng.integers(8):
        case 0:
            weight = np.full(shape, weight.flat[0])
        case 1:
            weight = np.ldexp(1.0, rng.integers(-9, 9, shape)) * rng.choice([-1, 1], shape)
        case 2:
            weight = weight * (rng.random(shape) < 0.5)
        case 3:
            return weight * 10.0 ** rng.uniform(-160, 160, shape)
        case 4:
            return np.ldexp(1.0, -1074) * rng.integers(-9, 10, shape)
    return weight * 10.0 ** rng.choice([rng.uniform(-9, 9), rng.uniform(-9, 9), rng.uniform(-160, 160)])


def random_metric(rng: np.random.Generator, n: int) -> Array | None:
    match rng.integers(4):
        case 0:
            return 10.0 ** rng.uniform(-3, 3, n)
        case 1:
            return 10.0 ** rng.uniform(-300, 300) * rng.uniform(0.1, 9, n)
        case _:
            return None


def random_slopes(rng: np.random.Generator, n: int) -> Slopes:
    """Of a layer of n neurons: alike, or each of another interval, [1, 1] among them."""
    if rng.random() < 0.6:
        return random_interval(rng)
    intervals = [(1.0, 1.0) if rng.random() < 0.4 else random_interval(rng) for _ in range(n)]
    low, high = np.array(intervals).T
    return slopes_of(low, high)


def random_interval(rng: np.random.Generator) -> tuple[float, float]:
    steep = 10.0 ** rng.uniform(0, 9)
    if rng.random() < 0.5:
        return -steep, steep
    choices = [(0.0, 1.0), (-1.0, 1.0), (0.1, 1.0), (0.0, 0.25), (-steep, 1.0), (1.0, 1 + steep)]
    return choices[rng.integers(len(choices))]


def random_multipliers(rng: np.random.Generator, lmi: Lmi) -> Multipliers:
    """Feasible for some rho, by hand of `start`, where its arithmetic holds; else random ones."""
    with np.errstate(over="ignore", invalid="ignore"):
        try:
            found = tuple(t * rng.uniform(1, 2, len(t)) for t in start(lmi))
        except NotCertified:
            found = (np.array([np.inf]),)
    if not all(np.isfinite(t).all() for t in found):
        return tuple(10.0 ** rng.uniform(-323, rng.choice([-290, 100]), n) for n in lmi.sizes[1:])
    return found


def exact_matrix(lmi: Lmi, rho: float, multipliers: Multipliers, signs: list[Array] | None = None) -> Exact:
    """P(rho, T) by its definition, for weights at the ends of their radii."""
    weights = [Exact.of(w) for w in lmi.weights]
    if signs is not None:
        weights = [w + Exact.of(s * r) for w, s, r in zip(weights, signs, lmi.radii, strict=True)]
    m = np.ones(lmi.sizes[0]) if lmi.input_metric is None else lmi.input_metric
    q = Exact.of(np.ones(len(lmi.weights[-1])) if lmi.output_metric is None else lmi.output_metric)
    blocks: list[list[Exact | None]] = [[None] * len(weights) for _ in weights]
    blocks[0][0] = diagonal(Exact.of(rho) * Exact.of(m))
    two = Exact.of(2.0)
    for i, (vector, (a, b)) in enumerate(zip(multipliers, lmi.slopes, strict=True), start=1):
        t, w, before = Exact.of(vector), weights[i - 1], blocks[i - 1][i - 1]
        assert before is not None
        a, b = (Exact.of(np.broadcast_to(s, len(vector))) for s in (a, b))
        blocks[i - 1][i - 1] = before + two * (w.T @ ((a * b * t)[:, None] * w))
        blocks[i][i] = two * diagonal(t)
        blocks[i][i - 1] = coupling = -(((a + b) * t)[:, None] * w)
        blocks[i - 1][i] = coupling.T
    last = blocks[-1][-1]
    assert last is not None
    blocks[-1][-1] = last - weights[-1].T @ (q[:, None] * weights[-1])
    return stack(blocks, list(lmi.sizes))
