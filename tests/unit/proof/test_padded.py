"""A convolution and the padding before it as one step: against the matrix of both, and what no proof may claim."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from exact import Exact, dominates
from torch import nn

import certlip
from certlip.methods._refined import refined_constants
from certlip.network import Activation, Array, Conv, Flatten, Gather, Network, Reshape
from certlip.proof import norms, padded
from certlip.proof.certificate import UpperCertificate
from certlip.pytorch.export import export_network

RNG = np.random.default_rng(2)
MAP, ROW = (2, 6, 8), (3, 9)


def conv(*args, mode: str = "circular", **options) -> nn.Module:
    torch.manual_seed(len(args))
    return (nn.Conv1d if options.pop("row", False) else nn.Conv2d)(*args, padding_mode=mode, **options)


AROUND = {
    "plain": (conv(2, 3, 3, padding=1), MAP),
    "even kernel": (conv(2, 3, (2, 4), padding="same"), MAP),
    "stride that divides": (conv(2, 3, 3, padding=1, stride=2), MAP),
    "stride that divides one side": (conv(2, 3, 3, padding=1, stride=(4, 2)), MAP),
    "dilation": (conv(2, 2, 3, padding=2, dilation=2), MAP),
    "groups": (conv(2, 4, 3, padding=1, groups=2), MAP),
    "kernel of nearly the size of the map": (conv(2, 2, (5, 7), padding=(2, 3)), MAP),
    "row": (conv(3, 2, 3, padding=1, row=True), ROW),
    "row with stride": (conv(3, 2, 5, padding=2, stride=3, row=True), ROW),
    "padded by a layer": (nn.Sequential(nn.CircularPad2d((1, 1, 2, 0)), nn.Conv2d(2, 3, 3)), MAP),
}
BESIDE = {
    "more padding than the kernel needs": (conv(2, 3, (3, 2), padding=(2, 1), stride=2), MAP),
    "reflected": (conv(2, 3, 3, padding=2, mode="reflect"), MAP),
    "replicated": (conv(2, 3, 3, padding=(1, 2), mode="replicate"), MAP),
    "row, reflected": (conv(3, 2, 5, padding=2, mode="reflect", row=True), ROW),
    "volume, circular": (nn.Conv3d(1, 2, 3, padding=1, padding_mode="circular"), (1, 3, 4, 3)),
    "repeated": (nn.Sequential(nn.ReplicationPad2d(2), nn.Conv2d(2, 3, 2)), MAP),
}
EVERY = {**AROUND, **BESIDE}


def matrix_of(network: Network) -> Array:
    matrix = np.eye(math.prod(network.input_shape))
    for layer, shape in network.with_shapes:
        matrix = matrix if isinstance(layer, Flatten | Reshape) else layer.matrix(shape) @ matrix
    return matrix


def exported(name: str) -> Network:
    module, shape = EVERY[name]
    return export_network(module.double(), shape)


@pytest.mark.parametrize("name", EVERY)
def test_the_product_is_the_norm_of_both_together(name: str) -> None:
    network = exported(name)
    exact = np.linalg.norm(matrix_of(network), 2)
    apart = math.prod(norms.layer_constants(network))
    assert apart > 1.05 * exact
    for method in ("product", "gram"):
        record = certlip.bound(network, method=method)
        exactly = method == "product" and not name.startswith("volume")  # there outputs between the slices count
        slack = 1e-6 if exactly else 0.6
        assert exact * (1 - 1e-13) <= record.value <= exact * (1 + slack), method
        assert certlip.verify(record.certificate).ok
    assert record.value < apart


@pytest.mark.parametrize("name", EVERY)
def test_constants_that_are_there_at_once_are_proved_too(name: str) -> None:
    network = exported(name)
    exact = np.linalg.norm(matrix_of(network), 2)
    for (constants,), _ in refined_constants([network]):
        assert math.prod(constants) >= exact * (1 - 1e-13)
        assert norms.unproved(network, constants) is None


def test_gram_iteration_takes_its_own_steps_on_the_torus_of_the_map() -> None:
    network = exported("plain")
    values = [certlip.bound(network, method="gram", n_iter=n).value for n in (0, 1, 3, 20)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 1.05 * values[-1]


@pytest.mark.parametrize("name", AROUND)
def test_the_matrix_on_the_torus_dominates_it_in_rational_arithmetic(name: str) -> None:
    network = exported(name)
    exact = Exact.of(matrix_of(network))
    assert dominates(math.prod(norms.joint_constants(network)), exact)
    both = next(step[0] for step in padded.steps(network) if step and isinstance(step[0], padded.Padded))
    assert both.circular(MAP if len(network.input_shape) == 3 else (3, 1, 9))


def test_a_large_map_takes_the_largest_frequency() -> None:
    module = nn.Conv2d(1, 1, 5, padding=2, padding_mode="circular").double()
    network = export_network(module, (1, 44, 40))
    kernel = np.zeros((44, 40))
    kernel[:5, :5] = module.weight.detach().numpy()[0, 0]
    exact = np.abs(np.fft.fft2(kernel)).max()
    assert exact <= math.prod(norms.joint_constants(network)) <= exact * (1 + 1e-8)


def test_a_stride_that_does_not_divide_a_large_map_takes_the_torus_without_it() -> None:
    module = nn.Conv2d(1, 1, 3, stride=3, padding=1, padding_mode="circular").double()
    network = export_network(module, (1, 61, 62))
    kernel = np.zeros((61, 62))
    kernel[:3, :3] = module.weight.detach().numpy()[0, 0]
    value = math.prod(norms.joint_constants(network))
    assert value <= np.abs(np.fft.fft2(kernel)).max() * (1 + 1e-8)
    sample = RNG.standard_normal((50, 1, 61, 62))
    bias = network.forward(np.zeros((1, 1, 61, 62)))
    moved = np.linalg.norm((network.forward(sample) - bias).reshape(50, -1), axis=1)
    assert (moved / np.linalg.norm(sample.reshape(50, -1), axis=1)).max() <= value


def test_a_large_map_that_is_reflected_keeps_both_constants() -> None:
    module = nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect").double()
    network = export_network(module, (1, 50, 50))
    assert norms.joint_constants(network) == norms.layer_constants(network)


def test_what_copies_nothing_is_no_padding() -> None:
    for module in (nn.ConvTranspose2d(2, 3, 3, stride=2), nn.Sequential(Turned(), nn.Conv2d(2, 3, 3))):
        network = export_network(module.double(), MAP)
        assert isinstance(network.layers[0], Gather)
        assert padded.steps(network) == network.with_shapes


class Turned(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flip(2)


def test_only_a_convolution_that_alone_reads_the_padding_is_joined_with_it() -> None:
    gather, layer = exported("plain").layers
    beside = Network((gather, layer, replace(layer, name="other")), MAP, ((0,), (1,), (1,)))
    assert not any(step and isinstance(step[0], padded.Padded) for step in padded.steps(beside))
    behind = Network((gather, Activation("a", "relu"), layer), MAP)
    assert not any(step and isinstance(step[0], padded.Padded) for step in padded.steps(behind))


@pytest.mark.parametrize("name", EVERY)
def test_no_certificate_claims_less_in_either_form(name: str) -> None:
    network = exported(name)
    joint, apart = norms.joint_constants(network), norms.layer_constants(network)

    def holds(constants) -> bool:
        return bool(certlip.verify(UpperCertificate.from_constants(network, constants)))

    assert holds(joint)
    assert holds(apart)
    for k, constant in enumerate(joint):
        if constant != 1:
            assert not holds([c * (1 - 1e-3) if i == k else c for i, c in enumerate(joint)])
            # what a padding is said to cost counts once, wherever it is said
            place = next(i for i, layer in enumerate(network.layers) if isinstance(layer, Gather))
            moved = [c * 2 if i == place else c * (0.5 + 1e-9) if i == k else c for i, c in enumerate(joint)]
            assert holds(moved)
            assert not holds([c * (1 - 1e-3) if i == place else c for i, c in enumerate(moved)])
            assert not holds([-c for c in joint])
            assert not holds([math.nan if i == place else c for i, c in enumerate(joint)])


@pytest.mark.parametrize("power", [-900, -300, 300, 900])
def test_a_power_of_two_in_the_weights_is_one_in_the_constant(power: int) -> None:
    for name in ("plain", "stride that divides", "reflected"):
        network = exported(name)
        gather, layer = network.layers
        scaled = replace(layer, weight=np.ldexp(layer.weight, power), bias=np.zeros_like(layer.bias))
        constants = norms.joint_constants(Network((gather, scaled), MAP))
        plain = norms.joint_constants(network)[-1]
        assert constants[-1] >= math.ldexp(plain * (1 - 1e-9), power)
        assert constants[-1] <= math.ldexp(plain * (1 + 1e-9), power)
        assert norms.unproved(Network((gather, scaled), MAP), constants) is None


def test_random_paddings_of_random_maps_stay_above_the_exact_norm() -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        shape = tuple(int(n) for n in (rng.integers(1, 3), rng.integers(2, 6), rng.integers(2, 6)))
        order = np.arange(float(math.prod(shape))).reshape(shape)
        pads = [(0, 0), *((int(rng.integers(0, 3)), int(rng.integers(0, 3))) for _ in range(2))]
        index = np.pad(order, pads, mode=str(rng.choice(["wrap", "edge", "symmetric"])))
        kernel = [int(rng.integers(1, min(n, 4) + 1)) for n in index.shape[1:]]
        weight = rng.integers(-3, 4, (2, shape[0], *kernel)).astype(float)
        stride = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
        network = Network((Gather("g", index), Conv("c", weight, np.zeros(2), stride)), shape)
        constants = norms.joint_constants(network)
        assert dominates(math.prod(constants), Exact.of(matrix_of(network))), seed
        assert norms.unproved(network, constants) is None
