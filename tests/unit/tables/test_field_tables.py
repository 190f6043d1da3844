"""Tables and figures of the field: published networks, scaling, models that people use."""

from __future__ import annotations

import itertools

import pytest
from drawing import assert_fits_one_column, drawn, markers

from certlip import tables
from certlip.base.record import Kind, Record, Status
from certlip.collect import collect, read, save
from certlip.tables import _cells
from certlip.tables.peers import comparisons

PUBLISHED = {"source": "Pauli 2024", "solver": "MOSEK", "note": "", "bounds": {}, "lower": {}, "seconds": {}}


def record(network, method, value, kind=Kind.CERTIFIED, **fields):
    return Record(network=network, method=method, kind=kind, value=value, **{"seconds": 2.0, **fields})


def peers(*records, **reported):
    """Rows of networks of the experiment, of each of which the same is reported."""
    about = {"experiment": "peers", "x": 1, "reported": {**PUBLISHED, **reported}}
    return collect(records, {r.network: about for r in records})


NET = (
    record("net", "product", 40.0),
    record("net", "torus", 8.0, seconds=3.0, gap=1e-3),
    record("net", "lower", 5.0, Kind.LOWER, seconds=1.0),
)


def cells(rows):
    return tables.load("peers").make(rows).set_index("Published")


def test_each_published_value_stands_beside_the_best_of_its_kind_and_survives_the_file(tmp_path):
    rows = peers(*NET, bounds={"GLipSDP": 10.0, "MP": 40.0}, lower={"sampled": 4.0}, seconds={"GLipSDP": 70.3})
    save(rows, tmp_path / "bounds.csv")
    for bounds in (rows, read(tmp_path / "bounds.csv")):
        made = cells(bounds)
        assert made.loc["GLipSDP"].tolist() == [
            *("net", "10.00", "70.3", "≤8.000", "torus", "3.00", "0.8000", "5.00", "", "Pauli 2024, MOSEK")
        ]
        assert made.loc["MP", ["Their s", "Ours / theirs"]].tolist() == [_cells.NONE, "0.2000"]
        assert made.loc["sampled", ["Ours", "Method", "Ours / theirs"]].tolist() == ["≥5.000", "lower", "1.250"]


@pytest.mark.parametrize(
    ("theirs", "note", "remark"),
    [
        (8.0, "", ""),
        (7.996, "", "ours is 0.05% above theirs, within our gap"),
        (7.5, "", "ours is 6.7% above theirs"),
        (7.5, "below the dual", "ours is 6.7% above theirs; below the dual"),
        (4.9, "below the dual", "theirs is below our lower bound ≥5.000: no bound of this network"),
    ],
)
def test_where_ours_is_no_better_the_table_says_so(theirs, note, remark):
    assert cells(peers(*NET, bounds={"GLipSDP": theirs}, note=note)).loc["GLipSDP", "Remark"] == remark


def test_a_lower_bound_of_theirs_that_is_better_is_said_so():
    assert cells(peers(*NET, lower={"sampled": 6.25})).loc["sampled", "Remark"] == "ours is 20% below theirs"


def test_a_network_without_published_value_or_without_ours_is_a_row_too():
    waiting = Record(network="far", method="torus", kind=Kind.CERTIFIED, status=Status.NO_DATA, reason="by hand")
    made = cells(peers(*NET))
    assert made[["Network", "Theirs", "Ours", "Product / ours"]].to_numpy().tolist() == [
        ["net", _cells.NONE, "≤8.000", "5.00"]
    ]
    made = cells(peers(waiting, bounds={"GLipSDP": 3.0}))
    assert made.loc["GLipSDP", ["Network", "Theirs", "Ours", "Method", "Ours / theirs"]].tolist() == [
        *("far", "3.000", "no_data", _cells.NONE, _cells.NONE)
    ]


def many_peers():
    """A dozen networks: better, worse, refuted, waiting."""
    records, about = [], {}
    for n in range(12):
        name = f"glipsdp-convs-c{n}-with-a-long-name"
        theirs = {"GLipSDP": 10.0 ** (n % 5), "LipSDP": 3.0, **({"LipLT": 50.0} if n % 2 else {})}
        about[name] = {"experiment": "peers", "x": 1, "reported": {**PUBLISHED, "bounds": theirs}}
        if n == 7:
            records.append(
                Record(network=name, method="torus", kind=Kind.CERTIFIED, status=Status.NO_DATA, reason="far")
            )
        else:
            records += [record(name, "torus", 8.0), record(name, "lower", 5.0, Kind.LOWER)]
    return collect(records, about)


def test_the_figure_of_peers_has_a_marker_a_published_bound_hollow_where_it_is_none():
    rows = many_peers()
    figure, renderer = drawn("peers", rows)
    assert_fits_one_column(figure, renderer)
    shown = [found for found in comparisons(rows) if found.ours is not None]
    points = markers(figure.axes[0])
    assert sorted(x for x, *_ in points) == sorted(found.ratio for found in shown)
    assert sum(face == "#ffffff" for _, _, face, *_ in points) == sum(found.theirs < 5 for found in shown) > 0
    assert "waits for data" in [text.get_text() for text in figure.axes[0].texts]
    assert figure.legends[0].get_title().get_text() == "hollow: theirs is below our lower bound"


SIZES = {"scaling_side": (16, 32, 64, 224), "scaling_channels": (8, 16, 512), "scaling_depth": (2, 50)}


