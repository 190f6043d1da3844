import math

import numpy as np
import pytest
import torch

from certlip import zoo
from certlip.base.errors import ConfigError
from certlip.network import Activation
from certlip.proof import norms
from certlip.pytorch.export import export_network

NETWORKS = [
    ("cnn1", {}, (1, 28, 28), [2880, 2000, 50], 10),
    ("cnn1", {"channels": 1}, (1, 28, 28), [576, 400, 50], 10),
    ("cnn2", {}, (3, 32, 32), [4500, 3920, 3380, 2880, 2420, 50, 100], 10),
    ("cnn2", {"channels": 2, "n_classes": 4}, (3, 32, 32), [1800, 1568, 1352, 1152, 968, 50, 100], 4),
    ("cnn1", {"kernels": [5, 9]}, (1, 28, 28), [2880, 1280, 50], 10),
    ("cifar_2c2f", {}, (3, 32, 32), [3600, 3136, 32], 10),
    ("strided_cnn", {}, (1, 28, 28), [1568, 784, 256], 10),
    (
        "strided_cnn",
        {"input_shape": [3, 32, 32], "channels": [16, 32], "hidden": 100},
        (3, 32, 32),
        [16 * 16**2, 32 * 8**2, 100],
        10,
    ),
    ("residual_mlp", {}, (784,), [64] * 17, 10),
    ("resnet", {}, (3, 32, 32), [16 * 32**2] * 7 + [32 * 16**2] * 6 + [64 * 8**2] * 6, 10),
    (
        "resnet",
        {
            "input_shape": [1, 28, 28],
            "widths": [16],
            "n_blocks": 8,
            "stem_kernel": 7,
            "stem_pool": 2,
            "head_pool": 2,
            "batch_norm": False,
        },
        (1, 28, 28),
        [16 * 28**2] + [16 * 14**2] * 16,
        10,
    ),
    (
        "vgg",
        {"input_shape": [1, 8, 12], "widths": [4, 8], "n_layers": 1, "hidden": 5},
        (1, 8, 12),
        [4 * 8 * 12, 8 * 4 * 6, 5],
        10,
    ),
    ("mnist_4", {}, (1, 28, 28), [4608, 1600, 512], 10),
    ("mnist_5", {}, (1, 28, 28), [4608, 1600, 1600, 512], 10),
    ("digits_cnn", {}, (1, 8, 8), [144, 64, 16], 10),
    ("mlp", {"widths": [64, 20, 7]}, (64,), [20], 7),
    ("conv_block", {}, (1, 10, 10), [256], 144),
    ("conv_block", {"n_layers": 3, "padding": 1, "image_size": [8, 8], "n_classes": 10}, (1, 8, 8), [256] * 3, 10),
    (
        "conv_block",
        {"channels": 1, "n_layers": 10, "kernel": 5, "image_size": [64, 64]},
        (1, 64, 64),
        [60**2, 56**2, 52**2, 48**2, 44**2, 40**2, 36**2, 32**2, 28**2],
        24**2,
    ),
    (
        "conv_block",
        {"channels": 2, "n_layers": 2, "image_size": 5},
        (1, 5, 5),
        [2 * 3 * 3],
        2,
    ),
    (
        "conv_block",
        {"channels": 2, "n_layers": 2, "stride": 2, "padding": 1, "image_size": [9, 7], "input_channels": 3},
        (3, 9, 7),
        [2 * 5 * 4],
        2 * 3 * 2,
    ),
]


@pytest.mark.parametrize(("architecture", "options", "shape", "hidden", "n_out"), NETWORKS)
def test_architecture_has_the_published_widths(architecture, options, shape, hidden, n_out):
    assert zoo.input_shape(architecture, **options) == shape
    network = export_network(zoo.make(architecture, 0, **options), shape)
    pairs = zip(network.layers, network.shapes, strict=False)
    assert [math.prod(before) for layer, before in pairs if isinstance(layer, Activation)] == hidden
    assert math.prod(network.shapes[-1]) == n_out


def test_every_architecture_is_tested_here():
    assert {network[0] for network in NETWORKS} == {name for name in zoo.names() if zoo.known_constant(name) is None}


def test_whole_network_lmi_of_digits_cnn_is_about_300():
    network = export_network(zoo.make("digits_cnn", 0), zoo.input_shape("digits_cnn"))
    hidden = [
        math.prod(s) for layer, s in zip(network.layers, network.shapes, strict=False) if isinstance(layer, Activation)
    ]
    assert 250 <= math.prod(network.input_shape) + sum(hidden) <= 350


def test_same_seed_gives_the_same_weights_and_another_seed_others():
    first, again, other = (zoo.make("cnn1", seed).state_dict() for seed in (5, 5, 6))
    assert all(first[key].equal(again[key]) for key in first)
    assert not any(first[key].equal(other[key]) for key in first if key.endswith("weight"))


