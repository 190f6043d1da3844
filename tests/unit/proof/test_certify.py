"""The matrix inequality and its certificate: rational arithmetic decides what floating point may claim."""

from __future__ import annotations

import contextlib
import importlib
import itertools
from fractions import Fraction

import numpy as np
import oracle
import pytest
from hypothesis import assume, given
from hypothesis import settings as limit
from hypothesis import strategies as st
from numpy.typing import NDArray
from oracle import Rational
from scipy import linalg

from certlip.base.errors import NotCertified
from certlip.base.rounding import UNIT, gamma
from certlip.network import Activation, Array, Dense, Network
from certlip.network.chain import Chain
from certlip.network.slopes import slopes_of
from certlip.proof import elimination
from certlip.proof.certify import certify, is_feasible, margin
from certlip.proof.cholesky import factorises
from certlip.proof.coupling import Coupling
from certlip.proof.lmi import Lmi, Multipliers
from certlip.proof.proposals import smallest_rho, start
from certlip.sdp.dense import dense_matrix

certify_module = importlib.import_module("certlip.proof.certify")  # the package has a function of that name
CARRIED = ((1.0, 1.0), (1.0, 1.0))
SLOPES = [(0.0, 1.0), (-1.0, 1.0), (0.1, 1.0), (0.0, 0.25), (-2.0, 1.0), (1.0, 3.0)]


def exact_matrix(lmi: Lmi, rho: float, multipliers: Multipliers, shifts: list[Array] | None = None) -> Rational:
    """P(rho, T) by its definition in fractions: the sum of its quadratic forms.

    shifts: added to the weights before.
    """
    starts = np.concatenate([[0], np.cumsum(lmi.sizes)])
    p = [[Fraction(0)] * starts[-1] for _ in range(starts[-1])]
    weights = [oracle.rational(w) for w in lmi.weights]
    if shifts is not None:
        weights = [
            [[a + b for a, b in zip(r, s, strict=True)] for r, s in zip(w, oracle.rational(d), strict=True)]
            for w, d in zip(weights, shifts, strict=True)
        ]
    m = np.ones(lmi.sizes[0]) if lmi.input_metric is None else lmi.input_metric
    q = np.ones(len(lmi.weights[-1])) if lmi.output_metric is None else lmi.output_metric
    for k in range(lmi.sizes[0]):
        p[k][k] += Fraction(rho) * Fraction(float(m[k]))
    for row, factor in zip(weights[-1], q, strict=True):
        add_square(p, {starts[-2] + k: w for k, w in enumerate(row)}, -Fraction(float(factor)))
    for i, (t, slopes, w) in enumerate(zip(multipliers, lmi.slopes, weights, strict=False), start=1):
        for k, (row, *ends) in enumerate(zip(w, *(np.broadcast_to(s, len(w)) for s in slopes), strict=True)):
            a, b = map(float, ends)
            # 2 t (z - a y)(z - b y) = t (2 z - (a + b) y)^2 / 2 - t (b - a)^2 y^2 / 2 for y = row x
            half, total, gap = Fraction(float(t[k])) / 2, Fraction(a) + Fraction(b), Fraction(b) - Fraction(a)
            own = {starts[i - 1] + j: -total * entry for j, entry in enumerate(row)}
            add_square(p, {**own, starts[i] + k: Fraction(2)}, half)
            add_square(p, {starts[i - 1] + j: entry for j, entry in enumerate(row)}, -half * gap**2)
    return p


