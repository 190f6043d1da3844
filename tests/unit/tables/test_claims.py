"""The table of claims: what holds is said to hold, what does not is not, and what waits is not measured."""

from __future__ import annotations

from typing import Any

import measurements
import pandas as pd
import pytest

from certlip.base.record import Kind, Record, Status
from certlip.collect import collect
from certlip.tables import claims, reported


def bound(network: str, method: str, value: float | None, seconds: float = 1.0) -> Record:
    outcome = {"value": value} if value else {"status": Status.NO_DATA, "reason": "put it there"}
    kind = Kind.LOWER if method == "lower" else Kind.CERTIFIED
    plain = {"grid": [2, 2], "cuts": None, "chain": False, "fallback": True}
    options = {**plain, "merge": method.rsplit("-", 1)[-1]} if "2x2" in method else {}
    solver = "structured" if value and ("dcp" in method or method == "lipsdp") else None
    return Record(network=network, method=method, kind=kind, seconds=seconds, options=options, solver=solver, **outcome)


def sweep(*values: tuple[float, float, float], seconds: tuple[float, float] = (8.0, 2.0)) -> pd.DataFrame:
    """Rows of lipsdp, dcp-2x2-sum and product, a network each; seconds: of the first two, at the last network."""
    records = []
    for x, (whole, dcp, naive) in enumerate(values):
        last = x == len(values) - 1
        records += [
            bound(f"w{x}", "lipsdp", whole, seconds[0] if last else 1.0),
            bound(f"w{x}", "dcp-2x2-sum", dcp, seconds[1] if last else 1.0),
            bound(f"w{x}", "product", naive),
            bound(f"w{x}", "lower", 0.5),
            *([bound(f"w{x}", "dcp-auto", whole)] if last else []),  # a method need not run on every network
        ]
    return collect(records, {f"w{x}": {"experiment": "width_sweep", "x": x} for x in range(len(values))})


def holds(bounds: pd.DataFrame, words: str) -> tuple[str, str]:
    """What was measured of the first claim with these words, and whether it holds."""
    made = claims.make(bounds)
    row = made[made["Claim"].str.contains(words, regex=False)].iloc[0]
    return row["Measured"], row["Holds"]


def test_dcp_between_lipsdp_and_naive_is_counted_network_by_network() -> None:
    assert holds(sweep((1, 2, 3), (1, 2, 2)), "lies between")[1] == "yes"
    measured, verdict = holds(sweep((1, 2, 3), (1, 4, 3)), "lies between")
    assert verdict == "on 1 of 2 networks"
    assert "below naive by more than rounding on 1 of 2" in measured


def test_a_value_that_no_program_gave_is_no_lipsdp() -> None:
    rows = sweep((1, 2, 3), (1, 4, 5))
    assert holds(rows, "whole network fits")[1] == "2 of 2"
    given_up = rows["network"].eq("w1") & rows["method"].eq("lipsdp")
    measured, verdict = holds(rows.assign(solver=rows["solver"].mask(given_up)), "whole network fits")
    assert (verdict, "none for w1" in measured) == ("1 of 2", True)


def test_a_partition_is_known_by_its_options_whatever_it_is_called() -> None:
    rows = sweep((1, 2, 3), (1, 4, 3))
    renamed = rows.assign(method=rows["method"].replace("dcp-2x2-sum", "mine"))
    assert holds(renamed, "lies between") == holds(rows, "lies between")
    options = rows["options"].str.replace("[2, 2]", "[3, 3]", regex=False)
    assert holds(rows.assign(options=options), "lies between")[1] == "–"


@pytest.mark.parametrize(("seconds", "verdict"), [((8.0, 2.0), "yes"), ((2.0, 8.0), "no")])
def test_growing_times_are_compared_from_the_first_network_to_the_last(seconds, verdict) -> None:
    assert holds(sweep((1, 2, 3), (1, 2, 3), seconds=seconds), "with the width")[1] == verdict


