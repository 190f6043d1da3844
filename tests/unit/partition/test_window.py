"""Patches and plans: sub-networks recompute the whole map, equal ones are planned once, merges round up."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limit
from hypothesis import strategies as st

from certlip.base.errors import DataError, NoBound, UnsupportedLayer
from certlip.methods import dcp
from certlip.network import Activation, Conv, Dense, Flatten, MaxPool, Network, Pair, Shape
from certlip.network.chain import Chain
from certlip.network.window import Window, grid_windows, restrict, tiles
from certlip.partition.plan import Plan
from certlip.partition.segment import find_cuts, make_segment, orders_of
from certlip.proof.lmi import Lmi
from certlip.proof.merge import hand_on, merge_blocks
from certlip.sdp import reduce

Pick = Callable[[Any], Any]


def conv_segment(pick: Pick, seed: int) -> Network:
    """Up to three convolutions with any stride, padding, dilation and groups, activations between."""
    rng = np.random.default_rng(seed)
    shape: Shape = (pick([1, 2]), pick([5, 7, 10]), pick([4, 6, 9]))
    input_shape, layers = shape, list[Any]()
    for index in range(pick([1, 2, 3])):
        groups = pick([1, 2]) if shape[0] % 2 == 0 else 1
        c_out = groups * pick([1, 2])
        layer = Conv(
            f"c{index}",
            rng.standard_normal((c_out, shape[0] // groups, pick([1, 2, 3]), pick([1, 3]))),
            rng.standard_normal(c_out),
            stride=(pick([1, 1, 2, 3]), pick([1, 2])),
            padding=tuple(pick([0, 0, 1, 2]) for _ in range(4)),  # type: ignore[arg-type]
            dilation=(pick([1, 2]), pick([1, 1, 2])),
            groups=groups,
        )
        try:
            shape = layer.output_shape(shape)
        except DataError:
            break
        layers += [layer, Activation(f"a{index}", pick(["relu", "tanh"]))]
    return Network(tuple(layers), input_shape)


@st.composite
def segments_with_grid(draw: st.DrawFn) -> tuple[Network, Pair]:
    network = conv_segment(lambda options: draw(st.sampled_from(options)), draw(st.integers(0, 10**6)))
    _, rows, columns = network.shapes[-1]
    return network, (draw(st.integers(1, rows)), draw(st.integers(1, columns)))


@limit(max_examples=150)
@given(segments_with_grid())
def test_sub_networks_of_a_grid_rebuild_the_whole_map(drawn: tuple[Network, Pair]) -> None:
    network, grid = drawn
    x = np.random.default_rng(0).standard_normal((1, *network.input_shape))
    expected = network.forward(x)
    rebuilt = np.full_like(expected, np.nan)
    for window in grid_windows(*network.shapes[-1][1:], grid):
        try:
            patch, field = restrict(network, window)
        except UnsupportedLayer:
            return
        assert field is not None
        rebuilt[:, :, *window.slices] = patch.forward(x[:, :, *field.slices])
    np.testing.assert_allclose(rebuilt, expected, rtol=1e-12, atol=1e-12)


@limit(max_examples=60)
@given(segments_with_grid())
def test_a_patch_does_not_depend_on_pixels_outside_its_field(drawn: tuple[Network, Pair]) -> None:
    network, grid = drawn
    x = np.random.default_rng(0).standard_normal((1, *network.input_shape))
    expected = network.forward(x)
    for window in grid_windows(*network.shapes[-1][1:], grid):
        try:
            _, field = restrict(network, window)
        except UnsupportedLayer:
            return
        assert field is not None
        other = np.full_like(x, 1e3)
        other[:, :, *field.slices] = x[:, :, *field.slices]
        changed = network.forward(other)
        assert (changed[:, :, *window.slices] == expected[:, :, *window.slices]).all()


@limit(max_examples=100)
@given(segments_with_grid())
def test_patches_of_one_block_are_the_same_program_and_read_what_the_plan_says(drawn: tuple[Network, Pair]) -> None:
    network, grid = drawn
    try:
        segment = make_segment(network, 0, len(network.layers), grid)
    except UnsupportedLayer:
        return
    for block in segment.blocks:
        patches = [restrict(network, window) for window in block.windows]
        assert len({patch.sha256 for patch, _ in patches}) == 1
        assert [field for _, field in patches] == list(block.fields)


@limit(max_examples=60)
@given(segments_with_grid())
def test_the_planned_order_is_that_of_the_matrix_inequality(drawn: tuple[Network, Pair]) -> None:
    network, grid = drawn
    try:
        segment = make_segment(network, 0, len(network.layers), grid)
    except UnsupportedLayer:
        return
    orders = orders_of(network)
    assert orders["order"] == Lmi.of(Chain.of(network)).order
    for block in segment.blocks:
        patch, _ = restrict(network, block.windows[0])
        assert block.order == Lmi.of(Chain.of(patch)).order


@pytest.mark.parametrize(
    ("layers", "shape", "solved"),
    [
        ([("conv", 2, 3), ("conv", 2, 3)], (4, 12, 12), (576, 200, 128)),  # sparse: the wide first one stays as it is
        ([("conv", 1, 3), ("conv", 9, 1)], (1, 8, 8), (64, 36, 324)),  # and the tall last one
        ([("conv", 2, 6), ("conv", 2, 1)], (4, 6, 6), (2, 2, 2)),  # dense: its 144 columns become a triangle
        ([("dense", 5), ("dense", 7)], (30,), (5, 5, 5)),
    ],
)
def test_the_planned_sizes_are_those_that_the_solver_sees(
    layers: list[tuple], shape: Shape, solved: tuple[int, ...]
) -> None:
    rng, built = np.random.default_rng(0), []
    for i, (kind, n_out, *kernel) in enumerate(layers):
        n_in = Network(tuple(built), shape).shapes[-1][0]
        weight = rng.standard_normal((n_out, n_in, *(2 * kernel)))
        built.append((Conv if kind == "conv" else Dense)(f"layer{i}", weight, np.zeros(n_out)))
        built.append(Activation(f"relu{i}", "relu"))
    network = Network(tuple(built[:-1]), shape)
    reduced, _ = reduce(Lmi.of(Chain.of(network)))
    assert orders_of(network)["solved_sizes"] == (*reduced.sizes, len(reduced.weights[-1])) == solved


@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_a_grid_tiles_the_map_evenly(rows: int, columns: int, data: st.DataObject) -> None:
    grid = data.draw(st.integers(1, rows)), data.draw(st.integers(1, columns))
    windows = grid_windows(rows, columns, grid)
    assert len(windows) == grid[0] * grid[1]
    assert tiles(windows, rows, columns)
    for axis in (0, 1):
        sides = {w.size[axis] for w in windows}
        assert max(sides) - min(sides) <= 1


@pytest.mark.parametrize(
    "windows",
    [
        [Window(0, 2, 0, 1)],
        [Window(0, 2, 0, 2), Window(1, 2, 1, 2)],
        [Window(0, 3, 0, 2)],
        [Window(-1, 2, 0, 2)],
        [],
    ],
    ids=["a gap", "an overlap", "too tall", "negative", "nothing"],
)
def test_windows_that_do_not_tile_are_seen(windows: list[Window]) -> None:
    assert not tiles(windows, 2, 2)


def small_net(padding: int = 0) -> Network:
    rng = np.random.default_rng(1)
    conv = Conv("c1", rng.standard_normal((2, 1, 3, 3)), np.zeros(2), padding=(padding,) * 4)
    other = Conv("c2", rng.standard_normal((2, 2, 3, 3)), np.zeros(2), padding=(padding,) * 4)
    size = 2 * (10 if padding else 6) ** 2
    dense = Dense("d", rng.standard_normal((3, size)), np.zeros(3))
    return Network((conv, Activation("r1", "relu"), other, Activation("r2", "relu"), Flatten("f"), dense), (1, 10, 10))


@pytest.mark.parametrize(("grid", "n_distinct"), [((1, 1), 1), ((2, 2), 1), ((3, 2), 1), ((4, 4), 4), ((6, 6), 1)])
def test_unpadded_patches_of_one_shape_are_solved_once(grid: Pair, n_distinct: int) -> None:
    segment = make_segment(small_net(), 0, 4, grid)
    assert len(segment.blocks) == n_distinct
    assert sum(len(block.windows) for block in segment.blocks) == math.prod(grid)


def test_padded_patches_fall_into_nine_classes_at_most() -> None:
    assert len(make_segment(small_net(1), 0, 4, (5, 5)).blocks) == 9
    assert len(make_segment(small_net(1), 0, 4, (2, 2)).blocks) == 4


def test_cuts_stand_before_flattening_and_around_pooling_or_where_they_are_asked_for() -> None:
    net = small_net()
    assert find_cuts(net, None) == [0, 4, 6]
    assert find_cuts(net, ["r1", "f"]) == [0, 2, 5, 6]
    assert find_cuts(net, ["d"]) == [0, 6]
    pooled = Network((*net.layers[:2], MaxPool("p", (2, 2), (2, 2)), *net.layers[2:4]), (1, 10, 10))
    assert find_cuts(pooled, None) == [0, 2, 3, 5]
    with pytest.raises(NoBound, match="no layer 'r3'; did you mean 'r"):
        find_cuts(net, ["r3"])


def test_a_segment_is_left_to_its_constants_where_a_program_cannot_gain() -> None:
    assert not make_segment(small_net(), 4, 6, (2, 2)).blocks
    assert not make_segment(Network((MaxPool("p", (2, 2), (2, 2)),), (1, 4, 4)), 0, 1, (2, 2)).blocks


def test_grids_that_do_not_fit_are_refused_in_words() -> None:
    with pytest.raises(NoBound, match="2 grids are given for 1 convolutional"):
        dcp.plan(small_net(), grid=[(2, 2), (2, 2)])
    with pytest.raises(UnsupportedLayer, match="d: a Dense cannot be cut"):
        restrict(small_net(), Window(0, 1, 0, 1))
    padded = replace(small_net().layers[0], padding=(5, 5, 5, 5))  # type: ignore[type-var]
    with pytest.raises(UnsupportedLayer, match="nothing but padding"):
        restrict(Network((padded,), (1, 2, 2)), Window(0, 1, 0, 1))


def test_a_grid_finer_than_the_map_is_cut_down_to_it_and_says_so() -> None:
    first, tail = dcp.plan(small_net(), grid=(7, 2)).segments
    assert first.grid == (6, 2)
    assert first.note == "grid 7x2 is finer than the output of r2: 6x2 is used"
    assert not tail.note


def test_one_grid_for_each_segment_is_taken_in_order() -> None:
    plan = dcp.plan(small_net(1), grid=[(2, 2), (5, 1)], cuts=["r1", "r2"])
    assert [s.grid for s in plan.segments] == [(2, 2), (5, 1), (1, 1)]


def test_a_plan_comes_back_from_its_file_the_same(tmp_path: Path) -> None:
    plan = dcp.plan(small_net(1), grid=(3, 3), merge="cover")
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan
    for content in (b"{}", b"not json", b"\xff\xfe", b""):
        (tmp_path / "plan.json").write_bytes(content)
        with pytest.raises(DataError, match="not a certlip plan"):
            Plan.load(tmp_path / "plan.json")
    with pytest.raises(DataError, match="does not exist"):
        Plan.load(tmp_path / "missing.json")


@st.composite
def patch_bounds(draw: st.DrawFn) -> tuple[list[float], list[Window | None], Pair]:
    rows, columns = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    n = draw(st.integers(1, 8))
    fields: list[Window | None] = []
    for _ in range(n):
        top, left = draw(st.integers(0, rows - 1)), draw(st.integers(0, columns - 1))
        fields.append(Window(top, draw(st.integers(top + 1, rows)), left, draw(st.integers(left + 1, columns))))
    return draw(st.lists(st.floats(1e-30, 1e30), min_size=n, max_size=n)), fields, (rows, columns)


@given(patch_bounds())
def test_merges_are_never_below_their_exact_values(drawn: tuple[list[float], list[Window | None], Pair]) -> None:
    rhos, fields, side = drawn
    loads = [
        sum(
            (
                Fraction(rho)
                for rho, w in zip(rhos, fields, strict=True)
                if w and w.top <= y < w.bottom and w.left <= x < w.right
            ),
            Fraction(0),
        )
        for y in range(side[0])
        for x in range(side[1])
    ]
    total, cover = (merge_blocks(rule, rhos, fields, (1, *side)) for rule in ("sum", "cover"))
    assert Fraction(total) ** 2 >= sum(map(Fraction, rhos))
    assert Fraction(cover) ** 2 >= max(loads)
    assert cover <= total * (1 + 1e-12)


@given(patch_bounds(), st.floats(1e-3, 1e3))
def test_a_metric_that_is_handed_on_is_nowhere_below_its_exact_value(
    drawn: tuple[list[float], list[Window | None], Pair], scale: float
) -> None:
    rhos, fields, side = drawn
    sizes = [(w.bottom - w.top) * (w.right - w.left) for w in fields if w]
    metrics = [rho * np.linspace(0.1, 1, size) for rho, size in zip(rhos, sizes, strict=True)]
    exact = np.zeros(side, dtype=object)
    for metric, field in zip(metrics, fields, strict=True):
        if field:
            exact[field.slices] += np.reshape([Fraction(float(x)) for x in metric], exact[field.slices].shape)
    handed = hand_on(metrics, fields, scale, (1, *side))
    assert all(
        Fraction(float(x)) >= y * Fraction(scale) ** 2 for x, y in zip(handed.ravel(), exact.ravel(), strict=True)
    )


def test_the_root_of_a_merge_is_rounded_up() -> None:
    for rho in np.random.default_rng(0).random(50):
        for merge in ("sum", "cover"):
            assert Fraction(merge_blocks(merge, [rho], [Window(0, 1, 0, 1)], (1, 1, 1))) ** 2 >= Fraction(float(rho))


def test_cover_of_the_whole_map_or_of_flat_inputs_is_the_sum() -> None:
    assert merge_blocks("cover", [2.0, 7.0], [None, None], (1, 3, 3)) == merge_blocks(
        "sum", [2.0, 7.0], [None] * 2, (9,)
    )