def exact_extended(lmi: Lmi, rho: float, multipliers: Multipliers, shifts: list[Array] | None = None) -> Rational:
    """P(rho, T) + Q on the outputs' y - W_L z, in fractions: that is P and Q side by side in other coordinates."""
    p = exact_matrix(lmi, rho, multipliers, shifts)
    rows = oracle.rational(lmi.weights[-1])
    if shifts is not None:
        added = oracle.rational(shifts[-1])
        rows = [[a + b for a, b in zip(r, s, strict=True)] for r, s in zip(rows, added, strict=True)]
    q = np.ones(len(rows)) if lmi.output_metric is None else lmi.output_metric
    n, n_heard = len(p), int(np.count_nonzero(q))
    extended = [row + [Fraction(0)] * n_heard for row in p] + [[Fraction(0)] * (n + n_heard) for _ in range(n_heard)]
    heard = [(row, Fraction(float(factor))) for row, factor in zip(rows, q, strict=True) if factor]
    for k, (row, factor) in enumerate(heard):
        z = {n - lmi.sizes[-1] + j: -entry for j, entry in enumerate(row)}
        add_square(extended, {**z, n + k: Fraction(1)}, factor)
    return extended


def add_square(p: Rational, vector: dict[int, Fraction], factor: Fraction) -> None:
    for i, x in vector.items():
        for j, y in vector.items():
            if x and y:
                p[i][j] += factor * x * y


def is_semidefinite(p: Rational) -> bool:
    return oracle._is_semidefinite([list(row) for row in p])


@st.composite
def lmis(
    draw: st.DrawFn, radii: float = 0.0, more: tuple[tuple[float, float], ...] = ()
) -> tuple[Lmi, np.random.Generator]:
    """more: intervals of slopes that some neurons of a layer may have."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    sizes = draw(st.lists(st.integers(1, 4), min_size=2, max_size=4))
    scales = draw(st.lists(st.sampled_from([1.0, 1e-6, 1e6]), min_size=3, max_size=3))
    weights = tuple(s * rng.standard_normal((n, m)) for s, m, n in zip(scales, sizes, sizes[1:], strict=False))
    if draw(st.booleans()):
        weights = tuple(w * (rng.random(w.shape) < 0.4) for w in weights)
    slopes = tuple(
        slopes_of(*rng.choice([*SLOPES, *more, *more], len(w)).T)
        if draw(st.booleans())
        else draw(st.sampled_from(SLOPES))
        for w in weights[:-1]
    )
    with_metrics = draw(st.booleans())
    m, q = (rng.uniform(0.1, 10, n) if with_metrics else None for n in (sizes[0], sizes[-1]))
    if q is not None and len(q) > 1 and draw(st.booleans()):
        q[0] = 0.0
    spread = tuple(radii * np.abs(w) * rng.random(w.shape) for w in weights) if radii else ()
    return Lmi(weights, slopes, m, q, spread), rng


@limit(max_examples=60)
@given(lmis(more=CARRIED))
def test_the_error_bound_covers_every_rounding_of_the_matrix(drawn: tuple[Lmi, np.random.Generator]) -> None:
    lmi, rng = drawn
    multipliers = tuple(t * rng.uniform(0.5, 2, len(t)) for t in start(lmi))
    check_error(lmi, 3.7, multipliers, None, rng)


@limit(max_examples=40)
@given(lmis(radii=1e-3, more=CARRIED))
def test_the_error_bound_covers_any_weights_within_the_radii(drawn: tuple[Lmi, np.random.Generator]) -> None:
    lmi, rng = drawn
    multipliers = tuple(t * rng.uniform(0.5, 2, len(t)) for t in start(lmi))
    radii = [np.zeros_like(w) if r is None else r for w, r in zip(lmi.weights, lmi.radii, strict=True)]
    check_error(lmi, 3.7, multipliers, [r * rng.choice([-1.0, 1.0], r.shape) for r in radii], rng)


@pytest.mark.parametrize("seed", range(5))
def test_the_error_bound_covers_underflow_that_a_weight_amplifies(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = (1e9 * rng.standard_normal((2, 2)), 1e-320 * np.ones((1, 2)))
    lmi = Lmi(weights, ((-1.0, 1.0),), output_metric=np.array([1e-310]))
    check_error(lmi, 1e-310, (1e-320 * (1 + rng.random(2)),), None, rng)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("steep", [1.0, 1e9, 1e150])
def test_the_error_bound_covers_underflow_that_slopes_and_two_weights_amplify(steep: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = (1e3 * rng.standard_normal((3, 2)), 1e-5 * np.ones((1, 3)))
    lmi = Lmi(weights, ((-steep, steep),), output_metric=np.array([1e-310]))
    check_error(lmi, 1e-310, (1e-320 * (1 + rng.random(3)),), None, rng)


def test_the_error_bound_covers_underflow_in_its_own_terms_that_two_weights_amplify() -> None:
    """2ab T is a fifth of the smallest double, computed as 0, and the weights are 1e100."""
    rng = np.random.default_rng(0)
    weights = (1e100 * rng.standard_normal((3, 2)), 1e-5 * np.ones((1, 3)))
    lmi = Lmi(weights, ((-0.3, 0.1),), output_metric=np.array([1e-310]))
    check_error(lmi, 1e-310, (np.full(3, 3 * 2.0**-1074),), None, rng)


def test_the_error_bound_covers_a_tiny_rho_times_a_large_metric() -> None:
    rng = np.random.default_rng(0)
    metric = 1e300 * rng.uniform(1, 2, 4)
    lmi = Lmi((1e-5 * np.ones((1, 4)),), (), metric, np.array([1e-310]))
    check_error(lmi, 1.1e-310, (), None, rng)


def test_slopes_whose_product_underflows_are_nothing_to_prove_with() -> None:
    lmi = Lmi((np.full((1, 1), 1e150), np.full((1, 1), 1e10)), ((-1e-170, 1e-170),))
    assert margin(lmi, 1.0, (np.array([1e25]),)) is None


def test_an_inequality_that_is_lost_to_underflow_is_not_proved() -> None:
    """2ab W' T W is 1.5e-306 and computed as 0: each of the two products with a weight underflows."""
    layers = (
        Dense("a", np.array([[1e-4]]), np.zeros(1)),
        Activation("leaky", "leaky_relu", -1e9),
        Activation("abs", "abs"),
        Dense("b", np.array([[1e-158]]), np.zeros(1)),
    )
    lmi, multipliers = Lmi.of(Chain.of(Network(layers, (1,)))), (np.array([7.5e-317]),)
    assert not is_semidefinite(exact_matrix(lmi, 1e-319, multipliers))
    assert not is_feasible(lmi, 1e-319, multipliers)


