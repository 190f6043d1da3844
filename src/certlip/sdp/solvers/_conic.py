"""The matrix inequality as general solvers want it, vec P = vec C + A (rho, T), sparse; and the call of CVXPY."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cache
from importlib import import_module, metadata
from typing import Any

import numpy as np
from scipy import sparse

from certlip.base.errors import LimitExceeded, SolverFailed
from certlip.base.limits import is_out_of_memory
from certlip.network import Array
from certlip.network.slopes import widened
from certlip.proof.lmi import Lmi
from certlip.sdp.dense import dense_matrix, split
from certlip.sdp.solvers import Proposal


def constant_part(lmi: Lmi) -> Array:
    """P(0, 0), the part without variables: minus W_L' W_L in its last block."""
    return dense_matrix(lmi, 0.0, tuple(np.zeros(n) for n in lmi.sizes[1:]))


def coefficients(lmi: Lmi) -> sparse.csc_array:
    """Sparse (order^2, 1 + n_multipliers) matrix of the derivatives of vec P with respect to rho and each T_k.

    The slopes are `widened`: a multiplier would tend to infinity otherwise.
    """
    n = lmi.order
    diagonal = np.arange(lmi.sizes[0]) * (n + 1)
    rows, columns, values = [diagonal], [np.zeros_like(diagonal)], [np.ones(lmi.sizes[0])]
    variable = 1
    for i, (weight, slopes) in enumerate(zip(lmi.weights[:-1], lmi.slopes, strict=True)):
        ends = (np.broadcast_to(s, len(weight)) for s in widened(slopes))
        for neuron, (w, a, b) in enumerate(zip(weight, *ends, strict=True)):
            e = lmi.starts[i + 1] + neuron
            support = np.flatnonzero(w)
            source = lmi.starts[i] + support
            pieces = [
                ([e * n + e], [2.0]),
                (e * n + source, -(a + b) * w[support]),
                (source * n + e, -(a + b) * w[support]),
            ]
            if a * b:
                square = 2 * a * b * np.outer(w[support], w[support])
                pieces.append(((source[:, None] * n + source).ravel(), square.ravel()))
            for where, what in pieces:
                rows.append(np.asarray(where))
                values.append(np.asarray(what))
                columns.append(np.full(len(what), variable))
            variable += 1
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.csc_array(entries, shape=(n * n, variable))


def solve_cvxpy(solver: str, lmi: Lmi, options: Mapping[str, Any], max_seconds: float | None) -> Proposal:
    """Minimise rho subject to P >= 0 and T >= 0 by a solver of CVXPY; its status is reported, never trusted.

    max_seconds: a solver that took as long was stopped, whatever it calls that.

    Raises SolverFailed where it returns no point at all.
    """
    import cvxpy as cp

    n = lmi.order
    x = cp.Variable(1 + lmi.n_multipliers)
    p = cp.reshape(coefficients(lmi) @ x + constant_part(lmi).ravel(), (n, n), order="C")
    problem = cp.Problem(cp.Minimize(x[0]), [(p + p.T) / 2 >> 0, x[1:] >= 0])
    begin = time.perf_counter()
    try:
        problem.solve(solver=solver, **options)
    except (cp.SolverError, ArithmeticError, ValueError) as error:
        raise SolverFailed(f"{solver}: {error}") from error
    except MemoryError as error:
        raise LimitExceeded("memory_limit", f"{solver} ran out of memory at order {n}") from error
    if x.value is None:
        raise SolverFailed(f"{solver}: ended as {problem.status} without a point")
    late = max_seconds is not None and time.perf_counter() - begin >= max_seconds
    iterations = problem.solver_stats.num_iters
    return Proposal(
        multipliers=split(lmi, np.asarray(x.value[1:])),
        iterations=None if iterations is None else int(iterations),
        message=problem.status,
        status="time_limit" if late else "ok",
        rho=float(x.value[0]),
    )


@cache
def missing(*modules: str) -> str | None:
    """Why one of the modules cannot be imported, None if all can."""
    for module in modules:
        try:
            import_module(module)
        except ImportError as error:
            if is_out_of_memory(error):
                raise
            return f"{module} is not installed ({error})"
    return None


def version_of(distribution: str) -> str:
    """Installed version of a distribution."""
    return metadata.version(distribution)


def time_option(name: str, max_seconds: float | None) -> dict[str, float]:
    """A solver's time limit under its own name, or nothing."""
    return {} if max_seconds is None else {name: max_seconds}
