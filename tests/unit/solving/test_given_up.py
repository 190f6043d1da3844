"""Programs that come to nothing: where no partition was given, multipliers of channels take the place of neurons'."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import certlip
from certlip.base.record import Status
from certlip.methods import Bound, dcp, lipsdp, product, torus
from certlip.network import Activation, Conv, Dense, Flatten, Network
from certlip.partition.plan import Plan
from certlip.partition.search import LEFT
from certlip.proof.certificate import UpperCertificate
from certlip.solving.blocks import merge_plan, solve_blocks
from certlip.verify import verify


def stack(n_layers: int = 4, classes: int = 0) -> Network:
    rng, layers = np.random.default_rng(0), list[Any]()
    for i in range(n_layers):
        weight = rng.standard_normal((3, 3 if i else 1, 3, 3))
        layers += [Conv(f"conv{i}", weight, np.zeros(3), padding=(1, 1, 1, 1)), Activation(f"relu{i}", "relu")]
    if classes:
        head = rng.standard_normal((classes, 3 * 12 * 12))
        return Network((*layers, Flatten("flatten"), Dense("dense", head, np.zeros(classes))), (1, 12, 12))
    return Network(tuple(layers[:-1]), (1, 12, 12))


def given_up(network: Network, plan: Plan, status: Status = Status.TIME_LIMIT) -> Bound:
    """What is left where every program of the plan came to nothing."""
    lost: dict[str, Any] = {
        "rho": None,
        "multipliers": (),
        "status": status,
        "reason": "no time",
        "gap": None,
    }
    bound = merge_plan(network, plan, [replace(s, **lost) for s in solve_blocks(network, plan)])
    assert isinstance(bound.certificate, UpperCertificate)
    assert verify(bound.certificate).ok
    return bound


@pytest.mark.parametrize("classes", [0, 5])
def test_lipsdp_that_did_not_fit_gives_what_the_torus_gives(classes: int) -> None:
    network = stack(classes=classes)
    bound = given_up(network, lipsdp.plan(network))
    assert bound.value == pytest.approx(torus.bound(network).value, rel=1e-2)
    assert bound.value < 0.9 * product.bound(network).value
    assert bound.reason == "one multiplier a channel (torus): no time"
    assert bound.value >= certlip.bound(network, method="lipsdp").value
    assert bound.details["solver"] is None


def test_a_given_partition_is_left_to_its_layer_constants() -> None:
    network = stack()
    plan = dcp.plan(network, grid=(2, 2), merge="folded")
    assert given_up(network, plan).value == pytest.approx(product.bound(network).value, rel=1e-6)


def test_layers_that_an_automatic_plan_leaves_out_are_not_left_to_their_constants() -> None:
    network = stack()
    plan = lipsdp.plan(network)
    left = plan.model_copy(
        update={"segments": tuple(s.model_copy(update={"blocks": (), "note": LEFT}) for s in plan.segments)}
    )
    bound = merge_plan(network, left.model_copy(update={"fallback": True}), [])
    assert bound.value == pytest.approx(torus.bound(network).value, rel=1e-2)
    assert LEFT in bound.reason


def test_where_the_torus_is_looser_the_constants_stay() -> None:
    rng = np.random.default_rng(0)
    layers = [
        Dense("a", rng.standard_normal((6, 5)), np.zeros(6)),
        Activation("r", "relu"),
        Dense("b", np.eye(6), np.zeros(6)),
    ]
    network = Network(tuple(layers), (5,))
    bound = given_up(network, lipsdp.plan(network))
    assert bound.value == pytest.approx(product.bound(network).value, rel=1e-6)
    assert "use the product of norms" in bound.reason


def test_without_maps_or_for_want_of_memory_nothing_else_is_solved() -> None:
    rng = np.random.default_rng(0)
    layers = [Dense("a", rng.standard_normal((6, 9)), np.zeros(6)), Activation("r", "relu")]
    flat = Network((Flatten("f"), *layers, Dense("b", rng.standard_normal((3, 6)), np.zeros(3))), (1, 3, 3))
    assert given_up(flat, lipsdp.plan(flat)).value == pytest.approx(product.bound(flat).value, rel=1e-6)
    network = stack()
    bound = given_up(network, lipsdp.plan(network), Status.MEMORY_LIMIT)
    assert bound.value == pytest.approx(product.bound(network).value, rel=1e-6)