@pytest.mark.parametrize(("n_inputs", "n_hidden"), [(1, 6), (6, 1)])
def test_the_error_bound_covers_radii_that_add_up_in_one_row_or_column(n_inputs: int, n_hidden: int) -> None:
    rng = np.random.default_rng(0)
    radius = 0.1 * np.ones((n_hidden, n_inputs))
    weights = (np.zeros((n_hidden, n_inputs)), np.zeros((1, n_hidden)))
    lmi = Lmi(weights, ((0.0, 1.0),), radii=(radius, None))
    check_error(lmi, 1e-9, (np.ones(n_hidden),), [radius, np.zeros((1, n_hidden))], rng)


def test_the_error_bound_covers_radii_that_add_up_in_a_product_of_weights() -> None:
    radius = 10 * np.ones((4, 3))
    lmi = Lmi((100 * np.ones((4, 3)), np.zeros((1, 4))), ((-1.0, 1.0),), radii=(radius, None))
    check_error(lmi, 1e-9, (np.ones(4),), [radius, np.zeros((1, 4))], np.random.default_rng(0))


def check_error(
    lmi: Lmi, rho: float, multipliers: Multipliers, shifts: list[Array] | None, rng: np.random.Generator
) -> None:
    computed, exact = dense(*lmi.extended(rho, multipliers)), exact_extended(lmi, rho, multipliers, shifts)
    computed += np.tril(computed, -1).T
    order = len(exact)
    scaling: NDArray[np.float64] = np.ldexp(1.0, rng.integers(-3, 4, order))
    allowed = Fraction(lmi.error(rho, multipliers, scaling))
    assert allowed >= 16 * UNIT * np.abs(scaling[:, None] * computed * scaling).sum(axis=1).max()
    d = [Fraction(float(s)) for s in scaling]
    difference = [
        [d[i] * d[j] * (Fraction(float(computed[i, j])) - exact[i][j]) for j in range(order)] for i in range(order)
    ]
    # the spectral norm is at most `allowed` exactly when allowed I -+ difference is semidefinite
    for sign in (1, -1):
        shifted = [[-sign * x for x in row] for row in difference]
        for k in range(order):
            shifted[k][k] += allowed
        assert is_semidefinite(shifted)


