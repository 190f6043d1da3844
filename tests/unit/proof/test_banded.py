"""The norm of a convolution by a banded factorisation, against that of its matrix."""

from __future__ import annotations

import numpy as np
import pytest

from certlip.network import Conv
from certlip.proof import banded, norms
from certlip.proof.banded import _gram, _side


def convolution(seed: int) -> tuple[Conv, tuple[int, int, int]]:
    """With options drawn at random, on a map of 3 to 10 pixels a side."""
    rng = np.random.default_rng(seed)
    groups = int(rng.choice([1, 1, 2]))
    c_in, c_out = (groups * int(n) for n in rng.integers(1, 4, 2))
    kernel = rng.integers(1, 5, 2)
    dilation, stride = (tuple(map(int, rng.integers(1, 3, 2))) for _ in range(2))
    padding = tuple(map(int, rng.integers(0, 4, 4)))
    weight = rng.standard_normal((c_out, c_in // groups, *kernel))
    weight /= np.abs(weight).max()
    extent = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    side = [max(3, e) + int(rng.integers(0, 6)) for e in extent]
    layer = Conv("conv", weight, np.zeros(c_out), stride, padding, dilation, groups)  # type: ignore[arg-type]
    return layer, (c_in, side[0], side[1])


@pytest.mark.parametrize("seed", range(60))
def test_the_band_is_the_product_of_the_matrix_with_itself(seed: int) -> None:
    layer, shape = convolution(seed)
    side = _side(layer, shape)
    c_in, c_out, (rows, columns) = shape[0], len(layer.weight), layer.output_shape(shape)[1:]
    matrix = layer.matrix(shape).toarray().reshape(c_out, rows, columns, *shape)
    matrix = matrix.transpose(1, 2, 0, 4, 5, 3).reshape(rows * columns * c_out, -1)
    expected = matrix.T @ matrix if side.of_inputs else matrix @ matrix.T
    band = _gram(layer, shape, side)
    found = np.zeros_like(expected)
    for k, line in enumerate(band):
        found += np.diag(line[: len(line) - k], -k)
    np.testing.assert_allclose(found, np.tril(expected), rtol=1e-12, atol=1e-12)
    assert expected.shape[0] == c_in * shape[1] * shape[2] or not side.of_inputs


@pytest.mark.parametrize("seed", range(60))
def test_what_it_finds_is_proved_and_no_less_than_the_norm_and_little_more(seed: int) -> None:
    layer, shape = convolution(seed)
    exact = np.linalg.norm(layer.matrix(shape).toarray(), 2)
    found = banded.norm(layer, shape)
    assert found is not None
    assert exact * (1 - 1e-14) <= found <= exact * (1 + 2e-4)
    assert banded.bounds(found, layer, shape)
    assert not banded.bounds(exact * (1 - 1e-9), layer, shape)


@pytest.mark.parametrize("seed", range(20))
def test_a_flaw_in_one_entry_of_the_band_is_not_proved(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, shape = convolution(seed)
    exact = np.linalg.norm(layer.matrix(shape).toarray(), 2)
    monkeypatch.setattr(banded, "_gram", lambda *args: 1.001 * _gram(*args))
    assert not banded.bounds(exact, layer, shape)


def test_on_a_small_padded_map_with_many_channels_the_torus_is_loose_and_this_is_not() -> None:
    rng = np.random.default_rng(0)
    layer = Conv("conv", rng.random((12, 12, 3, 3)), np.zeros(12), padding=(1, 1, 1, 1))
    shape = (12, 12, 12)
    assert not norms._is_small(layer, shape)
    exact = np.linalg.norm(layer.matrix(shape).toarray(), 2)
    constant = norms.layer_constant(layer, shape)
    assert exact <= constant <= exact * (1 + 1e-5)
    assert norms.torus_constant(layer, shape) > 1.02 * exact
    assert norms.holds(layer, shape, constant)
    assert not norms.holds(layer, shape, exact * (1 - 1e-9))


@pytest.mark.parametrize(("kernel", "stride"), [(1, (1, 1)), (1, (2, 2)), (2, (2, 2))])
def test_windows_that_meet_no_border_are_bounded_by_their_weights_alone(kernel: int, stride: tuple[int, int]) -> None:
    weight = np.random.default_rng(0).standard_normal((16, 4, kernel, kernel))
    layer = Conv("conv", weight, np.zeros(16), stride)
    shape = (4, 56, 56)
    assert not norms._is_small(layer, shape)
    assert not banded.is_affordable(layer, shape)
    exact = np.linalg.norm(weight.reshape(16, -1), 2)
    assert exact <= norms.layer_constant(layer, shape) <= exact * (1 + 1e-8)
    assert banded.is_affordable(Conv("conv", weight, np.zeros(16), stride, padding=(1, 1, 1, 1)), shape)
