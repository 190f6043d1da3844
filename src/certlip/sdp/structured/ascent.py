"""Ascent on the dual of LipSDP in low-rank form: as cheap as power iteration, multipliers in closed form.

Dual of min rho s.t. P(rho, T) >= 0: maximise |W_L z_L|^2 over Z = V V' where V has the rows x (input) and z_k
(neurons), vectors in R^r, with |x| = 1 and, for neuron k with input y_k and slopes [a, b],
(z_k - a y_k)'(b y_k - z_k) = 0: z_k lies on the sphere with diameter from a y_k to b y_k, so with a unit
vector s_k

    z_k = m y_k + h |y_k| s_k,    m = (a + b) / 2,  h = (b - a) / 2.

Every choice of x and s_k is feasible: its value is a lower bound on rho. Stationarity P V = 0 read row by
row, with u_k the gradient of the value in z_k, gives s_k = u_k / |u_k|, t_k = |u_k| / (2 h |y_k|), and
backwards u_{i-1} = W' (m u + h |u| y / |y|). A sweep computes the rows forwards, then s and T backwards;
sweeps are extrapolated (Nesterov), and the extrapolation restarts when the value falls. At the optimum T
solves the primal. A neuron with h = 0 only carries its value: t_k is computed from a small h
(`certlip.network.slopes.NARROW`).

A factor of r columns in place of Z is Burer and Monteiro's idea (Math. Program. 95, 2003). Generically there
are no spurious maxima once r (r + 1) / 2 exceeds the number of neurons (Boumal, Voroninski, Bandeira, NIPS
2016); measured, an r just above the rank of Z is enough, and that rank was at most ten up to order 1600. A
low r costs no soundness: the gap to the primal shows.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from certlip.sdp.structured.problem import Problem
from certlip.sdp.structured.rows import PLAIN_SWEEPS, RANK, TINY, VANISHED, spheres, thin, unit

if TYPE_CHECKING:
    from torch import Tensor


class Ascent:
    """State of the ascent.

    inputs: x, (n_0, r); directions: s of each hidden layer, (n_i, r), rows of norm one; multipliers: T_1..T_L
    of the last `settle`; lower: largest value so far, a lower bound on rho up to rounding.
    """

    def __init__(self, problem: Problem, rank: int = RANK) -> None:
        self._random = np.random.default_rng(0)
        self._like = problem.weights[-1]
        self._spheres = [spheres(slopes, self._like) for slopes in problem.slopes]
        self._layers = [(thin(w), thin(w.T)) for w in problem.weights]
        self.inputs = self._sample(problem.n_0, rank)
        self.inputs /= self.inputs.norm()
        self.directions = [unit(self._sample(s.stop - s.start, rank)) for s in problem.blocks[1:]]
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
        """Whether the factor uses all its columns, so that a higher rank might do better."""
        gram = sum((z.T @ z).cpu().numpy() for z in self.rows())
        squares = np.linalg.eigvalsh(gram)
        return bool(squares[0] > 1e-6 * squares[-1])

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
        self.directions = [unit(new + momentum * (new - old)) for new, old in pairs]
        self._last_inputs, self._last_directions = inputs, directions

    def settle(self) -> None:
        """Read the multipliers off a few plain sweeps from here; the state of the ascent stays.

        Extrapolation makes what dies out swing through zero, and the quotients of those neurons meaningless.
        """
        inputs, directions = self.inputs, self.directions
        for _ in range(PLAIN_SWEEPS):
            value, inputs, directions, quotients = self._improve(inputs, directions)
            self.lower = max(self.lower, value)
            pairs = zip(quotients, self.multipliers, strict=True)
            self.multipliers = [t.where(present, old) for (t, present), old in pairs]

    def widen(self) -> None:
        """Double the rank, new columns small and random: a way out of maxima that only low rank makes."""
        self.inputs = self._widened(self.inputs)
        self.inputs /= self.inputs.norm()
        self.directions = [unit(self._widened(s)) for s in self.directions]
        self._restart()

    def _restart(self) -> None:
        self._age, self._last_value = 0, -math.inf
        self._last_inputs, self._last_directions = self.inputs, self.directions

    def _improve(
        self, inputs: Tensor, directions: list[Tensor]
    ) -> tuple[float, Tensor, list[Tensor], list[tuple[Tensor, Tensor]]]:
        """Value, better x and s, and for each layer the multipliers with a mask of the meaningful ones."""
        rows, forward = self._forward(inputs, directions)
        weight, transposed = self._layers[-1]
        output = weight @ rows[-1]
        u = transposed @ output
        improved, quotients = [], []
        for i in reversed(range(len(forward))):
            (y, norms), (m, h, h_divisor) = forward[i], self._spheres[i]
            sizes, divisors = u.norm(dim=1, keepdim=True), norms.clamp_min(TINY)
            improved.append(u / sizes.clamp_min(TINY))
            quotients.append(((sizes / divisors / (2 * h_divisor))[:, 0], (norms > VANISHED * norms.max())[:, 0]))
            u = self._layers[i][1] @ (m * u + h * sizes * (y / divisors))
        return float(output.square().sum()), u / u.norm(), improved[::-1], quotients[::-1]

    def _forward(self, inputs: Tensor, directions: list[Tensor]) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]]]:
        """Rows z of each block, and for each hidden layer its input y with the norms of its rows."""
        rows, forward = [inputs], []
        for (weight, _), (m, h, _), s in zip(self._layers, self._spheres, directions, strict=False):
            y = weight @ rows[-1]
            norms = y.norm(dim=1, keepdim=True)
            forward.append((y, norms))
            rows.append(m * y + h * norms * s)
        return rows, forward

    def _sample(self, rows: int, columns: int) -> Tensor:
        return self._like.new_tensor(self._random.standard_normal((rows, columns)))

    def _widened(self, rows: Tensor) -> Tensor:
        import torch

        noise = 0.01 * self._sample(*rows.shape)
        return torch.cat([rows, noise * rows.norm(dim=1, keepdim=True)], dim=1)
