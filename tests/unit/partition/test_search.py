"""The dynamic partition: nothing better within the budget is missed, and it is a function of shapes and calibration."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certlip.base.errors import ConfigError, UnsupportedLayer
from certlip.methods import dcp
from certlip.network import Activation, Conv, Dense, Flatten, Layer, MaxPool, Network
from certlip.partition.calibration import Calibration, Law, job_memory_mb
from certlip.partition.merges import RULES
from certlip.partition.plan import Plan, Prediction, SegmentPlan
from certlip.partition.predict import predict
from certlip.partition.search import SIDES, spans_between
from certlip.partition.segment import make_segment

CALIBRATION = Calibration(
    solver="auto",
    alone=Law(base=0.01, factor=1e-4, exponent=1.1),
    joint=Law(base=0.02, factor=2e-4, exponent=1.05),
    start_seconds=0.5,
    max_seconds=20.0,
    max_memory_mb=4000.0,
    seconds=7.0,
)


def net(side: int = 7, padding: int = 0, n_convs: int = 3, pool: bool = False) -> Network:
    """Convolutions, maybe pooling, and a dense tail of two layers."""
    rng = np.random.default_rng(0)
    layers: list[Layer] = []
    shape: tuple[int, ...] = (1, side, side)
    for index in range(n_convs):
        weight = rng.standard_normal((2, shape[0], 2, 2))
        layers += [Conv(f"c{index}", weight, np.zeros(2), padding=(padding,) * 4), Activation(f"a{index}", "relu")]
        shape = layers[-2].output_shape(shape)
        if pool and index == 0:
            layers.append(MaxPool("pool", (2, 2), (1, 1)))
            shape = layers[-1].output_shape(shape)
    n = math.prod(shape)
    tail = (Dense("d", rng.standard_normal((4, n)), np.zeros(4)), Activation("last", "relu"))
    end = Dense("e", rng.standard_normal((2, 4)), np.zeros(2))
    return Network((*layers, Flatten("f"), *tail, end), (1, side, side))


def automatic(network: Network, calibration: Calibration = CALIBRATION, **options: Any) -> Plan:
    return dcp.plan(network, **{"grid": "auto", "cuts": "auto", "calibration": calibration, **options})


def prediction_of(plan: Plan) -> Prediction:
    assert plan.prediction is not None
    return plan.prediction


def every_plan(network: Network, merge: str, chain: bool) -> Iterator[Plan]:
    """All cuts, and for each segment all grids or its layer constants."""

    def segments(first: int, last: int) -> list[SegmentPlan]:
        plain = make_segment(network, first, last, (1, 1))
        found = {((1, 1), 0): plain.model_copy(update={"blocks": ()})}
        for side in SIDES:
            try:
                cut = make_segment(network, first, last, (side, side), merge, chain)
            except UnsupportedLayer:
                continue
            found[cut.grid, len(cut.blocks)] = cut
        return list(found.values())

    spans = spans_between(network)
    choices = {span: segments(*span) for span in spans}
    paths: list[list[int]] = [[0]]
    while paths:
        path = paths.pop()
        if path[-1] == len(network.layers):
            for chosen in product(*(choices[span] for span in pairwise(path))):
                yield Plan(segments=chosen, merge=merge, chain=chain)
        paths += [[*path, last] for first, last in spans if first == path[-1]]


@pytest.mark.parametrize(("merge", "chain"), [*((merge, False) for merge in RULES), ("folded", True)])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("max_memory_mb", [4000.0, 300.1])
def test_no_partition_within_budget_and_limits_is_predicted_tighter(
    merge: str, chain: bool, padding: int, max_memory_mb: float
) -> None:
    calibration = CALIBRATION.model_copy(update={"max_memory_mb": max_memory_mb})
    network = net(5, padding, n_convs=2)
    every = [
        (plan, all(calibration.admits(plan, job) for job in plan.jobs)) for plan in every_plan(network, merge, chain)
    ]
    assert all(admitted for _, admitted in every) is (max_memory_mb == 4000.0)
    for cores in (1, 3):
        predicted = [predict(network, plan, calibration, cores) for plan, admitted in every if admitted]
        for budget in (0.4, 1.3, 2.5, 5.0, 10.0, 20.0, 60.0):
            best = min(p.looseness for p in predicted if p.seconds <= budget)
            found = prediction_of(automatic(network, calibration, merge=merge, chain=chain, budget=budget, cores=cores))
            assert found.looseness == pytest.approx(best, abs=1e-12)
            assert found.seconds <= budget


@settings(max_examples=30, deadline=None)
@given(budgets=st.lists(st.floats(0.01, 100), min_size=2, max_size=4), pool=st.booleans(), chain=st.booleans())
def test_more_budget_never_makes_a_plan_predicted_looser(budgets: list[float], pool: bool, chain: bool) -> None:
    network = net(8, pool=pool)
    found = [prediction_of(automatic(network, merge="folded", chain=chain, budget=b)) for b in sorted(budgets)]
    assert all(p.looseness >= q.looseness for p, q in pairwise(found))
    assert all(p.seconds <= b for p, b in zip(found, sorted(budgets), strict=True))


def test_enough_budget_takes_one_program_and_none_takes_the_layer_constants_and_says_so() -> None:
    (whole,) = automatic(net(5), budget=1e6).segments
    assert [block.windows for block in whole.blocks] == [(None,)]
    assert not whole.note
    poor = automatic(net(5), budget=0.01)
    assert not poor.jobs
    assert prediction_of(poor).seconds == 0
    assert "predicted not to fit the budget" in poor.segments[0].note


@pytest.mark.parametrize("chain", [False, True])
def test_no_program_is_planned_above_the_limits(chain: bool) -> None:
    for seconds in (0.1, 0.3, 1.0, 3.0):
        limited = CALIBRATION.model_copy(update={"max_seconds": seconds})
        plan = automatic(net(7), limited, budget=1e6, merge="folded", chain=chain)
        assert all(limited.job_seconds(plan.blocks_of(job), job.joint) <= seconds for job in plan.jobs)
    whole = dcp.plan(net(7), grid=(1, 1), cuts=["e"])
    needed = job_memory_mb(whole, whole.jobs[0])
    for room, fits in ((0.001, True), (-0.001, False)):
        limited = CALIBRATION.model_copy(update={"max_memory_mb": needed + room})
        plan = automatic(net(7), limited, budget=1e6, merge="folded", chain=chain)
        assert (len([s for s in plan.segments if not s.second]) == 1) is fits


def test_given_cuts_and_given_grids_are_kept() -> None:
    network = net(7)
    plan = automatic(network, cuts=["a1", "a2"], budget=20)
    assert [segment.last for segment in plan.segments] == [4, 6, 10]
    plan = automatic(network, grid=(3, 3), budget=20, merge="folded")
    assert {segment.grid for segment in plan.segments} <= {(1, 1), (3, 3)}
    with pytest.raises(ConfigError, match="needs cuts that are given"):
        automatic(network, grid=[(2, 2)])


def test_layers_stay_with_what_they_follow_and_pooling_on_its_own() -> None:
    network = net(8, pool=True)
    spans = spans_between(network)
    names = [layer.name for layer in network.layers]
    assert {names[first] for first, _ in spans} == {"c0", "pool", "c1", "c2", "f", "e"}
    pool = names.index("pool")
    assert all((first, last) == (pool, pool + 1) for first, last in spans if first <= pool < last)


def test_a_plan_is_the_same_whenever_the_calibration_is(tmp_path: Path) -> None:
    CALIBRATION.save(tmp_path / "calibration.json")
    first, second = (automatic(net(8), Calibration.load(tmp_path / "calibration.json"), budget=5.0) for _ in range(2))
    assert first == second == automatic(net(8), budget=5.0)
    first.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == first


def test_each_distinct_program_is_counted_once_and_chains_besides() -> None:
    network = net(7, n_convs=2)
    once = predict(network, dcp.plan(network, grid=(5, 5)), CALIBRATION)
    assert [(job.job, job.n_programs) for job in once.jobs] == [
        ("segment 2, program 1", 1),
        ("segment 1, program 1", 1),
    ]
    chained = predict(network, dcp.plan(network, grid=(2, 2), merge="folded", chain=True), CALIBRATION)
    assert [job.job for job in chained.jobs] == [
        "segments 1 to 2, chained",
        "segment 1, jointly",
        "segment 2, program 1",
    ]
    chain, patches, tail = (job.seconds for job in chained.jobs)
    assert chain > patches > tail


def test_two_cores_take_at_least_half_and_at_most_all_of_the_time() -> None:
    network = net(9, padding=1)
    plan = dcp.plan(network, grid=(3, 3))
    one, two = (predict(network, plan, CALIBRATION, cores).seconds for cores in (1, 2))
    assert one / 2 <= two < one


def test_a_grid_too_fine_for_a_chain_leaves_its_segment_out_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    network = net(6)
    options: dict[str, Any] = {"grid": (2, 2), "merge": "folded", "chain": True, "cuts": ["a1"]}
    assert dcp.plan(network, **options).chains == [[0, 1]]
    monkeypatch.setattr("certlip.partition.segment.MAX_SPLIT", 0)
    plan = dcp.plan(network, **options)
    assert len(plan.segments[0].blocks) == 1
    assert plan.chains == []
