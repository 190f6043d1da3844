"""Whatever ends a method that certifies, it has a value: a deadline, a kill, memory."""

from __future__ import annotations

import math
import multiprocessing
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np
import psutil
import pytest
import torch

import certlip
from certlip import sdp
from certlip.base import limits
from certlip.base.deadline import Deadline
from certlip.base.errors import LimitExceeded
from certlip.base.record import Record, Status
from certlip.methods import _refined as refined
from certlip.methods import load
from certlip.methods.product import best_product
from certlip.network import Activation, Conv, Dense, Flatten, Layer, Network
from certlip.network.chain import Chain
from certlip.proof import norms
from certlip.sdp.looks import Looks
from certlip.solving import jobs
from certlip.solving.blocks import make_plan
from certlip.solving.evaluate import _cut_short

SMALL = 1e-3

METHODS: dict[str, dict[str, Any]] = {
    "product": {"method": "product"},
    "gram": {"method": "gram"},
    "autolip certified": {"method": "autolip", "certified": True},
    "liplt": {"method": "liplt"},
    "eclipse": {"method": "eclipse"},
    "eclipse_fast": {"method": "eclipse_fast"},
    "lipsdp_layer": {"method": "lipsdp_layer"},
    "lipsdp": {"method": "lipsdp"},
    "dcp sum": {"method": "dcp", "merge": "sum"},
    "dcp cover": {"method": "dcp", "merge": "cover"},
    "dcp weighted": {"method": "dcp", "merge": "weighted"},
    "dcp folded": {"method": "dcp", "merge": "folded"},
    "dcp without fallback": {"method": "dcp", "fallback": False},
    "best": {"method": "best"},
}


def network(width: int = 60, depth: int = 2, side: int = 9) -> Network:
    """Two convolutions and some dense layers, which take each method long enough to be ended in the midst."""
    rng = np.random.default_rng(0)
    layers: list[Layer] = []
    for i, c_in in enumerate((1, 3)):
        weight = rng.standard_normal((3, c_in, 3, 3)) / math.sqrt(9 * c_in)
        layers += [Conv(f"conv{i}", weight, np.zeros(3)), Activation(f"relu{i}", "relu")]
    layers.append(Flatten("flatten"))
    n = 3 * (side - 4) ** 2
    for i, m in enumerate([*[width] * depth, 10]):
        layers += [Dense(f"dense{i}", rng.standard_normal((m, n)) / math.sqrt(n), np.zeros(m))]
        layers += [Activation(f"relu-dense{i}", "relu")] if i < depth else []
        n = m
    return Network(tuple(layers), (1, side, side))


NETWORK = network()
QUICK = math.prod(map(refined.quick_constant, NETWORK.layers, NETWORK.shapes))


@pytest.fixture(scope="module")
def finished() -> Iterator[dict[str, tuple[Record, float]]]:
    """The record of each method that nothing ended, and its seconds in a process of its own; made when asked for."""

    class Finished(dict):  # type: ignore[type-arg]
        def __missing__(self, name: str) -> tuple[Record, float]:
            limits.end_idle()
            begin = time.monotonic()
            record = certlip.bound(NETWORK, **METHODS[name], max_seconds=100)
            self[name] = record, time.monotonic() - begin
            return self[name]

    yield Finished()
    limits.end_idle()


@contextmanager
def killed_after(seconds: float) -> Iterator[list[psutil.Process]]:
    """Processes of this one are killed after so many seconds, by a signal: with a thread, none would be forked."""
    killed = []

    def kill(*_: Any) -> None:
        for child in psutil.Process().children():
            if "resource_tracker" not in " ".join(child.cmdline()):
                with suppress(psutil.NoSuchProcess):
                    child.kill()
                    killed.append(child)

    before = signal.signal(signal.SIGALRM, kill)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield killed
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def check(record: Record, lowest: float) -> None:
    """It has a certified value, which is proved and between the lowest there is and what takes no time."""
    assert record.status == Status.OK, record.reason
    assert record.value is not None
    assert lowest * (1 - SMALL) <= record.value <= QUICK * (1 + SMALL)
    assert certlip.verify(record.certificate).ok


