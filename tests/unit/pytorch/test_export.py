import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from certlip.base.errors import DataError, ExportError, UnsupportedLayer
from certlip.network import Activation, Conv, Dense, Flatten, MaxPool, Network, Sum
from certlip.pytorch.export import export_network
from certlip.pytorch.to_torch import to_torch

IMAGE = (3, 9, 8)


def outputs_of(module, inputs):
    with torch.no_grad():
        return copy.deepcopy(module).double().eval()(torch.tensor(inputs)).numpy()


def exported(module, shape=IMAGE):
    """The network, after comparing it with the module on inputs of this file's own."""
    network = export_network(module, shape)
    inputs = np.random.default_rng(7).uniform(-3, 3, (5, *shape))
    expected = outputs_of(module, inputs)
    actual = network.forward(inputs)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-10 * np.abs(expected).max())
    return network


def with_statistics(norm):
    """A batch normalisation as if trained: none of its numbers trivial, some weights negative."""
    generator = torch.Generator().manual_seed(3)
    norm.running_mean = torch.randn(norm.num_features, generator=generator)
    norm.running_var = 0.1 + 4 * torch.rand(norm.num_features, generator=generator)
    if norm.affine:
        with torch.no_grad():
            norm.weight.copy_(torch.randn(norm.num_features, generator=generator))
            norm.bias.copy_(torch.randn(norm.num_features, generator=generator))
    return norm


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias": False},
        {"stride": 2},
        {"stride": (2, 3)},
        {"padding": (1, 2)},
        {"padding": "valid"},
        {"padding": "same"},
        {"padding": "same", "dilation": (1, 2)},
        {"dilation": 2},
        {"dilation": (3, 1), "padding": 4, "stride": 2},
        {"groups": 3},
        {"groups": 3, "stride": 2, "padding": 1, "dilation": 2},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_convolution_of_every_option_is_one_conv_of_the_same_weights(options):
    module = nn.Conv2d(3, 6, (2, 4), **options)
    (layer,) = exported(module).layers
    assert isinstance(layer, Conv)
    assert (layer.weight == module.weight.double().detach().numpy()).all()


def test_layers_keep_their_qualified_names():
    module = nn.Sequential(nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU()), nn.Flatten(), nn.Linear(2 * 9 * 8, 4))
    assert [layer.name for layer in exported(module).layers] == ["0.0", "0.1", "1", "2"]


@pytest.mark.parametrize(
    ("module", "kind"),
    [
        (nn.ReLU(), "relu"),
        (nn.ReLU(inplace=True), "relu"),
        (nn.LeakyReLU(0.3), "leaky_relu"),
        (nn.LeakyReLU(1.5), "leaky_relu"),
        (nn.PReLU(), "leaky_relu"),
        (nn.PReLU(3), "leaky_relu"),
        (nn.Tanh(), "tanh"),
        (nn.Sigmoid(), "sigmoid"),
    ],
)
def test_elementwise_layer_is_an_activation_of_its_kind(module, kind):
    (layer,) = exported(module).layers
    assert isinstance(layer, Activation)
    assert layer.kind == kind


class ParametricReLU(nn.Module):
    """A PReLU as a layer, and its function with a weight of the module's own."""

    def __init__(self, *slopes):
        super().__init__()
        self.conv, self.dense = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 9 * 8, 4)
        self.prelu = nn.PReLU(len(slopes))
        self.weight = nn.Parameter(torch.tensor(slopes).flip(0))
        with torch.no_grad():
            self.prelu.weight.copy_(torch.tensor(slopes))

    def forward(self, x):
        x = self.prelu(self.conv(x)).flatten(1)
        return torch.prelu(F.prelu(self.dense(x), self.weight), self.prelu.weight)


@pytest.mark.parametrize("slopes", [(0.25,), (-0.5,), (1.0,), (0.0, 1.0, -0.5, 1.5)])
def test_parametric_relu_of_one_slope_and_of_one_a_channel_is_what_torch_computes(slopes):
    network = exported(ParametricReLU(*slopes))
    held = [layer.negative_slope for layer in network.layers if isinstance(layer, Activation)]
    assert [np.ndim(slope) for slope in held] == [len(slopes) > 1] * 3
    assert np.array_equal(np.ravel(held[1]), slopes[::-1])


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_after_a_convolution_is_folded_into_it(affine):
    norm = with_statistics(nn.BatchNorm2d(4, affine=affine, eps=1e-2))
    network = exported(nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), norm, nn.ReLU()))
    assert [type(layer) for layer in network.layers] == [Conv, Activation]