@limit(max_examples=60)
@given(lmis(), st.sampled_from([0.0, -1e-15, 1e-15, -1e-13, 1e-13, 1e-10, -1e-6, 1e-6]))
def test_no_point_outside_the_inequality_is_ever_called_feasible(
    drawn: tuple[Lmi, np.random.Generator], relative: float
) -> None:
    lmi, rng = drawn
    multipliers = tuple(t * rng.uniform(0.3, 1.5, len(t)) for t in start(lmi))
    boundary = smallest_rho(lmi, multipliers)
    rho = 1.0 if boundary is None else boundary * (1 + relative)
    if is_feasible(lmi, rho, multipliers):
        assert is_semidefinite(exact_matrix(lmi, rho, multipliers))
    else:
        assert boundary is None or relative < 1e-8


@limit(max_examples=60)
@given(lmis())
def test_what_is_factorised_is_the_scaled_matrix_less_the_margin(drawn: tuple[Lmi, np.random.Generator]) -> None:
    lmi, _ = drawn
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certify_module, "factorises", lambda *blocks: seen.append(dense(*blocks)) or True)
        c = margin(lmi, 2.0, start(lmi))
    if c is None:
        return
    p = dense(*lmi.extended(2.0, start(lmi)))
    shift = c * np.eye(len(p))
    scaling = 2.0 ** np.round(np.log2(np.diagonal(seen[0] + shift) / np.diagonal(p)) / 2)
    expected = scaling[:, None] * p * scaling - shift
    assert (np.tril(seen[0]) == np.tril(expected)).all()
    # Rump's bound of the backward error, and that of the entries
    backward = gamma(len(p) + 2) * float(np.trace(expected + shift))
    assert c >= backward + lmi.error(2.0, start(lmi), scaling)


def dense(diagonal: list[Array], couplings: list[Coupling]) -> Array:
    """The lower triangle of a block tridiagonal matrix."""
    starts = np.concatenate([[0], np.cumsum([len(block) for block in diagonal])])
    matrix = linalg.block_diag(*(np.diag(block) if block.ndim == 1 else block for block in diagonal))
    for coupling, i, j, k in zip(couplings, starts, starts[1:], starts[2:], strict=False):
        matrix[j:k, i:j] = coupling.rows[:, None] * coupling.weight * coupling.columns
    return np.tril(matrix)


@pytest.mark.parametrize("sizes", [(1, 1), (5, 1), (3, 4), (9, 2, 6), (2, 3, 4, 5), (6, 5, 4, 3, 2)])
@pytest.mark.parametrize("vectors", ["all", "none", "the first", "all but the second"])
@pytest.mark.parametrize("share", [1.0, 0.3])
def test_blocks_factorise_exactly_where_the_whole_matrix_is_definite(
    sizes: tuple[int, ...], vectors: str, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elimination, "SLAB", 2)
    rng = np.random.default_rng(0)
    diagonal = [n + root @ root.T for n in sizes for root in [rng.standard_normal((n, n))]]
    for i in {"all": range(9), "none": [], "the first": [0], "all but the second": [0, *range(2, 9)]}[vectors]:
        if i < len(sizes):
            diagonal[i] = rng.uniform(1, 9, sizes[i])
    couplings = [
        Coupling(rng.standard_normal((m, n)) * (rng.random((m, n)) < share), rng.uniform(1, 3, m), rng.uniform(1, 3, n))
        for n, m in itertools.pairwise(sizes)
    ]
    whole = dense(diagonal, couplings)
    least = linalg.eigvalsh(whole)[0]
    for shift, definite in [(least - 1e-9, True), (least + 1e-9, False)]:
        shifted = [d - shift * (1 if d.ndim == 1 else np.eye(len(d))) for d in diagonal]
        assert factorises(shifted, couplings) == definite


