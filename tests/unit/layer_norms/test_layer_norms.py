"""The rivals for single convolutions against dense matrices."""

from __future__ import annotations

import numpy as np
import oracle
import pytest

from certlip.base import plugins
from certlip.base.record import Kind
from certlip.layer_norms import LayerNormInfo, names
from certlip.layer_norms._measure import gram_speed, measure, naive_gram
from certlip.layer_norms._shapes import RANDN, RESNET18, VGG16, ConvShape
from certlip.network import Conv, Shape

RNG = np.random.default_rng(11)


def conv(
    *shape: int,
    stride: int = 1,
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    dilation: int = 1,
    groups: int = 1,
    scale: float = 1.0,
) -> Conv:
    weight = scale * RNG.standard_normal(shape)
    return Conv("c", weight, np.zeros(shape[0]), (stride,) * 2, padding, (dilation,) * 2, groups)


LAYERS: dict[str, tuple[Conv, Shape]] = {
    "plain": (conv(3, 2, 3, 3), (2, 6, 6)),
    "padded": (conv(2, 3, 3, 3, padding=(1, 1, 1, 1)), (3, 5, 5)),
    "one pixel kernel": (conv(3, 4, 1, 1), (4, 3, 3)),
    "one pixel kernel, stride": (conv(3, 4, 1, 1, stride=2), (4, 5, 5)),
    "one pixel map": (conv(3, 2, 3, 3, padding=(1, 1, 1, 1)), (2, 1, 1)),
    "image smaller than kernel": (conv(2, 2, 5, 5, padding=(2, 2, 2, 2)), (2, 3, 2)),
    "stride": (conv(3, 2, 3, 3, stride=2), (2, 7, 7)),
    "stride as kernel": (conv(3, 2, 2, 2, stride=2, padding=(1, 1, 1, 1)), (2, 6, 6)),
    "groups": (conv(4, 2, 3, 3, groups=2), (4, 5, 5)),
    "dilation": (conv(2, 2, 3, 3, padding=(2, 2, 2, 2), dilation=2), (2, 6, 6)),
    "uneven": (conv(2, 1, 2, 3, padding=(0, 1, 3, 0)), (1, 4, 4)),
    "tiny": (conv(3, 2, 3, 3, scale=1e-6), (2, 5, 5)),
    "huge": (conv(3, 2, 3, 3, scale=1e6), (2, 5, 5)),
}

CERTIFIED = ("certified", "gram", "fantastic_four", "toeplitz_grid")


def true_norm(layer: Conv, shape: Shape) -> float:
    return float(np.linalg.norm(oracle.dense_matrix(layer, shape), 2))


def test_every_rival_is_named_and_says_its_kind() -> None:
    assert set(CERTIFIED) | {"svd", "power_iteration"} == set(names())
    for name in names():
        info = plugins.load("certlip.layer_norms", name).INFO
        assert isinstance(info, LayerNormInfo)
        assert (info.kind is Kind.CERTIFIED) == (name in CERTIFIED)


@pytest.mark.parametrize("rival", CERTIFIED)
@pytest.mark.parametrize("case", LAYERS)
def test_certified_rival_is_never_below_the_true_norm(case: str, rival: str) -> None:
    layer, shape = LAYERS[case]
    assert plugins.load("certlip.layer_norms", rival).norm(layer, shape) >= true_norm(layer, shape)


@pytest.mark.parametrize("case", LAYERS)
def test_power_iteration_stays_below_and_the_svd_of_unpadded_layers_above(case: str) -> None:
    layer, shape = LAYERS[case]
    true = true_norm(layer, shape)
    power = plugins.load("certlip.layer_norms", "power_iteration").norm(layer, shape)
    assert 0.9 * true <= power <= true * (1 + 1e-12)
    assert plugins.load("certlip.layer_norms", "svd").norm(layer, shape) >= true * (1 - 1e-12)


def test_zero_weights_have_norm_zero() -> None:
    layer = Conv("zero", np.zeros((2, 2, 3, 3)), np.zeros(2))
    for name in names():
        assert plugins.load("certlip.layer_norms", name).norm(layer, (2, 5, 5)) <= 1e-150


def test_toeplitz_bound_covers_the_polynomial_between_its_grid_points() -> None:
    """A kernel whose polynomial peaks off the grid: the bound must hold for an image large enough to show it."""
    for _ in range(10):
        layer = conv(1, 1, 1, 4)
        w = np.linspace(0, 2 * np.pi, 20001)
        peak = np.abs(np.exp(1j * np.outer(w, np.arange(4))) @ layer.weight.ravel()).max()
        assert plugins.load("certlip.layer_norms", "toeplitz_grid").norm(layer, (1, 1, 50)) >= peak


def test_measure_gives_one_row_a_layer_and_rival_with_published_figures() -> None:
    frame = measure({"a": LAYERS["padded"], "b": LAYERS["plain"]}, {"b": {"svd": 4.0}})
    measured = ["value", "norm", "ratio", "seconds"]
    assert list(frame.columns) == ["layer", "method", "title", "kind", *measured, "published"]
    assert len(frame) == 2 * len(names())
    for row in frame[frame.kind == "certified"].itertuples():
        true = true_norm(*LAYERS["padded" if row.layer == "a" else "plain"])
        assert min(row.value, row.norm) >= true
        assert row.ratio == row.value / row.norm
    assert frame[frame.published.notna()][["layer", "method", "published"]].to_numpy().tolist() == [["b", "svd", 4.0]]


def test_shapes_are_those_of_the_architectures() -> None:
    assert len(RESNET18) == 11
    assert len(VGG16) == 5
    weights = sum(s.layer("x").weight.size for name, s in VGG16.items() if name.endswith("14"))
    assert weights == 512 * 512 * 9
    assert RANDN["randn 64x64x5x5, n = 12"].layer("x").weight.shape == (64, 64, 5, 5)


def test_gram_of_the_paper_agrees_with_ours_and_is_not_a_bound() -> None:
    for image in (6, 7):
        layer = conv(4, 3, 3, 3)
        ours = plugins.load("certlip.layer_norms", "gram").norm(layer, (3, image, image))
        assert abs(naive_gram(layer.weight, image, 5) / ours - 1) < 1e-12


def test_gram_is_at_least_as_fast_as_the_formula_in_complex_arithmetic() -> None:
    frame = gram_speed({"resnet18 layer1 at 28": ConvShape(64, 64, 3, 28)})
    assert frame.speedup.max() > 1
