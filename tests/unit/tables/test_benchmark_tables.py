"""Tables and figures that are made from other rows than those of bounds."""

from __future__ import annotations

import csv
import io
import math

import matplotlib
import measurements
import pytest
from accuracies import rows_of
from drawing import assert_fits_one_column, drawn, markers

from certlip import benchmarks, claims, figures, tables
from certlip.collect import COMPARED, read_rows
from certlip.figures import style
from certlip.tables import _cells
from certlip.tables.solvers import OURS, with_quotients

SPEEDUPS = [2.0, 8.0, 0.5]
ROWS = {
    "layer_norms": measurements.layer_norms(),
    "gram_speed": measurements.gram_speed(SPEEDUPS),
    "solvers": measurements.solvers(),
    "workers": measurements.workers(),
    "predictions": measurements.predictions(),
    "looseness": measurements.looseness(),
    "schedule": measurements.schedule(),
    "certified_accuracy": rows_of(["digits-cnn", "mnist-mlp"], waiting=["mnist-cnn1-c5"]),
    "claims_of_others": claims.check("nowhere", ["circular_padding", "max_pooling", "glipsdp_digits"]),
}
FIGURES = {
    "certified_accuracy": {
        "all": ROWS["certified_accuracy"],
        "one": rows_of(["digits-cnn"]),
    },
    "layer_norms": {
        "all": ROWS["layer_norms"],
        "one": measurements.layer_norms(["randn"]),
        "two": measurements.layer_norms(["randn", "vgg16"], seed=1),
    },
    "predictions": {
        "all": ROWS["predictions"],
        "one": measurements.predictions(1),
    },
    "schedule": {
        "all": ROWS["schedule"],
        "one job": measurements.schedule(1),
    },
    "solvers": {
        "all": ROWS["solvers"],
        "threads": measurements.solvers(threads=[1, 2]),
        "no limit": measurements.solvers({"chain-1x50": 100, "chain-3x30": 120}),
        "one order": measurements.solvers({"conv-2": 228}),
    },
}
CASES = [(name, case) for name, cases in FIGURES.items() for case in cases]


def of_benchmarks(package):
    return [name for name in package.names() if package.load(name).INFO.source != "bounds"]


def table(name, rows):
    return tables.load(name).make(rows)


@pytest.mark.parametrize("package", [tables, figures], ids=["tables", "figures"])
def test_each_is_made_from_a_benchmark_that_exists(package):
    assert of_benchmarks(package)
    assert {package.load(name).INFO.source for name in of_benchmarks(package)} <= {
        *benchmarks.names(),
        *COMPARED,
        "schedule",
    }


@pytest.mark.parametrize("name", of_benchmarks(tables))
def test_a_table_of_a_benchmark_is_written_in_every_format_from_its_file(name, tmp_path):
    rows = ROWS[tables.load(name).INFO.source]
    benchmarks.save(rows, tmp_path / "rows.csv")
    paths = [tmp_path / f"{name}.{suffix}" for suffix in ("csv", "md", "tex", "html")]
    tables.write(name, read_rows(tmp_path / "rows.csv"), paths)
    text, markdown, tex, page = (path.read_text(encoding="utf-8") for path in paths)
    made = table(name, rows)
    assert list(csv.reader(io.StringIO(text))) == [list(made.columns), *made.to_numpy().tolist()]
    assert len([line for line in markdown.splitlines() if line.startswith("|")]) == len(made) + 2
    assert tex.isascii()
    marked = made.map(lambda cell: cell.startswith(("≤", "≥", "~"))).to_numpy().any()
    assert (tables.LEGEND in markdown) == (tables.LEGEND in page) == marked


@pytest.mark.parametrize("name", of_benchmarks(tables))
def test_a_table_of_nothing_has_its_columns_and_no_row(name):
    source = tables.load(name).INFO.source
    made = table(name, ROWS[source].iloc[:0])
    assert made.empty
    assert set(made.columns) <= set(table(name, ROWS[source]).columns)


def test_the_ranking_of_plans_is_judged_network_by_network():
    made = table("looseness", ROWS["looseness"])
    assert made["Network"].tolist() == ["right", "reversed", "fitted"]
    assert made["Rank correlation"].tolist()[:2] == ["1.00", "-1.00"]
    assert "doubling_folded 0.040" in made["Plans"].iloc[-1]


def test_layers_are_rows_and_rivals_columns_that_say_how_tight_and_how_slow():
    rows = ROWS["layer_norms"]
    made = table("layer_norms", rows)
    assert made["Layer"].tolist() == rows["layer"].unique().tolist()
    assert made.columns[2:].tolist() == rows["title"].unique().tolist()
    row = rows[(rows["layer"] == "resnet18 conv1") & (rows["method"] == "svd")].iloc[0]
    cell = made.set_index("Layer").loc["resnet18 conv1", "SVD per frequency"]
    assert cell == f"~1.0000 ({_cells.seconds(row['seconds'])} s)"


