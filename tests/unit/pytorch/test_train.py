import math

import numpy as np
import pytest
import torch
from torch import nn

from certlip import datasets, zoo
from certlip.base.errors import ConfigError
from certlip.pytorch.train import OPTIMIZERS, accuracy, train

OPTIONS = {"epochs": 8, "batch_size": 64, "learning_rate": 5e-3, "seed": 0}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return datasets.fetch("digits", tmp_path_factory.mktemp("data"))


def test_digits_are_learnt_and_twice_the_same(digits):
    first, again = (train(zoo.make("digits_cnn", 1), digits, **OPTIONS) for _ in range(2))
    assert first.test_accuracy > 0.9
    assert first.train_accuracy > 0.9
    assert all(first.state_dict[key].equal(again.state_dict[key]) for key in first.state_dict)
    other = train(zoo.make("digits_cnn", 1), digits, **{**OPTIONS, "seed": 1, "epochs": 1})
    assert other.epochs == 1
    assert other.seconds > 0


def test_dropout_and_order_of_batches_depend_on_the_seed_alone(digits):
    def weights(seed, noise):
        torch.manual_seed(noise)
        torch.rand(noise)
        module = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(64, 10))
        with torch.no_grad():
            module[2].weight.zero_()
            module[2].bias.zero_()
        return train(module, digits, **{**OPTIONS, "seed": seed, "epochs": 1}).state_dict["2.weight"]

    assert weights(0, noise=1).equal(weights(0, noise=2))
    assert not weights(0, noise=1).equal(weights(1, noise=1))


def test_training_leaves_the_settings_of_torch_as_they_were(digits):
    before = torch.get_rng_state(), torch.are_deterministic_algorithms_enabled()
    train(zoo.make("mlp", 0, widths=[64, 10]), digits, **{**OPTIONS, "epochs": 1})
    assert before[0].equal(torch.get_rng_state())
    assert before[1] == torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
def test_weights_are_trained_in_place_and_returned_as_copies(digits, optimizer):
    module = zoo.make("mlp", 0, widths=[64, 10])
    start = module[1].weight.detach().clone()
    result = train(module, digits, **{**OPTIONS, "epochs": 1, "learning_rate": 1e-2}, optimizer=optimizer)
    assert not start.equal(module[1].weight)
    assert result.state_dict["1.weight"].equal(module[1].weight)
    with torch.no_grad():
        module[1].weight.zero_()
    assert result.state_dict["1.weight"].any()
    assert not module.training


def test_weight_decay_makes_weights_smaller(digits):
    norms = [
        train(zoo.make("mlp", 0, widths=[64, 10]), digits, **OPTIONS, weight_decay=decay).state_dict["1.weight"].norm()
        for decay in (0.0, 0.1)
    ]
    assert norms[1] < norms[0]


def test_accuracy_is_the_share_of_right_answers_of_the_whole_set():
    images = np.zeros((2500, 1, 1, 2), np.float32)
    images[np.arange(2500), 0, 0, np.arange(2500) % 2] = 1
    labels = np.arange(2500) % 2
    labels[:500] = 0
    module = nn.Sequential(nn.Flatten(), nn.Dropout(0.9)).train()
    assert accuracy(module, images, labels) == 2250 / 2500


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"learning_rate": 1e30}, "training diverged in epoch 1: the loss is"),
        ({"optimizer": "adm"}, "unknown optimizer 'adm'; did you mean 'adam'?"),
        ({"epochs": 0}, "epochs must be positive, not 0"),
        ({"batch_size": -1}, "batch_size must be positive, not -1"),
        ({"learning_rate": math.nan}, "learning_rate must be positive, not nan"),
    ],
)
def test_training_that_cannot_succeed_is_one_sentence(digits, options, sentence):
    with pytest.raises(ConfigError) as error:
        train(zoo.make("digits_cnn", 1), digits, **{**OPTIONS, **options})
    assert sentence in str(error.value)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("module", "sentence"),
    [
        (zoo.make("cnn1", 0), r"Sequential does not take images of shape \(1, 8, 8\): "),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 9)), r"outputs of shape \(9,\); for 10 classes"),
        (nn.Conv2d(1, 10, 8), r"outputs of shape \(10, 1, 1\); for 10 classes"),
    ],
)
def test_module_that_does_not_fit_the_data_is_one_sentence(digits, module, sentence):
    with pytest.raises(ConfigError, match=sentence):
        train(module, digits, **OPTIONS)
