"""The order in which jobs of a plan are done."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from certlip.methods import load
from certlip.network import Activation, Conv, Dense, Flatten, Network
from certlip.solving import blocks
from certlip.solving.lanes import SMALL, Lane, batches


def test_large_jobs_go_first_and_alone_and_small_ones_together() -> None:
    rng = np.random.default_rng(0)
    layers = (
        Conv("conv", rng.standard_normal((2, 1, 3, 3)), np.zeros(2)),
        Activation("act", "relu"),
        Conv("conv2", rng.standard_normal((2, 2, 3, 3)), np.zeros(2), padding=(1, 1, 1, 1)),
        Flatten("flatten"),
        Dense("dense", rng.standard_normal((400, 1152)), np.zeros(400)),
        Activation("act2", "relu"),
        Dense("dense2", rng.standard_normal((9, 400)), np.zeros(9)),
    )
    network = Network(layers, (1, 26, 26))
    plan = blocks.make_plan(lambda: network, load("dcp"), {"grid": (6, 6), "merge": "sum"})
    found = list(batches(plan, plan.jobs, 1))
    assert sorted(number for batch in found for number, _ in batch) == list(range(len(plan.jobs)))
    assert all(plan.jobs[number] == job for batch in found for number, job in batch)
    orders = [[sum(plan.orders(job)) for _, job in batch] for batch in found]
    in_turn = [order for batch in orders for order in batch]
    assert in_turn == sorted(in_turn, reverse=True)
    assert len(orders[0]) == 1
    assert orders[0][0] > SMALL
    assert max(map(len, orders)) > 1
    assert all(len(batch) == 1 or batch[0] <= SMALL for batch in orders)


def test_a_large_job_is_done_before_its_lane_takes_another() -> None:
    events: list[str] = []

    class Recorded(Lane):
        def _prepare(self, number: int, job: Any) -> Any:
            return str(number)

        def _begin(self, prepared: Any) -> Any:
            events.append(f"begin {' '.join(prepared)}")

        def _collect(self, prepared: Any, outcomes: Any) -> None:
            events.extend(f"collect {number}" for number in prepared)

    def shared() -> Iterator[Any]:
        for batch in ([0], [1], [2, 3], [4, 5]):
            events.append(f"take {batch}")
            yield [(number, None) for number in batch]

    Recorded(*[None] * 6).work(shared())  # type: ignore[arg-type]
    assert events[:6] == ["take [0]", "begin 0", "collect 0", "take [1]", "begin 1", "collect 1"]
    # small ones are prepared while those before them are solved
    assert events[6:10] == ["take [2, 3]", "begin 2 3", "take [4, 5]", "collect 2"]
    assert events[10:] == ["collect 3", "begin 4 5", "collect 4", "collect 5"]