def test_a_tight_certified_rival_is_not_printed_as_exact():
    rows = measurements.layer_norms(["randn"]).query("method == 'gram'").assign(ratio=1.00001)
    assert table("layer_norms", rows)["Gram iteration"].iloc[0].startswith("≤1.0001 ")


def test_published_values_stand_in_brackets_and_only_where_a_paper_prints_one():
    made = table("layer_norms", ROWS["layer_norms"]).set_index("Layer")
    first = made.loc["randn 64x64x5x5, n = 12"]
    assert made.loc["randn, n = 12, padded", "Gram iteration"].endswith(" s) [86.43]")
    assert first["Toeplitz grid"].endswith(" s) [357.1]")
    assert first["Gram iteration"].endswith(" s) [83.12]")
    assert not made.drop(index=[first.name, "randn, n = 12, padded"]).map(lambda cell: "[" in cell).to_numpy().any()


def test_the_last_row_of_gram_speed_is_the_geometric_mean():
    made = table("gram_speed", ROWS["gram_speed"])
    assert made["Speed-up"].tolist() == ["2.00", "8.00", "0.500", "2.00"]
    assert made["Naive seconds"].tolist() == ["1.00", "4.00", "0.25", _cells.NONE]


def test_every_solver_and_problem_is_a_row_and_a_failure_shows_its_status_and_no_number():
    rows = ROWS["solvers"]
    made = table("solvers", rows).iloc[: len(rows)]
    assert made["Solver"].tolist() == rows["title"].tolist()
    assert made["Status"].tolist() == rows["status"].tolist()
    failed = made[(made["Status"] != "ok").to_numpy()]
    assert len(failed) > 0
    for column in ("Bound", "Distance", "Seconds", "Seconds / ours", "Peak MB", "Iterations", "Smallest eigenvalue"):
        assert set(failed[column]) == {_cells.NONE}
    assert made[made["Status"] == "ok"]["Bound"].str.startswith("≤2.000").all()


def test_a_point_that_is_infeasible_as_returned_shows_a_negative_eigenvalue():
    rows = measurements.solvers({"conv-2": 228}).assign(minimum_eigenvalue=-1.24e-6)
    assert table("solvers", rows)["Smallest eigenvalue"].iloc[0] == "-1.2e-6"


def test_a_solver_is_compared_with_ours_on_the_problems_both_solved_and_on_no_other():
    seconds = {("a", "structured"): 2.0, ("a", "scs"): 8.0, ("b", "structured"): 3.0, ("b", "scs"): 3.0}
    seconds |= {("c", "scs"): 500.0, ("c", "structured"): math.nan, ("d", "structured"): 9.0, ("d", "scs"): 900.0}
    rows = measurements.solvers(dict.fromkeys("abcd", 100))
    rows = rows[rows["solver"].isin(["structured", "scs"])]
    pairs = list(zip(rows["problem"], rows["solver"], strict=True))
    status = ["time_limit" if pair in {("c", "structured"), ("d", "scs")} else "ok" for pair in pairs]
    rows = rows.assign(seconds=[seconds[pair] for pair in pairs], status=status)
    quotients = dict(zip(pairs, with_quotients(rows)["quotient"], strict=True))
    assert (quotients["a", "scs"], quotients["b", "scs"]) == (4.0, 1.0)
    assert math.isnan(quotients["c", "scs"])
    assert math.isnan(quotients["d", "scs"])
    made = table("solvers", rows)
    means = made[made["Problem"] == "all"].set_index("Solver")
    assert means.loc["SCS", "Seconds / ours"] == "2.00"
    assert means.loc["SCS", "Status"] == "2 solved by both"
    assert means.loc["structured (certlip)", "Seconds / ours"] == "1.00"


def test_threads_are_compared_with_the_same_number_of_ours():
    rows = with_quotients(measurements.solvers({"a": 100}, threads=[1, 2]))
    for threads, group in rows.groupby("threads"):
        seconds = group.set_index("solver")["seconds"]
        quotients = group.set_index("solver")["quotient"]
        assert quotients["dsdp"] == seconds["dsdp"] / seconds[OURS], threads


def test_without_ours_there_is_nothing_to_compare_with():
    rows = ROWS["solvers"][ROWS["solvers"]["solver"] != OURS]
    made = table("solvers", rows)
    assert len(made) == len(rows)
    assert set(made["Seconds / ours"]) == {_cells.NONE}


