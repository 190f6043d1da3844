"""Solver adapters: whatever a solver returns, what is certified is above the truth and close to the optimum."""

from __future__ import annotations

import itertools
import re
import tomllib
from pathlib import Path

import numpy as np
import oracle
import pytest

import certlip
from certlip.base.errors import LimitExceeded, NotCertified, SolverFailed, SolverUnavailable
from certlip.network import Activation, Array, Dense, Network
from certlip.proof.certify import certify, is_feasible
from certlip.proof.lmi import Lmi
from certlip.proof.proposals import start
from certlip.sdp import reduce, solve_lmi, solvers
from certlip.sdp.dense import dense_matrix, split
from certlip.sdp.solvers import Proposal, _conic

AVAILABLE = [name for name in solvers.names() if solvers.load(name).unavailable() is None]
RNG = np.random.default_rng(12)


def weights(*sizes: int) -> list[Array]:
    return [RNG.standard_normal((m, n)) for n, m in itertools.pairwise(sizes)]


def network(matrices: list[Array]) -> Network:
    layers: list[Dense | Activation] = []
    for i, w in enumerate(matrices):
        layers += [Dense(f"d{i}", w, RNG.standard_normal(len(w))), Activation(f"r{i}", "relu")]
    return Network(tuple(layers[:-1]), (matrices[0].shape[1],))


