"""Certified Lipschitz constants of single layers (l2), and the check that a claimed one holds.

Dense layers and matrices along an axis: spectral norm, verified by `certlip.proof.certify` (an inequality without
hidden layers). Convolutions: the largest spectral norm over the frequencies of `certlip.proof.torus`, by Gram
iteration, verified by Cholesky; where the image is small, what wraps around the torus counts, and the norm of the
layer's own matrix is smaller (`certlip.proof.banded` where that matrix is large). Max pooling: the square root of the
largest number of windows that share a pixel. A `Gather`: the square root of the largest number of copies of an entry.
Activations: the steepest slope. A `Sum` or `Concat`: one, `certlip.proof.merge.along` counts what it adds.

A power of two is taken out of the weights before anything is squared: the constant of 2^k W is 2^k times that of W.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np

from certlip.base.errors import NotCertified, UnsupportedLayer
from certlip.base.rounding import UNIT, add_up, down, gamma, scale_down, scale_up, sqrt_up, up
from certlip.network import (
    Activation,
    Along,
    Array,
    Concat,
    Conv,
    Dense,
    Flatten,
    Gather,
    Join,
    Layer,
    Linear,
    MaxPool,
    Network,
    Reshape,
    Shape,
    Sum,
)
from certlip.network.chain import MAX_ENTRIES, SMALLEST
from certlip.network.layers import Moved
from certlip.network.slopes import steepest
from certlip.proof import banded, torus
from certlip.proof.certify import certify, is_feasible
from certlip.proof.gram_iteration import Parts, largest_norm
from certlip.proof.lmi import Lmi
from certlip.proof.torus import Spectrum

AnyLinear = TypeVar("AnyLinear", bound=Linear)

DENSE_WORK = 4e9
"""Multiplications in the Gram matrix of a convolution's own matrix up to which it is used: about a second."""


LOST = 2.0**-1000
"""Above the norm of what falls below the smallest double when the largest weight becomes one: 2^-1075 an entry."""

MAX_CLAIM = 2.0**200
"""Above the norm of any matrix that can be stored, its largest entry being one; squares of it do not overflow."""


def layer_constant(layer: Layer, shape: Shape) -> float:
    """A certified l2 Lipschitz constant of one layer on inputs of `shape`.

    Raises UnsupportedLayer by name where none is known, NotCertified where rounding defeats the verification.
    """
    match layer:
        case Conv() | Dense() | Along() if not layer.weight.any():
            return 0.0
        case Dense() | Along():
            return _rescaled(layer, lambda unit: certify(_lmi(unit.weight), ()).bound)
        case Conv() if _is_small(layer, shape):
            return _rescaled(layer, lambda unit: certify(_own_lmi(unit, shape), ()).bound)
        case Conv():
            around = torus_constant(layer, shape)
            if not banded.is_affordable(layer, shape):
                return around
            own = _rescaled(layer, lambda unit: banded.norm(unit, shape) or math.inf)
            return own if own < around and holds(layer, shape, own) else around
        case _:
            return _closed_form(layer, shape)


def layer_constants(network: Network) -> list[float]:
    """`layer_constant` of each layer, in order."""
    return [layer_constant(layer, shape) for layer, shape in network.with_shapes]


def torus_constant(layer: Conv, shape: Shape) -> float:
    """A certified constant of a convolution by its torus, about 1e-9 above the norm there."""

    def of_unit(unit: Conv) -> float:
        largest = largest_norm(Parts(*chunk) for chunk in torus.chunks(unit, torus.size(unit, shape)))
        return provable(unit, shape, up(largest + torus.rounding_error(unit)) if largest else 0.0)

    return _rescaled(layer, of_unit)


@np.errstate(over="ignore", invalid="ignore")
def holds(layer: Layer, shape: Shape, constant: float) -> bool:
    """Whether the constant is proved to be at or above the layer's, rounding included; what overflows is not."""
    if not (np.isfinite(constant) and constant >= 0):
        return False
    match layer:
        case Conv() | Dense() | Along() if not layer.weight.any():
            return True
        case Conv() | Dense() | Along():
            unit, exponent, lost = _unit(layer)
            claim = min(scale_down(constant, -exponent), MAX_CLAIM)
            return _holds(unit, shape, down(claim - lost) if lost else claim)
        case _:
            return constant >= _closed_form(layer, shape)


def _holds(unit: Linear, shape: Shape, claim: float) -> bool:
    if not isinstance(unit, Conv):
        return _bounds(claim, _lmi(unit.weight))
    if _bounds_torus(claim, unit, shape):
        return True
    if _is_small(unit, shape):
        return _bounds(claim, _own_lmi(unit, shape))
    return banded.is_affordable(unit, shape) and banded.bounds(claim, unit, shape)


def _rescaled(layer: AnyLinear, constant: Callable[[AnyLinear], float]) -> float:
    """The constant of a layer from that of `_unit`."""
    unit, exponent, lost = _unit(layer)
    return scale_up(add_up([constant(unit), lost]), exponent)


