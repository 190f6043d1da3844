import math

import pandas as pd
import pytest
from comparison import comparison
from hypothesis import given
from hypothesis import strategies as st

from certlip import collect
from certlip.base.errors import DataError
from certlip.base.record import Kind, Record, Status


def certified(value, method="product", network="net", **fields):
    return Record(network=network, method=method, kind=Kind.CERTIFIED, value=value, **fields)


def lower(value, method="lower", network="net"):
    return Record(network=network, method=method, kind=Kind.LOWER, value=value)


def estimate(value, network="net"):
    return Record(network=network, method="seqlip", kind=Kind.ESTIMATE, value=value)


def test_columns_are_the_fields_of_a_record_then_those_of_the_comparison():
    bounds = collect.collect([certified(2.0, details={"n": 1}, versions={"numpy": "2"})], {})
    assert list(bounds.columns) == [
        *(name for name in Record.model_fields if name != "certificate"),
        *(
            "experiment",
            "x",
            "test_accuracy",
            "known_constant",
            "reported",
            "reported_seconds",
            "reported_by",
            "published",
            "best_lower",
            "ratio",
            "below_lower",
        ),
    ]
    assert bounds["details"].item() == '{"n": 1}'
    assert bounds["versions"].item() == '{"numpy": "2"}'


def test_rows_keep_the_order_of_the_records():
    records = [certified(2.0, network="z"), certified(1.0, network="a"), lower(0.5, network="z")]
    assert collect.collect(records, {})["network"].tolist() == ["z", "a", "z"]


def test_what_is_known_of_a_network_stands_in_each_of_its_rows():
    about = {"net": {"experiment": "width_sweep", "x": 4, "test_accuracy": 0.97}}
    bounds = collect.collect([certified(2.0), lower(1.0), certified(2.0, network="other")], about)
    assert bounds["experiment"].tolist() == ["width_sweep", "width_sweep", ""]
    assert bounds["x"].tolist()[:2] == [4.0, 4.0]
    assert bounds["test_accuracy"].tolist()[:2] == [0.97, 0.97]
    assert bounds[["x", "test_accuracy"]].iloc[2].isna().all()


def test_best_lower_is_the_largest_lower_value_of_the_same_network_alone():
    records = [certified(8.0), lower(2.0), lower(4.0, "ascent"), estimate(3.0), lower(100.0, network="other")]
    bounds = collect.collect(records, {})
    assert bounds["best_lower"].tolist() == [4.0, 4.0, 4.0, 4.0, 100.0]
    assert bounds["ratio"].tolist() == [2.0, 0.5, 1.0, 0.75, 1.0]


def test_there_is_no_ratio_without_a_positive_lower_bound():
    failed = Record(network="none", method="lower", kind=Kind.LOWER, status=Status.TIME_LIMIT, reason="out of time")
    records = [certified(8.0), lower(0.0), certified(8.0, network="none"), failed]
    assert collect.collect(records, {})["ratio"].isna().all()


def test_only_an_estimate_below_the_best_lower_value_is_flagged():
    above, below = estimate(4.0), estimate(math.nextafter(4.0, 0.0))
    bounds = collect.collect([lower(4.0), above, below, certified(3.0), lower(2.0, "weak")], {})
    assert bounds["below_lower"].tolist() == [False, False, True, False, False]


def test_a_certified_value_one_ulp_below_a_lower_one_is_a_complaint_that_names_both():
    unsound = math.nextafter(4.0, 0.0)
    bounds = collect.collect([certified(unsound, "gram"), certified(9.0), lower(2.0), lower(4.0, "ascent")], {})
    (complaint,) = collect.check(bounds)
    for part in ("net", "gram", repr(unsound), "4.0", "ascent"):
        assert part in complaint


def test_a_certified_value_at_the_lower_one_an_estimate_and_a_failure_are_no_complaint():
    failed = Record(network="net", method="dcp", kind=Kind.CERTIFIED, status=Status.NOT_CERTIFIED, reason="no")
    assert collect.check(collect.collect([certified(4.0), lower(4.0), estimate(1.0), failed], {})) == []


def test_complaints_survive_the_file(tmp_path):
    bounds = collect.collect([certified(0.1 + 0.2), lower(math.nextafter(0.1 + 0.2, 1.0))], {})
    collect.save(bounds, tmp_path / "bounds.csv")
    assert collect.check(collect.read(tmp_path / "bounds.csv")) == collect.check(bounds) != []


def test_a_comparison_survives_the_file(tmp_path):
    bounds = comparison(["null", "nan", "a, b", "mnist-cnn1"], channels=[1, 2])
    collect.save(bounds, tmp_path / "bounds.csv")
    pd.testing.assert_frame_equal(collect.read(tmp_path / "bounds.csv"), bounds)


def test_an_empty_comparison_survives_the_file(tmp_path):
    bounds = collect.collect([], {})
    collect.save(bounds, tmp_path / "bounds.csv")
    pd.testing.assert_frame_equal(collect.read(tmp_path / "bounds.csv"), bounds)
    assert collect.check(bounds) == []


printable = st.text(st.characters(exclude_categories=["Cs", "Cc"]))


@given(value=st.floats(0, allow_infinity=False), best=st.floats(0, allow_infinity=False), words=printable)
def test_every_float_and_text_survives_the_file(value, best, words, tmp_path_factory):
    path = tmp_path_factory.mktemp("bounds") / "bounds.csv"
    bounds = collect.collect([certified(value, reason=words, details={"words": words}), lower(best)], {})
    collect.save(bounds, path)
    pd.testing.assert_frame_equal(collect.read(path), bounds, check_exact=True)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"bounds\.csv does not exist"):
        collect.read(tmp_path / "bounds.csv")


@pytest.mark.parametrize("content", [b"", b"network,method\na,b\n", b"\xff\xfe\x00\x01", b"a,b\n1,2,3\n4,5,6,7\n"])
def test_a_file_that_is_no_table_of_bounds_is_refused_by_name(content, tmp_path):
    path = tmp_path / "bounds.csv"
    path.write_bytes(content)
    with pytest.raises(
        DataError, match=r"bounds\.csv (is not a table of bounds|has the columns of another version); give another"
    ):
        collect.read(path)