def test_batch_norm_after_a_grouped_convolution_without_bias_is_folded_into_it():
    module = nn.Sequential(nn.Conv2d(3, 6, 2, groups=3, bias=False), with_statistics(nn.BatchNorm2d(6)))
    assert len(exported(module).layers) == 1


def test_batch_norm_after_a_dense_layer_is_folded_into_it():
    module = nn.Sequential(nn.Linear(5, 7), with_statistics(nn.BatchNorm1d(7)))
    assert [type(layer) for layer in exported(module, (5,)).layers] == [Dense]


def test_batch_norm_after_anything_else_is_a_depthwise_or_diagonal_layer():
    image = exported(nn.Sequential(nn.ReLU(), with_statistics(nn.BatchNorm2d(3))))
    assert isinstance(image.layers[1], Conv)
    assert image.layers[1].groups == 3
    flat = exported(nn.Sequential(nn.ReLU(), with_statistics(nn.BatchNorm1d(5))), (5,))
    assert isinstance(flat.layers[1], Dense)
    assert np.count_nonzero(flat.layers[1].weight) == 5


def test_batch_norm_after_flatten_is_not_folded_across_it():
    module = nn.Sequential(nn.Conv2d(3, 2, 2), nn.Flatten(), with_statistics(nn.BatchNorm1d(2 * 8 * 7)))
    assert [type(layer) for layer in exported(module).layers] == [Conv, Flatten, Dense]


@pytest.mark.parametrize(
    "module",
    [
        nn.AvgPool2d(2),
        nn.AvgPool2d((3, 2), stride=(1, 2)),
        nn.AvgPool2d(3, padding=1),
        nn.AvgPool2d(3, padding=1, count_include_pad=False, divisor_override=5),
        nn.AdaptiveAvgPool2d((3, 4)),
        nn.AdaptiveAvgPool2d((1, None)),
    ],
    ids=str,
)
def test_average_pool_is_a_depthwise_convolution(module):
    (layer,) = exported(module).layers
    assert isinstance(layer, Conv)
    assert layer.groups == 3


@pytest.mark.parametrize(
    "module",
    [nn.MaxPool2d(2), nn.MaxPool2d((3, 2), stride=(1, 2)), nn.MaxPool2d(3, padding=1), nn.MaxPool2d(2, stride=1)],
    ids=str,
)
def test_max_pool_is_a_max_pool(module):
    (layer,) = exported(module).layers
    assert isinstance(layer, MaxPool)


def test_pool_that_rounds_up_counts_windows_that_leave_the_map():
    for side in (8, 9):
        assert len(exported(nn.MaxPool2d(2, ceil_mode=True), (1, side, side)).layers) == 1
        exported(nn.AvgPool2d(2, ceil_mode=True), (1, side, side))


def test_dropout_identity_and_training_mode_leave_no_trace():
    module = nn.Sequential(nn.Dropout(), nn.Conv2d(3, 2, 3), nn.Dropout2d(), nn.Identity(), nn.Flatten(), nn.Flatten())
    assert [type(layer) for layer in exported(module.train()).layers] == [Conv, Flatten]


class Functional(nn.Module):
    """Written as third parties write them."""

    def __init__(self, flatten):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 4, stride=2, padding=1)
        self.conv2 = nn.Conv2d(4, 6, 2)
        self.fc1 = nn.Linear(6, 8)
        self.fc2 = nn.Linear(8, 5)
        self.flatten = flatten

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.max_pool2d(F.leaky_relu(self.conv2(x), 0.2), 2, stride=1)
        x = F.dropout(F.adaptive_avg_pool2d(x, 1), 0.3, training=self.training)
        x = self.flatten(x)
        x = torch.tanh(self.fc1(x)).abs()
        return abs(self.fc2(x).sigmoid())


