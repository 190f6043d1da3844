import functools
import itertools
import json

import matplotlib
import numpy as np
import pytest
from comparison import METHODS, comparison
from drawing import assert_fits_one_column, drawn, markers
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from certlip import figures
from certlip.base.errors import ConfigError
from certlip.base.record import Kind, Record
from certlip.collect import collect
from certlip.figures import _palette, style

FEW = ["product", "autolip", "gram", "lipsdp", "dcp-2x2-sum", "lower"]
DOZEN = [
    *("digits_cnn", "digits_cnn_bn", "mnist-cnn1", "mnist-cnn1-c1", "cifar10-cnn2", "mnist_4", "mnist_5"),
    *("mlp-64-32", "cifar_2c2f", "mnist_cnn_small", "orthogonal-cnn1-trained-for-long", "alexnet"),
]


OF_BOUNDS = [name for name in figures.names() if figures.load(name).INFO.source == "bounds"]


def result(network, method, kind, value, seconds=1.0):
    return Record(network=network, method=method, kind=kind, value=value, seconds=seconds)


def extremes():
    """A ratio of ten decades beside an estimate far below, long names, and a network that is constant."""
    name = "a-network_whose_name-goes-on-and-on-for_ever"
    values = [
        result(name, "product", Kind.CERTIFIED, 3.4e9, 1e-5),
        result(name, "a-method-with-a-very-long-name-indeed", Kind.CERTIFIED, 2e8, 1e5),
        result(name, "seqlip", Kind.ESTIMATE, 2e-3),
        result(name, "lower", Kind.LOWER, 1.0),
        result("constant", "product", Kind.CERTIFIED, 1e-300),
        result("constant", "lower", Kind.LOWER, 0.0),
    ]
    return collect(values, {name: {}, "constant": {"experiment": ""}})


def near_one():
    """Known-answer networks: all values within a few percent."""
    kinds = {"product": Kind.CERTIFIED, "seqlip": Kind.ESTIMATE, "lower": Kind.LOWER}
    values = {"product": 1.03, "seqlip": 0.99, "lower": 1.0}
    records = [result(f"block{x}", m, kinds[m], values[m], 0.5) for x in (1, 2) for m in kinds]
    return collect(records, {f"block{x}": {"experiment": "width_sweep", "x": x} for x in (1, 2)})


def equal():
    """An orthogonal network, all of whose bounds are exact."""
    return collect(
        [result("orthogonal", m, k, 1.0) for m, k in {"product": Kind.CERTIFIED, "lower": Kind.LOWER}.items()],
        {"orthogonal": {"experiment": "width_sweep", "x": 3}},
    )


CASES = {
    "dozen": comparison(DOZEN, channels=range(1, 15)),
    "small": comparison(["digits_cnn"], FEW, channels=[1, 2, 4]),
    "four": comparison(DOZEN[:4], FEW),
    "five": comparison(DOZEN[:5], FEW),
    "sweep": comparison([], FEW, channels=[1, 3]),
    "extremes": extremes(),
    "near_one": near_one(),
    "equal": equal(),
    "empty": comparison(),
}


@functools.cache
def drawn_case(name, case):
    return drawn(name, CASES[case])


@pytest.mark.parametrize("name", OF_BOUNDS)
@pytest.mark.parametrize("case", CASES)
def test_every_figure_is_one_column_wide_and_nothing_sticks_out_or_collides(name, case):
    assert_fits_one_column(*drawn_case(name, case))


@pytest.mark.parametrize("name", OF_BOUNDS)
@pytest.mark.parametrize("case", [case for case in CASES if case != "empty"])
def test_letters_are_at_least_seven_points_and_axes_have_two_numbers(name, case):
    figure, _ = drawn_case(name, case)
    assert all(text.get_fontsize() >= 7 for text in figure.findobj(matplotlib.text.Text) if text.get_text())
    for axes in figure.axes:
        locations = [tick.get_loc() for tick in axes.yaxis.get_major_ticks()]
        inside = [at for at in locations if min(axes.get_ylim()) <= at <= max(axes.get_ylim())]
        assert len(inside) >= 2 or name == "tightness"


@pytest.mark.parametrize("name", OF_BOUNDS)
def test_the_same_rows_give_the_same_bytes_in_every_format(name, tmp_path):
    suffixes = {"pdf": b"%PDF", "svg": b"<?xml", "png": b"\x89PNG"}
    for run in ("first", "second"):
        figures.save(name, CASES["near_one"], [tmp_path / f"{run}.{suffix}" for suffix in suffixes])
    for suffix, magic in suffixes.items():
        first = (tmp_path / f"first.{suffix}").read_bytes()
        assert first == (tmp_path / f"second.{suffix}").read_bytes()
        assert first.startswith(magic)


