"""Dense linear algebra takes as many threads as its matrices are large enough for."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from itertools import pairwise

import numpy as np
import pytest
from joint_program import stages
from threadpoolctl import threadpool_info, threadpool_limits

from certlip.network import Array
from certlip.network.chain import relu_chain
from certlip.proof.lmi import Lmi
from certlip.sdp import folded, solve
from certlip.sdp.folded import propose
from certlip.sdp.threads import PARALLEL, by_size


def of_blas() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def weights(*sizes: int) -> list[Array]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((n, m)) / np.sqrt(m) for m, n in pairwise(sizes)]


@pytest.mark.parametrize(("width", "expected"), [(10, 1), (PARALLEL - 1, 1), (PARALLEL, 2)])
def test_only_wide_layers_have_several_threads_and_those_of_before_come_back(width: int, expected: int) -> None:
    lmi = Lmi.of(relu_chain(weights(5, width, 5)))
    with threadpool_limits(2):
        before = of_blas()
        with by_size(lmi):
            assert max(of_blas()) == expected
        assert of_blas() == before


@pytest.mark.parametrize(
    "work",
    [lambda: solve(weights(30, 40, 30), solver="structured", threads=2), lambda: folded.solve_folded(stages(3))],
    ids=["one program", "joint program"],
)
def test_programs_of_narrow_layers_are_solved_and_proved_on_one_thread_of_blas(
    work: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[int]] = []
    for module, name in ((import_module("certlip.proof.certify"), "margin"), (propose, "smallest_rho")):
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, f=function: (seen.append(of_blas()), f(*a))[1])
    with threadpool_limits(2):
        work()
    assert seen
    assert all(threads == {1} for threads in seen)
