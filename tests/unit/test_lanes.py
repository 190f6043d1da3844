"""The order in which jobs of a plan are done."""

from __future__ import annotations

import numpy as np

from certlip import blocks
from certlip.lanes import SMALL, batches
from certlip.methods import load
from certlip.network import Activation, Conv, Dense, Flatten, Network


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