def test_a_value_under_the_lower_bound_is_not_hidden() -> None:
    assert holds(sweep((1, 2, 3)), "no certified value")[1] == "yes"
    assert holds(sweep((0.4, 2, 3)), "no certified value")[1] == "no"


def test_nested_grids_have_to_be_monotone_and_others_need_not() -> None:
    rows = measurements.tradeoff()
    assert holds(rows, "never tighter")[1] == "yes"
    worse = rows["method"] == "dcp-4x4-sum"
    assert holds(rows.assign(value=rows["value"].where(~worse, 1.0)), "never tighter")[1] == "no"
    between = rows["method"] == "dcp-5x5-sum"
    raised = rows["value"].where(~between, rows.loc[rows["method"] == "dcp-6x6-sum", "value"].item())
    assert holds(rows.assign(value=raised), "never tighter")[1] == "yes"


def test_merges_out_of_order_are_counted_with_their_excess() -> None:
    values = {"sum": 4.0, "cover": 3.0, "folded": 3.3}
    rows = collect([bound("n", f"dcp-2x2-{merge}", value) for merge, value in values.items()], {})
    measured, verdict = holds(rows, "folded <= cover")
    assert verdict == "on 0 of 1 networks"
    assert "excess is 0.1 of" in measured


def partition(method: str, value: float | None, seconds: float, **options: Any) -> Record:
    outcome = {"value": value} if value else {"status": Status.TIME_LIMIT, "reason": "late"}
    options = {"merge": "folded", "budget": 30.0, "cuts": None, **options}
    times = {"seconds": seconds, "options": options}
    return Record(network="n", method=method, kind=Kind.CERTIFIED, **times, **outcome)


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        (partition("given", 3.0, 9.0, grid=[2, 2]), "no"),
        (partition("given", 4.0, 9.0, grid=[2, 2]), "yes"),
        (partition("given", 3.0, 31.0, grid=[2, 2]), "–"),
        (partition("given", 3.0, 9.0, grid=[2, 2], merge="sum"), "–"),
        (partition("given", None, 9.0, grid=[2, 2]), "–"),
    ],
    ids=["tighter in time", "looser", "over the budget", "another merge", "without a bound"],
)
def test_a_dynamic_partition_is_compared_with_given_ones_of_its_merge_within_its_budget(given, verdict) -> None:
    auto = partition("auto", 4.0, 20.0, grid="auto", cuts="auto")
    assert holds(collect([auto, given], {}), "dynamic partition is no worse")[1] == verdict
    late = partition("auto", None, 60.0, grid="auto", cuts="auto")
    assert holds(collect([late, given], {}), "dynamic partition is no worse")[1] == ("–" if verdict == "–" else "no")


def test_what_waits_for_data_is_not_measured() -> None:
    rows = collect([bound(claims.CNN1, method, None) for method in ("dcp-2x2-sum", "product")], {})
    assert holds(rows, "tighter than naive") == ("not measured: waits for data", "–")
    assert holds(rows, "orthogonal") == ("not measured: not in this configuration", "–")


def test_reported_figures_stand_beside_ours_with_their_quotients() -> None:
    paper = {
        "source": "P",
        "note": "n",
        "bounds": {"product": 91.31, "dcp-2x2-sum": 65.84},
        "seconds": {"product": 9.0},
    }
    records = [bound("n", "product", 200.0), bound("n", "dcp-2x2-sum", 150.0), bound("n", "lipsdp", 100.0)]
    made = reported.make(collect(records, {"n": {"reported": paper}}))
    assert made["Ours"].tolist() == ["≤200.0", "≤150.0 (0.750)"]
    assert made["Reported"].tolist() == ["91.31", "65.84 (0.721)"]
    assert made["Reported s"].tolist() == ["9.00", "–"]
    assert set(made["Reported by"]) == {"P: n"}
