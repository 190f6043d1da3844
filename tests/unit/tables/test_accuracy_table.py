"""The table of certified accuracy: shares to their safe side, figures of others below ours."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from accuracies import rows_of

from certlip import tables
from certlip.tables import _cells
from certlip.tables.certified_accuracy import percent

MAKE = tables.load("certified_accuracy").make


@pytest.mark.parametrize(
    ("share", "floor", "ceiling"),
    [
        (0.335, "33.5", "33.5"),
        (67 / 200, "33.5", "33.5"),
        (1 / 3, "33.3", "33.4"),
        (2 / 3, "66.6", "66.7"),
        (0, "0.0", "0.0"),
    ],
)
def test_a_share_is_rounded_to_its_safe_side(share: float, floor: str, ceiling: str) -> None:
    assert (percent(share, math.floor), percent(share, math.ceil)) == (floor, ceiling)
    assert all(percent(k / 200, math.floor) == percent(k / 200, math.ceil) == f"{k / 2:.1f}" for k in range(201))


def test_a_row_a_network_radius_and_method_with_figures_of_others_among_them() -> None:
    cells = MAKE(rows_of(["a", "b"]))
    of_a = cells[cells["Network"] == "a"]
    assert of_a["Radius"].tolist() == ["0.1", "0.1", "0.3", "0.3", "0.3"]
    assert of_a["Method"].tolist() == ["product", "lipsdp", "product", "lipsdp", "Theirs"]
    theirs = of_a.iloc[-1]
    assert (theirs["Certified"], theirs["Clean"], theirs["Attacked"]) == ("32.5", _cells.NONE, "54.0")
    assert theirs["Reported by"] == "S 2001: note"
    assert (of_a["Reported by"].iloc[:-1] == "").all()


def test_a_row_without_images_shows_why() -> None:
    waiting = MAKE(rows_of(["a"], waiting=["w"]))
    row = waiting[waiting["Network"] == "w"].iloc[0]
    assert (row["Certified"], row["Radius"], row["Status"]) == (_cells.NONE, _cells.NONE, "no_data")
    assert row["Reason"] == "not there"


def test_pairs_that_a_budget_left_out_are_counted() -> None:
    rows = rows_of(["a"])
    rows.loc[rows["method"] == "lipsdp", "n_left_open"] = 3
    cells = MAKE(rows)
    assert set(cells[cells["Method"] == "lipsdp"]["Pairs"]) == {"7 (3 left out)"}


def test_no_rows_make_an_empty_table(tmp_path) -> None:
    rows = rows_of(["a"]).iloc[:0]
    assert MAKE(rows).empty
    rows.to_csv(tmp_path / "rows.csv", index=False)
    tables.write("certified_accuracy", pd.read_csv(tmp_path / "rows.csv"), [tmp_path / "t.md", tmp_path / "t.tex"])
    assert tables.EMPTY in (tmp_path / "t.md").read_text()
