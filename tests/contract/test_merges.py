"""What every merge rule keeps: it goes from plan to proof, by files too, and is one object."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import oracle
import pytest

import certlip
from certlip.methods import dcp
from certlip.network import Activation, Conv, Dense, Flatten, Network
from certlip.partition.merges import RULES, MergeRule
from certlip.partition.plan import Plan
from certlip.proof.merge import TOTALS
from certlip.solving.blocks import merge_files, solve_files


def network() -> Network:
    """Two convolutions and a dense tail: of a 3x3 grid no pixel is read by all patches."""
    rng = np.random.default_rng(0)
    first = Conv("first", rng.standard_normal((2, 1, 2, 2)), np.zeros(2))
    second = Conv("second", rng.standard_normal((2, 2, 2, 2)), np.zeros(2))
    hidden = Dense("hidden", rng.standard_normal((5, 72)), np.zeros(5))
    out = Dense("out", rng.standard_normal((3, 5)), np.zeros(3))
    head = first, Activation("act", "relu"), second, Activation("last", "relu")
    return Network((*head, Flatten("flatten"), hidden, Activation("tail", "relu"), out), (1, 8, 8))


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("grid", [(1, 1), (3, 3)])
def test_a_rule_goes_from_plan_to_proof(name: str, grid: tuple[int, int], tmp_path: Path) -> None:
    goes_from_plan_to_proof(RULES[name], grid, tmp_path)


def test_a_rule_of_ones_own_is_one_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = MergeRule("own", 0.3, 0.1, shares=lambda n_readers: 1.0 / np.sqrt(n_readers))
    monkeypatch.setitem(RULES, own.name, own)
    goes_from_plan_to_proof(own, (3, 3), tmp_path)
    options = {"method": "dcp", "grid": (3, 3), "fallback": False}
    records = [certlip.bound(network(), merge=merge, **options) for merge in ("own", "weighted")]
    assert records[0].options["merge"] == "own"
    assert records[0].value != records[1].value


def goes_from_plan_to_proof(rule: MergeRule, grid: tuple[int, int], folder: Path) -> None:
    bounded, planned, solved = folder / "network.npz", folder / "plan.json", folder / "blocks.npz"
    network().save(bounded)
    dcp.plan(network(), grid=grid, merge=rule.name, chain=rule.joint, fallback=False).save(planned)
    assert Plan.load(planned).rule is rule
    solve_files(bounded, planned, 1, 1, solved)
    assert certlip.verify(solved)
    bound = merge_files(bounded, planned, [solved])
    assert bound.value >= oracle.sampled_quotient(network(), 0)
    bound.certificate.save(folder / "certificate.npz")
    found = certlip.verify(folder / "certificate.npz")
    assert found, found.reason
    assert found.value == bound.value
    first, *others = bound.certificate.segments
    below = replace(first, constant=first.constant * (1 - 1e-12))
    assert not certlip.verify(replace(bound.certificate, segments=(below, *others)))


@pytest.mark.parametrize("name", RULES)
def test_a_rule_says_how_its_patches_are_merged(name: str) -> None:
    rule = RULES[name]
    assert rule.name == name
    assert rule.total in TOTALS
    assert not (rule.joint and rule.shares)
