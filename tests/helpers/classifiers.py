"""Small networks with one number a class, and points at which they decide."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from certlip.network import Activation, Array, Conv, Dense, Flatten, Layer, Network


def classifier(seed: int, *sizes: int, kind: str = "relu") -> Network:
    """Dense layers with biases, activations between; sizes: inputs, hidden, classes."""
    rng = np.random.default_rng(seed)
    layers: list[Layer] = []
    for k, (n_in, n_out) in enumerate(pairwise(sizes)):
        layers += [Dense(f"dense{k}", rng.standard_normal((n_out, n_in)), rng.standard_normal(n_out))]
        layers += [Activation(f"act{k}", kind, 0.2)]
    return Network(tuple(layers[:-1]), (sizes[0],))


def convolutional(seed: int, n_classes: int = 3, side: int = 4) -> Network:
    """A convolution of two channels, then dense."""
    rng = np.random.default_rng(seed)
    conv = Conv("conv", rng.standard_normal((2, 1, 3, 3)), rng.standard_normal(2), padding=(1, 0, 0, 1), stride=(2, 2))
    n = 2 * conv.output_shape((1, side, side))[1] ** 2
    last = Dense("last", rng.standard_normal((n_classes, n)), rng.standard_normal(n_classes))
    return Network((conv, Activation("act", "relu"), Flatten("flat"), last), (1, side, side))


def pictures(network: Network, n: int, seed: int = 0, wrong: int = 0) -> tuple[Array, Array]:
    """Random inputs with the classes that the network gives them, the first `wrong` of them with the next class."""
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((n, *network.input_shape))
    outputs = network.forward(images)
    labels = outputs.argmax(axis=1)
    labels[:wrong] = (labels[:wrong] + 1) % outputs.shape[1]
    return images, labels
