"""Ascent on the dual of LipSDP in low-rank form: as cheap as power iteration, and its multipliers are closed formulas.

Dual of min rho s.t. P(rho, T) >= 0: maximise |W_L z_L|^2 over Z = V V' with rows x (input) and z_k (neurons) of V in
R^r, |x| = 1 and, for neuron k with input y_k and slopes [a, b], (z_k - a y_k)'(b y_k - z_k) = 0: z_k lies on the sphere
with diameter from a y_k to b y_k, so with a unit vector s_k

    z_k = m y_k + h |y_k| s_k,    m = (a + b) / 2,  h = (b - a) / 2.

Every choice of x and s_k is feasible: its value is a lower bound on rho. Stationarity P V = 0 read row by row gives,
with u_k the gradient of the value in z_k, s_k = u_k / |u_k|, t_k = |u_k| / (2 h |y_k|), and backwards
u_{i-1} = W' (m u + h |u| y / |y|). A sweep computes the rows forwards, then s and T backwards; sweeps are extrapolated
(Nesterov) and the extrapolation restarts when the value falls. At the optimum T solves the primal.

The rank-r factor instead of Z is Burer and Monteiro's (Math. Program. 95, 2003): no spurious maxima once
r (r + 1) / 2 exceeds the number of neurons, in practice for r a little above the rank of Z, which is below ten here.
"""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from certlip.sdp.structured.barrier import Spectrum
from certlip.sdp.structured.outcome import Outcome
from certlip.sdp.structured.problem import Problem

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

RANK = 16
FIRST_ROUND, GROWTH, MAX_ROUNDS = 10, 1.3, 20
"""Sweeps of the first round, their growth from round to round, and the last round: 6,000 sweeps in all."""
OPENINGS = (0.1, 1e-3, 1.0, 10.0, 100.0)
"""Shares of rtol given up for strict feasibility: optimal multipliers may lie on the boundary. The first is enough
unless the ascent has converged and the gap is still open: then all are tried in turn."""
DENSE = 0.3
"""A layer with a larger share of nonzeros is multiplied densely."""
PLAIN_SWEEPS = 5
TINY = 1e-300
VANISHED = 1e-10
"""A neuron whose input is smaller than this times its layer's keeps its multiplier: the quotient is noise."""


class Ascent:
    """State of the ascent.

    inputs: x, (n_0, r); directions: s of each hidden layer, (n_i, r), rows of norm one; multipliers: T_1..T_L of the
    last `settle`; lower: largest value so far, a lower bound on rho up to rounding.
    """

    def __init__(self, problem: Problem, rank: int | None = None) -> None:
        rank = RANK if rank is None else rank
        self._random = np.random.default_rng(0)
        self._like = problem.cost
        self.slopes = problem.slopes
        self._layers = [(_thin(w), _thin(w.T)) for w in problem.weights]
        self.inputs = self._sample(problem.n_0, rank)
        self.inputs /= self.inputs.norm()
        self.directions = [_unit(self._sample(s.stop - s.start, rank)) for s in problem.blocks[1:]]
        self.multipliers = [self._like.new_ones(len(s)) for s in self.directions]
        self.lower = 0.0
        self._age, self._last_value = 0, -math.inf
        self._last_inputs, self._last_directions = self.inputs, self.directions
        self.settle()

    @property
    def rank(self) -> int:
        return self.inputs.shape[1]

    @property
    def saturated(self) -> bool:
        """Whether the factor uses all its columns: then a lower rank than the optimum's may hold the value down."""
        singular_values = np.linalg.svd(self.inputs.cpu().numpy(), compute_uv=False)
        return len(singular_values) == self.rank and bool(singular_values[-1] > 1e-3 * singular_values[0])

    def rows(self) -> list[Tensor]:
        """x, z_1, ..., z_L: the blocks of the factor V, (n_i, r)."""
        return self._forward(self.inputs, self.directions)[0]

    def sweep(self) -> None:
        """One improvement of all rows, extrapolated."""
        value, inputs, directions, _ = self._improve(self.inputs, self.directions)
        if value < self._last_value:
            self._restart()
        self._last_value = value
        self.lower = max(self.lower, value)
        momentum = self._age / (self._age + 3)
        self._age += 1
        self.inputs = inputs + momentum * (inputs - self._last_inputs)
        self.inputs /= self.inputs.norm()
        pairs = zip(directions, self._last_directions, strict=True)
        self.directions = [_unit(new + momentum * (new - old)) for new, old in pairs]
        self._last_inputs, self._last_directions = inputs, directions

    def settle(self) -> None:
        """Read the multipliers off a few plain sweeps from here; the state of the ascent stays.

        Extrapolation makes what dies out swing through zero, and the quotients of those neurons meaningless.
        """
        inputs, directions = self.inputs, self.directions
        for _ in range(PLAIN_SWEEPS):
            value, inputs, directions, quotients = self._improve(inputs, directions)
            self.lower = max(self.lower, value)
        self.multipliers = [
            t.where(present, old) for (t, present), old in zip(quotients, self.multipliers, strict=True)
        ]

    def widen(self) -> None:
        """Double the rank, the new columns small and random: a way out of a maximum that only low rank makes."""
        self.inputs = self._widened(self.inputs)
        self.inputs /= self.inputs.norm()
        self.directions = [_unit(self._widened(s)) for s in self.directions]
        self._restart()

    def _restart(self) -> None:
        self._age, self._last_value = 0, -math.inf
        self._last_inputs, self._last_directions = self.inputs, self.directions

    def _improve(
        self, inputs: Tensor, directions: list[Tensor]
    ) -> tuple[float, Tensor, list[Tensor], list[tuple[Tensor, Tensor]]]:
        """Value, better x and s, and for each layer the multipliers with a mask of those that mean something."""
        rows, forward = self._forward(inputs, directions)
        weight, transposed = self._layers[-1]
        output = weight @ rows[-1]
        u = transposed @ output
        improved, quotients = [], []
        for i in reversed(range(len(forward))):
            (y, norms), (a, b) = forward[i], self.slopes[i]
            m, h = (a + b) / 2, (b - a) / 2
            sizes, divisors = u.norm(dim=1, keepdim=True), norms.clamp_min(TINY)
            improved.append(u / sizes.clamp_min(TINY))
            quotients.append(((sizes / divisors / (2 * h))[:, 0], (norms > VANISHED * norms.max())[:, 0]))
            u = self._layers[i][1] @ (m * u + h * sizes * (y / divisors))
        return float(output.square().sum()), u / u.norm(), improved[::-1], quotients[::-1]

    def _forward(self, inputs: Tensor, directions: list[Tensor]) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]]]:
        """Rows z of each block, and for each hidden layer its input y with the norms of its rows."""
        rows, forward = [inputs], []
        for (weight, _), (a, b), s in zip(self._layers, self.slopes, directions, strict=False):
            y = weight @ rows[-1]
            norms = y.norm(dim=1, keepdim=True)
            forward.append((y, norms))
            rows.append((a + b) / 2 * y + (b - a) / 2 * norms * s)
        return rows, forward

    def _sample(self, rows: int, columns: int) -> Tensor:
        return self._like.new_tensor(self._random.standard_normal((rows, columns)))

    def _widened(self, rows: Tensor) -> Tensor:
        import torch

        noise = 0.01 * self._sample(*rows.shape)
        return torch.cat([rows, noise * rows.norm(dim=1, keepdim=True)], dim=1)