@limit(max_examples=25)
@given(lmis())
def test_no_point_outside_by_some_ulps_is_ever_called_feasible(drawn: tuple[Lmi, np.random.Generator]) -> None:
    lmi, _ = drawn
    certified = certify(lmi, start(lmi))
    assume(certified.rho > 1e-200)  # a network that is zero has no smallest rho
    outside, inside = certified.rho * (1 - 1e-6), certified.rho
    assert not is_semidefinite(exact_matrix(lmi, outside, certified.multipliers))
    while (middle := (outside + inside) / 2) not in (outside, inside):
        if is_semidefinite(exact_matrix(lmi, middle, certified.multipliers)):
            inside = middle
        else:
            outside = middle
    for n_ulps in (0, 1, 2, 4, 8, 16):
        assert not is_feasible(lmi, outside * (1 - n_ulps * 2.0**-52), certified.multipliers)


def test_a_point_that_is_feasible_for_the_given_weights_only_is_not_proved_for_their_radii() -> None:
    for spread, proved in ((0.0, True), (1e-9, True), (0.01, False)):
        lmi = Lmi((np.eye(2),), (), radii=(spread * np.ones((2, 2)),))
        assert is_feasible(lmi, 1.0001, ()) is proved


@limit(max_examples=60)
@given(lmis())
def test_what_is_certified_from_the_start_is_feasible_in_exact_arithmetic(
    drawn: tuple[Lmi, np.random.Generator],
) -> None:
    lmi, _ = drawn
    certified = certify(lmi, start(lmi))
    assert certified.slack == 0
    assert is_semidefinite(exact_matrix(lmi, certified.rho, certified.multipliers))
    assert Fraction(certified.bound) ** 2 >= Fraction(certified.rho)


@limit(max_examples=40)
@given(lmis(radii=1e-15))
def test_radii_are_proved_for_every_matrix_within_them(drawn: tuple[Lmi, np.random.Generator]) -> None:
    lmi, rng = drawn
    certified = certify(lmi, start(lmi))
    for _ in range(3):
        shifts = [np.zeros(0) if r is None else r * rng.choice([-1.0, 1.0], r.shape) for r in lmi.radii]
        assert is_semidefinite(exact_matrix(lmi, certified.rho, certified.multipliers, shifts))


PROPOSALS = {
    "zeros": lambda t: 0 * t,
    "negative": lambda t: -t,
    "one dead neuron": lambda t: t * (np.arange(len(t)) > 0),
    "far too small": lambda t: 1e-30 * t,
    "far too large": lambda t: 1e30 * t,
    "slightly short": lambda t: t * (1 - 0.05 * (np.arange(len(t)) == 0)),
    "subnormal": lambda t: 1e-320 * t,
    "uneven": lambda t: t * 10.0 ** np.linspace(-12, 12, len(t)),
}


@pytest.mark.parametrize("proposal", PROPOSALS)
def test_a_bad_proposal_is_refused_or_costs_tightness_never_soundness(proposal: str) -> None:
    rng = np.random.default_rng(1)
    for _ in range(5):
        lmi = Lmi((rng.standard_normal((4, 3)), rng.standard_normal((3, 4)), rng.standard_normal((2, 3))), SLOPES[:2])
        try:
            certified = certify(lmi, [PROPOSALS[proposal](t) for t in start(lmi)])
        except NotCertified:
            assert proposal not in ("far too large", "slightly short")
        else:
            assert is_semidefinite(exact_matrix(lmi, certified.rho, certified.multipliers))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_multipliers_that_are_not_finite_are_refused(value: float) -> None:
    lmi = Lmi((np.eye(2), np.eye(2)), ((0.0, 1.0),))
    with pytest.raises(NotCertified, match="not finite"):
        certify(lmi, [np.array([1.0, value])])
    assert not is_feasible(lmi, 4.0, [np.array([1.0, value])])
    assert not is_feasible(lmi, value, [np.ones(2)])


