"""The gap of a row: by how much at most better multipliers could lower its value."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from automatic_plans import net

import certlip
from certlip.collect import collect, read, save
from certlip.network import Activation, Network
from certlip.proof.certificate import constants_proof
from certlip.sdp import solvers
from certlip.solving.solved import SolvedBlock
from certlip.solving.way import Step, gap_of
from certlip.tables import bounds as table

CASES = {
    "whole": {"method": "lipsdp"},
    "sum": {"method": "dcp"},
    "weighted": {"method": "dcp", "merge": "weighted"},
    "folded": {"method": "dcp", "merge": "folded"},
    "chained": {"method": "dcp", "merge": "folded", "chain": True, "cuts": ["a1"]},
}


@pytest.mark.parametrize("case", CASES)
def test_a_finished_row_has_a_gap_within_the_tolerance_asked_for(case: str) -> None:
    record = certlip.bound(net(), **CASES[case], rtol=1e-3)
    assert record.gap is not None
    n_segments = len(record.certificate.segments)
    assert 0 <= record.gap <= n_segments * 1e-3


def test_a_tighter_tolerance_stays_above_what_the_gap_allows() -> None:
    loose, tight = (certlip.bound(net(), method="lipsdp", rtol=rtol) for rtol in (0.05, 1e-5))
    assert loose.value is not None
    assert tight.value is not None
    assert loose.gap is not None
    assert tight.gap is not None
    assert tight.value >= loose.value / (1 + loose.gap)
    assert tight.gap < 1e-4


def test_rows_without_programs_or_without_a_dual_bound_have_none() -> None:
    assert certlip.bound(net(), method="product").gap is None
    network = net()
    poor = certlip.bound(network, method="dcp", cuts=[layer.name for layer in network.layers[:-1]])
    assert (poor.n_sdps, poor.gap) == (0, None)
    if solvers.load("clarabel").unavailable() is None:
        small = net(side=7).segment(7, 10)
        assert certlip.bound(small, method="lipsdp", solver="clarabel").gap is None


def test_gaps_of_a_way_multiply_and_an_unknown_one_is_unknown() -> None:
    constants = Step(constants_proof(0, Network((Activation("act", "leaky_relu", 2.0),), (1,)), [2.0]))
    proof = replace(constants.proof, rule="sum")
    half, tenth, unknown = (Step.of(proof, [SolvedBlock(0, 0, "ok", gap=gap)]) for gap in (0.5, 0.1, None))
    assert gap_of([half, constants, tenth]) == pytest.approx(0.65)
    assert gap_of([half, unknown]) is None
    assert gap_of([constants, constants]) is None
    assert Step.of(proof, [SolvedBlock(0, b, "ok", gap=gap) for b, gap in enumerate((0.1, 0.5, 0.2))]).gap == 0.5


def test_the_gap_is_a_column_of_the_comparison_and_of_its_table(tmp_path: Path) -> None:
    record = certlip.bound(net(), method="lipsdp")
    rows = collect([record, certlip.bound(net(), method="product")], {})
    save(rows, tmp_path / "bounds.csv")
    assert read(tmp_path / "bounds.csv")["gap"].tolist()[0] == record.gap
    cells = table.make(rows)["Gap"].tolist()
    assert cells[1] == "–"
    assert float(cells[0]) == pytest.approx(record.gap, rel=0.1)
