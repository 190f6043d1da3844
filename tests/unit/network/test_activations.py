"""Each row of `ACTIVATIONS` is what torch computes, and its slopes are bounds, as sharp as they can be."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import torch
from torch import nn

from certlip.base.errors import DataError
from certlip.network import ACTIVATIONS, Activation, Network
from certlip.pytorch.to_torch import to_torch

POINTS = np.unique(np.concatenate([s * np.linspace(-1, 1, 40_001) for s in (0.001, 0.01, 1.0, 7.0, 40.0)]))
ERROR = 1e-13
FURTHER = {
    "hardtanh": [(0.0, 6.0), (-2.0, 0.5)],
    "softshrink": [(1.5,)],
    "elu": [(0.3,), (2.5,), (-0.5,)],
    "celu": [(0.4,), (3.0,)],
    "softplus": [(0.5,), (4.0,)],
}
CASES = [(kind, parameters) for kind in ACTIVATIONS for parameters in [(), *FURTHER.get(kind, [])]]
every_activation = pytest.mark.parametrize(("kind", "parameters"), CASES)

IN_DIGITS = {
    "gelu": lambda x: x * (1 + mpmath.erf(x / mpmath.sqrt(2))) / 2,
    "gelu_tanh": lambda x: x * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3))) / 2,
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
    "mish": lambda x: x * mpmath.tanh(mpmath.log(1 + mpmath.exp(x))),
}
"""Functions whose steepest slopes have no closed form."""


def network_of(kind: str, parameters: tuple[float, ...]) -> tuple[Network, nn.Module]:
    network = Network((Activation("a", kind, parameters=parameters),), (1,))
    return network, to_torch(network)


def torch_slopes(module: nn.Module, points: np.ndarray) -> np.ndarray:
    inputs = torch.tensor(points[:, None], requires_grad=True)
    (slopes,) = torch.autograd.grad(module(inputs).sum(), inputs)
    return slopes[:, 0].numpy()


@every_activation
def test_values_and_derivatives_are_those_of_torch(kind: str, parameters: tuple[float, ...]) -> None:
    network, module = network_of(kind, parameters)
    points = POINTS[np.abs(POINTS) < 4.9] if kind == "softplus" else POINTS  # torch's is another one beyond
    expected = module(torch.tensor(points[:, None])).numpy()
    np.testing.assert_allclose(network.forward(points[:, None]), expected, rtol=1e-14, atol=1e-14)
    (layer,) = network.layers
    assert isinstance(layer, Activation)
    away = np.array([p for p in points if p not in (*layer.row.kinks(*layer.arguments(1)), 0.0)])
    derivative = layer.row.derivative(away, *layer.arguments(1))
    rtol = 1e-6 if kind in ("hardsigmoid", "celu") else 1e-12  # torch divides in single precision there
    np.testing.assert_allclose(derivative, torch_slopes(module, away), rtol=rtol, atol=1e-13)


@every_activation
def test_slopes_bound_every_difference_quotient_and_are_attained_or_approached(
    kind: str, parameters: tuple[float, ...]
) -> None:
    network, _ = network_of(kind, parameters)
    least, largest = network.layers[0].slopes
    values = network.forward(POINTS[:, None])[:, 0]
    rounding = 1e-13 * np.maximum(1, np.abs(values[1:]))
    rises, steps = np.diff(values), np.diff(POINTS)
    assert (rises <= largest * steps + rounding).all()
    assert (rises >= least * steps - rounding).all()
    wide = steps > 1e-8
    quotients = rises[wide] / steps[wide]
    assert quotients.max() >= largest - 1e-3
    assert quotients.min() <= least + 1e-3


@pytest.mark.parametrize("kind", IN_DIGITS)
def test_steepest_slopes_without_a_closed_form_are_rounded_outwards_by_a_digit_at_most(kind: str) -> None:
    least, largest = Activation("a", kind).slopes
    with mpmath.workdps(40):
        slopes = [mpmath.diff(IN_DIGITS[kind], mpmath.mpf(k) / 10) for k in range(-100, 101)]
        for slope, bound in ((max(slopes), largest), (min(slopes), least)):
            around = (slopes.index(slope) - 100) / 10
            steepest = mpmath.findroot(lambda x: mpmath.diff(IN_DIGITS[kind], x, 2), around)
            exact = mpmath.diff(IN_DIGITS[kind], steepest)
            assert 0 < (bound - exact) * mpmath.sign(exact) < 1e-15


@every_activation
def test_slopes_within_an_interval_hold_every_slope_there(kind: str, parameters: tuple[float, ...]) -> None:
    layer = Activation("a", kind, parameters=parameters)
    rng = np.random.default_rng(0)
    middle = rng.choice([0.1, 1.0, 5.0], 20_000) * rng.standard_normal(20_000)
    reach = 10.0 ** rng.uniform(-16, 0.5, 20_000)
    below, above = ((middle + sign * reach)[:, None] for sign in (-1, 1))
    smallest, largest = layer.slopes_within(below, above, ERROR)
    for share in (0.0, 0.3, 0.5, 0.9, 1.0):
        slope = layer.row.derivative(below + share * (above - below), *layer.arguments(1))
        assert (smallest - ERROR <= slope).all()
        assert (slope <= largest + ERROR).all()
    narrow = (reach < 1e-12) & np.all(
        [np.abs(middle - k) > 1e-9 for k in (*layer.row.kinks(*layer.arguments(1)), 99)], 0
    )
    assert ((largest - smallest)[narrow] < 1e-10).all()


def test_slopes_within_know_nothing_of_numbers_that_are_none() -> None:
    for kind in ACTIVATIONS:
        layer = Activation("a", kind)
        for ends in ((np.nan, np.nan), (-np.inf, np.inf)):
            smallest, largest = layer.slopes_within(*(np.full((1, 1), end) for end in ends), ERROR)
            assert (smallest[0, 0], largest[0, 0]) == layer.slopes, kind


@every_activation
def test_curvature_bounds_how_fast_slopes_change_between_kinks(kind: str, parameters: tuple[float, ...]) -> None:
    layer = Activation("a", kind, parameters=parameters)
    arguments = layer.arguments(1)
    pieces = np.searchsorted(np.sort(layer.row.kinks(*arguments)), POINTS)
    same = (pieces[1:] == pieces[:-1]) & ~np.isin(POINTS[1:], layer.row.kinks(*arguments))
    same &= ~np.isin(POINTS[:-1], layer.row.kinks(*arguments))
    rises = np.abs(np.diff(layer.row.derivative(POINTS, *arguments)))
    assert (rises[same] <= layer.row.curvature(*arguments) * np.diff(POINTS)[same] + 1e-14).all()


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [("celu", (-1.0,)), ("hardtanh", (1.0, 1.0)), ("softplus", (0.0,)), ("elu", (float("nan"),)), ("elu", (1.0, 2.0))],
)
def test_parameters_that_are_none_are_refused_by_name(kind: str, parameters: tuple[float, ...]) -> None:
    with pytest.raises(DataError, match=f"act: {kind} cannot have the parameters"):
        Activation("act", kind, parameters=parameters)


@every_activation
def test_homogeneous_activations_are(kind: str, parameters: tuple[float, ...]) -> None:
    network, _ = network_of(kind, parameters)
    doubled = np.array_equal(network.forward(2 * POINTS[:, None]), 2 * network.forward(POINTS[:, None]))
    assert doubled == ACTIVATIONS[kind].homogeneous
