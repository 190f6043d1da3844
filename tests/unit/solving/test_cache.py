"""The cache of solved programs: private, shared without harm, and never believed when it is damaged."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_networks import random_network

import certlip
from certlip.base.files import read_npz, write_npz
from certlip.methods import load
from certlip.network import Activation, Conv, Dense, Flatten, Network
from certlip.partition.plan import Plan
from certlip.solving import blocks

Forgery = Callable[[dict, dict], object]
"""Changes the header and the arrays of an entry in place."""

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
    """Nobody else may write it, though what it holds is proved again."""
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


def conv_network() -> Network:
    rng = np.random.default_rng(0)
    first, second = (Conv(f"conv{i}", rng.standard_normal((2, 1 + i, 2, 2)), np.zeros(2)) for i in (0, 1))
    third, last = Dense("third", rng.standard_normal((3, 18)), np.zeros(3)), Dense("last", np.eye(2, 3), np.zeros(2))
    acts = [Activation(f"act{i}", "relu") for i in range(3)]
    return Network((first, acts[0], second, acts[1], Flatten("flatten"), third, acts[2], last), (1, 5, 5))


def scaled(key: str, factor: float) -> Forgery:
    """Each number of an entry's header, or each array of its file, of this name, times a factor."""

    def forge(header: dict, arrays: dict) -> None:
        for entry in header["solved"]:
            if entry.get(key) is not None:
                entry[key] *= factor
        for name in arrays:
            if name.startswith(f"{key}."):
                arrays[name] = arrays[name] * factor

    return forge


def stated(key: str, value: Any) -> Forgery:
    return lambda header, arrays: [entry.update({key: value}) for entry in header["solved"]]


def reshaped(change: Callable[[np.ndarray], np.ndarray]) -> Forgery:
    return lambda header, arrays: arrays.update({name: change(array) for name, array in arrays.items()})


FORGERIES: dict[str, Forgery] = {
    **{f"rho times {factor:g}": scaled("rho", factor) for factor in (1e-4, 0.999, 0.0, -1.0, math.nan, math.inf)},
    **{f"metrics times {f:g}": scaled("metric", f) for f in (1e-4, 0.999, 0.0, -1.0, math.nan, math.inf)},
    **{f"multipliers times {f:g}": scaled("multipliers", f) for f in (0.0, -1.0, math.nan, math.inf, 1e200)},
    **{f"rho {value!r:.8}": stated("rho", value) for value in (None, True, "1", [], {}, 10**400, math.nan)},
    **{f"seconds {value!r:.8}": stated("seconds", value) for value in (None, True, "1", [], math.inf, -1.0)},
    **{f"status {value!r}": stated("status", value) for value in (None, "good", "time_limit", 3, ["ok"])},
    **{f"reason {value!r}": stated("reason", value) for value in (None, ["why"], "it was slow")},
    "chained": stated("chained", True),
    "an unknown key": stated("trust_me", 1),
    "a place that is text": stated("segment", "0"),
    "no entries": lambda header, arrays: header.update(solved=[]),
    "entries twice": lambda header, arrays: header.update(solved=header["solved"] * 2),
    "entries that are none": lambda header, arrays: header.update(solved=[None for _ in header["solved"]]),
    "no list": lambda header, arrays: header.update(solved=3),
    "no arrays": lambda header, arrays: arrays.clear(),
    "a metric besides": lambda header, arrays: arrays.update({"metric.0": np.full(9, 1e-9)}),
    "one multiplier more": lambda header, arrays: arrays.update({"multipliers.0.7": np.ones(2)}),
    "shorter arrays": reshaped(lambda a: a[:-1]),
    "arrays with an axis more": reshaped(lambda a: a[None]),
    "complex arrays": reshaped(lambda a: a + 0j),
    "small integers": reshaped(lambda a: a.astype(np.int8)),
    "half precision": reshaped(lambda a: a.astype(np.float16)),
    "a refusal": lambda header, arrays: header.update(refused="no", status="no_data"),
}

CASES: dict[str, dict[str, Any]] = {
    "cover": {"grid": (2, 2), "merge": "cover"},
    "weighted": {"grid": (2, 2), "merge": "weighted"},
    "folded": {"grid": (2, 2), "merge": "folded"},
    "chained": {"grid": (2, 1), "merge": "folded", "chain": True},
}


def claims(path: Path) -> tuple[list[float], dict[str, bytes]]:
    """The values of an entry, and their proofs."""
    header, arrays = read_npz(path)
    return [entry["rho"] for entry in header["solved"]], {name: array.tobytes() for name, array in arrays.items()}


@pytest.mark.parametrize("case", CASES)
def test_a_forged_entry_of_the_cache_is_solved_again(
    case: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Whatever it says, the blocks are proved and are no looser than fresh ones; afterwards the entry is honest."""
    network = conv_network()
    plan = blocks.make_plan(lambda: network, load("dcp"), CASES[case])
    assert bool(plan.chains) == (case == "chained")
    truth = blocks.merge_plan(network, plan, blocks.solve_blocks(network, plan, cache=tmp_path)).value
    entries = {path: claims(path) for path in tmp_path.rglob("*.npz")}
    for how, forge in FORGERIES.items():
        for path in entries:
            header, arrays = read_npz(path)
            forge(header, arrays)
            write_npz(path, header, arrays)
        bound = blocks.merge_plan(network, plan, blocks.solve_blocks(network, plan, cache=tmp_path))
        assert bound.value == truth, how
        assert certlip.verify(bound.certificate), how
        assert {path: claims(path) for path in entries} == entries, how
    record_property("forged_entries", len(FORGERIES) * len(entries))


def test_blocks_of_the_cache_that_prove_themselves_are_not_solved_again(tmp_path: Path) -> None:
    """The proof is of this network's patches and metrics, also where a chain hands them on."""
    network = conv_network()
    for options in CASES.values():
        plan = blocks.make_plan(lambda: network, load("dcp"), options)
        fresh = blocks.solve_blocks(network, plan, cache=tmp_path)
        again = blocks.solve_blocks(network, plan, cache=tmp_path)
        assert [s.seconds for s in again] == [s.seconds for s in fresh]


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