@pytest.mark.parametrize("share", [0.1, *(pytest.param(share, marks=pytest.mark.nightly) for share in (0.5, 0.9))])
@pytest.mark.parametrize("name", METHODS)
def test_a_method_that_is_killed_has_a_certified_value(
    name: str, share: float, finished: dict[str, tuple[Record, float]]
) -> None:
    best, seconds = finished[name]
    limits.end_idle()
    with killed_after(share * seconds) as killed:
        record = certlip.bound(NETWORK, **METHODS[name], max_seconds=100)
    check(record, finished["lipsdp"][0].value)
    if record.value != best.value:
        assert killed
        assert "SIGKILL" in record.reason


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("seconds", [pytest.param(0.01, marks=pytest.mark.nightly), 0.2])
def test_a_limit_of_time_is_kept_and_gives_a_certified_value(
    name: str, seconds: float, finished: dict[str, tuple[Record, float]]
) -> None:
    lowest = finished["lipsdp"][0].value
    begin = time.monotonic()
    record = certlip.bound(NETWORK, **METHODS[name], max_seconds=seconds)
    assert time.monotonic() - begin < seconds + limits.ENDING_SECONDS + 3  # of other work on this machine
    check(record, lowest)


def test_what_a_program_reports_proves_better_and_better_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    lmi = sdp.Lmi.of(Chain.of(NETWORK))
    drafts: list[sdp.Draft] = []
    best = sdp.solve_lmi(lmi, "structured", report=lambda make: drafts.append(make()))
    finished = [sdp.finish(lmi, draft) for draft in drafts]
    assert len(finished) > 2
    assert all(best.rho * (1 - SMALL) <= solution.rho for solution in finished)
    assert all(sdp.is_feasible(lmi, solution.rho, solution.multipliers) for solution in finished)
    assert finished[-1].rho <= best.rho * (1 + SMALL)
    assert finished[-1].gap <= SMALL < finished[0].gap
    assert finished[0].bound < best_product(NETWORK).value