def test_an_indefinite_optimum_of_a_solver_is_caught() -> None:
    """A solver's claim slightly below the optimum: the multipliers are good, its objective is no bound."""
    rng = np.random.default_rng(2)
    lmi = Lmi((rng.standard_normal((5, 4)), rng.standard_normal((3, 5))), ((0.0, 1.0),))
    multipliers = start(lmi)
    boundary = smallest_rho(lmi, multipliers)
    assert boundary is not None
    claimed = boundary * (1 - 1e-6)
    assert linalg.eigvalsh(dense_matrix(lmi, claimed, multipliers))[0] < 0
    assert not is_feasible(lmi, claimed, multipliers)
    assert certify(lmi, multipliers).rho > claimed


def test_a_solvers_own_rho_is_taken_only_where_it_is_proved() -> None:
    lmi = Lmi((np.random.default_rng(0).standard_normal((5, 4)), np.ones((3, 5))), ((0.0, 1.0),))
    boundary = smallest_rho(lmi, start(lmi))
    assert boundary is not None
    for rho in (0.0, -1.0, np.nan, np.inf, boundary * (1 - 1e-9)):
        assert boundary * (1 - 1e-12) <= certify(lmi, start(lmi), rho).rho <= boundary * (1 + 1e-12)
    assert 2 * boundary <= certify(lmi, start(lmi), 2 * boundary).rho <= 2 * boundary * (1 + 1e-12)


@pytest.mark.parametrize(
    "multipliers",
    [[], [np.ones(3)], [np.ones((2, 1))], [np.ones(2), np.ones(2)], [-np.ones(2)]],
    ids=["none", "long", "a matrix", "two layers", "negative"],
)
def test_multipliers_of_another_network_prove_nothing(multipliers: list[Array]) -> None:
    assert margin(Lmi((np.eye(2), np.eye(2)), ((0.0, 1.0),)), 1e6, multipliers) is None


def test_a_metric_that_is_negative_or_not_finite_proves_nothing() -> None:
    for metric in (np.array([1.0, -1.0]), np.array([1.0, np.nan])):
        assert not is_feasible(Lmi((np.eye(2),), (), input_metric=metric), 1e6, ())
        assert not is_feasible(Lmi((np.eye(2),), (), output_metric=metric), 1e6, ())


def test_overflowing_weights_end_in_words() -> None:
    huge = Lmi((1e200 * np.ones((2, 2)), 1e200 * np.ones((2, 2))), ((0.0, 1.0),))
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(NotCertified, match="overflow"):
        certify(huge, [np.ones(2)])


@pytest.mark.parametrize("scale", [1e-320, 1e-200, 1e-160, 1e-100, 1e100, 1e150])
def test_extreme_weights_are_never_bounded_below_their_norm(scale: float) -> None:
    weight = scale * np.random.default_rng(3).standard_normal((3, 2))
    assert oracle.dominates(certify(Lmi((weight,), ()), ()).bound, oracle.rational(weight))


def test_layers_of_very_different_scales_are_never_bounded_below_the_truth() -> None:
    n_certified = 0
    for small, large in itertools.product([1e-300, 1e-200, 1e-150, 1e-100, 1e-20], [1.0, 1e20, 1e100, 1e150]):
        for weights in ((small, large), (large, small)):
            lmi = Lmi(tuple(w * np.ones((2, 2)) for w in weights), ((0.0, 1.0),))
            with contextlib.suppress(NotCertified):
                # both neurons active: the norm of the product is 4 small large
                assert certify(lmi, start(lmi)).bound >= 4 * (1 - 1e-12) * small * large
                n_certified += 1
    assert n_certified >= 20
