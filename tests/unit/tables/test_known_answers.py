"""Known answers in the comparison: the table, the check, and where the constants come from."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

from certlip import tables, zoo
from certlip.base.record import Kind, Record, Status
from certlip.collect import check, collect, read, save
from certlip.tables import _cells

NETWORKS = Path(__file__).parents[3] / "config" / "networks.yaml"
ABOUT = {"linear": {"experiment": "known", "x": 1, "known_constant": 2.0}}


def record(value, kind=Kind.CERTIFIED, method="m", network="linear", **fields):
    return Record(network=network, method=method, kind=kind, value=value, **fields)


def cells(*records, about=ABOUT):
    return tables.load("known_answers").make(collect(records, about))


def test_the_known_constant_stands_in_every_row_of_its_network_and_survives_the_file(tmp_path):
    bounds = collect([record(2.5), record(1.0, network="other"), record(1.9, Kind.LOWER, "lower")], ABOUT)
    save(bounds, tmp_path / "bounds.csv")
    for rows in (bounds, read(tmp_path / "bounds.csv")):
        assert rows["known_constant"].tolist()[::2] == [2.0, 2.0]
        assert math.isnan(rows["known_constant"][1])


def test_the_table_divides_each_value_by_the_constant_rounded_to_its_safe_side():
    made = cells(record(2.0000001), record(1.9999999, Kind.LOWER, "lower"), record(3.0, method="product"))
    assert made.to_numpy().tolist() == [["linear", "2.000", "≤1.00001", "≥0.999999", "≤1.50000"]]


@pytest.mark.parametrize(
    ("value", "text"), [(1.9, "~0.950000 (-5.0%)"), (2.01, "~1.00500 (+0.5%)"), (12, "~6.00000 (+500.0%)")]
)
def test_an_estimate_shows_its_error_in_percent(value, text):
    assert cells(record(value, Kind.ESTIMATE))["m"].item() == text


def test_the_table_holds_networks_of_known_constant_alone_and_a_failure_by_its_status():
    failed = record(None, method="sdp", status=Status.TIME_LIMIT, reason="slow")
    made = cells(record(2.0), failed, record(5.0, network="other"), record(5.0, method="late", network="other"))
    assert made["Network"].tolist() == ["linear"]
    assert made["sdp"].item() == Status.TIME_LIMIT
    assert "late" not in made.columns


def test_a_method_that_did_not_run_on_a_network_has_a_dash_there():
    about = {**ABOUT, "absolute": {"known_constant": 1.0}}
    made = cells(record(2.0), record(1.0, network="absolute", method="k"), about=about).set_index("Network")
    assert made.loc["linear", "k"] == made.loc["absolute", "m"] == _cells.NONE


def test_a_certified_value_one_ulp_below_the_known_constant_is_a_complaint_that_names_both():
    unsound = math.nextafter(2.0, 0.0)
    (complaint,) = check(collect([record(unsound, method="gram"), record(2.0)], ABOUT))
    for part in ("linear", "gram", repr(unsound), "known constant 2.0"):
        assert part in complaint


def test_a_certified_value_below_both_the_constant_and_a_lower_value_is_two_complaints():
    assert len(check(collect([record(1.0), record(1.5, Kind.LOWER, "lower")], ABOUT))) == 2


def test_an_estimate_a_lower_value_or_an_unknown_constant_is_no_complaint():
    rows = [record(1.0, Kind.ESTIMATE), record(1.0, Kind.LOWER, "lower"), record(1.0, network="other"), record(2.0)]
    assert check(collect(rows, ABOUT)) == []


def test_every_known_answer_of_the_zoo_is_a_network_of_its_experiment_and_none_is_trained():
    entries = yaml.safe_load(NETWORKS.read_text())
    known = {name: e for name, e in entries.items() if (e.get("experiment") or {}).get("name") == "known"}
    constants = {
        e["architecture"]: zoo.known_constant(e["architecture"], **e.get("options", {})) for e in known.values()
    }
    assert all(constant > 0 for constant in constants.values())
    assert set(constants) == {name for name in zoo.names() if zoo.known_constant(name) is not None}
    assert not any({"train", "weights"} & entry.keys() for entry in known.values())
    assert len({entry["experiment"]["x"] for entry in known.values()}) == len(known)
