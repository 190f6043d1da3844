"""The structured solver against general solvers, brute-force formulas and its own optimality conditions."""

from __future__ import annotations

import itertools
import logging
import time

import numpy as np
import pytest
import torch
from scipy.stats import ortho_group

from certlip import sdp
from certlip.base import limits
from certlip.base.deadline import Deadline
from certlip.base.errors import LimitExceeded, SolverUnavailable
from certlip.base.limits import Limits
from certlip.network import Array, Conv
from certlip.proof.lmi import Lmi
from certlip.sdp.dense import dense_matrix, split
from certlip.sdp.looks import Looks
from certlip.sdp.solvers import load, structured
from certlip.sdp.structured import openings, rounds
from certlip.sdp.structured.ascent import Ascent
from certlip.sdp.structured.neurons import Neurons
from certlip.sdp.structured.newton import Model, follow
from certlip.sdp.structured.outcome import Outcome
from certlip.sdp.structured.problem import Problem
from certlip.sdp.structured.rounds import ascend

RELU, LEAKY, ABS, STEEP = (0.0, 1.0), (0.01, 1.0), (-1.0, 1.0), (0.5, 1.0)


def chain(*sizes: int, seed: int = 0) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((n, m)) * np.sqrt(2 / m) for m, n in itertools.pairwise(sizes)]


def conv_block(channels: int, side: int = 10, seed: int = 0) -> list[Array]:
    rng = np.random.default_rng(seed)
    shape, weights = (1, side, side), []
    for c_in in (1, channels):
        kernel = rng.standard_normal((channels, c_in, 3, 3)) * np.sqrt(2 / 9 / c_in)
        layer = Conv("conv", kernel, np.zeros(channels))
        weights.append(layer.matrix(shape).toarray())
        shape = layer.output_shape(shape)
    return weights


def problem_of(weights: list[Array], *slopes: tuple[float, float]) -> Problem:
    neurons = Neurons.of(weights, slopes or (RELU,) * (len(weights) - 1))
    return Problem(neurons.weights, neurons.slopes)


def start_of(weights: list[Array], *slopes: tuple[float, float]) -> torch.Tensor:
    neurons = Neurons.of(weights, slopes or (RELU,) * (len(weights) - 1))
    return torch.tensor(np.concatenate(sdp.start(Lmi(neurons.weights, neurons.slopes))))


def degenerate_networks() -> dict[str, list[Array]]:
    rng = np.random.default_rng(0)
    w_0, w_1, w_2 = chain(8, 10, 9, 5)
    dead = [w_0.copy(), w_1.copy(), w_2.copy()]
    dead[0][[1, 4]], dead[1][:, 2], dead[1][3], dead[2][:, [5, 6]] = 0, 0, 0, 0
    badly_scaled = [np.exp(4 * rng.standard_normal(10))[:, None] * w_0, w_1 * np.exp(4 * rng.standard_normal(10)), w_2]
    return {
        "dead neurons": dead,
        "duplicated neurons": [np.vstack([w_0, w_0]), np.hstack([w_1, w_1]), w_2],
        "rank one": [np.outer(np.arange(1, 7), np.ones(5)), np.outer(np.ones(4), np.arange(6))],
        "bottleneck": chain(12, 12, 1, 12, 4),
        "orthogonal": [ortho_group.rvs(8, random_state=i) for i in range(3)],
        "diagonal": [np.diag(np.arange(1.0, 13)), np.eye(12), np.diag(np.arange(12.0, 0, -1))],
        "identity": [np.eye(6)] * 3,
        "two blocks of equal norm": [np.kron(np.eye(2), w_0), np.kron(np.eye(2), w_1)],
        "badly scaled neurons": badly_scaled,
        "one neuron": [np.array([[2.0]]), np.array([[-3.0]])],
        "one input": chain(1, 7, 1),
        "tiny": [1e-6 * w for w in (w_0, w_1, w_2)],
        "huge": [1e6 * w for w in (w_0, w_1, w_2)],
    }


@pytest.mark.parametrize("slopes", [RELU, LEAKY, ABS, STEEP])
@pytest.mark.parametrize("sizes", [(4, 6, 3), (7, 5, 6, 2), (3, 4, 5, 4, 1)])
@pytest.mark.parametrize("referee", ["clarabel", "dsdp"])
def test_bound_agrees_with_a_general_solver(referee: str, sizes: tuple[int, ...], slopes: tuple[float, float]) -> None:
    if reason := load(referee).unavailable():
        pytest.skip(reason)
    weights = chain(*sizes)
    lmi = Lmi(tuple(weights), (slopes,) * (len(weights) - 1))
    ours = sdp.solve_lmi(lmi, "structured", rtol=1e-7)
    theirs = sdp.solve_lmi(lmi, referee, rtol=1e-7)
    assert ours.bound <= theirs.bound * (1 + 1e-6)
    assert ours.bound >= theirs.bound * (1 - 1e-5)


