"""The problems of the benchmark of solvers, by name.

Random, seeded: ``chain-LxN`` has L hidden layers of N neurons and as many inputs and outputs, ``conv-C`` is the width
sweep's block of two 3x3 convolutions with C channels on a 10x10 image. Of a trained network: ``NETWORK/RxC`` is the
first patch of its convolutions cut by an R x C grid, ``NETWORK/tail`` what follows them, ``NETWORK/whole`` all of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import numpy as np

from certlip.base.errors import ConfigError
from certlip.base.plugins import nearest
from certlip.network import Activation, Conv, Network
from certlip.network.chain import Chain, relu_chain
from certlip.network.window import grid_windows, restrict
from certlip.partition.segment import find_cuts


def make_problem(name: str, networks: Mapping[str, str], seed: int) -> Chain:
    """The chain of a problem's name; networks: name to file. Raises ConfigError for a name of another form."""
    network, slash, part = name.rpartition("/")
    if slash:
        if network not in networks:
            raise ConfigError(f"problem {name!r} is of no network under networks:{nearest(network, networks)}")
        return _of_network(Network.load(networks[network]).chain, part, name)
    rng = np.random.default_rng(seed)
    if match := re.fullmatch(r"chain-(\d+)x(\d+)", name):
        depth, n = map(int, match.groups())
        return relu_chain([rng.standard_normal((n, n)) / math.sqrt(n) for _ in range(depth + 1)])
    if match := re.fullmatch(r"conv-(\d+)", name):
        c = int(match.group(1))
        first = Conv("conv1", rng.standard_normal((c, 1, 3, 3)) * math.sqrt(2 / 9), np.zeros(c))
        second = Conv("conv2", rng.standard_normal((c, c, 3, 3)) * math.sqrt(2 / (9 * c)), np.zeros(c))
        return Chain.of(Network((first, Activation("relu", "relu"), second), (1, 10, 10)))
    raise ConfigError(f"problem {name!r} is none of chain-LxN, conv-C, NETWORK/RxC, NETWORK/tail, NETWORK/whole")


def family(name: str) -> str:
    """What problems that differ in size share."""
    return name.rpartition("/")[0] or name.partition("-")[0]


def _of_network(network: Network, part: str, name: str) -> Chain:
    cut = find_cuts(network, None)[1]
    if part == "whole":
        return Chain.of(network)
    if part == "tail" and cut < len(network.layers):
        return Chain.of(network.segment(cut, len(network.layers)))
    convolutions = network.segment(0, cut)
    match = re.fullmatch(r"(\d+)x(\d+)", part)
    if match is None or len(convolutions.shapes[-1]) != 3:
        raise ConfigError(f"problem {name!r}: the network has no such part")
    rows, columns = convolutions.shapes[-1][1:]
    window = grid_windows(rows, columns, (int(match.group(1)), int(match.group(2))))[0]
    return Chain.of(restrict(convolutions, window)[0])
