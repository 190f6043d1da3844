"""Certified Lipschitz constants of single layers (l2), and the check that a claimed one holds.

Dense layers and matrices along an axis: spectral norm, verified by `certlip.proof.certify` (an inequality without
hidden layers). Convolutions: the largest spectral norm over the frequencies of `certlip.proof.torus`, by Gram
iteration, verified by Cholesky; where the image is small, what wraps around the torus counts, and the norm of the
layer's own matrix is smaller (`certlip.proof.banded` where that matrix is large). Max pooling: the square root of the
largest number of windows that share a pixel. A `Gather`: the square root of the largest number of copies of an entry.
Activations: the steepest slope. Sorting: one. Softmax: a half, its logarithm the root of the number of classes. A
`Sum`, `Concat` or `Maximum`: one, `certlip.proof.merge.along` counts what it adds. A convolution behind a padding that
copies pixels has one constant with it (`certlip.proof.padded`).

A power of two is taken out of the weights before anything is squared: the constant of 2^k W is 2^k times that of W.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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
    Coupled,
    Dense,
    Flatten,
    Gather,
    Join,
    Layer,
    Linear,
    Maximum,
    MaxPool,
    Network,
    Pair,
    Reshape,
    Shape,
    Softmax,
    Sort,
    Sum,
)
from certlip.network.chain import SMALLEST, frobenius_norm
from certlip.network.layers import Moved
from certlip.network.slopes import steepest
from certlip.proof import banded, torus
from certlip.proof.certify import certify, is_feasible
from certlip.proof.gram_iteration import Parts, largest_norm
from certlip.proof.lmi import Lmi
from certlip.proof.padded import Padded, is_small, steps
from certlip.proof.torus import Spectrum

AnyLinear = TypeVar("AnyLinear", bound=Linear)

LOST = 2.0**-1000
"""Above the norm of what falls below the smallest double when the largest weight becomes one: 2^-1075 an entry."""

MAX_CLAIM = 2.0**200
"""Above the norm of any matrix that can be stored, its largest entry being one; squares of it do not overflow."""


def layer_constant(layer: Layer | Padded, shape: Shape) -> float:
    """A certified l2 Lipschitz constant of one layer, or a convolution with its padding, on inputs of `shape`.

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
        case Padded():
            return _padded_constant(layer, shape)
        case _:
            return _closed_form(layer, shape)


def layer_constants(network: Network) -> list[float]:
    """`layer_constant` of each layer, in order."""
    return [layer_constant(layer, shape) for layer, shape in network.with_shapes]


def joint_constants(network: Network) -> list[float]:
    """One a layer, in order, that hold along the network: where a padding is counted with the convolution behind it,
    its own is one (`certlip.proof.padded`)."""
    return [1.0 if step is None else layer_constant(*step) for step in steps(network)]


def torus_constant(layer: Conv, shape: Shape) -> float:
    """A certified constant of a convolution by its torus, about 1e-9 above the norm there."""
    return _rescaled(layer, lambda unit: provable(unit, shape, _largest_around(unit, torus.size(unit, shape))))


def _largest_around(unit: Conv, sides: Pair) -> float:
    """At or above the norm on a torus."""
    largest = largest_norm(Parts(*chunk) for chunk in torus.chunks(unit, sides))
    return up(largest + torus.rounding_error(unit)) if largest else 0.0


def _padded_constant(layer: Padded, shape: Shape) -> float:
    """The smaller of the norms on the torus, where there is one, and of the matrix, where that is small."""

    def of_unit(unit: Conv) -> float:
        both, found = replace(layer, conv=unit), list[float]()
        if around := both.circular(shape):
            found.append(provable(both, shape, _largest_around(*around)))
        if both.is_small(shape):
            matrix, radius = both.matrix(shape)
            found.append(add_up([certify(_lmi(matrix), ()).bound, frobenius_norm(radius)]))
        return min(found)

    return _rescaled(layer.conv, of_unit) if layer.conv.weight.any() else 0.0