@pytest.mark.parametrize("slopes", [RELU, LEAKY, ABS, STEEP, (0.2, 0.9)])
def test_schur_formula_equals_a_loop_over_constraints(slopes: tuple[float, float]) -> None:
    problem = problem_of(chain(3, 4, 5, 2), slopes, RELU)
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.uniform(1, 2, problem.n_multipliers + 1))
    root = torch.tensor(rng.standard_normal((problem.order, problem.order)))
    inverse = root @ root.T
    units = torch.eye(len(x), dtype=torch.float64)
    constraints = [problem.linear(unit) for unit in units]
    products = [[(a @ inverse @ b * inverse).sum() for b in constraints] for a in constraints]
    expected = torch.stack([torch.stack(row) for row in products])
    gradient_expected = torch.stack([(a * inverse).sum() for a in constraints])
    if problem.guarded:
        expected[1:, 1:] += torch.diag(x[1:] ** -2)
        gradient_expected[1:] += 1 / x[1:]
    gradient, m = problem.derivatives(inverse, x)
    scale = float(expected.abs().max())
    assert float((m - expected).abs().max()) <= 1e-13 * scale
    assert float((gradient - gradient_expected).abs().max()) <= 1e-13 * float(gradient_expected.abs().max())


def test_matrix_inequality_is_that_of_the_certificate() -> None:
    weights = chain(3, 4, 5, 2)
    lmi = Lmi(tuple(weights), (STEEP, ABS))
    problem = Problem(lmi.weights, lmi.slopes)
    t = np.random.default_rng(0).uniform(1, 2, 9)
    difference = problem.matrix(torch.tensor([3.0, *t], dtype=torch.float64)).numpy() - dense_matrix(
        lmi, 3.0, split(lmi, t)
    )
    assert np.abs(difference).max() <= 1e-13


@pytest.mark.parametrize("slopes", [RELU, LEAKY, ABS, (0.0, 0.25)])
def test_every_state_of_the_ascent_is_dual_feasible(slopes: tuple[float, float]) -> None:
    a, b = slopes
    problem = problem_of(chain(5, 7, 6, 3), slopes, slopes)
    ascent = Ascent(problem, rank=4)
    for _ in range(30):
        ascent.sweep()
        rows = ascent.rows()
        assert abs(float(rows[0].norm()) - 1) <= 1e-12
        for weight, before, z in zip(problem.weights, rows, rows[1:], strict=False):
            y = weight @ before
            violation = ((z - a * y) * (b * y - z)).sum(dim=1)
            assert float(violation.abs().max()) <= 1e-12


def test_dual_values_stay_below_every_feasible_objective() -> None:
    weights = chain(6, 9, 8, 4)
    lmi = Lmi(tuple(weights), (RELU, RELU))
    ascent = Ascent(Problem(lmi.weights, lmi.slopes))
    for _ in range(300):
        ascent.sweep()
        assert ascent.lower <= sdp.certify(lmi, sdp.start(lmi)).rho
    assert ascent.lower <= sdp.solve_lmi(lmi, "structured", rtol=1e-8).rho


def test_gap_closes_and_complementarity_holds_at_the_end() -> None:
    problem = problem_of(conv_block(3))
    ascent = Ascent(problem)
    for _ in range(1000):
        ascent.sweep()
    ascent.settle()
    x = torch.cat([torch.tensor([ascent.lower], dtype=torch.float64), *ascent.multipliers])
    p, factor = problem.matrix(x), torch.cat(ascent.rows())
    assert float((p @ factor).norm()) <= 1e-6 * float(p.norm() * factor.norm())
    assert float(torch.linalg.eigvalsh(p)[0]) >= -1e-8 * float(p.norm())


@pytest.mark.parametrize(
    "weights",
    [chain(50, 50, 50, 50, 50), chain(80, 80, 80), conv_block(1), conv_block(4), conv_block(8), chain(30, *[20] * 8)],
    ids=["3x50", "1x80", "conv1", "conv4", "conv8", "7x20"],
)
def test_relative_gap_is_reached_within_thirty_iterations(weights: list[Array]) -> None:
    outcome = ascend(problem_of(weights), rtol=1e-5)
    assert outcome.gap <= 1e-5
    assert outcome.iterations <= 30
    solution = sdp.solve(weights, "structured", rtol=1e-5)
    assert solution.status == "ok"
    assert outcome.lower <= outcome.rho
    assert solution.slack == 0.0