@pytest.mark.parametrize("merge", ["weighted", "folded"])
def test_what_a_job_had_reported_is_finished_as_its_blocks(merge: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(lambda: NETWORK, load("dcp"), {"grid": (2, 2), "merge": merge})
    job = next(job for job in plan.jobs if job.places[0][0] == 0)
    problem = jobs.problem_of(NETWORK, plan, job)
    reports: list[Any] = []
    monkeypatch.setattr(limits, "report", lambda make: reports.append(make()))
    arguments = (job, problem, "auto", 1e-4, 1, 100.0, None)
    best = jobs.solve_problem(*arguments)
    for reported in (reports[0], reports[-1]):
        blocks = jobs.finish_problem(*arguments, reported, "somebody")
        assert all("somebody cut it short: certified, with a gap of" in block.reason for block in blocks)
        assert [(b.segment, b.block) for b in blocks] == [(b.segment, b.block) for b in best]
        pairs = zip(blocks, best, strict=True)
        assert max(float((b.metric - a.metric).max()) for b, a in pairs) >= -SMALL  # type: ignore[operator]


def test_layer_constants_are_certified_from_the_first_on_and_become_sharper() -> None:
    products = [math.prod(found[0]) for found, _ in refined.refined_constants([NETWORK]) if found]
    assert len(products) == 1 + sum(isinstance(layer, Conv | Dense) for layer in NETWORK.layers)
    assert products == sorted(products, reverse=True)
    assert best_product(NETWORK).value == pytest.approx(products[-1], rel=1e-12)
    for found, _ in refined.refined_constants([NETWORK]):
        pairs = zip(NETWORK.layers, NETWORK.shapes, found[0], strict=False)
        assert all(norms.holds(layer, shape, constant) for layer, shape, constant in pairs)


def test_a_product_that_runs_out_of_time_says_which_layers_have_frobenius_norms() -> None:
    found = best_product(NETWORK, deadline=Deadline.after(0.0))
    assert found.reason == "Frobenius norms stand for conv0, conv1, dense0, dense1, dense2"
    assert certlip.verify(found.certificate).ok


def test_what_a_look_takes_is_predicted() -> None:
    """On a machine that does other things beside, so roughly."""
    wide = network(width=900, depth=3, side=22)
    lmi = sdp.Lmi.of(Chain.of(wide))
    ratios = []
    for _ in range(5):
        looks = Looks(lmi)
        predicted = looks.seconds
        with looks.timed():
            sdp.is_feasible(lmi, 1e6, sdp.start(lmi))
        ratios.append(looks.seconds / predicted)
    assert 1 / 6 < min(ratios) < 6
    with pytest.raises(LimitExceeded, match="a proof may take"):
        looks.check(Deadline.after(looks.seconds))
    looks.check(Deadline.after(4 * looks.seconds))


def paper_network(name: str) -> Network:
    """CNN2 and the trade-off's block with random weights: programs of order 20,322 and 22,480."""
    from certlip.pytorch.export import export_network
    from certlip.zoo import cnn2, conv_block

    torch.manual_seed(1)
    if name == "cnn2":
        return export_network(cnn2.make().double().eval(), (3, 32, 32))
    block = conv_block.make(channels=1, n_layers=10, kernel=5, image_size=[64, 64])
    return export_network(block.double().eval(), (1, 64, 64))


def bound_in_time(name: str, options: dict[str, Any], seconds: float) -> tuple[str, float, float]:
    begin = time.monotonic()
    record = certlip.bound(paper_network(name), **options, max_seconds=seconds)
    return record.reason, record.value or math.inf, time.monotonic() - begin


@pytest.mark.nightly
@pytest.mark.parametrize("seconds", [1, 5, 20])
@pytest.mark.parametrize("name", ["cnn2", "tradeoff"])
@pytest.mark.parametrize("options", METHODS.values(), ids=METHODS)
def test_the_largest_networks_have_a_certified_value_in_any_time(
    name: str, options: dict[str, Any], seconds: float
) -> None:
    naive = best_product(paper_network(name)).value
    n_programs = 6 if options["method"] == "dcp" else 1
    reason, value, wall = bound_in_time(name, options, seconds)
    assert value < math.inf, reason
    if options["method"] in ("lipsdp", "dcp"):
        assert value <= naive * (1 + SMALL)
    assert wall < n_programs * (seconds + limits.ENDING_SECONDS + 2) + 10


@pytest.mark.nightly
@pytest.mark.parametrize("n", [2, 4])
def test_side_by_side_they_keep_their_limits_too(n: int) -> None:
    with ProcessPoolExecutor(n, multiprocessing.get_context("spawn")) as pool:
        asked = [pool.submit(bound_in_time, "cnn2", {"method": "lipsdp"}, 20) for _ in range(n)]
        answers = [future.result() for future in asked]
    naive = best_product(paper_network("cnn2")).value
    assert all(value <= naive * (1 + SMALL) and wall < 20 + 15 for _, value, wall in answers)


@pytest.mark.parametrize(
    ("method", "what"),
    [("product", "the product of layer constants"), ("eclipse_fast", "what was certified by then")],
)
def test_what_is_left_of_a_method_that_was_ended_is_called_what_it_is(method: str, what: str) -> None:
    bound = replace(load(method).bound(network(width=4)), reason="")
    assert _cut_short(bound, "no result within 1 s").reason == f"no result within 1 s: this is {what}"
    assert _cut_short(replace(bound, reason="a gap is open"), "ended").reason == "ended: a gap is open"
