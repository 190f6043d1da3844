"""Calibration of this machine by real programs, and where it and its plans are kept."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import certlip
from certlip import cli
from certlip.base.errors import CertlipError, ConfigError
from certlip.base.limits import Limits
from certlip.base.record import Status
from certlip.methods import dcp
from certlip.network import Activation, Conv, Dense, Flatten, Network
from certlip.partition.calibration import Calibration, Law
from certlip.solving import blocks, solved_files
from certlip.solving.calibrate import EXPONENT, REAL, Case, calibrate, fit, largest_order, load_or_calibrate


@pytest.fixture(autouse=True)
def _in_a_second(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Small programs, and no cache of the user's."""
    monkeypatch.setattr("certlip.solving.calibrate.ALONE", (Case(2, 1, 10), Case(2, 2, 12, 3)))
    monkeypatch.setattr("certlip.solving.calibrate.JOINT", (Case(2, 1, 10, 0, 2), Case(3, 2, 12, 0, 2)))
    monkeypatch.setattr("certlip.solving.calibrate.REPEATED_SECONDS", 0.1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


def net(seed: int = 0, tail: int = 1) -> Network:
    """Two convolutions, the same for each tail, and two dense layers."""
    rng, rng_tail = np.random.default_rng(seed), np.random.default_rng(tail)
    first = Conv("c1", rng.standard_normal((2, 1, 3, 3)), np.zeros(2))
    second = Conv("c2", rng.standard_normal((2, 2, 3, 3)), np.zeros(2))
    dense = Dense("d1", rng_tail.standard_normal((5, 72)), np.zeros(5))
    last = Dense("d2", rng_tail.standard_normal((3, 5)), np.zeros(3))
    relu = [Activation(name, "relu") for name in ("r1", "r2", "r3")]
    return Network((first, relu[0], second, relu[1], Flatten("f"), dense, relu[2], last), (1, 10, 10))


def n_cached(folder: Path) -> int:
    return len(list(folder.rglob("*.npz")))


def test_a_calibration_says_what_it_measured_and_what_it_cost() -> None:
    found = calibrate("structured", Limits(1, 300.0, 2000.0))
    assert found.refusal is None
    assert [len(law.points) for law in (found.alone, found.joint)] == [2, 2]
    assert found.joint == fit(found.joint.points)
    assert found.alone == fit(found.alone.points, REAL)
    assert found.start_seconds > 0
    assert found.seconds > math.fsum(seconds for _, seconds in found.alone.points)
    assert found.cpu
    assert found.code


def test_programs_are_measured_beside_others_as_a_run_solves_them(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def watched(network: Network, plan: Any, jobs: Any, **options: Any) -> Any:
        asked.append((len(jobs), options["n_jobs"]))
        return blocks.solve_blocks(network, plan, jobs, **options)

    monkeypatch.setattr("certlip.solving.calibrate.solve_blocks", watched)
    for n_cores, n_lanes in ((1, 1), (8, 2)):
        monkeypatch.setattr("os.cpu_count", lambda n=n_cores: n)
        asked.clear()
        found = calibrate("structured", Limits(1, 300.0, 2000.0))
        assert set(asked) == {(n_lanes, n_lanes)}
        assert [len(law.points) for law in (found.alone, found.joint)] == [2, 2]


@pytest.mark.parametrize(("base", "factor"), [(0.1, 1e-6), (0.01, 1e-8), (1.0, 1e-7)])
def test_a_law_is_found_again_from_its_points(base: float, factor: float) -> None:
    sizes = (2_000, 50_000, 300_000, 1_000_000, 4_000_000)
    points = [(n, base + factor * n**EXPONENT) for n in sizes]
    for longer in (1.0, 3.0):
        law = fit(points, longer)
        for n in (10_000, 50_000_000):
            assert law.seconds([n]) == pytest.approx(base + longer * factor * n**EXPONENT, rel=1e-3)


def test_the_largest_order_keeps_both_limits() -> None:
    law = Law(base=0.1, factor=1e-7, exponent=1.0)
    free = largest_order("structured", law, Limits())
    memory = largest_order("structured", law, Limits(max_memory_mb=1000.0))
    time = largest_order("structured", law, Limits(max_seconds=0.5, max_memory_mb=1000.0))
    # 300 MB, seven copies of two weights and four matrices of half the order, 8 bytes an entry: the solver says so
    assert memory == pytest.approx(math.sqrt(700 * 2**20 / (4.5 * 8)), abs=2)
    assert free > memory > time > 0
    assert law.seconds([(time // 2) ** 2]) <= 0.5 < law.seconds([(time // 2 + 1) ** 2])


def test_a_calibration_is_kept_for_its_limits(tmp_path: Path) -> None:
    first = load_or_calibrate("structured", Limits(), tmp_path)
    assert load_or_calibrate("structured", Limits(), tmp_path) == first
    assert load_or_calibrate("structured", Limits(threads=2), tmp_path).threads == 2
    assert len(list((tmp_path / "calibration").iterdir())) == 2


def test_a_solver_that_cannot_run_makes_no_automatic_plan_and_says_why(tmp_path: Path) -> None:
    from certlip.sdp.solvers import mosek

    if mosek.unavailable() is None:
        pytest.skip("a licence of MOSEK is here")
    record = certlip.bound(net(), method="dcp", grid="auto", solver="mosek", cache=tmp_path)
    assert (record.status, record.value) == (Status.SOLVER_FAILED, None)
    assert "mosek" in record.reason


def test_an_automatic_plan_is_bounded_soundly_and_its_calibration_counted(tmp_path: Path) -> None:
    options: dict[str, Any] = {"method": "dcp", "merge": "folded", "cache": tmp_path}
    record = certlip.bound(net(), grid="auto", cuts="auto", budget=60, **options)
    whole = certlip.bound(net(), method="lipsdp", cache=tmp_path)
    assert record.value == whole.value
    assert record.calibration_seconds > 0
    assert certlip.verify(record.certificate).ok
    given = certlip.bound(net(), grid=(2, 2), **options)
    assert given.calibration_seconds == 0
    nothing = certlip.bound(net(), grid="auto", cuts="auto", budget=1e-6, **options)
    assert nothing.value is not None
    assert nothing.n_sdps == 0
    assert "left to its layer constants" in nothing.reason


def test_equal_programs_are_solved_once_across_merges_and_networks(tmp_path: Path) -> None:
    certlip.bound(net(), method="dcp", merge="sum", cache=tmp_path)
    assert n_cached(tmp_path) == 2
    certlip.bound(net(), method="dcp", merge="cover", cache=tmp_path)
    assert n_cached(tmp_path) == 2
    certlip.bound(net(tail=2), method="dcp", merge="sum", cache=tmp_path)
    assert n_cached(tmp_path) == 3


@pytest.mark.parametrize(
    ("limit", "status"),
    [(Limits(1, 1e-3), Status.TIME_LIMIT), (Limits(1, None, 301.0), Status.MEMORY_LIMIT)],
    ids=["stopped early", "too large"],
)
def test_what_a_limit_ended_is_solved_again_with_more(limit: Limits, status: Status, tmp_path: Path) -> None:
    network = net()
    plan = dcp.plan(network, cuts=["d2"], grid=(1, 1))
    (block,) = blocks.solve_blocks(network, plan, limit=limit, cache=tmp_path)
    assert block.status == status
    assert block.reason
    assert n_cached(tmp_path) == 0
    (block,) = blocks.solve_blocks(network, plan, limit=Limits(1, 60.0, 4000.0), cache=tmp_path)
    assert (block.status, block.reason) == (Status.OK, "")
    assert n_cached(tmp_path) == 1


def run(*arguments: str) -> str:
    """What ``certlip plan`` prints; raises what it raises."""
    return CliRunner().invoke(cli.app, ["plan", *arguments], catch_exceptions=False, env={"COLUMNS": "150"}).output


@pytest.mark.parametrize("written", ["4x4", "4,4", "[4, 4]"])
def test_a_grid_on_the_command_line_may_be_written_as_people_write_it(written: str) -> None:
    assert cli._parse(f"grid={written}") == ("grid", [4, 4])


def test_the_plan_of_a_network_is_printed_with_its_predictions(tmp_path: Path) -> None:
    net().save(tmp_path / "net.npz")
    text = run(str(tmp_path / "net.npz"), "-o", "grid=[2, 2]", "-o", "merge=folded")
    for words in ("2x2", "r2", "segment 1, jointly", "7x7", "N_max", "predicted s"):
        assert words in text
    automatic = run(str(tmp_path / "net.npz"), "-o", "grid=auto", "-o", "cuts=auto", "-o", "budget=50")
    assert "the budget is 50 s" in automatic
    without_programs = run(str(tmp_path / "net.npz"), "-o", "grid=auto", "-o", "cuts=auto", "-o", "budget=1e-6")
    assert "left to its layer constants" in " ".join(without_programs.split())


def test_a_plan_of_the_workflow_is_printed_with_the_seconds_it_took(tmp_path: Path) -> None:
    network, file = net(), tmp_path / "plans" / "net" / "dcp-auto.json"
    calibration = calibrate("auto")
    plan = dcp.plan(network, grid="auto", merge="folded", calibration=calibration, budget=60.0)
    plan.save(file)
    assert "the budget is 60 s" in run(str(file))
    solved = blocks.solve_blocks(network, plan)
    solved_files.save_solved(tmp_path / "blocks" / "net" / "dcp-auto" / "1-of-1.npz", network, plan, solved)
    assert f"{math.fsum(s.seconds for s in solved):.3g}" in run(str(file))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (["missing.npz"], CertlipError, "does not exist"),
        (["missing.json"], CertlipError, "does not exist"),
        (["net.npz", "--method", "gram"], ConfigError, "nothing to plan"),
        (["net.npz", "-o", "gird=auto"], ConfigError, "did you mean 'grid'"),
        (["net.npz", "-o", "chain=true"], CertlipError, "no metric to hand"),
    ],
)
def test_a_mistake_is_one_sentence(arguments: list[str], error: type, words: str, tmp_path: Path) -> None:
    net().save(tmp_path / "net.npz")
    with pytest.raises(error, match=words):
        run(str(tmp_path / arguments[0]), *arguments[1:])


def test_an_unreadable_calibration_is_named(tmp_path: Path) -> None:
    (tmp_path / "auto.json").write_text("{}")
    with pytest.raises(CertlipError, match="not a certlip calibration"):
        Calibration.load(tmp_path / "auto.json")