@pytest.mark.parametrize("name", degenerate_networks())
def test_degenerate_networks_reach_the_gap_and_certify(name: str) -> None:
    lmi = Lmi(tuple(degenerate_networks()[name]), (RELU,) * (len(degenerate_networks()[name]) - 1))
    reduced, factors = sdp.reduce(lmi)
    proposal = structured.solve(reduced, rtol=1e-6, threads=1, max_seconds=None)
    restored = sdp.restore(proposal, factors)
    certified = sdp.certify(lmi, restored.multipliers, restored.rho)
    assert proposal.rho is not None
    lower = Ascent(problem_of(list(reduced.weights)))
    for _ in range(2000):
        lower.sweep()
    assert proposal.rho <= lower.lower * (1 + 1e-5)
    assert sdp.certify(reduced, proposal.multipliers).rho <= proposal.rho * (1 + 1e-5)
    assert np.isfinite(certified.bound)


def test_known_constants_are_met_from_above() -> None:
    networks = degenerate_networks()
    for name, constant in [("orthogonal", 1.0), ("identity", 1.0), ("diagonal", 42.0), ("one neuron", 6.0)]:
        bound = sdp.solve(networks[name], "structured", rtol=1e-7).bound
        assert bound >= constant
        assert bound <= constant * (1 + 1e-5)


def test_bound_is_never_below_the_norm_of_a_jacobian() -> None:
    weights = chain(3, 5, 4, 3)
    bound = sdp.solve(weights, "structured", rtol=1e-6).bound
    w_0, w_1, w_2 = weights
    for gates in itertools.product([0.0, 1.0], repeat=9):
        jacobian = w_2 @ np.diag(gates[5:]) @ w_1 @ np.diag(gates[:5]) @ w_0
        assert np.linalg.norm(jacobian, 2) <= bound


def test_scaling_the_weights_scales_the_bound() -> None:
    weights = chain(6, 7, 5, 3)
    bound = sdp.solve(weights, "structured", rtol=1e-7).bound
    for scale in (1e-6, 1e6):
        scaled = sdp.solve([scale * w for w in weights], "structured", rtol=1e-7).bound / scale**3
        assert abs(scaled - bound) <= 1e-6 * bound


def test_a_deep_network_that_decouples_is_left_to_newtons_method_before_long() -> None:
    diagonals = np.random.default_rng(1).uniform(0.1, 2, (12, 12))
    weights = [np.diag(d) for d in diagonals]
    reduced, factors = sdp.reduce(Lmi(tuple(weights), (RELU,) * 11))
    ascended = ascend(problem_of(list(reduced.weights)), rtol=1e-5)
    # rows underflow, what is divided by them does not
    assert factors[0] * ascended.lower <= np.prod(diagonals, axis=0).max() ** 2 * (1 + 1e-9)
    assert ascended.iterations < rounds.MAX_ROUNDS
    constant = np.prod(diagonals, axis=0).max()
    assert constant <= sdp.solve(weights, "structured", rtol=1e-5).bound <= constant * (1 + 1e-4)


def test_the_ascent_does_not_depend_on_the_scale_of_the_output() -> None:
    weights = [np.diag(d) for d in np.random.default_rng(1).uniform(0.1, 2, (8, 12))]
    gaps = []
    for scale in (2.0**-12, 1.0, 2.0**12):
        gaps.append(ascend(problem_of([*weights[:-1], scale * weights[-1]]), rtol=1e-5).gap)
    assert gaps[0] == gaps[1] == gaps[2]


