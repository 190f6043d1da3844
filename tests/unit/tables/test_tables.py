import csv
import html
import io
import re
from fractions import Fraction

import pytest
from comparison import REASON, comparison
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from certlip import tables
from certlip.base.errors import ConfigError
from certlip.base.record import Kind, Record, Status
from certlip.collect import collect
from certlip.tables import _cells

NETWORKS = ["digits_cnn", "mnist-cnn1", "orthogonal"]
FULL = comparison(NETWORKS, channels=[1, 2, 4])
OF_BOUNDS = [name for name in tables.names() if tables.load(name).INFO.source == "bounds"]

positive = st.floats(1e-300, 1e300)


def printed(text):
    """The number in a cell, exactly."""
    return Fraction(text.lstrip("≤≥~"))


def frame(*records):
    return collect(records, {})


def cell(record, *others):
    return tables.load("bounds_wide").make(frame(record, *others))[record.method].iloc[0]


@given(positive)
def test_a_printed_upper_bound_is_never_below_its_value_nor_a_lower_one_above(value):
    upper = cell(Record(network="n", method="m", kind=Kind.CERTIFIED, value=value))
    lower = cell(Record(network="n", method="m", kind=Kind.LOWER, value=value))
    assert upper[0] == "≤"
    assert printed(upper) >= Fraction(value)
    assert lower[0] == "≥"
    assert printed(lower) <= Fraction(value)


@given(positive)
def test_a_number_is_printed_to_four_significant_digits(value):
    text = _cells.number(value)
    mantissa = text.split("e")[0].replace(".", "").lstrip("0")
    assert len(mantissa.rstrip("0")) <= 4 <= len(mantissa)
    assert abs(printed(text) - Fraction(value)) <= Fraction(value) / 2000


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (12.3, "12.30"), (99999.9, "1.000e5"), (12344.0, "12340"), (1234567.0, "1.235e6"), (9e-5, "9.000e-5")],
)
def test_numbers_read_as_people_write_them(value, text):
    assert _cells.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "<0.01"), (0.0099, "<0.01"), (0.5, "0.50"), (12.34, "12.3"), (4321.0, "4320")]
)
def test_times_have_three_digits_and_no_more_than_hundredths(value, text):
    assert _cells.seconds(value) == text


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
def test_a_failed_row_shows_its_status_and_no_number(status):
    failed = Record(network="n", method="m", kind=Kind.CERTIFIED, status=status, reason="because", seconds=77)
    assert cell(failed, Record(network="n", method="lower", kind=Kind.LOWER, value=5)) == status
    row = tables.load("bounds").make(frame(failed)).iloc[0]
    assert row["Value"] == row["Status"] == status
    assert row["Value / lower"] == _cells.NONE
    assert row["Reason"] == "because"


def test_an_estimate_never_looks_like_a_bound_and_is_flagged_below_the_best_lower():
    lower = Record(network="n", method="lower", kind=Kind.LOWER, value=5)
    estimates = [Record(network="n", method="m", kind=Kind.ESTIMATE, value=value) for value in (6.0, 4.0)]
    assert cell(estimates[0], lower) == "~6.000"
    assert cell(estimates[1], lower) == "~4.000 (below lower)"


def test_the_long_table_has_a_row_a_result_in_their_order():
    made = tables.load("bounds").make(FULL)
    assert made["Network"].tolist() == FULL["network"].tolist()
    assert made["Method"].tolist() == FULL["method"].tolist()
    assert made["Kind"].tolist() == FULL["kind"].tolist()


def test_the_cost_of_choosing_a_partition_is_shown_on_its_own_and_counted_in_the_sweep():
    planned = Record(network="n", method="m", kind=Kind.CERTIFIED, value=2, seconds=3, calibration_seconds=40)
    bounds = collect([planned], {"n": {"experiment": "width_sweep", "x": 1}})
    row = tables.load("bounds").make(bounds).iloc[0]
    assert (row["Seconds"], row["Calibration s"]) == ("3.00", "40.0")
    assert tables.load("width_sweep").make(bounds)["m"].item() == "≤2.000 (43.0 s)"


def test_the_wide_table_has_a_row_a_network_and_a_column_a_method_in_their_order():
    made = tables.load("bounds_wide").make(FULL)
    assert made["Network"].tolist() == FULL["network"].unique().tolist()
    assert made.columns[1:].tolist() == FULL["method"].unique().tolist()