def ascend(
    problem: Problem,
    start: Tensor,
    rtol: float,
    max_seconds: float | None = None,
    max_rounds: int = MAX_ROUNDS,
) -> Outcome:
    """Rounds of sweeps, each followed by a comparison of both bounds, until they are within rtol.

    start: strictly feasible multipliers, (m,). Outcome.iterations counts rounds.
    """
    begin = time.perf_counter()
    ascent = Ascent(problem)
    best, rho = start, math.inf
    for n_rounds in range(1, MAX_ROUNDS + 1):
        before = ascent.lower
        for _ in range(int(FIRST_ROUND * GROWTH ** (n_rounds - 1))):
            ascent.sweep()
            late = max_seconds is not None and time.perf_counter() - begin > max_seconds
            if late:
                break
        ascent.settle()
        progress = (ascent.lower - before) / ascent.lower
        if progress <= rtol or late or n_rounds == MAX_ROUNDS:
            openings = OPENINGS if progress <= 0.01 * rtol else OPENINGS[:1]
            multipliers, top = _opened(problem, ascent, openings, rtol)
            best, rho = (multipliers, top) if top < rho else (best, rho)
        outcome = Outcome(best, rho, ascent.lower, n_rounds, "time_limit" if late else "ok")
        log.info("round %2d  lower %.9g  gap %.1e  rank %d", n_rounds, ascent.lower, outcome.gap, ascent.rank)
        if late or outcome.gap <= rtol:
            return outcome
        if progress <= rtol and ascent.saturated:
            ascent.widen()
    return outcome


def _opened(problem: Problem, ascent: Ascent, openings: Sequence[float], rtol: float) -> tuple[Tensor, float]:
    """Strictly feasible multipliers near those of the ascent, and their smallest rho, infinite if none were found.

    With f > 1 the multipliers f^(L+1-i) T_i are feasible with f^(L+1) rho for all weights times sqrt(f), as a layer's
    scale moves through the chain. The given weights lie strictly inside of that: scaling the couplings of P down is
    averaging P with its own sign changes.
    """
    import torch

    blocks = ascent.multipliers
    n_layers = len(blocks) + 1
    # about what certify.py will ask for: an error of `order` roundings in each entry of each row
    shift = 8 * problem.order**2 * 2.0**-53
    best, rho = torch.cat(blocks), math.inf
    for share in openings:
        factor = (1 + share * rtol) ** (1 / n_layers)
        multipliers = torch.cat([t * factor ** (n_layers - i) for i, t in enumerate(blocks, start=1)])
        spectrum = Spectrum(problem, multipliers, shift)
        if spectrum.feasible and float(spectrum.eigenvalues[-1]) < rho:
            best, rho = multipliers, float(spectrum.eigenvalues[-1])
        if rho - ascent.lower <= rtol * rho:
            break
    return best, rho


def _unit(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=1, keepdim=True).clamp_min(TINY)


def _thin(weight: Tensor) -> Tensor:
    """The fastest form for products with a few columns."""
    if int(weight.count_nonzero()) > DENSE * weight.numel():
        return weight.contiguous()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        return weight.to_sparse_csr()
