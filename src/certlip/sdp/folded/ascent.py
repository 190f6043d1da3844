"""Low-rank ascent on the dual of the joint program: `certlip.sdp.structured.ascent` with inputs that share their norms.

The dual of min max_p D^0(p) maximises the sum over the last stage's blocks of |W_L z_L|^2, where

    sum_p sigma_p^2 = 1,   |x_j(p)|^2 = sum of sigma_p^2 over the patches of block j     in the first stage,
                           |x_j(p)|^2 = sum of |y(p)|^2 over them                        after a stage with outputs y,

besides what holds in each block. So each row of x_j is a given norm times a free unit vector. The best one has the
direction of the gradient g_j(p), the multiplier of its norm is d_j(p) = |g_j(p)| / |x_j(p)|, the gradient in y(p) is
D(p) y(p), and sigma_p <- sigma_p D^0(p), scaled to norm one, never lowers the linearised value (Cauchy's inequality
bounds the root of a sum of squares from below, with equality here). At a fixed point D^0(p) is the same for all
sigma_p > 0 and at most that elsewhere, and (d, T) solves the primal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from certlip.network import Array
from certlip.proof.lmi import Multipliers
from certlip.sdp.folded.copies import Copies
from certlip.sdp.folded.problem import Stage
from certlip.sdp.structured.rows import PLAIN_SWEEPS, RANK, TINY, unit

if TYPE_CHECKING:
    from torch import Tensor

FLOOR = 1e-5
"""Share of its root mean square below which no norm falls. What plays no part in the optimum stays there, and so do the
norms that its metrics and multipliers are read from: far above `VANISHED`. The dual value loses the square of it."""


class Level:
    """A stage with its blocks' rows on torch tensors; divisor: of the last matrices, near their largest norm."""

    def __init__(self, stage: Stage) -> None:
        import torch

        self.stage = stage
        groups: dict[tuple, list[int]] = {}
        for position, block in enumerate(stage.blocks):
            groups.setdefault(tuple(w.tobytes() for w in block.lmi.weights), []).append(position)
        largest = max(float(np.linalg.norm(block.lmi.weights[-1])) for block in stage.blocks)
        self.divisor = 2.0 ** round(math.log2(largest)) if largest > 0 else 1.0
        self.copies = [
            Copies([stage.blocks[i] for i in g], g, stage.blocks[g[0]].lmi.weights[-1] * (stage.scale / self.divisor))
            for g in groups.values()
        ]
        self.reads = [[torch.tensor(block.reads) for block in c.blocks] for c in self.copies]
        self.writes = [torch.tensor(np.stack([block.writes[0] for block in c.blocks], axis=1)) for c in self.copies]
        self.metrics: list[Tensor] = []

    def norms(self, squares: Tensor) -> list[Tensor]:
        """|x_j(p)| of each `Copies`, (n_0, n_copies), from squares over the stage's input."""
        import torch

        return [torch.stack([squares[i].sum(dim=0) for i in reads], dim=1).sqrt() for reads in self.reads]

    def load(self, metrics: Sequence[Tensor]) -> Tensor:
        """D of the metrics of each `Copies`, (n_0, n_copies)."""
        load = metrics[0].new_zeros(self.stage.n_in)
        for reads, metric in zip(self.reads, metrics, strict=True):
            for k, index in enumerate(reads):
                load.index_add_(0, index.flatten(), metric[:, k].expand(index.shape).flatten())
        return load