def test_a_method_that_did_not_run_on_a_network_has_a_dash_there():
    one = Record(network="a", method="m", kind=Kind.CERTIFIED, value=2)
    two = Record(network="b", method="k", kind=Kind.CERTIFIED, value=3)
    assert tables.load("bounds_wide").make(frame(one, two)).to_numpy().tolist() == [
        ["a", "≤2.000", _cells.NONE],
        ["b", _cells.NONE, "≤3.000"],
    ]


def test_the_width_sweep_holds_its_own_networks_by_channels():
    made = tables.load("width_sweep").make(comparison(["other"], channels=[8, 1, 12]))
    assert made["Channels"].tolist() == ["1", "8", "12"]
    assert made["Network"].tolist() == ["block-c01", "block-c08", "block-c12"]
    assert all(re.fullmatch(r"≤\S+ \(\S+ s\)", text) for text in made["product"])


@pytest.mark.parametrize("name", OF_BOUNDS)
@pytest.mark.parametrize("bounds", [FULL, comparison(["one"], ["product"]), comparison()], ids=["full", "one", "none"])
def test_every_table_writes_the_same_cells_in_every_format(name, bounds, tmp_path):
    paths = [tmp_path / f"{name}.{suffix}" for suffix in ("csv", "md", "tex", "html")]
    tables.write(name, bounds, paths)
    text, markdown, tex, page = (path.read_text(encoding="utf-8") for path in paths)
    made = tables.load(name).make(bounds)
    assert list(csv.reader(io.StringIO(text))) == [list(made.columns), *made.to_numpy().tolist()]
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len(lines) == len(made) + 2
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {made.shape[1] + 1}
    assert tex.isascii()
    assert tex.count(r"$\leq$") == made.map(lambda c: c.startswith("≤")).to_numpy().sum() + _captions(tex, made)
    assert (tables.EMPTY in markdown) == (tables.EMPTY in tex) == (tables.EMPTY in page) == made.empty
    assert _html_cells(page) == [" ".join(cell.split()) for cell in [*made.columns, *made.to_numpy().ravel()]]


def _html_cells(page):
    return [html.unescape(cell) for cell in re.findall(r"<t[hd]>(.*?)</t[hd]>", page)]


def _captions(tex, made):
    marked = made.map(lambda cell: cell.startswith(("≤", "≥", "~"))).to_numpy().any()
    return tex.count(r"\caption") if marked else 0


def test_names_and_reasons_are_escaped_for_latex(tmp_path):
    failed = Record(network="a_b", method="m", kind=Kind.CERTIFIED, status=Status.MEMORY_LIMIT, reason="50% & {more}")
    tables.write("bounds", frame(failed), [tmp_path / "bounds.tex"])
    tex = (tmp_path / "bounds.tex").read_text()
    for escaped in (r"a\_b", r"memory\_limit", r"50\% \& \{more\}"):
        assert escaped in tex


def test_a_reason_stays_in_its_markdown_cell(tmp_path):
    failed = Record(network="n", method="m", kind=Kind.CERTIFIED, status=Status.MEMORY_LIMIT, reason=REASON)
    tables.write("bounds", frame(failed), [tmp_path / "bounds.md"])
    last = (tmp_path / "bounds.md").read_text().splitlines()[-1]
    assert last.endswith(r"a dense matrix \| 3216 x 4000 \| exceeds 1e+08 entries, 50% more than allowed |")


@pytest.mark.parametrize("width", [60, 80, 300])
def test_a_shown_table_fits_the_terminal_and_loses_no_cell(width):
    console = Console(file=io.StringIO(), width=width)
    tables.show("bounds_wide", FULL, console)
    shown = console.file.getvalue()
    assert max(map(len, shown.splitlines())) <= width
    words = shown.split()
    made = tables.load("bounds_wide").make(FULL)
    for word in " ".join([*made.columns, *made.to_numpy().ravel()]).split():
        assert word in words


def test_brackets_in_a_cell_are_no_markup_when_shown():
    console = Console(file=io.StringIO(), width=200)
    tables.show("bounds_wide", frame(Record(network="net[red]", method="m", kind=Kind.CERTIFIED, value=1)), console)
    assert "net[red]" in console.file.getvalue()


def test_a_table_without_rows_is_shown_in_words():
    console = Console(file=io.StringIO(), width=80)
    tables.show("width_sweep", comparison(["net"]), console)
    assert tables.EMPTY in console.file.getvalue()


def test_an_unknown_table_is_answered_by_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'width_sweep'"):
        tables.load("with_sweep")


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"written as \.csv, \.html, \.md, \.tex, not as \.xlsx"):
        tables.write("bounds", FULL, [tmp_path / "bounds.xlsx"])