def _unit(layer: AnyLinear) -> tuple[AnyLinear, int, float]:
    """W / 2^e with its largest weight near one, e, and a bound on the norm of what was lost: mostly nothing."""
    exponent = int(np.frexp(np.abs(layer.weight).max(initial=0.0))[1])
    weight = np.ldexp(layer.weight, -exponent)
    exact = (np.ldexp(weight, exponent) == layer.weight).all()
    return replace(layer, weight=weight), exponent, 0.0 if exact else LOST


def provable(layer: Layer, shape: Shape, constant: float) -> float:
    """The constant, or the first one slightly above it that `holds`: the proof by Cholesky needs room of its own.

    Raises NotCertified where there is none.
    """
    for room in (0.0, 1e-12, 1e-11, 1e-10, 1e-9, 1e-8):
        if holds(layer, shape, constant * (1 + room)):
            return constant * (1 + room)
    raise NotCertified(f"{layer.name}: the constant {constant:.6g} could not be verified")


def _bounds(constant: float, lmi: Lmi) -> bool:
    return constant > 0 and is_feasible(lmi, down(constant * constant), ())


def _bounds_torus(constant: float, layer: Conv, shape: Shape) -> bool:
    error = torus.rounding_error(layer)
    sigma = (constant - error) * (1 - 4 * UNIT)
    return constant > error and all(
        _dominates(sigma, _gram(real + 1j * imaginary))
        for real, imaginary in torus.chunks(layer, torus.size(layer, shape))
    )


def _gram(matrices: Spectrum) -> tuple[Spectrum, float]:
    """A A* or A* A, whichever is smaller, and a bound on the spectral norm of its rounding error."""
    adjoint = matrices.conj().swapaxes(-1, -2)
    wide = matrices.shape[-1] >= matrices.shape[-2]
    gram = matrices @ adjoint if wide else adjoint @ matrices
    inner = matrices.shape[-1] if wide else matrices.shape[-2]
    # | |A| |A|* |_F <= |A|_F^2; complex inner products round at most like real ones four times as long (Higham, 3.6)
    square = float((np.abs(matrices) ** 2).sum(axis=(-1, -2)).max(initial=0.0))
    return gram, 1.01 * gamma(4 * inner + 16) * square + 16 * matrices[0].size * SMALLEST


def _dominates(sigma: float, gram: tuple[Spectrum, float]) -> bool:
    """Whether sigma^2 I - G is proved positive semidefinite for each G (Rump 2006, as in `certlip.proof.certify`)."""
    matrices = gram[0]
    n = matrices.shape[-1]
    rho = down(sigma * sigma)
    c = _margin(rho, gram)
    if not np.isfinite(c):
        return False
    shifted = -matrices
    shifted[:, np.arange(n), np.arange(n)] += rho - c
    try:
        np.linalg.cholesky(shifted)
    except np.linalg.LinAlgError:
        return False
    return True


def _margin(rho: float, gram: tuple[Spectrum, float]) -> float:
    """What rounding and underflow can hide in rho I - G and its complex Cholesky factorisation."""
    matrices, forming = gram
    n = matrices.shape[-1]
    rounding = 1.01 * (forming + gamma(4 * n + 16) * 2 * n * rho) + 8 * UNIT * rho
    return rounding + 64 * n**2 * SMALLEST * max(1.0, rho)


def _closed_form(layer: Gather | Activation | MaxPool | Moved | Join, shape: Shape) -> float:
    match layer:
        case Activation():
            layer.output_shape(shape)
            return steepest(layer.slopes)
        case Flatten() | Reshape() | Sum() | Concat():
            return 1.0
        case Gather():
            layer.output_shape(shape)
            return 1.0 if layer.most_copies <= 1 else sqrt_up(float(layer.most_copies))
        case MaxPool():
            windows = layer.output_shape(shape)[1:]
            shared = [min(-(-k // s), n) for k, s, n in zip(layer.kernel, layer.stride, windows, strict=True)]
            return 1.0 if shared == [1, 1] else sqrt_up(float(shared[0] * shared[1]))
        case _:
            raise UnsupportedLayer(f"{layer.name}: no bound for {type(layer).__name__}")


def _is_small(layer: Conv, shape: Shape) -> bool:
    n_in, n_out = math.prod(shape), math.prod(layer.output_shape(shape))
    return n_in * n_out <= MAX_ENTRIES and n_in * n_out * min(n_in, n_out) <= DENSE_WORK


def _own_lmi(layer: Conv, shape: Shape) -> Lmi:
    return _lmi(layer.matrix(shape).toarray())


def _lmi(matrix: Array) -> Lmi:
    """rho I - W' W, W the matrix or its transpose, whichever has fewer columns."""
    return Lmi((np.ascontiguousarray(matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T),), ())
