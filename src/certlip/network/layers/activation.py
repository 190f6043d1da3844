"""Elementwise layers. An activation is one row of `ACTIVATIONS`; all that is known of it stands there."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy

from certlip.base.errors import UnsupportedLayer
from certlip.base.rounding import down, up
from certlip.network.layers.base import Array, Shape, expect, float64
from certlip.network.slopes import Slopes, along_channels, slopes_of


@dataclass(frozen=True)
class Elementwise:
    """An activation phi, with all that is asked of one.

    value, derivative: of an array, then of the parameters; slopes: of the parameters, (smallest, largest) of all
    difference quotients; kinks: of the parameters, where the derivative jumps; curvature: of the parameters, at or
    above the absolute second derivative between the kinks; parameters: names and defaults; fits: whether parameters
    are such that all this holds; homogeneous: phi(2 x) = 2 phi(x); exact: value and derivative are computed without
    rounding, but for a product with a parameter; torch: name of its class in torch.nn, whose arguments are the
    parameters; functions: its names in torch and torch.nn.functional.
    """

    value: Callable[..., Array]
    derivative: Callable[..., Array]
    slopes: Callable[..., Slopes]
    kinks: Callable[..., tuple[float, ...]] = lambda *_: ()
    curvature: Callable[..., float] = lambda *_: 0.0
    parameters: Mapping[str, float] = field(default_factory=dict)
    fits: Callable[..., bool] = lambda *_: True
    homogeneous: bool = False
    exact: bool = False
    torch: str = ""
    functions: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Activation:
    """Elementwise function whose difference quotients all lie between its `slopes`.

    kind: a key of `ACTIVATIONS`; negative_slope: read by leaky_relu only, a number or an array (channels,) with one a
    channel of a map (channels, rows, columns) or one an entry of a flat value, as PReLU has; parameters: of the other
    kinds, in the order of their row, none for their defaults. Raises DataError if one is not finite or does not fit.
    """

    name: str
    kind: str
    negative_slope: float | Array = 0.01
    parameters: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        slope, row = self.negative_slope, ACTIVATIONS.get(self.kind)
        if isinstance(slope, np.ndarray):
            slope = float64(self.name, "negative_slope", slope)
            object.__setattr__(self, "negative_slope", slope)
            fits = slope.ndim == 1 and slope.size > 0 and bool(np.isfinite(slope).all())
            expect(fits, self.name, f"a negative_slope of shape {slope.shape} is no row of finite numbers")
        else:
            expect(_is_finite(slope), self.name, f"negative_slope {slope} is not a finite number")
        if row is not None and (row.parameters or self.parameters):
            given = tuple(self.parameters) or tuple(row.parameters.values())
            fits = len(given) == len(row.parameters) and all(map(_is_finite, given)) and row.fits(*given)
            expect(fits, self.name, f"{self.kind} cannot have the parameters {given}")
            object.__setattr__(self, "parameters", tuple(map(float, given)))

    @property
    def row(self) -> Elementwise:
        """What is known of its kind; raises UnsupportedLayer for an unknown one."""
        if self.kind not in ACTIVATIONS:
            raise UnsupportedLayer(f"{self.name}: no bound for activation {self.kind}")
        return ACTIVATIONS[self.kind]

    def arguments(self, n_axes: int) -> tuple[Any, ...]:
        """The parameters, to be broadcast over maps with so many axes."""
        return (along_channels(self.negative_slope, n_axes),) if self.kind == "leaky_relu" else self.parameters

    @property
    def slopes(self) -> Slopes:
        """(smallest, largest) slope of the function; an array (channels,) each where channels differ."""
        return self.row.slopes(*((self.negative_slope,) if self.kind == "leaky_relu" else self.parameters))

    def output_shape(self, shape: Shape) -> Shape:
        _ = self.row
        if isinstance(self.negative_slope, np.ndarray):
            n = len(self.negative_slope)
            expect(shape[:1] == (n,), self.name, f"{n} negative slopes do not fit the channels of {shape}")
        return shape

    def apply(self, values: Array) -> Array:
        return self.row.value(values, *self.arguments(values.ndim - 1))

    def slopes_within(self, below: Array, above: Array, error: float) -> tuple[Array, Array]:
        """Elementwise bounds of the slope at any point of [below, above], arrays (batch, *shape), kinks included.

        error: by which a derivative of steepest slope one may be rounded; none is counted where it is exact.
        """
        row, n_axes = self.row, below.ndim - 1
        arguments = self.arguments(n_axes)
        low, high = (along_channels(slope, n_axes) for slope in self.slopes)
        middle = below + (above - below) / 2
        spread = row.curvature(*arguments) * (above - below) if not row.exact else np.zeros_like(middle)
        if not row.exact:
            spread = spread * (1 + error) + error * max(1.0, float(np.max(np.maximum(np.abs(low), np.abs(high)))))
        slope = row.derivative(middle, *arguments)
        unknown = np.isnan(middle) | np.isnan(slope) | np.isnan(spread)
        for kink in row.kinks(*arguments):
            unknown |= (below <= kink) & (above >= kink)
        smallest, largest = np.where(unknown, low, slope - spread), np.where(unknown, high, slope + spread)
        return np.clip(smallest, low, high), np.clip(largest, low, high)


def _is_finite(value: Any) -> bool:
    return not isinstance(value, bool) and math.isfinite(value)


def _between(low: float, high: float) -> Callable[..., Slopes]:
    return lambda *_: (low, high)


def _leaky_slopes(slope: float | Array) -> Slopes:
    if isinstance(slope, np.ndarray):
        return slopes_of(np.minimum(slope, 1.0), np.maximum(slope, 1.0))
    return min(slope, 1.0), max(slope, 1.0)


def _sigmoid(z: Array) -> Array:
    values: Array = scipy.special.expit(z)
    return values


def _normal_density(z: Array) -> Array:
    return np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def _gelu_tanh(z: Array) -> Array:
    return np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))


def _gelu_tanh_derivative(z: Array) -> Array:
    t = _gelu_tanh(z)
    return (1 + t) / 2 + z * (1 - t * t) / 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * z * z)


def _mish_derivative(z: Array) -> Array:
    t = np.tanh(np.logaddexp(0.0, z))
    return t + z * (1 - t * t) * _sigmoid(z)


_SELU, _SELU_NEGATIVE = 1.0507009873554804934, 1.6732632423543772848 * 1.0507009873554804934
"""Slopes at either side of zero (Klambauer et al. 2017, arXiv 1706.02515)."""

ACTIVATIONS: dict[str, Elementwise] = {
    "relu": Elementwise(
        value=lambda z: np.maximum(z, 0.0),
        derivative=lambda z: np.where(z > 0, 1.0, 0.0),
        slopes=_between(0.0, 1.0),
        kinks=lambda: (0.0,),
        homogeneous=True,
        exact=True,
        torch="ReLU",
        functions=("relu",),
    ),
    "leaky_relu": Elementwise(
        value=lambda z, slope: np.where(z > 0, z, slope * z),
        derivative=lambda z, slope: np.where(z > 0, 1.0, slope),
        slopes=_leaky_slopes,
        kinks=lambda _: (0.0,),
        homogeneous=True,
        exact=True,
        torch="LeakyReLU",
        functions=("leaky_relu",),
    ),
    "tanh": Elementwise(  # phi'' = -2 t (1 - t^2), at most 4 / 3^(3/2) = 0.7698
        value=np.tanh,
        derivative=lambda z: 1 - np.tanh(z) ** 2,
        slopes=_between(0.0, 1.0),
        curvature=lambda: 0.77,
        torch="Tanh",
        functions=("tanh",),
    ),
    "sigmoid": Elementwise(  # phi' = s (1 - s); phi'' = s (1 - s) (1 - 2 s), at most 3^(1/2) / 18 = 0.0962
        value=_sigmoid,
        derivative=lambda z: _sigmoid(z) * _sigmoid(-z),
        slopes=_between(0.0, 0.25),
        curvature=lambda: 0.0963,
        torch="Sigmoid",
        functions=("sigmoid",),
    ),
    "abs": Elementwise(
        value=np.abs,
        derivative=lambda z: np.where(z > 0, 1.0, -1.0),
        slopes=_between(-1.0, 1.0),
        kinks=lambda: (0.0,),
        homogeneous=True,
        exact=True,
        functions=("abs",),
    ),
    "identity": Elementwise(
        value=lambda z: z,
        derivative=np.ones_like,
        slopes=_between(1.0, 1.0),
        homogeneous=True,
        exact=True,
        torch="Identity",
    ),
    "hardtanh": Elementwise(
        value=lambda z, low, high: np.clip(z, low, high),
        derivative=lambda z, low, high: np.where((z > low) & (z < high), 1.0, 0.0),
        slopes=_between(0.0, 1.0),
        kinks=lambda low, high: (low, high),
        parameters={"min_val": -1.0, "max_val": 1.0},
        fits=lambda low, high: low < high,
        exact=True,
        torch="Hardtanh",
        functions=("hardtanh",),
    ),
    "hardsigmoid": Elementwise(
        value=lambda z: np.clip(z + 3, 0.0, 6.0) / 6,
        derivative=lambda z: np.where(np.abs(z) < 3, 1 / 6, 0.0),
        slopes=_between(0.0, up(1 / 6)),
        kinks=lambda: (-3.0, 3.0),
        torch="Hardsigmoid",
        functions=("hardsigmoid",),
    ),
    "hardswish": Elementwise(  # phi' = (2 z + 3) / 6 between the kinks
        value=lambda z: z * np.clip(z + 3, 0.0, 6.0) / 6,
        derivative=lambda z: np.where(z > 3, 1.0, np.where(z < -3, 0.0, (2 * z + 3) / 6)),
        slopes=_between(-0.5, 1.5),
        kinks=lambda: (-3.0, 3.0),
        curvature=lambda: up(1 / 3),
        torch="Hardswish",
        functions=("hardswish",),
    ),
    "softshrink": Elementwise(
        value=lambda z, cut: np.sign(z) * np.maximum(np.abs(z) - cut, 0.0),
        derivative=lambda z, cut: np.where(np.abs(z) > cut, 1.0, 0.0),
        slopes=_between(0.0, 1.0),
        kinks=lambda cut: (-cut, cut),
        parameters={"lambd": 0.5},
        fits=lambda cut: cut > 0,
        torch="Softshrink",
        functions=("softshrink",),
    ),
    "elu": Elementwise(  # phi' = alpha exp(z) below zero
        value=lambda z, alpha: np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0.0))),
        derivative=lambda z, alpha: np.where(z > 0, 1.0, alpha * np.exp(np.minimum(z, 0.0))),
        slopes=lambda alpha: (min(alpha, 0.0), max(alpha, 1.0)),
        kinks=lambda alpha: () if alpha == 1 else (0.0,),
        curvature=abs,
        parameters={"alpha": 1.0},
        torch="ELU",
        functions=("elu",),
    ),
    "celu": Elementwise(  # phi' = exp(z / alpha) below zero
        value=lambda z, alpha: np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0.0) / alpha)),
        derivative=lambda z, alpha: np.where(z > 0, 1.0, np.exp(np.minimum(z, 0.0) / alpha)),
        slopes=_between(0.0, 1.0),
        curvature=lambda alpha: up(1 / alpha),
        parameters={"alpha": 1.0},
        fits=lambda alpha: alpha > 0,
        torch="CELU",
        functions=("celu",),
    ),
    "selu": Elementwise(  # phi' = _SELU_NEGATIVE exp(z) below zero
        value=lambda z: np.where(z > 0, _SELU * z, _SELU_NEGATIVE * np.expm1(np.minimum(z, 0.0))),
        derivative=lambda z: np.where(z > 0, _SELU, _SELU_NEGATIVE * np.exp(np.minimum(z, 0.0))),
        slopes=_between(0.0, _SELU_NEGATIVE),
        kinks=lambda: (0.0,),
        curvature=lambda: _SELU_NEGATIVE,
        torch="SELU",
        functions=("selu",),
    ),
    "gelu": Elementwise(  # phi'' = (2 - z^2) times the normal density: phi' is steepest at +-2^(1/2)
        value=lambda z: z * scipy.special.ndtr(z),
        derivative=lambda z: scipy.special.ndtr(z) + z * _normal_density(z),
        slopes=_between(down(-0.1289041451851547863), up(1.1289041451851547863)),
        curvature=lambda: 0.798,
        torch="GELU",
        functions=("gelu",),
    ),
    "gelu_tanh": Elementwise(  # steepest at +-1.4185, its approximation by tanh is a little steeper
        value=lambda z: z * (1 + _gelu_tanh(z)) / 2,
        derivative=_gelu_tanh_derivative,
        slopes=_between(down(-0.1289930686587717655), up(1.1289930686587717655)),
        curvature=lambda: 0.798,
    ),
    "silu": Elementwise(  # phi' = s (1 + z (1 - s)), steepest at +-2.3994; |phi''| at most 1/2, at zero
        value=lambda z: z * _sigmoid(z),
        derivative=lambda z: _sigmoid(z) * (1 + z * _sigmoid(-z)),
        slopes=_between(down(-0.09983932012886691696), up(1.09983932012886691696)),
        curvature=lambda: 0.5,
        torch="SiLU",
        functions=("silu",),
    ),
    "mish": Elementwise(  # steepest at 1.4906 and -2.2564; |phi''| at most 0.6442, near -0.1
        value=lambda z: z * np.tanh(np.logaddexp(0.0, z)),
        derivative=_mish_derivative,
        slopes=_between(down(-0.1125261223894625564), up(1.08849816125172786123)),
        curvature=lambda: 0.65,
        torch="Mish",
        functions=("mish",),
    ),
    "softplus": Elementwise(  # phi' = sigmoid(beta z); torch's jumps by 2e-9 / beta where beta z = 20, this does not
        value=lambda z, beta: np.logaddexp(0.0, beta * z) / beta,
        derivative=lambda z, beta: _sigmoid(beta * z),
        slopes=_between(0.0, 1.0),
        curvature=lambda beta: up(beta / 4),
        parameters={"beta": 1.0},
        fits=lambda beta: beta > 0,
        torch="Softplus",
        functions=("softplus",),
    ),
    "logsigmoid": Elementwise(
        value=lambda z: -np.logaddexp(0.0, -z),
        derivative=lambda z: _sigmoid(-z),
        slopes=_between(0.0, 1.0),
        curvature=lambda: 0.25,
        torch="LogSigmoid",
        functions=("logsigmoid",),
    ),
    "softsign": Elementwise(  # phi' = 1 / (1 + |z|)^2, |phi''| = 2 / (1 + |z|)^3
        value=lambda z: z / (1 + np.abs(z)),
        derivative=lambda z: 1 / (1 + np.abs(z)) ** 2,
        slopes=_between(0.0, 1.0),
        curvature=lambda: 2.0,
        torch="Softsign",
        functions=("softsign",),
    ),
    "tanhshrink": Elementwise(  # phi' = tanh^2
        value=lambda z: z - np.tanh(z),
        derivative=lambda z: np.tanh(z) ** 2,
        slopes=_between(0.0, 1.0),
        curvature=lambda: 0.77,
        torch="Tanhshrink",
        functions=("tanhshrink",),
    ),
}
"""Kind -> what is known of it."""
