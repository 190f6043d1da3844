"""The cache of solved programs: private, shared without harm, and never believed when it is damaged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from random_networks import random_network

import certlip
from certlip import blocks
from certlip.methods import load
from certlip.network import Activation, Conv, Flatten, Network
from certlip.partition.plan import Plan

SOLVE = """
import sys, certlip
from certlip.network import Activation, Conv, Flatten, Network
network = Network.load(sys.argv[1])
for _ in range(3):
    print(repr(certlip.bound(network, method="dcp", cache=sys.argv[2]).value))
"""


@pytest.fixture(scope="module")
def network() -> Network:
    return random_network(1, max_linear=3, kinds=("relu",))


def plan_of(network: Network) -> Plan:
    return blocks.make_plan(lambda: network, load("dcp"), {})


def test_the_cache_is_private(network: Network, tmp_path: Path) -> None:
    """What it holds is believed to be certified: nobody else may write it."""
    (tmp_path / "cache").mkdir(mode=0o777)
    blocks.solve_blocks(network, plan_of(network), cache=tmp_path / "cache")
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


def test_a_damaged_entry_of_the_cache_is_solved_again(network: Network, tmp_path: Path) -> None:
    """Cut, emptied, or one bit flipped at any of forty places: the outcome is that of a fresh solve."""
    plan = plan_of(network)
    (fresh,) = blocks.solve_blocks(network, plan, cache=tmp_path)
    (entry,) = tmp_path.rglob("*.npz")
    content = entry.read_bytes()
    places = np.linspace(0, len(content) - 1, 40).astype(int)
    flipped = [content[:i] + bytes([content[i] ^ 16]) + content[i + 1 :] for i in places]
    for damaged in [b"", content[: len(content) // 2], content[:-1], *flipped]:
        entry.write_bytes(damaged)
        (solved,) = blocks.solve_blocks(network, plan, cache=tmp_path)
        assert (solved.status, solved.rho, solved.order) == (fresh.status, fresh.rho, fresh.order)
        assert all(np.array_equal(a, b) for a, b in zip(solved.multipliers, fresh.multipliers, strict=True))


def test_what_the_cache_holds_is_not_solved_again_and_each_program_has_its_own_entry(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).standard_normal((2, 3, 3, 3, 3))
    first, second = (Conv(f"conv{i}", weight[:, : 1 + 2 * i], np.zeros(3)) for i, weight in enumerate(weights))
    network = Network((first, Activation("act", "relu"), second, Flatten("flatten")), (1, 9, 9))
    plan = blocks.make_plan(lambda: network, load("dcp"), {"grid": (2, 2), "merge": "weighted"})
    fresh = blocks.solve_blocks(network, plan, cache=tmp_path)
    entries = sorted(tmp_path.rglob("*.npz"))
    assert 1 < len(entries) <= len(fresh)
    entries[0].unlink()
    again = blocks.solve_blocks(network, plan, cache=tmp_path)
    assert [(s.segment, s.block, s.rho) for s in again] == [(s.segment, s.block, s.rho) for s in fresh]
    assert sum(a.seconds != b.seconds for a, b in zip(again, fresh, strict=True)) == 1
    assert sorted(tmp_path.rglob("*.npz")) == entries


def test_a_cache_shared_by_two_runs_at_once_gives_both_the_same(network: Network, tmp_path: Path) -> None:
    network.save(tmp_path / "network.npz")
    command = [sys.executable, "-c", SOLVE, str(tmp_path / "network.npz"), str(tmp_path / "cache")]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) for _ in range(2)]
    answers = {line for run in runs for line in run.communicate(timeout=120)[0].splitlines()}
    assert answers == {repr(certlip.bound(network, method="dcp").value)}
    assert [run.returncode for run in runs] == [0, 0]