@pytest.mark.parametrize(
    "flatten",
    [
        lambda x: torch.flatten(x, 1),
        lambda x: x.flatten(1),
        lambda x: x.view(-1, 6),
        lambda x: x.view(x.size(0), -1),
        lambda x: x.reshape(x.shape[0], x.shape[1] * x.shape[2] * x.shape[3]),
        lambda x: x.contiguous().view(x.size()[0], x.size(1)),
        lambda x: x.squeeze(),
        nn.Flatten(),
    ],
)
def test_forward_of_functions_and_methods_is_traced(flatten):
    kinds = [layer.kind for layer in exported(Functional(flatten)).layers if isinstance(layer, Activation)]
    assert kinds == ["relu", "leaky_relu", "tanh", "abs", "sigmoid", "abs"]


def test_layer_made_inside_forward_is_traced():
    class MadeInside(nn.Module):
        def forward(self, x):
            return nn.LeakyReLU(0.1)(nn.MaxPool2d(2)(x))

    pool, activation = exported(MadeInside()).layers
    assert isinstance(pool, MaxPool)
    assert activation.negative_slope == 0.1


class WeightsFromFormula(nn.Conv2d):
    def forward(self, inputs):
        weight = self.weight / self.weight.square().sum().sqrt()
        return F.linear(
            F.conv2d(inputs, weight, self.bias, padding="same").flatten(1), torch.ones(2, 144, dtype=inputs.dtype)
        )


def test_weights_that_forward_computes_are_exported_as_computed():
    conv, _, dense = exported(WeightsFromFormula(3, 2, 3)).layers
    assert math.isclose(np.linalg.norm(conv.weight), 1.0)
    assert (dense.weight == 1).all()


class Residual(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return x + self.inner(x)


class Branch(nn.Module):
    def __init__(self, merge):
        super().__init__()
        self.left, self.right, self.merge = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), merge

    def forward(self, x):
        return self.merge(self.left(x), self.right(x))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = nn.MultiheadAttention(24, 2)

    def forward(self, x):
        x = x.flatten(1)
        return self.attn(x, x, x)[0]