class Ascent:
    """State of the ascent; lower: largest value so far, in the problem's units a lower bound on max_p D^0(p)."""

    def __init__(self, stages: Sequence[Stage], rank: int = RANK) -> None:
        self._random = np.random.default_rng(0)
        self.levels = [Level(stage) for stage in stages]
        # metrics and multipliers of a level in the problem's units, but for its scale
        self._factors = [float(f) for f in np.cumprod([level.divisor**2 for level in self.levels][::-1])[::-1]]
        self._covered = self.levels[0].load([self._ones(c.n_in, len(c.blocks)) for c in self.levels[0].copies]) > 0
        # sigma, then for each `Copies` its unit vectors and the directions of its hidden layers, rows of norm one
        shapes = [(n, len(c.blocks), rank) for level in self.levels for c in level.copies for n in (c.n_in, *c.hidden)]
        self.state = [self._normalised(self._ones(stages[0].n_in)), *(unit(self._sample(*s)) for s in shapes)]
        self.lower = 0.0
        self._age, self._last_value, self._last = 0, -math.inf, self.state
        self.settle()

    @property
    def rank(self) -> int:
        return int(self.state[1].shape[-1])

    def sweep(self) -> None:
        """One improvement of all rows, extrapolated."""
        value, improved = self._improve(self.state)
        if value < self._last_value:
            self._restart()
        self._last_value = value
        momentum = self._age / (self._age + 3)
        self._age += 1
        ahead = [new + momentum * (new - old) for new, old in zip(improved, self._last, strict=True)]
        self.state = [self._normalised(ahead[0]), *map(unit, ahead[1:])]
        self._last = improved

    def settle(self) -> None:
        """Read metrics and multipliers off a few plain sweeps from here; the state of the ascent stays."""
        state = self.state
        for _ in range(PLAIN_SWEEPS):
            _, state = self._improve(state, keep=True)

    def widen(self) -> None:
        """Double the rank, the new columns small and random: a way out of a maximum that only low rank makes."""
        import torch

        rows = [torch.cat([s, 0.01 * self._sample(*s.shape)], dim=-1) for s in self.state[1:]]
        self.state = [self.state[0], *map(unit, rows)]
        self._restart()

    def proposal(self) -> list[list[tuple[Array, Multipliers]]]:
        """(d, T) of each block of each stage, as of the last `settle`."""
        found = []
        for level, factor in zip(self.levels, self._factors, strict=True):
            blocks: list[tuple[Array, Multipliers]] = [(np.zeros(0), ())] * len(level.stage.blocks)
            for copies, metric in zip(level.copies, level.metrics, strict=True):
                for k, position in enumerate(copies.positions):
                    share = factor / level.stage.scale**2
                    blocks[position] = share * metric[:, k].numpy(), copies.restore(k, share)
            found.append(blocks)
        return found

    def _improve(self, state: list[Tensor], keep: bool = False) -> tuple[float, list[Tensor]]:
        """Value of a state, and a better one; keep: remember the metrics and multipliers."""
        import torch

        sigma, rows = state[0], iter(state[1:])
        squares, passes = sigma.square(), []
        for level in self.levels:
            norms = level.norms(squares)
            outputs, traces = [], []
            for copies, norm in zip(level.copies, norms, strict=True):
                x = norm[..., None] * next(rows)
                output, trace = copies.forward(x, [next(rows) for _ in copies.hidden])
                outputs.append(output)
                traces.append(trace)
            passes.append((norms, outputs, traces))
            if level is not self.levels[-1]:
                squares = torch.cat([o.square().sum(dim=2).flatten() for o in outputs])
                squares = torch.zeros_like(squares).scatter_(0, torch.cat([w.flatten() for w in level.writes]), squares)
                squares = squares.clamp_min(FLOOR**2 * float(squares.mean()) + TINY)
        value = sum(float(output.square().sum()) for output in passes[-1][1])
        self.lower = max(self.lower, value * self._factors[0])
        improved: list[Tensor] = []
        load: Tensor | None = None
        for level, (norms, outputs, traces) in zip(self.levels[::-1], passes[::-1], strict=True):
            found, metrics = [], []
            for copies, writes, norm, output, trace in zip(
                level.copies, level.writes, norms, outputs, traces, strict=True
            ):
                u = output if load is None else load[writes][..., None] * output
                gradient, directions, quotients = copies.backward(u, trace)
                metrics.append(gradient.norm(dim=2) / norm.clamp_min(TINY))
                found += [unit(gradient), *directions]
                if keep:
                    copies.keep(quotients)
            if keep:
                level.metrics = metrics
            improved = found + improved
            load = level.load(metrics)
        assert load is not None
        return value, [self._normalised(sigma * load), *improved]

    def _restart(self) -> None:
        self._age, self._last_value, self._last = 0, -math.inf, self.state

    def _normalised(self, sigma: Tensor) -> Tensor:
        floor = FLOOR * float(sigma.norm()) / math.sqrt(len(sigma)) + TINY
        sigma = sigma.clamp_min(floor) * self._covered
        return sigma / sigma.norm().clamp_min(TINY)

    def _ones(self, *shape: int) -> Tensor:
        import torch

        return torch.ones(shape, dtype=torch.float64)

    def _sample(self, *shape: int) -> Tensor:
        import torch

        return torch.tensor(self._random.standard_normal(tuple(shape)))