@pytest.mark.parametrize(("name", "case"), CASES)
def test_every_figure_is_one_column_wide_and_nothing_sticks_out_or_collides(name, case):
    figure, renderer = drawn(name, FIGURES[name][case])
    assert_fits_one_column(figure, renderer)
    assert all(text.get_fontsize() >= 7 for text in figure.findobj(matplotlib.text.Text) if text.get_text())


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_saved_from_the_file_of_a_benchmark_with_the_same_bytes_each_time(name, tmp_path):
    benchmarks.save(ROWS[name], tmp_path / "rows.csv")
    rows = read_rows(tmp_path / "rows.csv")
    for run in ("first", "second"):
        figures.save(name, rows, [tmp_path / f"{run}.{suffix}" for suffix in ("pdf", "svg")])
    for suffix in ("pdf", "svg"):
        assert (tmp_path / f"first.{suffix}").read_bytes() == (tmp_path / f"second.{suffix}").read_bytes()


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_without_data_says_so_in_words(name):
    figure, _ = drawn(name, ROWS[name].iloc[:0])
    assert not figure.axes
    assert figure.texts[0].get_text().startswith("No ")


def test_the_figure_of_layers_shows_every_ratio_and_time_and_estimates_hollow():
    rows = ROWS["layer_norms"]
    figure, _ = drawn("layer_norms", rows)
    left, right = figure.axes
    printed = rows[rows["published"].notna() & (rows["layer"] == rows["layer"].iloc[0])]
    excess = [*(rows["ratio"] - 1), *(printed["published"] / 83.092 - 1)]
    kinds = [*rows["kind"], *printed["kind"]]
    assert sorted(x for x, *_ in markers(left)) == sorted(excess)
    seconds = sorted(x for x, *_ in markers(right) if math.isfinite(x))
    assert seconds == sorted(rows["seconds"].clip(lower=style.CLOCK))
    hollow = sorted(x for x, _, face, *_ in markers(left) if face == "#ffffff")
    assert hollow == sorted(x for x, kind in zip(excess, kinds, strict=True) if kind == "estimate")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == rows["title"].unique().tolist()


def test_a_marker_stands_in_the_row_of_its_layer():
    rows = ROWS["layer_norms"]
    figure, _ = drawn("layer_norms", rows)
    layers = rows["layer"].unique().tolist()
    layers.insert(1, "as published")
    labels = [" ".join(label.get_text().split()) for label in figure.axes[0].get_yticklabels()]
    assert labels == layers
    at = {x: round(y) for x, y, *_ in markers(figure.axes[1])}
    for row in rows[rows["seconds"] > style.CLOCK].itertuples():
        assert at[row.seconds] == layers.index(row.layer)


def test_ours_is_the_thickest_line_of_the_solvers():
    rows = ROWS["solvers"]
    figure, _ = drawn("solvers", rows)
    lines = [line for line in figure.axes[0].get_lines() if line.get_linestyle() == "-"]
    thickest, *others = sorted(lines, key=lambda line: -line.get_linewidth())
    assert all(line.get_linewidth() < thickest.get_linewidth() / 2 for line in others)
    ours = rows[rows["solver"] == OURS].sort_values("order")
    assert thickest.get_xydata().tolist() == ours[["order", "seconds"]].to_numpy().tolist()


def test_a_limit_is_marked_in_the_lane_of_its_solver_and_a_solver_without_answer_is_not_drawn():
    rows = ROWS["solvers"]
    figure, _ = drawn("solvers", rows)
    above, below = figure.axes
    lanes = [label.get_text() for label in below.get_yticklabels()]
    seen = {(lanes[y], x, mark) for x, y, _, _, mark in markers(below)}
    words = {"time_limit": "x", "memory_limit": "+"}
    limited = rows[rows["status"].isin(list(words))]
    assert seen == {(row.title, row.order, words[row.status]) for row in limited.itertuples()}
    assert len(markers(above)) == (rows["status"] == "ok").sum()
    assert "MOSEK" not in {text.get_text() for text in figure.legends[0].get_texts()}


def test_a_solver_stopped_with_a_bound_is_marked_as_stopped_and_not_on_its_line():
    rows = measurements.solvers({"a": 100, "b": 200})
    stopped = (rows["solver"] == "dsdp") & (rows["order"] == 200)
    rows.loc[stopped, "status"] = "time_limit"
    figure, _ = drawn("solvers", rows)
    assert rows[stopped]["seconds"].item() not in {y for _, y, *_ in markers(figure.axes[0])}
    assert 200 in {x for x, *_ in markers(figure.axes[1])}


def test_solvers_of_two_numbers_of_threads_share_a_colour_and_differ_in_dash():
    figure, _ = drawn("solvers", FIGURES["solvers"]["threads"])
    handles = {h.get_label(): (h.get_color(), h.get_linestyle()) for h in figure.legends[0].legend_handles}
    for title in ("structured", "DSDP"):
        (one, solid), (two, dashed) = handles[f"{title}, 1"], handles[f"{title}, 2"]
        assert one == two
        assert solid != dashed