@pytest.mark.parametrize("name", OF_BOUNDS)
def test_a_figure_without_data_says_so_in_words(name, tmp_path):
    failed = Record(network="n", method="m", kind=Kind.CERTIFIED, status="time_limit", reason="too slow")
    for bounds in (CASES["empty"], collect([failed], {"n": {"experiment": "width_sweep", "x": 1}})):
        figure, _ = drawn(name, bounds)
        assert not figure.axes
        assert figure.texts[0].get_text().startswith("No network")
    figures.save(name, CASES["empty"], [tmp_path / "figure.png"])
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_tightness_shows_every_ratio_outside_sweeps_and_nothing_else():
    bounds = CASES["dozen"]
    shown = bounds[(bounds["experiment"] == "") & bounds["ratio"].notna()]
    assert len(shown) < (bounds["experiment"] == "").sum(), "the comparison should hold failures"
    figure, _ = drawn_case("tightness", "dozen")
    assert sorted(x for x, *_ in markers(figure.axes[0])) == sorted(shown["ratio"])


def test_tightness_names_a_network_without_positive_lower_bound():
    figure, _ = drawn_case("tightness", "extremes")
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    note = next(text for text in figure.axes[0].texts if "no positive lower bound" in text.get_text())
    assert labels[int(note.get_position()[1])] == "constant"


def test_time_vs_bound_counts_calibration_and_joins_the_undominated_certified_bounds():
    costs = {"fast": (8.0, 1.0, 0.0), "worse": (9.0, 2.0, 0.0), "planned": (4.0, 3.0, 7.0), "late": (5.0, 20.0, 0.0)}
    records = [
        Record(network="n", method=m, kind=Kind.CERTIFIED, value=v, seconds=s, calibration_seconds=c)
        for m, (v, s, c) in costs.items()
    ]
    records += [result("n", "autolip", Kind.ESTIMATE, 3.0, 0.1), result("n", "lower", Kind.LOWER, 2.0)]
    figure, _ = drawn("time_vs_bound", collect(records, {}))
    points = sorted((x, y) for x, y, *_ in markers(figure.axes[0]))
    assert points == [(0.1, 1.5), (1.0, 4.0), (2.0, 4.5), (10.0, 2.0), (20.0, 2.5)]
    frontier = [line for line in figure.axes[0].get_lines() if line.get_drawstyle() == "steps-post"]
    assert [tuple(xy) for xy in frontier[0].get_xydata()] == [(1.0, 4.0), (10.0, 2.0)]


def test_width_sweep_shows_values_above_and_seconds_below_and_breaks_the_line_at_a_failure():
    bounds = CASES["dozen"]
    sweep = bounds[bounds["experiment"] == "width_sweep"]
    rows = sweep[sweep["method"] == "lipsdp"]
    assert rows["value"].isna().any()
    figure, _ = drawn_case("width_sweep", "dozen")
    above, below = figure.axes
    assert len(markers(above)) == len(markers(below)) == sweep["value"].notna().sum()
    for axes, column in ((above, "value"), (below, "seconds")):
        colour = _palette.styles(bounds["method"])["lipsdp"].colour
        line = next(line for line in axes.get_lines() if line.get_linestyle() == "-" and line.get_color() == colour)
        assert line.get_xdata().tolist() == list(range(1, 15))
        assert np.array_equal(line.get_ydata(), rows[column].where(rows["value"].notna()), equal_nan=True)


def test_a_sweep_has_a_column_of_panels_for_random_and_one_for_trained_networks():
    about = {f"{n}{x}": {"experiment": e, "x": x} for n, e in TWO_SWEEPS.items() for x in (2, 3)}
    values = {name: 10.0 * place["x"] + ("trained" in name) for name, place in about.items()}
    rows = collect([result(name, "product", Kind.CERTIFIED, value) for name, value in values.items()], about)
    figure, _ = drawn("depth_sweep", rows)
    assert [axes.get_title() for axes in figure.axes] == ["random", "trained", "", ""]
    assert [[y for _, y, *_ in markers(axes)] for axes in figure.axes[:2]] == [[20, 30], [21, 31]]


TWO_SWEEPS = {"random": "depth_sweep", "trained": "depth_sweep_trained"}


@pytest.mark.parametrize("name", ["tightness", "time_vs_bound", "width_sweep"])
def test_estimates_are_hollow_certified_bounds_filled_and_lower_bounds_triangles(name):
    bounds = CASES["small"]
    figure, _ = drawn_case(name, "small")
    kinds = bounds.drop_duplicates("method").set_index("method")["kind"]
    found = _palette.styles(bounds["method"])
    expected = {
        (
            "#ffffff" if kind == Kind.ESTIMATE else found[method].colour.lower(),
            found[method].colour.lower(),
            _palette.LOWER_MARKER if kind == Kind.LOWER else found[method].marker,
        )
        for method, kind in kinds.items()
        if kind != Kind.LOWER or name != "time_vs_bound"
    }
    assert {
        look for axes in figure.axes for *_, face, edge, mark in markers(axes) for look in [(face, edge, mark)]
    } == (expected)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == [m for m, kind in kinds.items() if kind != Kind.LOWER or name != "time_vs_bound"]