def unproved(network: Network, constants: Sequence[float]) -> int | None:
    """Index of the first layer whose constant is not proved, those of `joint_constants` included; None if all are."""
    for k, (step, constant) in enumerate(zip(steps(network), constants, strict=True)):
        if step is None:
            continue
        layer, shape = step
        if not isinstance(layer, Padded):
            if not holds(layer, shape, constant):
                return k
            continue
        before = constants[network.sources[k][0] - 1]
        apart = holds(layer.gather, shape, before) and holds(layer.conv, layer.gather.index.shape, constant)
        if not (apart or (before >= 0 and holds(layer, shape, constant if before == 1 else down(before * constant)))):
            return k
    return None


@np.errstate(over="ignore", invalid="ignore")
def holds(layer: Layer | Padded, shape: Shape, constant: float) -> bool:
    """Whether the constant is proved to be at or above the layer's, rounding included; what overflows is not."""
    if not (np.isfinite(constant) and constant >= 0):
        return False
    match layer:
        case Conv() | Dense() | Along():
            return _scaled_holds(layer, constant, lambda unit, claim: _holds(unit, shape, claim))
        case Padded():
            return _scaled_holds(layer.conv, constant, lambda unit, claim: _padded_holds(layer, unit, shape, claim))
        case _:
            return constant >= _closed_form(layer, shape)


def _scaled_holds(layer: AnyLinear, constant: float, proves: Callable[[AnyLinear, float], bool]) -> bool:
    """Whether a claim about the layer is proved as one about its `_unit`."""
    if not layer.weight.any():
        return True
    unit, exponent, lost = _unit(layer)
    claim = min(scale_down(constant, -exponent), MAX_CLAIM)
    return proves(unit, down(claim - lost) if lost else claim)


def _padded_holds(layer: Padded, unit: Conv, shape: Shape, claim: float) -> bool:
    both = replace(layer, conv=unit)
    around = both.circular(shape)
    if around and _bounds_torus(claim, *around):
        return True
    if not both.is_small(shape):
        return False
    matrix, radius = both.matrix(shape)
    return _bounds(down(claim - frobenius_norm(radius)), _lmi(matrix))


def _holds(unit: Linear, shape: Shape, claim: float) -> bool:
    if not isinstance(unit, Conv):
        return _bounds(claim, _lmi(unit.weight))
    if _bounds_torus(claim, unit, torus.size(unit, shape)):
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


def provable(layer: Layer | Padded, shape: Shape, constant: float) -> float:
    """The constant, or the first one slightly above it that `holds`: the proof by Cholesky needs room of its own.

    Raises NotCertified where there is none.
    """
    for room in (0.0, 1e-12, 1e-11, 1e-10, 1e-9, 1e-8):
        if holds(layer, shape, constant * (1 + room)):
            return constant * (1 + room)
    raise NotCertified(f"{layer.name}: the constant {constant:.6g} could not be verified")


def _bounds(constant: float, lmi: Lmi) -> bool:
    return constant > 0 and is_feasible(lmi, down(constant * constant), ())


def _bounds_torus(constant: float, layer: Conv, sides: Pair) -> bool:
    error = torus.rounding_error(layer)
    sigma = (constant - error) * (1 - 4 * UNIT)
    return constant > error and all(
        _dominates(sigma, _gram(real + 1j * imaginary)) for real, imaginary in torus.chunks(layer, sides)
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


def _closed_form(layer: Gather | Activation | Coupled | Moved | Join, shape: Shape) -> float:
    match layer:
        case Activation():
            layer.output_shape(shape)
            return steepest(layer.slopes)
        case Flatten() | Reshape() | Sum() | Concat() | Maximum():
            return 1.0
        case Sort():
            layer.output_shape(shape)
            return 1.0
        case Softmax():
            n = layer.output_shape(shape)[layer.axis]
            return 0.0 if n == 1 else sqrt_up(float(n)) if layer.log else 0.5
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
    return is_small(math.prod(shape), math.prod(layer.output_shape(shape)))


def _own_lmi(layer: Conv, shape: Shape) -> Lmi:
    return _lmi(layer.matrix(shape).toarray())


def _lmi(matrix: Array) -> Lmi:
    """rho I - W' W, W the matrix or its transpose, whichever has fewer columns."""
    return Lmi((np.ascontiguousarray(matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T),), ())
