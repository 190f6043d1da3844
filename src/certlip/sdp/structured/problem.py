"""The LipSDP matrix inequality on torch tensors, and the closed-form derivatives of its log-determinant.

With e_k the unit vector of neuron k, w_k its input row placed in the block before, and slopes [a, b], the
matrix that multiplies t_k has rank two:

    A_k = p_k q_k' + q_k p_k',    p_k = e_k - a w_k,    q_k = e_k - b w_k,

so with X = P^-1 and U = Q' X P the gradient of log det P is 2 U_kk and its Hessian is minus

    M_kl = tr(A_k X A_l X) = 2 (U_kl U_lk + (Q'XQ)_kl (P'XP)_kl):

products of order m, no loop over constraints (METHODS.md, section 6, with Z replaced by X).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from certlip.network import Array
from certlip.network.slopes import Slopes, are_narrow, widened
from certlip.proof.lmi import Lmi
from certlip.sdp.structured.rows import as_rows

if TYPE_CHECKING:
    from torch import Tensor


class Problem:
    """P(rho, T) = rho E_0 + sum_k t_k A_k - C as dense float64 tensors.

    weights: W_0..W_L; slopes: (a, b) of each hidden layer; device: ``cpu`` or ``cuda``; lmi: the same by its blocks.
    A point is a vector x = (rho, t_1, ..., t_m). P has the slopes `widened`: a multiplier would tend to infinity
    otherwise; n_narrow: layers where they differ, so that a dual bound with them is none for the given ones.
    """

    def __init__(self, weights: Sequence[Array], slopes: Sequence[Slopes], device: str = "cpu") -> None:
        import torch

        def tensor(values: Array) -> Tensor:
            return torch.tensor(np.ascontiguousarray(values), dtype=torch.float64, device=device)

        self.lmi = Lmi(tuple(weights), tuple(slopes))
        self.weights = [tensor(w) for w in weights]
        self.slopes = list(slopes)
        self._wide = [widened(pair) for pair in slopes]
        self.n_narrow = sum(map(are_narrow, slopes))
        sizes = [w.shape[1] for w in weights]
        starts = [0, *itertools.accumulate(sizes)]
        self.n_0, self.order = sizes[0], starts[-1]
        self.n_multipliers = self.order - self.n_0
        self.blocks = [slice(i, j) for i, j in itertools.pairwise(starts)]
        ends = [np.broadcast_arrays(*pair, np.zeros(n))[:2] for pair, n in zip(self._wide, sizes[1:], strict=True)]
        self.a, self.b = (tensor(np.concatenate(parts)) for parts in zip(*ends, strict=True))
        # with slopes of one sign P > 0 does not imply T > 0, so T > 0 joins the barrier
        self.guarded = bool((self.a * self.b > 0).any())
        self.barrier_degree = self.order + (self.n_multipliers if self.guarded else 0)

    @cached_property
    def cost(self) -> Tensor:
        """C, W_L' W_L in the block of the last layer."""
        return self.weights[-1].T @ self.weights[-1]

    def multipliers(self, x: Tensor) -> list[Tensor]:
        """T_1..T_L of a point."""
        return [x[1 + s.start - self.n_0 : 1 + s.stop - self.n_0] for s in self.blocks[1:]]

    def linear(self, x: Tensor) -> Tensor:
        """rho E_0 + sum_k t_k A_k, a symmetric (order, order) tensor."""
        p = x.new_zeros((self.order, self.order))
        p.diagonal()[: self.n_0] = x[0]
        p.diagonal()[self.n_0 :] = 2 * x[1:]
        pairs = zip(self.multipliers(x), self.weights, self._wide, self.blocks, self.blocks[1:], strict=False)
        for t, weight, (a, b), before, here in pairs:
            product, total = as_rows(2 * a * b, x), as_rows(a + b, x)
            tw = t[:, None] * weight
            if not isinstance(product, float):
                p[before, before] += weight.T @ (product * tw)
            elif product:
                p[before, before] += product * (weight.T @ tw)
            p[here, before] = -total * tw
            p[before, here] = p[here, before].T
        return p

    def matrix(self, x: Tensor) -> Tensor:
        """P(rho, T)."""
        p = self.linear(x)
        last = self.blocks[-1]
        p[last, last] -= self.cost
        return p

    def inputs_of(self, y: Tensor) -> Tensor:
        """Rows w_k' y for all neurons: (order, n) -> (n_multipliers, n)."""
        out = y.new_empty((self.n_multipliers, y.shape[1]))
        for weight, before, here in zip(self.weights, self.blocks, self.blocks[1:], strict=False):
            out[here.start - self.n_0 : here.stop - self.n_0] = weight @ y[before]
        return out

    def derivatives(self, inverse: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient of the barrier log det P (+ sum log t) and minus its Hessian at a point; inverse: P^-1."""
        import torch

        hidden = slice(self.n_0, None)
        wx = self.inputs_of(inverse)
        wxw = self.inputs_of(wx.T.contiguous())
        exw = wx[:, hidden].T
        exe = inverse[hidden, hidden]
        a, b = self.a, self.b
        u = exe - exw * a - b[:, None] * exw.T + b[:, None] * wxw * a
        m = x.new_empty((self.n_multipliers + 1,) * 2)
        inner = m[1:, 1:]
        qxq = exe - exw * b - b[:, None] * exw.T + b[:, None] * wxw * b
        pxp = exe - exw * a - a[:, None] * exw.T + a[:, None] * wxw * a if bool(a.any()) else exe
        torch.mul(qxq, pxp, out=inner)
        inner += u * u.T
        inner *= 2
        head = inverse[: self.n_0, : self.n_0]
        ex, wx0 = inverse[hidden, : self.n_0], wx[:, : self.n_0]
        m[0, 0] = (head * head).sum()
        m[0, 1:] = 2 * ((ex - b[:, None] * wx0) * (ex - a[:, None] * wx0)).sum(dim=1)
        m[1:, 0] = m[0, 1:]
        gradient = torch.cat([head.diagonal().sum()[None], 2 * u.diagonal()])
        if self.guarded:
            gradient[1:] += 1 / x[1:]
            inner.diagonal().add_(x[1:] ** -2)
        return gradient, m