class ValueDependent(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Batch(nn.Module):
    def forward(self, x):
        return x.reshape(1, -1)


@pytest.mark.parametrize(
    ("inner", "sentence"),
    [
        (Attention(), "block3.attn: no bound for MultiheadAttention"),
        (nn.Sequential(nn.ReLU(), nn.Softmin(dim=1)), "block3.1: no bound for Softmin"),
        (nn.Hardshrink(), "block3: no bound for Hardshrink"),
        (nn.LocalResponseNorm(2), "block3: no bound for LocalResponseNorm"),
        (nn.BatchNorm2d(3, track_running_stats=False), "block3: no bound for BatchNorm2d without running statistics"),
        (nn.MaxPool2d(1, dilation=2), "block3: no bound for MaxPool2d with dilation"),
        (nn.MaxPool2d(1, return_indices=True), "block3: no bound for MaxPool2d"),
        (nn.AdaptiveMaxPool2d((1, 3)), "does not divide evenly"),
        (Branch(lambda a, b: F.linear(a.flatten(1), b.flatten(1))), "block3.linear: no bound for linear"),
        (nn.ConstantPad2d(1, 2.0), "block3: no bound for ConstantPad2d of (3, 1, 8) to (3, 3, 10)"),
        (Branch(lambda a, b: (a, b)), "output: no bound for anything but one tensor"),
        (Branch(lambda a, b: F.dropout(a)), "block3.dropout: no bound for dropout"),
        (Branch(lambda a, b: a * b), "block3.mul: no bound for mul"),
        (Branch(lambda a, b: a.transpose(0, 1)), "block3.transpose: no bound for transpose"),
        (ValueDependent(), "block3: no bound for ValueDependent"),
        (Batch(), "block3.reshape: no bound for reshape of (3, 1, 8) to (48,)"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_layer_without_bound_is_refused_by_its_qualified_name(inner, sentence):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 3, 1)
            self.block3 = inner

        def forward(self, x):
            return self.block3(self.stem(x))

    with pytest.raises(UnsupportedLayer) as refusal:
        export_network(Net(), (3, 1, 8))
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_forward_that_cannot_be_traced_at_the_top_is_refused_by_type():
    with pytest.raises(UnsupportedLayer, match="ValueDependent: no bound for a forward"):
        export_network(ValueDependent(), (3,))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_an_error_naming_the_layer(bad):
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Sequential(nn.BatchNorm2d(2)))
    module[1][0].running_mean[1] = bad
    with pytest.raises(DataError, match=r"^1\.0: its running_mean holds NaN or infinite values"):
        export_network(module, IMAGE)


def test_input_shape_that_does_not_fit_is_one_sentence():
    with pytest.raises(DataError, match=r"^Conv2d does not take an input of shape \(1, 9, 8\): ") as error:
        export_network(nn.Conv2d(3, 2, 3), (1, 9, 8))
    assert "\n" not in str(error.value)


def test_module_that_is_more_than_its_trace_fails_the_export():
    class Lost(nn.Conv2d):
        def forward(self, inputs):
            outputs = super().forward(inputs)
            outputs.mul_(1 + 1e-9)  # nothing reads it by the name of its result
            return outputs

    with pytest.raises(ExportError, match="differs from the module"):
        export_network(nn.Sequential(Lost(3, 2, 3)), IMAGE)


def scaled(*factors, lost=1.0):
    """Dense layers and ReLUs; lost: a factor of the last one that its trace does not have."""

    class Lost(nn.Linear):
        def forward(self, inputs):
            outputs = super().forward(inputs)
            outputs.mul_(lost)
            return outputs

    torch.manual_seed(0)
    modules = []
    for factor in factors:
        layer = Lost(16, 16, bias=False).double()
        with torch.no_grad():
            layer.weight.mul_(factor)
        modules += [layer, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


EXTREME = [
    (1e-300,),
    (1e300,),
    (1e-300, 1e300),
    (1e300, 1e-300),
    (1e200, 1e200),
    (1e200, 1e200, 1e-200),
    (1e-200, 1e-200, 1e300),
    (1e78, 1e78, 1e78, 1e78, 1e78),
]


@pytest.mark.parametrize("factors", EXTREME)
def test_weights_of_any_exponent_are_exported_and_still_compared(factors):
    layers = export_network(scaled(*factors), (16,)).layers
    assert [float(np.abs(a.weight).max()) for a in layers[::2]] == [
        float(layer.weight.detach().abs().max()) for layer in scaled(*factors)[::2]
    ]
    with pytest.raises(ExportError, match="differs from the module"):
        export_network(scaled(*factors, lost=1.001), (16,))


def test_a_network_whose_values_overflow_at_every_scale_says_so():
    module = nn.Sequential(scaled(1.0), scaled(1e300))
    module[0][0].bias = nn.Parameter(torch.full((16,), 1e10, dtype=torch.float64))
    with pytest.raises(ExportError, match="overflow or underflow at inputs of every scale"):
        export_network(module, (16,))


@pytest.mark.parametrize("first", [nn.Flatten(), nn.Conv2d(3, 2, 3)], ids=["input", "feature map"])
def test_change_in_place_that_the_trace_loses_fails_the_export(first):
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = first

        def forward(self, x):
            y = self.first(x)
            torch.relu_(y)
            return y

    with pytest.raises(ExportError, match="in place"):
        export_network(InPlace(), IMAGE)


def test_export_changes_neither_the_module_nor_the_global_random_state():
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Dropout()).train()
    functional = WeightsFromFormula(3, 2, 3)
    before, random_state = copy.deepcopy(module.state_dict()), torch.get_rng_state()
    export_network(module, IMAGE)
    export_network(functional, IMAGE)
    after = module.state_dict()
    assert all(before[key].dtype == after[key].dtype and before[key].equal(after[key]) for key in before)
    assert all(part.training for part in module.modules())
    assert random_state.equal(torch.get_rng_state())


def test_network_back_to_torch_computes_the_same_function():
    rng = np.random.default_rng(0)
    layers = (
        Conv("a", rng.normal(size=(4, 1, 2, 3)), rng.normal(size=4), (2, 1), (0, 1, 2, 1), (1, 2), groups=2),
        Activation("b", "leaky_relu", 0.3),
        Conv("c", rng.normal(size=(2, 4, 1, 2)), rng.normal(size=2), padding=(1, 1, 0, 0)),
        Activation("prelu", "leaky_relu", np.array([-0.5, 1.5])),
        MaxPool("d", (2, 2), (2, 1), (1, 0)),
        *(Activation(kind, kind) for kind in ("abs", "tanh", "identity", "relu")),
        Flatten("e"),
        Dense("f", rng.normal(size=(3, 16)), rng.normal(size=3)),
        Activation("flat prelu", "leaky_relu", np.array([1.0, 0.0, 0.3])),
        Activation("g", "sigmoid"),
    )
    network = Network(layers, (2, 7, 5))
    inputs = rng.normal(size=(6, 2, 7, 5))
    module = to_torch(network)
    outputs = module(torch.from_numpy(inputs)).detach().numpy()
    np.testing.assert_allclose(outputs, network.forward(inputs), rtol=1e-12)
    assert not module.training


def test_zero_padding_goes_into_the_convolution_behind_it_and_is_a_layer_elsewhere():
    pad = nn.ZeroPad2d((1, 0, 2, 3))
    (layer,) = exported(nn.Sequential(pad, nn.Conv2d(3, 2, 3, padding=1))).layers
    assert layer.padding == (3, 4, 2, 1)
    assert [type(a) for a in exported(nn.Sequential(pad, nn.ReLU(), nn.Conv2d(3, 2, 3))).layers] == [
        Conv,
        Activation,
        Conv,
    ]
    assert len(exported(nn.Sequential(pad, nn.MaxPool2d(2))).layers) == 2
    ones = nn.Conv2d(1, 3, 1, padding=1, bias=False)
    nn.init.ones_(ones.weight)
    assert len(exported(nn.Sequential(ones, nn.Conv2d(3, 2, 3)), (1, 5, 5)).layers) == 2


def test_export_is_the_inverse_of_to_torch():
    module = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1, groups=1), nn.ReLU(), nn.Flatten(), nn.Linear(80, 3))
    network = export_network(module, IMAGE)
    again = export_network(to_torch(network), IMAGE)
    assert again.sha256 == network.sha256
    uneven = Network((Conv("0", np.ones((2, 3, 3, 3)), np.ones(2), padding=(0, 1, 2, 1)),), IMAGE)
    assert export_network(to_torch(uneven), IMAGE).layers[0].padding == (0, 1, 2, 1)


