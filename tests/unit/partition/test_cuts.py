"""Where a network is cut by default: before what leaves few pixels, and between layers that do not fit together."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from certlip.methods import dcp
from certlip.network import Activation, Conv, Dense, Flatten, Layer, Network
from certlip.partition.calibration import Calibration, Law
from certlip.partition.predict import looseness
from certlip.partition.segment import find_cuts

CALIBRATION = Calibration(
    solver="auto",
    alone=Law(base=0.05, factor=3e-7, exponent=1.0),
    joint=Law(base=0.1, factor=6e-7, exponent=1.0),
    start_seconds=0.1,
    max_seconds=30.0,
    max_memory_mb=4000.0,
)
"""Of a machine like any."""


def average(name: str, channels: int, kernel: int, side: int | None = None) -> Conv:
    """Average pooling as the export writes it; side: its stride where that is not its kernel."""
    weight = np.full((channels, 1, kernel, kernel), 1.0 / kernel**2)
    return Conv(name, weight, np.zeros(channels), stride=(side or kernel,) * 2, groups=channels)


def stack(n_layers: int, side: int, channels: int = 8, kernel: int = 3, tail: bool = True) -> Network:
    """Padded convolutions, global average pooling and a dense layer."""
    rng = np.random.default_rng(0)
    layers: list[Layer] = []
    for i in range(n_layers):
        n_in = channels if i else 1
        weight = rng.standard_normal((channels, n_in, kernel, kernel)) * math.sqrt(2 / (n_in * kernel**2))
        layers += [Conv(f"c{i}", weight, np.zeros(channels), padding=(kernel // 2,) * 4), Activation(f"r{i}", "relu")]
    end = (average("mean", channels, side), Flatten("f"), Dense("d", rng.standard_normal((10, channels)), np.zeros(10)))
    return Network((*layers, *(end if tail else ())), (1, side, side))


def cut_before(network: Network) -> list[str]:
    """Names of the layers that a cut is before."""
    return [network.layers[i].name for i in find_cuts(network, None)[1:-1]]


def test_a_cut_is_before_average_pooling_that_leaves_few_pixels() -> None:
    assert cut_before(stack(2, 8)) == ["mean", "f"]
    conv = Conv("c", np.ones((4, 1, 3, 3)), np.zeros(4), padding=(1, 1, 1, 1))
    for pooling, cuts in (
        (average("mean", 4, 4), ["mean"]),  # adaptive, to 2x2
        (average("mean", 4, 2), []),  # between convolutions
        (average("mean", 4, 4, side=2), []),  # windows overlap
        (average("mean", 4, 1), []),
        (Conv("mean", np.arange(64.0).reshape(4, 1, 4, 4), np.zeros(4), stride=(4, 4), groups=4), []),
        (Conv("mean", np.full((4, 4, 4, 4), 1 / 64), np.zeros(4), stride=(4, 4)), []),  # mixes channels
    ):
        assert cut_before(Network((conv, pooling), (1, 8, 8))) == cuts


def test_a_map_before_global_average_pooling_is_cut_into_patches() -> None:
    first, *_ = dcp.plan(stack(2, 8)).segments
    assert first.layers[-1] == "r1"
    assert first.grid == (2, 2)


def test_patches_that_read_the_same_pixels_are_predicted_looser() -> None:
    relu = Activation("r", "relu")
    apart = Network((Conv("c", np.ones((2, 2, 1, 1)), np.zeros(2)), relu) * 2, (2, 12, 12))
    networks = (apart, stack(2, 12, tail=False), stack(6, 12, tail=False))
    none, some, more = (looseness(n, dcp.plan(n, grid=(4, 4), merge="folded")) for n in networks)
    assert none == 0 < some < more


@pytest.mark.parametrize(("kernel", "budget"), [(3, 60.0), (5, 200.0)])
@pytest.mark.parametrize("options", [{}, {"cuts": "auto"}])
def test_a_deep_stack_is_cut_where_it_would_not_fit(kernel: int, budget: float, options: dict[str, Any]) -> None:
    network = stack(16, 28, kernel=kernel)
    plan = dcp.plan(network, grid="auto", merge="folded", budget=budget, calibration=CALIBRATION, **options)
    assert plan.prediction is not None
    assert plan.prediction.seconds <= budget
    first = [segment for segment in plan.segments if not segment.second]
    convolutional = [segment for segment in first if segment.layers[0].startswith("c")]
    assert len(convolutional) > 1
    assert all(segment.blocks for segment in convolutional)
    assert all(CALIBRATION.admits(plan, job) for job in plan.jobs)