def test_a_factor_of_too_low_rank_is_widened(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = chain(40, 40, 40, 40)
    narrow = Ascent(problem_of(weights), rank=1)
    for _ in range(500):
        narrow.sweep()
    optimum = ascend(problem_of(weights), rtol=1e-7)
    assert narrow.lower < optimum.lower * (1 - 1e-4)
    monkeypatch.setattr(Ascent.__init__, "__defaults__", (1,))
    assert ascend(problem_of(weights), rtol=1e-6).gap <= 1e-6


def test_newtons_method_alone_finds_the_same_optimum() -> None:
    for weights in (chain(10, 12, 8), chain(6, 8, 7, 5), conv_block(1, side=8)):
        by_newton = follow(problem_of(weights), start_of(weights), rtol=1e-6)
        by_ascent = ascend(problem_of(weights), rtol=1e-7)
        assert by_newton.gap <= 1e-6
        assert abs(by_newton.rho - by_ascent.rho) <= 2e-6 * by_ascent.rho


def test_dual_bounds_of_newtons_method_stay_below_the_optimum() -> None:
    weights = chain(6, 8, 7, 5)
    problem = problem_of(weights)
    optimum = ascend(problem, rtol=1e-8).rho
    rng = np.random.default_rng(0)
    first = start_of(weights)
    finite = 0
    for _ in range(20):
        t = first * torch.tensor(rng.uniform(1, 1.02, len(first)))
        model = Model(problem, torch.cat([torch.tensor([20.0], dtype=torch.float64) * optimum, t]))
        for mu in optimum * 10.0 ** np.arange(-4, 2):
            finite += np.isfinite(model.lower(mu))
            assert model.lower(mu) <= optimum
    assert finite > 0


def test_newtons_method_takes_over_where_the_ascent_stops_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "MAX_ROUNDS", 1)
    reduced, _ = sdp.reduce(Lmi(tuple(chain(20, 20, 20, 20)), (RELU, RELU)))
    proposal = structured.solve(reduced, rtol=1e-6, threads=1, max_seconds=None)
    assert "Newton" in proposal.message
    assert proposal.rho is not None
    problem = problem_of(list(reduced.weights))
    monkeypatch.setattr(rounds, "MAX_ROUNDS", 20)
    assert proposal.rho <= ascend(problem, rtol=1e-8).lower * (1 + 2e-6)


def test_newtons_method_is_left_out_where_its_memory_may_not_be_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    lmi = Lmi(tuple(chain(30, 30, 30, 30)), (RELU, RELU))
    monkeypatch.setattr(rounds, "MAX_ROUNDS", 3)
    with_newton = structured.solve(lmi, rtol=1e-6, threads=1, max_seconds=None)
    monkeypatch.setattr(structured, "memory_left_mb", lambda: 0.0)
    without = structured.solve(lmi, rtol=1e-6, threads=1, max_seconds=None)
    assert "no memory" in without.message
    assert with_newton.rho < without.rho
    assert sdp.certify(lmi, without.multipliers, without.rho).rho <= without.rho * (1 + 1e-9)


def test_the_memory_that_is_predicted_is_enough() -> None:
    weights = chain(400, 2000, 1500, 10)
    allowed = structured.memory_mb(Lmi(tuple(weights), (RELU, RELU)))
    measured = limits.call(sdp.solve, weights, "structured", 1e-3, limit=Limits(threads=1, max_memory_mb=allowed))
    assert measured.value.status == "ok"
    assert measured.peak_mb <= allowed