def scaling(sizes=SIZES):
    """Three methods, of which one ends after the second size."""
    records, about = [], {}
    for experiment, xs in sizes.items():
        for n, x in enumerate(xs):
            name = f"{experiment.replace('_', '-')}{x}"
            about[name] = {"experiment": experiment, "x": x}
            records += [
                record(name, m, n + (3.0 if m == "product" else 2.8), seconds=s * x**2, peak_mb=100.0)
                for m, s in METHODS.items()
            ]
            late = {"value": None, "status": Status.TIME_LIMIT, "reason": "too slow"} if n > 1 else {"value": 2.5}
            records.append(Record(network=name, method="lipsdp", kind=Kind.CERTIFIED, seconds=x, **late))
    return collect(records, about)


METHODS = {"product": 1e-4, "torus": 1e-3}


def test_the_table_of_scaling_has_a_row_a_size_with_cost_and_the_reason_where_a_method_ends():
    made = tables.load("scaling").make(scaling())
    assert made["Size"].tolist() == [f"{x} {axis}" for axis, xs in zip(AXES, SIZES.values(), strict=True) for x in xs]
    assert made["torus"][0] == "≤2.800 (0.26 s, 100 MB)"
    assert made["lipsdp"].tolist()[1:4] == ["≤2.500 (32.0 s)", "time_limit", "time_limit"]
    assert made["Reasons"].tolist()[:3] == [_cells.NONE, _cells.NONE, "lipsdp: too slow"]


AXES = ("side", "channels", "layers")


@pytest.mark.parametrize("n_sweeps", [1, 2, 3])
def test_the_figure_of_scaling_has_a_panel_a_sweep_over_pixels_channels_and_layers(n_sweeps):
    sizes = dict(itertools.islice(SIZES.items(), n_sweeps))
    figure, renderer = drawn("scaling", scaling(sizes))
    assert_fits_one_column(figure, renderer)
    assert [axes.get_xlabel() for axes in figure.axes] == ["pixels", "channels", "layers"][:n_sweeps]
    first = figure.axes[0]
    assert {x for x, *_ in markers(first)} == {x**2 for x in SIZES["scaling_side"]}
    assert len(markers(first)) == 3 * 4 - 2
    (grey,) = [line for line in first.get_lines() if line.get_color() == "#AAAAAA"]
    (x0, y0), (x1, y1) = grey.get_xydata()
    assert y1 / y0 == pytest.approx(x1 / x0)
    for axes in figure.axes:
        low, high = axes.get_ylim()
        assert all(low <= y <= high for _, y, *_ in markers(axes))


def test_a_line_ends_where_a_method_gives_no_less_than_the_product():
    about = {f"side{x}": {"experiment": "scaling_side", "x": x} for x in (8, 16)}
    values = {("side8", "torus"): 2.0, ("side16", "torus"): 3.0}
    records = [record(network, "product", 3.0) for network in about]
    figure, _ = drawn("scaling", collect([*records, *(record(*at, value) for at, value in values.items())], about))
    assert sorted(x for x, *_ in markers(figure.axes[0])) == [64, 64, 256]


MODELS = {"experiment": "imagenet_models", "x": 1}


def models():
    refused = {"value": None, "status": Status.UNSUPPORTED, "reason": "features.1.se: no bound for a product"}
    records = [
        *(record("resnet", m, v, peak_mb=900.0) for m, v in {"product": 1e6, "torus": 2e3, "best": 1e3}.items()),
        record("resnet", "lower", 3.0, Kind.LOWER),
        Record(network="efficientnet", method="product", kind=Kind.CERTIFIED, **refused),
        Record(network="efficientnet", method="torus", kind=Kind.CERTIFIED, **refused),
        record("vgg", "product", 50.0),
        Record(network="vgg", method="torus", kind=Kind.CERTIFIED, status=Status.TIME_LIMIT, reason="slow"),
    ]
    return collect(records, {"resnet": MODELS, "efficientnet": MODELS, "vgg": {**MODELS, "test_accuracy": 0.7364}})


def test_the_table_of_models_says_what_is_won_over_the_product_and_why_there_is_nothing():
    made = tables.load("imagenet_models").make(models()).set_index(["Network", "Method"])
    factor = made["Product / value"]
    assert factor["resnet", "torus"] == "500"
    assert factor["resnet", "best"] == "1000"
    assert factor["resnet", "product"] == factor["resnet", "lower"] == factor["vgg", "torus"] == _cells.NONE
    assert made.loc[("resnet", "best"), ["Value", "Seconds", "Peak MB"]].tolist() == ["≤1000", "2.00", "900"]
    assert made.loc[("efficientnet", "torus"), "Value"] == Status.UNSUPPORTED
    assert made.loc[("efficientnet", "torus"), "Reason"] == "features.1.se: no bound for a product"
    assert made["Accuracy"]["vgg"].tolist() == ["73.6%"] * 2
    assert made["Accuracy"]["resnet"].tolist() == [_cells.NONE] * 4


def test_the_figure_of_models_shows_what_is_won_and_names_networks_without():
    figure, renderer = drawn("imagenet_models", models())
    assert_fits_one_column(figure, renderer)
    assert sorted(x for x, *_ in markers(figure.axes[0])) == [500, 1000]
    assert [text.get_text() for text in figure.axes[0].texts] == ["no further bound"] * 2


def test_networks_of_other_experiments_are_in_none_of_these_tables():
    other = collect([record("net", "product", 2.0)], {"net": {"experiment": "known", "x": 1}})
    for name in ("peers", "scaling", "imagenet_models"):
        assert tables.load(name).make(other).empty