def test_a_lower_bound_is_a_triangle_whatever_its_method_is_called():
    figure, _ = drawn("tightness", collect([result("n", "product", Kind.LOWER, 2.0)], {}))
    assert [mark for *_, mark in markers(figure.axes[0])] == [_palette.LOWER_MARKER]


def test_a_further_method_changes_the_style_of_no_known_one():
    alone = _palette.styles(_palette.KNOWN)
    crowded = _palette.styles([*METHODS, *_palette.KNOWN, *(f"mine{n}" for n in range(9)), "gram-3", "dcp-8x8-sum"])
    assert {method: crowded[method] for method in alone} == alone
    assert {m: (s.colour, s.marker) for m, s in alone.items()} == _palette.KNOWN


def test_every_method_of_a_crowd_has_a_look_of_its_own():
    methods = [*METHODS, *_palette.KNOWN, *(f"mine{n}" for n in range(9)), *(f"dcp-{n}x{n}-sum" for n in (2, 4, 5))]
    looks = [(look.colour, look.marker) for look in _palette.styles(methods).values()]
    assert len(set(looks)) == len(set(methods))


def test_only_lower_bounds_are_triangles():
    methods = [f"mine{n}" for n in range(30)] + [f"gram-{n}" for n in range(8)]
    assert _palette.LOWER_MARKER not in {look.marker for look in _palette.styles(methods).values()}


# Machado, Oliveira & Fernandes (IEEE TVCG 15, 2009), severity 1, on linear RGB
_SIGHT = {
    "usual": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def _lab(colour, sight):
    """CIE 1976 L*a*b* (white D65) of a colour as seen with one kind of sight."""
    channels = np.array(to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(_SIGHT[sight]) @ linear, 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    scaled = xyz / [0.9505, 1.0, 1.089]
    f = np.where(scaled > 0.008856, np.cbrt(scaled), 7.787 * scaled + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("sight", _SIGHT)
def test_methods_with_the_same_marker_differ_in_colour_for_colour_blind_readers(sight):
    merges = [f"dcp-2x2-{merge}" for merge in ("sum", "cover", "weighted", "folded")]
    found = _palette.styles([*_palette.KNOWN, *merges])
    for (one, first), (other, second) in itertools.combinations(found.items(), 2):
        distance = np.linalg.norm(_lab(first.colour, sight) - _lab(second.colour, sight))
        assert first.marker != second.marker or distance > 20, f"{one} and {other}: {distance:.0f}"
        assert np.linalg.norm(_lab(first.colour, sight) - _lab("white", sight)) > 20, one


def test_drawing_leaves_the_settings_of_matplotlib_alone(tmp_path):
    before = json.dumps(dict(matplotlib.rcParams), default=str)
    figures.save("tightness", CASES["small"], [tmp_path / "figure.svg"])
    assert json.dumps(dict(matplotlib.rcParams), default=str) == before
    assert isinstance(figures.draw("tightness", CASES["small"]), Figure)


def test_names_of_networks_break_after_their_separators():
    assert style.wrapped("orthogonal-cnn1-trained") == "orthogonal-cnn1-\ntrained"
    assert style.wrapped("short_name") == "short_name"
    assert max(map(len, style.wrapped("x" * 40).splitlines())) <= 17


def test_an_unknown_figure_is_answered_by_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'tightness'"):
        figures.load("tightnes")
    with pytest.raises(ConfigError, match="unknown figure 'style'"):
        figures.load("style")


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"written as \.pdf, \.svg, \.png, not as \.jpg"):
        figures.save("tightness", CASES["small"], [tmp_path / "figure.jpg"])


@pytest.mark.parametrize("n_networks", [1, 2, 4, 5, 9])
@pytest.mark.parametrize("decades", [1.1, 1.5, 2.1, 2.4, 3.0, 4.5])
def test_times_beside_each_other_are_labelled_without_collisions(n_networks, decades):
    records = [
        Record(network=f"net-{i}", method=method, kind=kind, value=value, seconds=seconds)
        for i in range(n_networks)
        for method, kind, value, seconds in (
            ("lower", Kind.LOWER, 1.0, 1.0),
            ("product", Kind.CERTIFIED, 3.0, 0.0026),
            ("lipsdp", Kind.CERTIFIED, 2.0, 0.0026 * 10**decades),
        )
    ]
    assert_fits_one_column(*drawn("time_vs_bound", collect(records, {})))