def test_the_widest_gap_tried_is_within_rtol_rounding_included(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = problem_of(chain(6, 6, 6))
    found = ascend(problem, rtol=1e-6)
    blocks = split(problem.lmi, found.multipliers)
    monkeypatch.setattr(openings, "GAPS", openings.GAPS[-1:])
    for rtol in np.geomspace(1e-4, 0.1, 200):
        opened = openings.open_within(problem.lmi, blocks, found.lower, rtol)
        assert opened is not None
        assert Outcome(*opened, found.lower, 1).gap <= rtol


@pytest.mark.parametrize("share", [1.0, 0.9, 0.3])
def test_multipliers_of_any_quality_are_opened_when_time_is_up(share: float) -> None:
    """The further from the optimum, the more is lost, and what is proved certifies."""
    problem = problem_of(conv_block(2))
    found = ascend(problem, rtol=1e-5)
    start = start_of(conv_block(2))
    blocks = split(problem.lmi, share * found.multipliers + (1 - share) * start)
    opened = openings.open_soon(problem.lmi, blocks, found.lower, Looks(problem.lmi), Deadline.after(60))
    if opened is None:
        assert share == 0.3
        return
    multipliers, rho = opened
    assert sdp.is_feasible(problem.lmi, rho, split(problem.lmi, multipliers.numpy()))
    assert rho >= found.lower
    assert share < 1 or rho <= found.lower * (1 + 1e-3)


def test_time_limit_returns_a_certified_bound_and_says_so() -> None:
    weights = chain(200, 200, 200, 200)
    begin = time.perf_counter()
    solution = sdp.solve(weights, "structured", rtol=1e-9, max_seconds=0.01)
    assert solution.status == "time_limit"
    assert time.perf_counter() - begin < 5
    full = sdp.solve(weights, "structured", rtol=1e-6)
    assert full.bound * (1 - 1e-6) <= solution.bound
    assert solution.bound < np.prod([np.linalg.norm(w, 2) for w in weights])


@pytest.mark.parametrize("weights", [chain(30, 30, 30, 30), conv_block(3), chain(12, 12, 1, 12, 4)])
def test_even_without_time_the_multipliers_certify_and_beat_the_start(weights: list[Array]) -> None:
    lmi, _ = sdp.reduce(Lmi(tuple(weights), (RELU,) * (len(weights) - 1)))
    proposal = structured.solve(lmi, rtol=1e-6, threads=1, max_seconds=0.0)
    certified = sdp.certify(lmi, proposal.multipliers)
    assert proposal.status == "time_limit"
    assert certified.slack == 0.0
    assert certified.rho < sdp.certify(lmi, sdp.start(lmi)).rho


def test_predicted_memory_over_the_limit_is_refused_before_solving() -> None:
    lmi = Lmi(tuple(chain(50, 50, 50)), (RELU,))
    with pytest.raises(LimitExceeded, match="needs about"):
        sdp.solve_lmi(lmi, "structured", max_memory_mb=10)
    assert structured.memory_mb(Lmi(tuple(chain(100, 100, 100)), (RELU,))) > structured.memory_mb(lmi)


def test_result_is_identical_on_repeat() -> None:
    weights = conv_block(3)
    first, second = (sdp.solve(weights, "structured", rtol=1e-5) for _ in range(2))
    assert first.bound == second.bound
    assert all((a == b).all() for a, b in zip(first.multipliers, second.multipliers, strict=True))


def test_networks_without_hidden_neurons_that_matter_are_solved() -> None:
    w_0, w_1 = chain(4, 5, 3)
    linear = sdp.solve([w_0], "structured").bound
    assert np.linalg.norm(w_0, 2) <= linear <= np.linalg.norm(w_0, 2) * (1 + 1e-6)
    assert sdp.solve([w_0, 0 * w_1], "structured").bound <= 1e-4


def test_left_out_neurons_get_multipliers_that_cost_nothing() -> None:
    weights = degenerate_networks()["dead neurons"]
    lmi = Lmi(tuple(weights), (RELU, RELU))
    alive = [np.arange(10)[(weights[0] != 0).any(axis=1) & (weights[1] != 0).any(axis=0)]]
    alive.append(np.arange(9)[(weights[1] != 0).any(axis=1) & (weights[2] != 0).any(axis=0)])
    small = [weights[0][alive[0]], weights[1][np.ix_(alive[1], alive[0])], weights[2][:, alive[1]]]
    assert sum(map(len, alive)) < 19
    with_dead = sdp.solve_lmi(lmi, "structured", rtol=1e-7).bound
    without = sdp.solve(small, "structured", rtol=1e-7).bound
    assert abs(with_dead - without) <= 1e-6 * without


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no cuda device here")
def test_cuda_gives_the_same_bound() -> None:
    for weights in (chain(8, 9, 7, 4), conv_block(3)):
        on_gpu = sdp.solve(weights, "structured", rtol=1e-7, device="cuda").bound
        assert abs(on_gpu - sdp.solve(weights, "structured", rtol=1e-7).bound) <= 1e-6 * on_gpu


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a cuda device here")
def test_a_device_that_is_not_there_is_refused_in_words() -> None:
    with pytest.raises(SolverUnavailable, match="no cuda device"):
        sdp.solve(chain(8, 9, 7, 4), "structured", device="cuda")


@pytest.mark.parametrize("max_rounds", [1, 20], ids=["newton", "ascent"])
def test_every_tensor_is_made_on_the_device_asked_for(max_rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "MAX_ROUNDS", max_rounds)
    weights = chain(20, 20, 20, 20)
    bound = sdp.solve(weights, "structured", rtol=1e-7).bound
    with torch.device("meta"):  # one made without a device would have no values
        assert sdp.solve(weights, "structured", rtol=1e-7).bound == bound


def test_threads_of_torch_are_restored() -> None:
    before = torch.get_num_threads()
    sdp.solve(chain(4, 5, 3), "structured", threads=before + 1)
    assert torch.get_num_threads() == before


def test_verbose_prints_a_line_an_iteration(capsys: pytest.CaptureFixture[str]) -> None:
    solution = sdp.solve(chain(20, 20, 20), "structured", verbose=True)
    assert solution.iterations is not None
    assert capsys.readouterr().out.count("gap") == solution.iterations
    assert not logging.getLogger("certlip.sdp.structured").handlers
