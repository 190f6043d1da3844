"""The joint program of many small patches, of which the optimum needs few."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from joint_program import stages

import certlip
from certlip.network import Activation, Conv, Network
from certlip.sdp.folded import solve_folded
from certlip.sdp.folded.propose import Found, ascend

RTOL = 1e-4
SEEDS = range(4)


@cache
def found(seed: int) -> Found:
    return ascend(stages(seed), RTOL)


@pytest.mark.parametrize("seed", SEEDS)
def test_patches_that_play_no_part_in_the_optimum_leave_no_gap(seed: int) -> None:
    assert found(seed).gap <= RTOL
    assert found(seed).iterations <= 10


def test_a_bound_within_rtol_is_improved_while_a_round_halves_its_gap() -> None:
    assert found(3).gap <= RTOL / 4


def test_no_program_is_solved_again_with_fixed_metrics_where_the_ascent_closes_the_gap() -> None:
    solution = solve_folded(stages(0), rtol=RTOL)
    assert solution.solver == "folded"
    assert solution.lower <= solution.value <= solution.lower / (1 - RTOL)


def test_weights_so_far_apart_that_a_metric_underflows_leave_a_bound() -> None:
    """The square of 1e-160 is no double: the metric of a channel is zero, and no program divides by it."""
    first = Conv("first", np.ones((2, 1, 1, 2)), np.zeros(2), groups=2)
    second = Conv("second", np.array([1e160, 1.0]).reshape(2, 1, 1, 1), np.zeros(2), groups=2)
    network = Network((first, Activation("abs", "abs"), second), (2, 4, 4))
    record = certlip.bound(network, method="dcp", merge="folded", rtol=1e-9)
    assert record.value is not None
    assert record.value >= 1e160
    assert certlip.verify(record.certificate)
