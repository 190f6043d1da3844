"""There is none, because: the status and the sentence stay what they were, whatever they are written into."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from certlip.base.errors import REFUSALS, DataError, LimitExceeded, NoBound, NoData, Refusal, UnsupportedLayer
from certlip.base.files import read_npz, write_npz, write_refusal
from certlip.base.record import Kind, Record, Status
from certlip.exported import save_exported
from certlip.methods import dcp
from certlip.network import Network
from certlip.partition.plan import Job, Plan
from certlip.pytorch.weights import load_weights, save_refusal
from certlip.solving.blocks import make_plan, merge_plan
from certlip.solving.jobs import refused
from certlip.solving.solved import SolvedBlock, from_arrays, to_arrays

WHY = "attn: no bound for MultiheadAttention"
ERRORS = [UnsupportedLayer(WHY), NoData(WHY, ["a.npz"]), LimitExceeded("memory_limit", WHY, seconds=4.0)]


def test_every_status_without_a_value_is_one_of_a_refusal() -> None:
    assert set(REFUSALS) == {*Status} - {Status.OK}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.status)
def test_an_exception_is_its_refusal_and_back(error: NoBound) -> None:
    assert error.refusal == Refusal(error.status, WHY)
    assert error.refusal.error().refusal == error.refusal


@pytest.mark.parametrize("status", REFUSALS)
def test_a_refusal_stays_what_it_is_in_every_file(status: str, tmp_path: Path) -> None:
    refusal = Refusal(status, WHY)
    write_refusal(tmp_path / "n.npz", refusal)
    save_refusal(tmp_path / "w.pt", refusal)
    for read, name in ((Network.load, "n.npz"), (load_weights, "w.pt")):
        with pytest.raises(NoBound, match=WHY) as raised:
            read(tmp_path / name)
        assert raised.value.refusal == refusal
    Plan(segments=(), refusal=refusal).save(tmp_path / "p.json")
    assert Plan.load(tmp_path / "p.json").refusal == refusal
    (block,) = from_arrays(*to_arrays([SolvedBlock(0, 0, refusal.status, refusal.reason)]))
    assert block.refusal == refusal


def test_weights_that_wait_make_a_network_that_waits(tmp_path: Path) -> None:
    waits = Refusal("no_data", "put w.pth into data/weights")
    save_refusal(tmp_path / "w.pt", waits)
    save_exported(tmp_path / "n.npz", {"architecture": "mlp", "options": {}}, tmp_path / "w.pt")
    with pytest.raises(NoBound) as raised:
        Network.load(tmp_path / "n.npz")
    assert raised.value.refusal == waits


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.status)
def test_a_network_that_is_refused_is_a_plan_that_says_so_and_no_bound(error: NoBound) -> None:
    def missing() -> Network:
        raise error

    plan = make_plan(missing, dcp, {})
    assert plan.refusal == error.refusal
    with pytest.raises(NoBound) as raised:
        merge_plan(Network((), (1,)), plan, [])
    assert raised.value.refusal == error.refusal


def test_the_blocks_of_a_job_share_the_time_of_what_ended_it() -> None:
    job = Job(((0, 0), (0, 1)), joint=True)
    blocks = refused(job, LimitExceeded("time_limit", "late", seconds=4.0))
    assert [(s.refusal, s.seconds) for s in blocks] == [(Refusal("time_limit", "late"), 2.0)] * 2


@pytest.mark.parametrize(
    "header", [{}, {"refused": "why"}, {"refused": 3, "status": "no_data"}, {"refused": "why", "status": "ok"}]
)
def test_anything_else_is_no_refusal(header: dict, tmp_path: Path) -> None:
    assert Refusal.from_header(header) is None
    write_npz(tmp_path / "n.npz", header, {})
    assert read_npz(tmp_path / "n.npz")[0] == header
    torch.save(header, tmp_path / "w.pt")
    if header:
        with pytest.raises(DataError):
            load_weights(tmp_path / "w.pt")


def test_a_sentence_stays_one_line() -> None:
    assert Refusal.from_header(Refusal("no_data", "put it\n there").to_header()) == Refusal("no_data", "put it there")


def test_a_record_says_why_there_is_no_value() -> None:
    refusal = Refusal("solver_failed", WHY)
    record = Record(network="n", method="m", kind=Kind.CERTIFIED, **vars(refusal))
    assert (record.status, record.reason) == (Status.SOLVER_FAILED, WHY)