def test_batch_normalisation_learns_nothing_while_a_network_is_made():
    state = zoo.make("resnet", 0, widths=[4], n_blocks=1, input_shape=[1, 8, 8]).state_dict()
    tracked = {key: value for key, value in state.items() if "running" in key or "tracked" in key}
    assert len(tracked) == 9
    assert all(value.eq(1.0 if key.endswith("var") else 0.0).all() for key, value in tracked.items())


def test_making_a_network_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    zoo.make("digits_cnn", 1)
    assert before.equal(torch.get_rng_state())


def test_weights_are_kaiming_normal_and_biases_zero():
    module = zoo.make("mlp", 0, widths=[400, 300, 10])
    assert abs(module[1].weight.std().item() / math.sqrt(2 / 400) - 1) < 0.02
    assert abs(module[1].weight.mean().item()) < 1e-3
    assert not module[1].bias.any()


@pytest.mark.parametrize(
    ("architecture", "options"), [("cnn1", {"channels": 3}), ("mnist_5", {}), ("conv_block", {"padding": 1})]
)
def test_layers_with_orthogonal_weights_have_norm_at_most_one_and_mix_their_pixels(architecture, options):
    module = zoo.make(architecture, 1, True, **options)
    network = export_network(module, zoo.input_shape(architecture, **options))
    assert max(norms.layer_constants(network)) <= 1
    kernel = network.layers[0].weight
    assert (abs(kernel).max(axis=(0, 1)) > 1e-4).all()
    circular = np.linalg.svd(np.fft.fft2(kernel, (16, 16)).transpose(2, 3, 0, 1), compute_uv=False)
    assert abs(circular - 1).max() < 1e-5


@pytest.mark.parametrize(
    ("architecture", "options", "sentence"),
    [
        ("cnn3", {}, "unknown architecture 'cnn3'; did you mean"),
        ("cnn1", {"chanels": 3}, "architecture 'cnn1' has no option 'chanels'; did you mean 'channels'?"),
        ("mnist_4", {"channels": 3}, "architecture 'mnist_4' has no option 'channels'"),
        ("conv_block", {"kernel": 6}, "architecture 'conv_block' with kernel=6 makes no network: "),
        ("conv_block", {"n_layers": 0}, "n_layers must be at least 1"),
        ("conv_block", {"stride": 0}, "makes no network"),
        ("conv_block", {"image_size": [10]}, "makes no network"),
        ("cnn1", {"channels": 0}, "makes no network"),
        ("cnn1", {"channels": "five"}, "makes no network"),
        ("mlp", {"widths": [3]}, "widths must name"),
    ],
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_wrong_architecture_or_option_is_one_sentence(architecture, options, sentence):
    with pytest.raises(ConfigError) as error:
        zoo.make(architecture, 0, **options)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_input_shape_of_wrong_options_is_one_sentence():
    with pytest.raises(ConfigError, match=r"image_size=\[10\] makes no network"):
        zoo.input_shape("conv_block", image_size=[10])


@pytest.fixture
def user_package(tmp_path, monkeypatch):
    package = tmp_path / "certlip_test_nets"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from torch import nn\n"
        "def make(width=3):\n    return nn.Linear(2, width)\n"
        "def fail():\n    raise KeyError('weights')\n"
        "number = 5\n"
        "def wrong():\n    return 7\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("user_package")
def test_factory_of_the_users_package_makes_a_seeded_module():
    before = torch.get_rng_state()
    module, again, other = (zoo.from_factory("certlip_test_nets:make", seed, width=4) for seed in (1, 1, 2))
    assert module.weight.shape == (4, 2)
    assert module.weight.equal(again.weight)
    assert not module.weight.equal(other.weight)
    assert before.equal(torch.get_rng_state())


@pytest.mark.usefixtures("user_package")
@pytest.mark.parametrize(
    ("factory", "options", "sentence"),
    [
        ("certlip_no_such_package:make", {}, "'certlip_no_such_package:make' cannot be imported"),
        ("certlip_test_nets:mak", {}, "'certlip_test_nets:mak' cannot be imported"),
        ("certlip_test_nets", {}, "write package.module:function"),
        (":make", {}, "write package.module:function"),
        ("certlip_test_nets:make", {"depth": 3}, "'certlip_test_nets:make' with depth=3 failed: TypeError"),
        ("certlip_test_nets:fail", {}, "failed: KeyError: 'weights'"),
        ("certlip_test_nets:number", {}, "failed: TypeError"),
        ("certlip_test_nets:wrong", {}, "returned a int, not a torch.nn.Module"),
    ],
)
def test_factory_that_gives_no_module_is_one_sentence(factory, options, sentence):
    with pytest.raises(ConfigError) as error:
        zoo.from_factory(factory, **options)
    assert sentence in str(error.value)
