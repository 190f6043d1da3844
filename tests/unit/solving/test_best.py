"""The best of several methods within a budget: never above any of them, sound, and kept whatever ends it."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import oracle
import pytest
from random_networks import random_network

import certlip
from certlip.base import limits
from certlip.base.deadline import Deadline
from certlip.base.errors import Interrupted, UnsupportedLayer
from certlip.base.limits import Limits
from certlip.base.record import Kind, Record, Status
from certlip.methods import Bound, Member, MethodInfo, best, dcp, lipsdp, product
from certlip.network import Activation, Conv, Dense, Flatten, Layer, MaxPool, Network
from certlip.partition.calibration import Calibration, Law
from certlip.proof import norms
from certlip.proof.certificate import UpperCertificate
from certlip.run import subject_of
from certlip.solving import blocks, portfolio
from certlip.solving.outcome import Means
from certlip.solving.portfolio import NOT_TRIED, bound_of

QUICK = Calibration(
    solver="auto",
    alone=Law(base=0.01, factor=1e-7, exponent=1.0),
    joint=Law(base=0.02, factor=2e-7, exponent=1.0),
    seconds=3.0,
)
"""Of a machine like any."""


def net(pool: bool = False, side: int = 8) -> Network:
    """Two convolutions and a dense layer, maybe with max pooling between."""
    rng = np.random.default_rng(1)
    conv = [Conv(f"c{i}", rng.standard_normal((2, i + 1, 3, 3)), np.zeros(2)) for i in range(2)]
    layers: list[Layer] = [conv[0], Activation("r0", "relu")]
    layers += [MaxPool("pool", (2, 2), (2, 2))] if pool else []
    layers += [conv[1], Activation("r1", "relu"), Flatten("f")]
    shape: tuple[int, ...] = (1, side, side)
    for layer in layers:
        shape = layer.output_shape(shape)
    return Network((*layers, Dense("d", rng.standard_normal((3, *shape)), np.zeros(3))), (1, side, side))


def rows(record: Record) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in record.details["tried"]}


def with_calibration(network: Network, calibration: Calibration, **options: Any) -> Bound:
    """By the portfolio, on a machine of this calibration; nothing is tiny."""
    given = {"budget": 60.0, "solver": "auto", "rtol": 1e-4, **options}
    return bound_of(subject_of(network, None), best, given, Means(measured=lambda solver: calibration))


@pytest.mark.parametrize("pool", [False, True])
def test_it_is_the_smallest_of_what_was_tried_and_says_which(pool: bool) -> None:
    network = net(pool)
    record = certlip.bound(network)
    assert record.method == "best"
    assert record.kind is Kind.CERTIFIED
    assert record.value is not None
    assert certlip.verify(record.certificate).ok
    values = {name: row["value"] for name, row in rows(record).items() if row["value"] is not None}
    assert record.value == min(values.values()) == values[record.details["winner"]]
    for row in rows(record).values():
        if row["status"] == Status.OK and row["method"] != "dcp":  # whose plan would need a calibration
            alone = certlip.bound(network, method=row["method"], **row["options"])
            assert record.value <= alone.value * (1 + 1e-12)
    assert {"product", "gram"} < set(values)
    assert rows(record)["lipsdp"]["status"] == ("unsupported" if pool else Status.OK)


@pytest.mark.parametrize("seed", range(12))
def test_it_is_never_below_the_truth(seed: int) -> None:
    network = random_network(seed)
    record = certlip.bound(network)
    assert record.value is not None
    assert oracle.is_at_least(record.value, network)
    for method in ("product", "gram", "liplt", "eclipse_fast", "eclipse", "lipsdp"):
        other = certlip.bound(network, method=method).value
        assert other is None or record.value <= other * (1 + 2e-4)


def test_it_is_the_same_each_time() -> None:
    for network in (net(), net(pool=True)):
        first, second = (certlip.bound(network) for _ in range(2))
        assert first.value == second.value
        assert [row["status"] for row in first.details["tried"]] == [row["status"] for row in second.details["tried"]]


def test_what_a_finished_member_makes_needless_is_left_out() -> None:
    record = certlip.bound(net())
    assert record.details["winner"] == "lipsdp"
    left_out = {name for name, row in rows(record).items() if row["status"] == NOT_TRIED}
    assert left_out == {"torus", "dcp", "lipsdp by segments", "eclipse", "liplt"}
    assert rows(record)["dcp"]["reason"] == "lipsdp gives no larger value"


@pytest.fixture
def nothing_tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portfolio, "TINY", 0)


@pytest.mark.usefixtures("nothing_tiny")
@pytest.mark.parametrize(("seconds", "first"), [(1.0, "lipsdp"), (20.0, "torus")])
def test_the_whole_network_goes_before_what_it_makes_needless_where_it_is_no_dearer(seconds: float, first: str) -> None:
    network = net()
    whole = lipsdp.plan(network)
    law = Law(base=seconds, factor=0.0, exponent=1.0)
    found = with_calibration(network, QUICK.model_copy(update={"alone": law}))
    tried = [row["name"] for row in found.details["tried"] if row["status"] != NOT_TRIED]
    assert whole.jobs
    assert next(name for name in tried if name in ("lipsdp", "torus")) == first
    assert found.details["winner"] == "lipsdp"


@pytest.mark.usefixtures("nothing_tiny")
def test_what_is_predicted_not_to_fit_is_not_begun_and_says_so() -> None:
    network = net()
    slow = Law(base=0.0, factor=1.0, exponent=1.0)
    found = with_calibration(network, QUICK.model_copy(update={"alone": slow, "joint": slow}))
    row = next(row for row in found.details["tried"] if row["name"] == "lipsdp")
    assert row["status"] == "time_limit"
    assert "s are predicted" in row["reason"]
    assert found.value <= certlip.bound(network, method="eclipse_fast").value
    means = Means(limit=Limits(1, None, 250.0), measured=lambda solver: QUICK)
    options = {"budget": 60.0, "solver": "auto", "rtol": 1e-4}
    small = bound_of(subject_of(network, None), best, options, means)
    row = next(row for row in small.details["tried"] if row["name"] == "lipsdp")
    assert row["status"] == "memory_limit"
    assert "250 MB are allowed" in row["reason"]


@pytest.mark.usefixtures("nothing_tiny")
def test_its_calibration_is_that_of_automatic_plans_and_is_counted(tmp_path: Path, monkeypatch: Any) -> None:
    asked = []

    def measured(solver: str, limit: Limits, folder: Any) -> Calibration:
        asked.append((solver, limit, folder))
        return QUICK

    monkeypatch.setattr("certlip.solving.outcome.load_or_calibrate", measured)
    record = certlip.bound(net(), cache=tmp_path)
    assert asked == [("auto", Limits(), tmp_path)]
    assert record.calibration_seconds == 3.0


def test_a_tiny_network_is_calibrated_for_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certlip.solving.outcome.load_or_calibrate", None)
    assert certlip.bound(net(pool=True)).status is Status.OK


def test_the_budget_is_kept_and_never_above_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certlip.solving.outcome.load_or_calibrate", lambda *arguments: QUICK)
    network = net(side=20)
    for given in ({"budget": 0.5}, {"max_seconds": 0.5}):
        begin = time.monotonic()
        record = certlip.bound(network, **given, **({} if "max_seconds" in given else {"max_seconds": 50}))
        assert time.monotonic() - begin < 0.5 + limits.ENDING_SECONDS + 3  # of other work on this machine
        assert record.value is not None
        assert certlip.verify(record.certificate).ok


def member(name: str, bound: Callable[..., Bound], monkeypatch: pytest.MonkeyPatch) -> Member:
    """A method that is not a file."""
    module = ModuleType(f"certlip.methods.{name}")
    module.INFO = MethodInfo(name, Kind.CERTIFIED, "this test", graphs=True)  # type: ignore[attr-defined]
    module.bound = bound  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return Member(name, module)


def test_an_interrupt_keeps_what_is_certified_by_then(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*arguments: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)

    monkeypatch.setattr(blocks, "solve_blocks", stopped)
    with pytest.raises(KeyboardInterrupt) as ended:
        certlip.bound(net())
    assert isinstance(ended.value, Interrupted)
    kept = ended.value.kept
    assert isinstance(kept, Record)
    assert kept.value == min(row["value"] for row in kept.details["tried"])
    assert "interrupted" in kept.reason
    assert certlip.verify(kept.certificate).ok


def test_an_interrupt_before_there_is_a_value_is_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portfolio, "evaluate", lambda *a: os.kill(os.getpid(), signal.SIGINT) or time.sleep(10))
    with pytest.raises(KeyboardInterrupt) as ended:
        certlip.bound(net())
    assert not isinstance(ended.value, Interrupted)


def test_the_winner_is_tried_once_more_with_what_is_left_where_its_share_cut_it_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []

    def slow(network: Network) -> Bound:
        calls.append(1)
        constants = [(3 - len(calls)) * c for c in norms.layer_constants(network)]
        certificate = UpperCertificate.from_constants(network, constants)
        return Bound(certificate.value, certificate, reason="" if len(calls) > 1 else "cut short")

    tried = (replace(member("slow", slow, monkeypatch), share=0.1),)
    monkeypatch.setattr(best, "members", lambda network, **options: tried)
    found = bound_of(subject_of(net(), None), best, {"budget": 60.0, "solver": "auto"}, Means())
    values = [row["value"] for row in found.details["tried"]]
    assert found.value == values[1] < values[0]
    assert found.reason == ""


def test_no_more_programs_are_begun_after_the_deadline_of_a_plan() -> None:
    network = net(side=12)
    plan = dcp.plan(network, grid=(2, 2), merge="sum")
    solved = blocks.solve_blocks(network, plan, until=Deadline.after(0.0))
    assert {(s.status, s.reason) for s in solved} == {("time_limit", "no time was left for it")}
    left = blocks.merge_plan(network, plan, solved)
    assert isinstance(left.certificate, UpperCertificate)
    assert left.value == pytest.approx(product.bound(network).value)
    begin = time.monotonic()
    large = dcp.plan(net(side=40), grid=(1, 1), merge="sum")
    (block, *_) = blocks.solve_blocks(net(side=40), large, until=Deadline.after(0.3))
    assert time.monotonic() - begin < 0.3 + limits.ENDING_SECONDS + 5
    assert block.reason
    limits.end_idle()


def test_where_nothing_bounds_a_network_the_first_refusal_says_why() -> None:
    from torch import nn

    record = certlip.bound(nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)), (3,))
    assert record.status is Status.UNSUPPORTED
    assert "LayerNorm" in record.reason
    assert math.isfinite(record.seconds)


def test_a_refusal_of_all_members_is_the_first_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(network: Network) -> Bound:
        raise UnsupportedLayer("odd: no bound for Odd")

    refusing = tuple(member(name, refuse, monkeypatch) for name in ("one", "two"))
    monkeypatch.setattr(best, "members", lambda network, **options: refusing)
    with pytest.raises(UnsupportedLayer, match="odd: no bound"):
        bound_of(subject_of(net(), None), best, {"budget": 1.0, "solver": "auto"}, Means())
