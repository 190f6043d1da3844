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
from certlip.network import Network
from certlip.partition.plan import Plan

SOLVE = """
import sys, certlip
from certlip.network import Network
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
    """It holds pickles: nobody else may write them."""
    (tmp_path / "cache").mkdir(mode=0o777)
    blocks.solve_blocks(network, plan_of(network), cache=tmp_path / "cache")
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


@pytest.mark.filterwarnings("ignore:Exception while loading results")
def test_a_damaged_entry_of_the_cache_is_solved_again(network: Network, tmp_path: Path) -> None:
    """Cut, emptied, or one bit flipped at any of forty places: the outcome is that of a fresh solve."""
    plan = plan_of(network)
    (fresh,) = blocks.solve_blocks(network, plan, cache=tmp_path)
    (entry,) = tmp_path.rglob("output.pkl")
    content = entry.read_bytes()
    places = np.linspace(0, len(content) - 1, 40).astype(int)
    flipped = [content[:i] + bytes([content[i] ^ 16]) + content[i + 1 :] for i in places]
    for damaged in [b"", content[: len(content) // 2], content[:-1], *flipped]:
        entry.write_bytes(damaged)
        (solved,) = blocks.solve_blocks(network, plan, cache=tmp_path)
        assert (solved.status, solved.rho, solved.order) == (fresh.status, fresh.rho, fresh.order)
        assert all(np.array_equal(a, b) for a, b in zip(solved.multipliers, fresh.multipliers, strict=True))


def test_a_cache_shared_by_two_runs_at_once_gives_both_the_same(network: Network, tmp_path: Path) -> None:
    network.save(tmp_path / "network.npz")
    command = [sys.executable, "-c", SOLVE, str(tmp_path / "network.npz"), str(tmp_path / "cache")]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) for _ in range(2)]
    answers = {line for run in runs for line in run.communicate(timeout=120)[0].splitlines()}
    assert answers == {repr(certlip.bound(network, method="dcp").value)}
    assert [run.returncode for run in runs] == [0, 0]
