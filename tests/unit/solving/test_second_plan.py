"""The second plan: where a program of the first may fail, its layers are not left to their layer constants."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from automatic_plans import WHOLE_SECONDS, automatic, calibration, net

import certlip
from certlip.base.record import Status
from certlip.methods import Bound, dcp
from certlip.partition.plan import Plan
from certlip.partition.search import RESERVE, RISK, SPREAD
from certlip.proof.certificate import UpperCertificate
from certlip.solving.blocks import merge_plan, solve_blocks
from certlip.solving.solved import SolvedBlock
from certlip.verify import verify


def parts(plan: Plan) -> tuple[Plan, Plan]:
    """The first and the second plan, each as if it were alone."""
    first, second = (tuple(s for s in plan.segments if s.second is second) for second in (False, True))
    return plan.model_copy(update={"segments": first}), plan.model_copy(update={"segments": second})


def failed(
    solved: list[SolvedBlock], *places: tuple[int, int], status: Status = Status.TIME_LIMIT
) -> list[SolvedBlock]:
    """What is solved where the programs at these places came to nothing."""
    lost: dict[str, Any] = {"rho": None, "multipliers": (), "status": status, "reason": "killed", "gap": None}
    return [replace(s, **lost) if (s.segment, s.block) in places else s for s in solved]


def value(bound: Bound) -> float:
    assert isinstance(bound.certificate, UpperCertificate)
    assert verify(bound.certificate).ok
    return bound.value


@pytest.mark.parametrize(("budget", "exponent"), [(4.75, 2.0), (6.0, 2.0), (60.0, 3.0)])
def test_a_program_that_may_fail_brings_a_second_plan_of_programs_that_may_not(budget: float, exponent: float) -> None:
    network = net()
    by, plan = calibration(network, exponent), automatic(network, budget, exponent=exponent)
    first, second = parts(plan)
    assert [len(part.jobs) > 0 for part in (first, second)] == [True, True]
    assert len(first.segments) == 1
    assert all(by.admits(first, job, SPREAD) for job in first.jobs)
    assert not all(by.admits(first, job, RISK) for job in first.jobs)
    assert all(by.admits(second, job, RISK) for job in second.jobs)
    assert plan.prediction is not None
    assert plan.prediction.seconds <= budget


def test_without_risk_there_is_no_second_plan() -> None:
    assert not any(segment.second for segment in automatic(net(), max_seconds=WHOLE_SECONDS * RISK).segments)
    assert not any(segment.second for segment in automatic(net(), max_seconds=None).segments)


def test_a_program_that_keeps_its_limit_by_its_median_alone_is_not_planned() -> None:
    first, _ = parts(automatic(net(), max_seconds=WHOLE_SECONDS * SPREAD * 0.99, budget=100.0))
    assert len(first.segments) > 1


def test_a_reserve_of_the_budget_is_kept_for_the_second_plan() -> None:
    network = net()
    enough = WHOLE_SECONDS / (1 - RESERVE)
    assert len(parts(automatic(network, budget=1.001 * enough))[0].segments) == 1
    assert len(parts(automatic(network, budget=0.999 * enough))[0].segments) > 1


@pytest.mark.parametrize("chain", [False, True])
def test_a_first_plan_that_fails_whole_leaves_the_bound_of_the_second(chain: bool) -> None:
    network = net()
    plan = automatic(network, chain=chain)
    _, second = parts(plan)
    solved = solve_blocks(network, plan)
    whole = value(merge_plan(network, plan, solved))
    lost = merge_plan(network, plan, failed(solved, (0, 0)))
    alone = value(merge_plan(network, second, solve_blocks(network, second)))
    assert whole <= value(lost) <= alone < certlip.bound(network, method="product").value
    assert "layers c0 to e are bounded another way: killed" in lost.reason


def test_whatever_fails_the_bound_is_sound_and_never_above_the_layer_constants() -> None:
    network = net()
    plan = automatic(network)
    solved = solve_blocks(network, plan)
    product, lower = (certlip.bound(network, method=method).value for method in ("product", "lower"))
    for lost in ([(0, 0)], [(1, 0)], [(0, 0), (1, 0)], plan.blocks):
        assert lower <= value(merge_plan(network, plan, failed(solved, *lost))) <= product


def test_the_way_changes_from_one_plan_to_the_other_where_both_have_a_cut() -> None:
    network = net()
    coarse = dcp.plan(network, grid=(1, 1), cuts=["a1"])
    fine = dcp.plan(network, grid=(3, 3), cuts=["a1"])
    segments = (*coarse.segments, fine.segments[0].model_copy(update={"second": True}))
    both = coarse.model_copy(update={"segments": segments})
    solved = solve_blocks(network, both)
    assert value(merge_plan(network, both, solved)) == value(
        merge_plan(network, coarse, [s for s in solved if s.segment < 2])
    )
    mixed = value(merge_plan(network, both, failed(solved, (0, 0))))
    assert mixed <= value(merge_plan(network, fine, solve_blocks(network, fine)))
    without = both.model_copy(update={"fallback": False})
    assert value(merge_plan(network, without, failed(solved, (0, 0)))) >= mixed


def test_without_fallback_a_failure_that_leaves_no_way_is_a_refusal() -> None:
    network = net()
    plan = automatic(network).model_copy(update={"fallback": False})
    solved = solve_blocks(network, plan)
    assert merge_plan(network, plan, failed(solved, (0, 0), status=Status.NOT_CERTIFIED)).value
    with pytest.raises(certlip.base.errors.NoBound, match="killed"):
        merge_plan(network, plan, failed(solved, *plan.blocks, status=Status.NOT_CERTIFIED))