CASES = {
    "one hidden layer": weights(3, 5, 2),
    "two hidden layers": weights(2, 4, 3, 2),
    "wide input": weights(20, 4, 2),
    "tall output": weights(2, 4, 20),
    "no hidden layer": weights(4, 3),
    "tiny": [1e-6 * w for w in weights(3, 4, 2)],
    "huge": [1e6 * w for w in weights(3, 4, 2)],
    "badly scaled": [1e-6 * weights(3, 4)[0], 1e6 * weights(4, 2)[0]],
    "dead neuron": [np.vstack([weights(3, 3)[0], np.zeros((1, 3))]), weights(4, 2)[0]],
    "orthogonal": [np.eye(3), np.eye(3)],
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("solver", AVAILABLE)
def test_every_solver_is_certified_above_the_truth_and_near_the_others(solver: str, case: str) -> None:
    matrices = CASES[case]
    solution = certlip.sdp.solve(matrices, solver=solver, rtol=1e-4)
    assert oracle.is_at_least(solution.bound, network(matrices))
    lmi = Lmi(tuple(matrices), ((0.0, 1.0),) * (len(matrices) - 1))
    assert is_feasible(lmi, solution.rho, solution.multipliers)
    best = certlip.sdp.solve(matrices, solver="structured", rtol=1e-6).bound
    assert solution.bound <= best * 1.01
    assert solution.solver == solver
    assert solution.solver_version


def test_a_claim_below_the_optimum_never_becomes_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter whose point is outside, as SCS at its defaults: a value below the optimum and a status of optimal."""
    matrices = weights(3, 6, 2)
    adapter = solvers.load("structured")
    honest = adapter.solve

    def too_good(lmi: Lmi, **options: object) -> Proposal:
        proposal = honest(lmi, **options)
        return Proposal(tuple(t * (1 - 1e-3) for t in proposal.multipliers), message="optimal", rho=0.0)

    best = certlip.sdp.solve(matrices, solver="structured").bound
    monkeypatch.setattr(adapter, "solve", too_good)
    solution = certlip.sdp.solve(matrices, solver="structured")
    assert oracle.is_at_least(solution.bound, network(matrices))
    assert best * (1 - 1e-4) <= solution.bound


@pytest.mark.parametrize("nonsense", [0.0, -1.0, np.nan, np.inf])
def test_nonsense_from_a_solver_is_not_certified(nonsense: float, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = solvers.load("structured")
    monkeypatch.setattr(
        adapter, "solve", lambda lmi, **options: Proposal(tuple(np.full(n, nonsense) for n in lmi.sizes[1:]))
    )
    with pytest.raises(NotCertified):
        certlip.sdp.solve(weights(3, 6, 2), solver="structured")


SLOPES = ((0.0, 1.0), (-1.0, 1.0))


def test_general_solvers_are_given_the_matrix_that_is_certified() -> None:
    for slopes in (SLOPES, SLOPES[::-1], ((0.1, 1.0), (0.0, 0.25))):
        lmi = Lmi(tuple(weights(2, 3, 4, 2)), slopes)
        x = RNG.random(1 + lmi.n_multipliers)
        vector = _conic.constant_part(lmi).ravel() + _conic.coefficients(lmi) @ x
        np.testing.assert_allclose(
            vector.reshape(lmi.order, lmi.order), dense_matrix(lmi, x[0], split(lmi, x[1:])), rtol=1e-13, atol=1e-13
        )


@pytest.mark.parametrize("solver", [name for name in AVAILABLE if name != "structured"])
def test_other_slopes_reach_general_solvers(solver: str) -> None:
    lmi = Lmi(tuple(weights(2, 3, 3, 2)), SLOPES)
    solution = solve_lmi(lmi, solver)
    assert solution.bound <= solve_lmi(lmi, "structured").bound * 1.01
    assert solution.bound <= certify(lmi, start(lmi)).bound * (1 + 1e-9)


@pytest.mark.parametrize("slopes", [((0.0, 1.0),) * 2, SLOPES])
def test_reducing_a_problem_keeps_its_optimum_and_its_multipliers(slopes: tuple[tuple[float, float], ...]) -> None:
    matrices = [1e3 * RNG.standard_normal((4, 9)), RNG.standard_normal((3, 4)), 1e-2 * RNG.standard_normal((7, 3))]
    lmi = Lmi(tuple(matrices), slopes, RNG.uniform(0.5, 2, 9), RNG.uniform(0.5, 2, 7))
    reduced, factors = reduce(lmi)
    assert [w.shape for w in reduced.weights] == [(4, 4), (3, 4), (3, 3)]
    assert all(0.5 <= np.linalg.norm(w, 2) <= 2 for w in reduced.weights)
    small = certify(reduced, start(reduced))
    large = certify(lmi, [t * f for t, f in zip(small.multipliers, factors[1:], strict=True)])
    norms = np.array([np.linalg.norm(w, 2) for w in matrices])
    assert large.slack == 0
    assert 0 < large.bound <= 10 * norms.prod()
    np.testing.assert_allclose(large.rho / small.rho, large_factor(lmi, reduced), rtol=1e-6)
    np.testing.assert_allclose(large.rho / small.rho, factors[0], rtol=1e-6)


def large_factor(lmi: Lmi, reduced: Lmi) -> float:
    """rho of the given problem over that of the reduced one: the squared ratio of any weights' product."""
    assert lmi.input_metric is not None
    assert lmi.output_metric is not None
    given = np.sqrt(lmi.output_metric)[:, None] * np.linalg.multi_dot(lmi.weights[::-1]) / np.sqrt(lmi.input_metric)
    return float((np.linalg.norm(given, 2) / np.linalg.norm(np.linalg.multi_dot(reduced.weights[::-1]), 2)) ** 2)


def test_auto_takes_the_preferred_solver_that_admits_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    preferred = min(AVAILABLE, key=lambda name: solvers.load(name).INFO.preference)
    assert solvers.choose("auto", 10)[0] == preferred
    largest = max(solvers.load(name).INFO.max_order for name in AVAILABLE)
    with pytest.raises(SolverUnavailable, match="finer grid"):
        solvers.choose("auto", largest + 1)
    monkeypatch.setattr(solvers.load(preferred), "unavailable", lambda: "its licence ran out")
    assert solvers.choose("auto", 10)[0] != preferred
    with pytest.raises(SolverUnavailable, match=f"solver {preferred}: its licence ran out"):
        solvers.choose(preferred, 10)


def test_auto_is_ours_and_needs_nothing_under_the_gpl() -> None:
    for order in (10, 5714):
        assert solvers.choose("auto", order)[0] == "structured"
    gpl = {"cvxopt", "sdpa-python"}
    root = Path(__file__).parents[3]
    needed = tomllib.loads((root / "pyproject.toml").read_text())["project"]["dependencies"]
    conda = (root / "environment.yml").read_text()
    assert not {re.split("[<>=]", line)[0] for line in needed} & gpl
    assert not [name for name in gpl if name in conda]


def test_a_module_that_is_missing_is_the_reason() -> None:
    reason = _conic.missing("json", "no_such_solver")
    assert reason is not None
    assert reason.startswith("no_such_solver is not installed")


def test_a_problem_that_would_not_fit_is_refused_before_it_is_built() -> None:
    for name in AVAILABLE:
        with pytest.raises(LimitExceeded, match=f"solver {name} needs about .* the limit is 1 MB") as refusal:
            certlip.sdp.solve(weights(3, 5, 2), solver=name, max_memory_mb=1)
        assert refusal.value.status == "memory_limit"


def test_an_error_inside_a_general_solver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import cvxpy as cp

    def broken(self: object, **options: object) -> None:
        raise cp.SolverError("numerical problems")

    monkeypatch.setattr(cp.Problem, "solve", broken)
    with pytest.raises(SolverFailed, match="SCS: numerical problems"):
        certlip.sdp.solve(weights(3, 4, 2), solver="scs")