JOINED = {
    "a residual sum": Residual(nn.Conv2d(3, 3, 1)),
    "a value and itself": Residual(nn.Identity()),
    "a sum of branches": Branch(torch.add),
    "a difference of branches": Branch(lambda a, b: 0.3 * a - b + 1),
    "a concatenation": Branch(lambda a, b: torch.cat([a, b], 1)),
}


@pytest.mark.parametrize("joined", JOINED)
def test_branches_that_are_joined_are_a_graph_and_the_same_function_as_a_chain(joined):
    last = nn.Conv2d(6 if joined == "a concatenation" else 3, 2, 3)
    network = exported(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), JOINED[joined], last))
    assert not network.is_chain
    assert network.chain.is_chain
    inputs = np.random.default_rng(8).standard_normal((4, *IMAGE))
    expected = network.forward(inputs)
    np.testing.assert_allclose(network.chain.forward(inputs), expected, atol=1e-13 * np.abs(expected).max())


class Normalised(nn.Module):
    """What a batch normalisation normalises, read once or twice."""

    def __init__(self, twice):
        super().__init__()
        self.conv, self.norm, self.twice = nn.Conv2d(3, 3, 1), with_statistics(nn.BatchNorm2d(3)), twice

    def forward(self, x):
        y = self.conv(x)
        return self.norm(y) + y if self.twice else (self.norm(y) - 0.5) * 2


def test_scalings_are_folded_into_the_layer_before_unless_something_else_reads_its_value():
    (conv,) = exported(Normalised(twice=False)).layers
    assert isinstance(conv, Conv)
    kinds = [type(layer) for layer in exported(Normalised(twice=True)).layers]
    assert kinds == [Conv, Conv, Sum]


def test_a_normalised_input_is_a_layer_of_its_own():
    class Standardised(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3, padding=1)
            self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6])[:, None, None])

        def forward(self, x):
            return self.conv((x - self.mean) * 4)

    scaling, conv = exported(Standardised()).layers
    assert isinstance(scaling, Conv)
    assert scaling.groups == 3
    assert (scaling.weight == 4).all()
    assert conv.padding == (1, 1, 1, 1)
