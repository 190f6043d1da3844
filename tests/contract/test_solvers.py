"""What every solver adapter must do, and what a lying solver cannot do."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import oracle
import pytest

from certlip import sdp
from certlip.base.errors import ConfigError, LimitExceeded, NotCertified, SolverUnavailable
from certlip.network import Activation, Dense, Network
from certlip.sdp import solvers
from certlip.sdp.solvers import SolverInfo

every_solver = pytest.mark.parametrize("name", solvers.names())


def random_weights(seed: int, *sizes: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((n, m)) for m, n in pairwise(sizes)]


def relu_network(weights) -> Network:
    layers = []
    for i, weight in enumerate(weights):
        layers += [Dense(f"dense{i}", weight, np.zeros(len(weight))), Activation(f"relu{i}", "relu")]
    return Network(tuple(layers[:-1]), (weights[0].shape[1],))


def _dead_neuron() -> list[np.ndarray]:
    first, second = random_weights(4, 3, 4, 2)
    first[1], second[:, 2] = 0.0, 0.0
    return [first, second]


PROBLEMS = {
    "one_hidden": random_weights(0, 4, 5, 3),
    "two_hidden": random_weights(1, 3, 4, 4, 2),
    "wide_input": random_weights(2, 9, 3, 2),
    "tall_output": random_weights(3, 2, 3, 9),
    "dead_neuron": _dead_neuron(),
    "rank_one": [np.outer([1.0, -2.0, 0.5], [1.0, 1.0]), np.outer([1.0, 1.0], [2.0, 1.0, 1.0])],
    "one_neuron": [np.array([[2.0]]), np.array([[3.0]])],
    "small": [1e-6 * w for w in random_weights(5, 3, 4, 2)],
    "large": [1e6 * w for w in random_weights(6, 3, 4, 2)],
}


def adapter(name: str):
    found = solvers.load(name)
    if reason := found.unavailable():
        pytest.skip(f"{name}: {reason}")
    return found


@every_solver
def test_info_is_complete(name):
    found = solvers.load(name)
    assert isinstance(found.INFO, SolverInfo)
    assert found.INFO.title
    assert found.INFO.max_order > 0
    assert found.__doc__
    assert found.unavailable() is None or found.unavailable().strip()


@every_solver
def test_preference_is_its_own(name):
    assert [solvers.load(n).INFO.preference for n in solvers.names()].count(solvers.load(name).INFO.preference) == 1


@every_solver
@pytest.mark.parametrize("problem", PROBLEMS)
def test_certified_bound_is_never_below_the_constant(name, problem):
    adapter(name)
    weights = PROBLEMS[problem]
    solution = sdp.solve(weights, solver=name)
    assert solution.solver == name
    assert solution.solver_version
    assert oracle.is_at_least(solution.bound, relu_network(weights))
    assert sdp.is_feasible(
        sdp.Lmi(tuple(weights), ((0.0, 1.0),) * (len(weights) - 1)), solution.rho, solution.multipliers
    )


@every_solver
@pytest.mark.parametrize("problem", ["one_hidden", "two_hidden", "wide_input", "tall_output", "small", "large"])
def test_solvers_agree_to_their_tolerance(name, problem):
    adapter(name)
    weights = PROBLEMS[problem]
    product = float(np.prod([np.linalg.norm(w, 2) for w in weights]))
    reference = min(sdp.solve(weights, solver=n, rtol=1e-5).bound for n in _available())
    assert sdp.solve(weights, solver=name, rtol=1e-5).bound <= reference + 1e-3 * product


def _available() -> list[str]:
    return [name for name in solvers.names() if solvers.load(name).unavailable() is None]


@every_solver
def test_predicted_memory_grows_and_limits_refuse_in_words(name):
    found = adapter(name)
    small, large = (sdp.Lmi(tuple(random_weights(0, n, n, n)), ((0.0, 1.0),)) for n in (5, 60))
    assert 0 < found.memory_mb(small) < found.memory_mb(large)
    with pytest.raises(LimitExceeded, match=f"solver {name} needs about"):
        sdp.solve(random_weights(0, 5, 5, 5), solver=name, max_memory_mb=0.5)


def test_an_unknown_solver_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"structurd.*did you mean 'structured'"):
        sdp.solve(PROBLEMS["one_hidden"], solver="structurd")


LIES = {
    "infeasible": "tuple(0.3 * t for t in best)",
    "zero": "tuple(0.0 * t for t in best)",
    "negative": "tuple(-t for t in best)",
    "slightly_off": "tuple(t * (1 - 1e-4) for t in best)",
    "huge": "tuple(1e12 * t for t in best)",
    "not_a_number": "tuple(t * float('nan') for t in best)",
    "infinite": "tuple(t * float('inf') for t in best)",
}

LIAR = '''"""Calls what it returns optimal."""
from certlip.sdp.solvers import Proposal, SolverInfo, load

INFO = SolverInfo("liar", 999, 10**6, lambda: "1")


def unavailable():
    return None


def memory_mb(lmi):
    return 1.0


def solve(lmi, *, rtol, threads, max_seconds):
    best = load("structured").solve(lmi, rtol=1e-6, threads=1, max_seconds=None).multipliers
    return Proposal({lie}, 1, "optimal", "ok", 1e-9)
'''


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("problem", ["one_hidden", "two_hidden"])
def test_a_lying_solver_is_caught(lie, problem, tmp_path, monkeypatch):
    name = f"liar_{lie}"
    Path(tmp_path, f"{name}.py").write_text(LIAR.format(lie=LIES[lie]))
    monkeypatch.setattr(solvers, "__path__", [*solvers.__path__, str(tmp_path)])
    weights = PROBLEMS[problem]
    if lie in ("not_a_number", "infinite"):
        with pytest.raises(NotCertified, match="not finite"):
            sdp.solve(weights, solver=name)
        return
    try:
        solution = sdp.solve(weights, solver=name)
    except NotCertified:
        assert lie != "slightly_off"
        return
    assert solution.solver == name
    assert solution.rho > 1e-9
    assert oracle.is_at_least(solution.bound, relu_network(weights))


def test_the_lies_are_lies():
    weights = PROBLEMS["two_hidden"]
    lmi = sdp.Lmi(tuple(weights), ((0.0, 1.0),) * 2)
    best = sdp.solve(weights, rtol=1e-6)
    for factor in (0.3, 0.0, -1.0, 1 - 1e-4):
        assert not sdp.is_feasible(lmi, best.rho * (1 - 1e-5), [factor * t for t in best.multipliers])


def test_an_unavailable_solver_says_why(tmp_path, monkeypatch):
    source = LIAR.format(lie="best").replace("return None", 'return "it has no licence; put one into ~/licence"')
    Path(tmp_path, "unlicensed.py").write_text(source)
    monkeypatch.setattr(solvers, "__path__", [*solvers.__path__, str(tmp_path)])
    with pytest.raises(SolverUnavailable, match="solver unlicensed: it has no licence"):
        sdp.solve(PROBLEMS["one_hidden"], solver="unlicensed")
