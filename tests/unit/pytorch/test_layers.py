"""Each torch layer, as a module or called as a function, becomes layers that compute the same, with sound constants."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import certlip
from certlip.base.errors import UnsupportedLayer
from certlip.network import Conv, Dense, Flatten, Gather, MaxPool, Network, Reshape
from certlip.proof import norms
from certlip.proof.tangent import lower_at
from certlip.pytorch.export import export_network
from certlip.pytorch.to_torch import to_torch

MAP, ROW, FLAT, VOLUME = (4, 6, 8), (4, 9), (8,), (2, 4, 5, 3)


class Called(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def with_statistics(norm):
    generator = torch.Generator().manual_seed(3)
    norm.running_mean = torch.randn(norm.num_features, generator=generator)
    norm.running_var = 0.1 + 4 * torch.rand(norm.num_features, generator=generator)
    return norm


W = torch.randn(8, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
LINEAR = {
    "conv1d": (nn.Conv1d(4, 6, 3, stride=2, padding=1), ROW),
    "conv1d circular": (nn.Conv1d(4, 6, 3, padding=1, padding_mode="circular"), ROW),
    "conv1d same": (nn.Conv1d(4, 6, 4, padding="same"), ROW),
    "conv circular": (nn.Conv2d(4, 3, 3, padding=1, padding_mode="circular"), MAP),
    "conv circular uneven": (nn.Conv2d(4, 3, (3, 2), stride=2, padding=(2, 1), padding_mode="circular"), MAP),
    "conv reflect": (nn.Conv2d(4, 3, 3, padding=2, padding_mode="reflect"), MAP),
    "conv replicate": (nn.Conv2d(4, 3, 3, padding=(1, 2), padding_mode="replicate", groups=1), MAP),
    "conv same circular": (nn.Conv2d(4, 3, (4, 3), padding="same", padding_mode="circular"), MAP),
    "transposed": (nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1), MAP),
    "transposed grouped": (nn.ConvTranspose2d(4, 6, (3, 2), stride=(1, 3), groups=2, dilation=(2, 1)), MAP),
    "transposed row": (nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2), ROW),
    "transposed volume": (nn.ConvTranspose3d(2, 4, (2, 3, 2), stride=(1, 2, 2), output_padding=(0, 1, 0)), VOLUME),
    "transposed volume, grouped": (nn.ConvTranspose3d(2, 4, 2, padding=1, groups=2, dilation=(1, 2, 1)), VOLUME),
    "conv3d": (nn.Conv3d(2, 3, 3, padding=1), VOLUME),
    "conv3d unpadded": (nn.Conv3d(2, 3, (2, 3, 1)), VOLUME),
    "conv3d with strides": (nn.Conv3d(2, 2, 3, stride=(3, 2, 2), padding=(2, 1, 1)), VOLUME),
    "conv3d with dilation": (
        nn.Conv3d(2, 2, (3, 2, 2), stride=(2, 1, 1), padding=(2, 1, 0), dilation=(1, 3, 2)),
        VOLUME,
    ),
    "conv3d in groups": (nn.Conv3d(2, 4, 2, stride=2, padding="valid", groups=2), VOLUME),
    "conv3d with a kernel beyond the map": (nn.Conv3d(2, 1, (3, 9, 3), padding=(1, 2, 2)), VOLUME),
    "conv3d circular": (nn.Conv3d(2, 2, 3, padding=(1, 0, 1), padding_mode="circular"), VOLUME),
    "batch norm of a volume": (with_statistics(nn.BatchNorm3d(2)), VOLUME),
    "average of volumes": (nn.AvgPool3d((2, 3, 1), stride=(1, 2, 2)), VOLUME),
    "average of volumes, padded": (nn.AvgPool3d(2, padding=1), VOLUME),
    "average of volumes without padding": (nn.AvgPool3d(3, 2, 1, ceil_mode=True, count_include_pad=False), VOLUME),
    "mean of volumes": (nn.AdaptiveAvgPool3d((3, 2, 1)), VOLUME),
    "average of a row": (nn.AvgPool1d(3, 2, 1), ROW),
    "mean of a row": (nn.AdaptiveAvgPool1d(4), ROW),
    "trilinear": (nn.Upsample((6, 4, 7), mode="trilinear"), VOLUME),
    "linear of pixels": (nn.Linear(8, 5), MAP),
    "linear of a row": (nn.Linear(9, 5, bias=False), ROW),
    "matmul": (Called(lambda x: x @ W), FLAT),
    "batch norm of a row": (with_statistics(nn.BatchNorm1d(4)), ROW),
    "instance norm": (with_statistics(nn.InstanceNorm2d(4, track_running_stats=True)), MAP),
    "uneven average": (nn.AdaptiveAvgPool2d((4, 3)), MAP),
    "average without padding": (nn.AvgPool2d(3, 2, 1, count_include_pad=False), MAP),
    "average with ceil": (nn.AvgPool2d((4, 3), (3, 2), ceil_mode=True), MAP),
    "nearest": (nn.Upsample(scale_factor=2), MAP),
    "bilinear": (nn.Upsample(scale_factor=(1.5, 2), mode="bilinear"), MAP),
    "bilinear aligned": (Called(lambda x: F.interpolate(x, (4, 11), mode="bilinear", align_corners=True)), MAP),
    "bicubic": (nn.Upsample((7, 9), mode="bicubic"), MAP),
    "mean of maps": (Called(lambda x: x.mean((2, 3))), MAP),
    "mean of maps, kept": (Called(lambda x: x.mean(dim=[-1, -2], keepdim=True)), MAP),
    "sum of channels": (Called(lambda x: torch.sum(x, 1)), MAP),
    "mean of all": (Called(lambda x: x.mean(dim=(1, 2, 3))[:, None]), MAP),
    "normalised": (Called(lambda x: (x - 0.3) / 0.2), MAP),
    "scaled": (Called(lambda x: x / 255 * 2 - 1), MAP),
    "batch norm, called": (Called(lambda x: F.batch_norm(x, torch.ones(4).double(), torch.ones(4).double() * 3)), MAP),
}
MOVING = {
    "permute": (Called(lambda x: x.permute(0, 2, 3, 1)), MAP),
    "transpose": (Called(lambda x: torch.transpose(x, 1, 2)), MAP),
    "view": (Called(lambda x: x.view(x.size(0), 2, -1)), MAP),
    "unflatten": (nn.Unflatten(1, (2, 2)), MAP),
    "shuffle": (nn.ChannelShuffle(2), MAP),
    "shuffle by hand": (Called(lambda x: x.view(-1, 2, 2, 6, 8).transpose(1, 2).reshape(-1, 4, 6, 8)), MAP),
    "pixel shuffle": (nn.PixelShuffle(2), MAP),
    "pixel unshuffle": (nn.PixelUnshuffle(2), MAP),
    "flip": (Called(lambda x: torch.flip(x, (3,))), MAP),
    "roll": (Called(lambda x: x.roll(2, 2)), MAP),
    "slice": (Called(lambda x: x[:, 1:3, ::2]), MAP),
    "channels": (Called(lambda x: x[:, [2, 0, 2]]), MAP),
    "halves": (Called(lambda x: x.chunk(2, 1)[1]), MAP),
    "parts": (Called(lambda x: torch.cat(torch.split(x, [1, 3], dim=1)[::-1], 1)), MAP),
    "zero padding": (Called(lambda x: F.pad(x, (1, 0, 2, 1))), MAP),
    "cropping": (Called(lambda x: F.pad(x, (-1, 0, 2, -2))), MAP),
    "reflection": (nn.ReflectionPad2d(2), MAP),
    "replication": (Called(lambda x: F.pad(x, (1, 2, 0, 1), mode="replicate")), MAP),
    "circular": (nn.CircularPad2d((1, 2, 3, 0)), MAP),
    "reflection of volumes": (nn.ReflectionPad3d(1), VOLUME),
    "zero padding of volumes": (nn.ZeroPad3d((1, 0, 2, 1, 0, 1)), VOLUME),
    "repeat": (Called(lambda x: x.repeat(1, 2)), FLAT),
    "squeeze": (Called(lambda x: x.unsqueeze(1).squeeze(1)), MAP),
}
OTHER = {
    "pool with ceil": (nn.MaxPool2d(3, 2, ceil_mode=True), MAP),
    "pool with ceil and padding": (nn.MaxPool2d((3, 2), (2, 3), 1, ceil_mode=True), MAP),
    "pool of a row": (nn.MaxPool1d(3, 2), ROW),
    "adaptive maximum": (nn.AdaptiveMaxPool2d((3, 2)), MAP),
    "adaptive maximum of a row": (nn.AdaptiveMaxPool1d(3), ROW),
    "adaptive maximum of volumes": (nn.AdaptiveMaxPool3d((2, 5, 1)), VOLUME),
    "pool of volumes": (nn.MaxPool3d((2, 3, 2), stride=(1, 2, 1), padding=(1, 1, 0)), VOLUME),
    "pool of volumes with ceil": (nn.MaxPool3d(2, ceil_mode=True), VOLUME),
    "prelu": (nn.PReLU(4, 0.3), MAP),
    "rrelu": (nn.RReLU(), MAP),
    "relu6": (nn.ReLU6(), MAP),
    "clamp": (Called(lambda x: x.clamp(-0.5, 2)), MAP),
    "clamp on one side": (Called(lambda x: torch.clamp(x, min=0.25)), MAP),
    "threshold": (nn.Threshold(0.5, 0.5), MAP),
    "gelu": (nn.GELU(), MAP),
    "gelu by tanh": (Called(lambda x: F.gelu(x, approximate="tanh")), MAP),
    "elu": (Called(lambda x: F.elu(x, 0.7)), MAP),
    "silu": (nn.SiLU(), MAP),
    "hardswish": (Called(F.hardswish), MAP),
    "softplus": (nn.Softplus(2.0), MAP),
}
EVERY = {**LINEAR, **MOVING, **OTHER}
every_layer = pytest.mark.parametrize("name", EVERY)


def outputs_of(module, inputs):
    with torch.no_grad():
        return module(torch.tensor(inputs)).numpy()


def jacobian(network: Network) -> np.ndarray:
    """Of the network at zero, where linear networks have theirs."""
    n = math.prod(network.input_shape)
    inputs = np.concatenate([np.zeros((1, n)), np.eye(n)]).reshape(n + 1, *network.input_shape)
    values = network.forward(inputs).reshape(n + 1, -1)
    return (values[1:] - values[0]).T


@every_layer
def test_a_layer_computes_what_torch_does_there_and_back(name):
    module, shape = EVERY[name]
    module = module.double().eval()
    network = export_network(module, shape)
    inputs = np.random.default_rng(7).uniform(-3, 3, (5, *shape))
    expected = outputs_of(module, inputs)
    largest = np.abs(expected).max()
    np.testing.assert_allclose(network.forward(inputs), expected, rtol=0, atol=1e-13 * largest)
    np.testing.assert_allclose(outputs_of(to_torch(network), inputs), expected, rtol=0, atol=1e-13 * largest)
    again = Network.from_arrays(*network.to_arrays())
    assert again.sha256 == network.sha256


@pytest.mark.parametrize("name", {**LINEAR, **MOVING})
def test_the_product_of_a_linear_layer_is_never_below_its_norm(name):
    module, shape = EVERY[name]
    record = certlip.bound(module.double().eval(), shape, "product")
    assert record.value >= np.linalg.norm(jacobian(record.certificate.network), 2) * (1 - 1e-13)
    assert certlip.verify(record.certificate).ok


@pytest.mark.parametrize("name", {**LINEAR, **MOVING})
def test_the_matrix_of_a_linear_network_is_its_jacobian(name):
    network = export_network(EVERY[name][0].double().eval(), EVERY[name][1])
    matrix = np.eye(math.prod(network.input_shape))
    for layer, shape in network.chain.with_shapes:
        matrix = matrix if isinstance(layer, Flatten | Reshape) else layer.matrix(shape) @ matrix
    np.testing.assert_allclose(matrix, jacobian(network), atol=1e-12 * np.abs(matrix).max())


@pytest.mark.parametrize("name", MOVING)
def test_moving_entries_costs_exactly_the_root_of_the_most_copies(name):
    network = export_network(EVERY[name][0].double().eval(), EVERY[name][1])
    if not network.is_chain or not network.layers:
        return
    exact = np.linalg.norm(jacobian(network), 2)
    assert math.prod(norms.layer_constants(network)) == pytest.approx(exact, rel=1e-9)


@every_layer
def test_what_is_proved_from_below_stays_below_what_is_proved_from_above(name):
    module, shape = EVERY[name]
    network = export_network(module.double().eval(), shape)
    upper = math.prod(norms.layer_constants(network)) if network.is_chain else math.inf
    rng = np.random.default_rng(0)
    chain = network.chain
    for _ in range(5):
        point, direction = rng.standard_normal((2, *shape))
        proved = lower_at(chain, point, direction)
        step = 1e-6 * direction
        difference = chain.forward((point + step)[None]) - chain.forward(point[None])
        quotient = np.linalg.norm(difference) / np.linalg.norm(step)
        assert proved <= upper
        assert proved == pytest.approx(quotient, rel=1e-4)


@pytest.mark.parametrize("name", ["conv circular", "bilinear", "uneven average", "transposed", "halves", "gelu"])
@pytest.mark.parametrize("method", ["lipsdp", "liplt", "eclipse_fast", "dcp", "gram", "lower", "seqlip"])
def test_methods_bound_networks_of_such_layers(name, method):
    module, shape = EVERY[name]
    module = nn.Sequential(module, nn.ReLU(), nn.Flatten(), nn.LazyLinear(6), nn.ReLU(), nn.Linear(6, 3)).double()
    with torch.no_grad():
        module(torch.zeros(1, *shape).double())
    record = certlip.bound(module.eval(), shape, method)
    assert record.value is not None, record.reason
    if record.certificate is not None:
        assert certlip.verify(record.certificate).ok
    if record.kind == "certified":
        assert record.value >= certlip.bound(module, shape, "lower").value


@pytest.mark.parametrize(
    "name", [name for name in LINEAR if "conv3d" in name and not name.endswith(("circular", "map"))]
)
def test_a_convolution_of_a_volume_costs_little_more_than_its_norm(name):
    torch.manual_seed(0)
    module = copy.deepcopy(EVERY[name][0])
    module.reset_parameters()
    network = export_network(module.double().eval(), VOLUME)
    exact = np.linalg.norm(jacobian(network), 2)
    assert math.prod(norms.layer_constants(network)) <= 1.4 * exact


def test_a_normalisation_behind_a_convolution_of_a_volume_is_folded_into_it():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv3d(2, 3, 3, padding=1), with_statistics(nn.BatchNorm3d(3))).double().eval()
    network = export_network(module, VOLUME)
    assert [type(layer) for layer in network.layers] == [Gather, Conv, Gather]
    inputs = np.random.default_rng(1).standard_normal((3, *VOLUME))
    np.testing.assert_allclose(network.forward(inputs), outputs_of(module, inputs), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("turn", [lambda x: x.flip((1, 2)), lambda x: F.pad(x, (1, 0), mode="constant")[:, [2, 1, 0]]])
def test_a_normalisation_behind_what_moves_channels_or_adds_zeros_stays_where_it_is(turn):
    torch.manual_seed(0)
    norm = with_statistics(nn.BatchNorm2d(3))
    module = nn.Sequential(nn.Conv2d(4, 3, 3), Called(turn), norm).double().eval()
    network = export_network(module, MAP)
    inputs = np.random.default_rng(1).standard_normal((3, *MAP))
    np.testing.assert_allclose(network.forward(inputs), outputs_of(module, inputs), rtol=1e-12, atol=1e-12)


def test_pooling_of_a_volume_costs_the_root_of_the_windows_that_share_an_entry():
    network = export_network(nn.MaxPool3d((2, 3, 2), stride=(1, 2, 1)), VOLUME)
    assert math.prod(norms.layer_constants(network)) == pytest.approx(math.sqrt(2 * 2 * 2), rel=1e-12)


def test_a_channel_that_is_moved_is_a_convolution_and_padding_is_part_of_the_next():
    shuffled = export_network(nn.Sequential(nn.ChannelShuffle(2), nn.ReLU()).double(), MAP)
    assert isinstance(shuffled.layers[0], Conv)
    padded = export_network(nn.Sequential(nn.ZeroPad2d(1), nn.Conv2d(4, 2, 3)).double(), MAP)
    assert [layer.padding for layer in padded.layers] == [(1, 1, 1, 1)]
    reversed_rows = export_network(Called(lambda x: x.flip(2)), MAP)
    assert isinstance(reversed_rows.layers[0], Gather)
    pooled = export_network(nn.MaxPool2d(2, ceil_mode=True), MAP)
    assert isinstance(pooled.layers[0], MaxPool)
    assert isinstance(export_network(Called(lambda x: x @ W), FLAT).layers[0], Dense)


def test_everything_without_a_bound_is_named_at_once_with_the_reason():
    module = nn.Sequential(
        nn.Conv2d(4, 4, 3), nn.LayerNorm([4, 4, 6]), nn.ReLU(), nn.Hardshrink(), nn.GroupNorm(2, 4)
    ).double()
    with pytest.raises(UnsupportedLayer) as refusal:
        export_network(module, MAP)
    assert str(refusal.value) == (
        "1: no bound for LayerNorm (it divides by the spread of its input, which no constant bounds; BatchNorm in eval "
        "mode does not); 3: no bound for Hardshrink; 4: no bound for GroupNorm (it divides by the spread of its input, "
        "which no constant bounds; BatchNorm in eval mode does not)"
    )


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (lambda x: x[:1], "getitem"),
        (lambda x: x.permute(1, 0, 2, 3), "permute"),
        (lambda x: F.pad(x, (1, 1), value=2.0), "pad"),
        (lambda x: 1 / x, "truediv by what depends on the input"),
        (lambda x: x @ x.transpose(2, 3), "a product of values that both depend on the input has no constant"),
        (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", antialias=True), "interpolate"),
        (lambda x: F.threshold(x, 1.0, 0.0), "Threshold that jumps from 0.0 to 1.0"),
        (lambda x: x.mean(0), "a mean or sum over the examples of a batch"),
        (lambda x: F.linear(W.T[None, :, :8], x[0, 0]), "linear"),
    ],
)
def test_what_is_more_than_moving_or_linear_is_refused(function, sentence):
    with pytest.raises(UnsupportedLayer, match=sentence):
        export_network(Called(function), MAP)
