"""The figure and table of the partition trade-off."""

from __future__ import annotations

import math

import measurements
import pytest
from drawing import assert_fits_one_column, drawn, markers

from certlip.base.record import Kind, Record
from certlip.collect import collect
from certlip.tables import tradeoff

ONE = measurements.tradeoff()
MERGES = ["sum", "cover", "weighted", "folded"]


def partitioned(method, grid, value, network="net", **options):
    options = {"grid": grid, "merge": "sum", **options}
    return Record(network=network, method=method, kind=Kind.CERTIFIED, value=value, seconds=value, options=options)


def rows_of(*records, experiment="tradeoff"):
    return collect(records, {record.network: {"experiment": experiment, "x": 1} for record in records})


def points(axes):
    """Of partitions: those of other methods stand beside the axis, at fractions of its length."""
    return sorted((x, y) for x, y, *_ in markers(axes) if x >= 1)


@pytest.mark.parametrize(
    "rows", [ONE, measurements.tradeoff(["a-net", "b-net"]), measurements.tradeoff(sides=[2], merges=["sum"])]
)
def test_it_is_one_column_wide_and_nothing_sticks_out_or_collides(rows):
    assert_fits_one_column(*drawn("tradeoff", rows))


def test_bounds_stand_above_and_seconds_below_and_failures_nowhere():
    cut = ONE[ONE["options"].str.contains("merge") & ONE["value"].notna()]
    patches = [int(method.split("-")[1].split("x")[0]) ** 2 for method in cut["method"]]
    figure, _ = drawn("tradeoff", ONE)
    above, below = figure.axes
    assert points(above) == sorted(zip(patches, cut["value"], strict=True))
    assert points(below) == sorted(zip(patches, cut["seconds"], strict=True))


def test_grid_and_merge_are_those_of_the_options_whatever_the_method_is_called():
    figure, _ = drawn("tradeoff", rows_of(partitioned("dcp-9x9-cover", [2, 3], 7.0), partitioned("mine", [4, 1], 5.0)))
    assert points(figure.axes[0]) == [(4, 5.0), (6, 7.0)]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["merge sum"]


def test_a_grid_a_segment_counts_the_patches_of_all():
    assert tradeoff.n_patches([[2, 2], [3, 1]]) == 7
    assert tradeoff.n_patches([2, 5]) == 10


def test_there_is_a_line_a_merge_by_patches_broken_where_there_is_no_bound():
    figure, _ = drawn("tradeoff", ONE)
    lines = [line for line in figure.axes[0].get_lines() if line.get_linestyle() not in ("None", "")]
    lines = [line for line in lines if len(line.get_xdata()) > 2]
    assert len(lines) == len(MERGES)
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == len(MERGES)
    for line in lines:
        assert list(line.get_xdata()) == sorted(line.get_xdata())
        assert len(line.get_xdata()) == 8
    assert sum(math.isnan(line.get_ydata()[0]) for line in lines) == 3
    merges = [f"merge {merge}" for merge in MERGES]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["product", "lower", *merges]


def test_methods_without_a_given_partition_are_level_lines_and_rows_below_the_grids():
    whole = Record(network="net", method="product", kind=Kind.CERTIFIED, value=4.0, seconds=0.5)
    rows = rows_of(whole, partitioned("m", [3, 3], 7.0), partitioned("m2", [2, 2], 5.0))
    figure, _ = drawn("tradeoff", rows)
    for axes, height in zip(figure.axes, (4.0, 0.5), strict=True):
        (level,) = (line for line in axes.get_lines() if list(line.get_xdata()) == [0, 1])
        assert set(level.get_ydata()) == {height}
        assert [y for x, y, *_ in markers(axes) if x < 1] == [height]
    table = tradeoff.make(rows)
    assert table["Partition"].tolist() == ["2x2", "3x3", "product"]
    assert table["sum"].tolist() == ["≤5.000 (5.00 s)", "≤7.000 (7.00 s)", "–"]
    assert table[tradeoff.OTHERS].tolist() == ["–", "–", "≤4.000 (0.50 s)"]


def test_calibration_is_counted():
    record = partitioned("m", [2, 2], 3.0).model_copy(update={"calibration_seconds": 40.0})
    figure, _ = drawn("tradeoff", rows_of(record))
    assert points(figure.axes[1]) == [(4, 43.0)]


def test_each_network_has_a_column_of_its_own():
    figure, _ = drawn("tradeoff", rows_of(partitioned("m", [2, 2], 3.0), partitioned("m", [3, 3], 5.0, "other")))
    assert [axes.get_title() for axes in figure.axes] == ["net", "other", "", ""]
    assert [points(axes) for axes in figure.axes[:2]] == [[(4, 3.0)], [(9, 5.0)]]


def test_without_a_partition_of_a_network_of_the_experiment_there_is_a_sentence():
    whole = Record(network="net", method="product", kind=Kind.CERTIFIED, value=4.0)
    for rows in (rows_of(partitioned("m", [2, 2], 3.0), experiment="width_sweep"), rows_of(whole)):
        figure, _ = drawn("tradeoff", rows)
        assert not figure.axes
        assert figure.texts[0].get_text().startswith("No network")
