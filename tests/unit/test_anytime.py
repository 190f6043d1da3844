"""Whatever ends a method that certifies, it has a value: a deadline, a kill, memory."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import psutil
import pytest
import torch  # noqa: F401, so that a fork has it

import certlip
from certlip import limits, refined
from certlip.network import Activation, Conv, Dense, Flatten, Layer, Network
from certlip.record import Record, Status

SMALL = 1e-3

METHODS: dict[str, dict[str, Any]] = {
    "product": {"method": "product"},
    "gram": {"method": "gram"},
    "autolip certified": {"method": "autolip", "certified": True},
    "liplt": {"method": "liplt"},
    "eclipse": {"method": "eclipse"},
    "eclipse_fast": {"method": "eclipse_fast"},
    "lipsdp_layer": {"method": "lipsdp_layer"},
    "lipsdp": {"method": "lipsdp"},
    "dcp sum": {"method": "dcp", "merge": "sum"},
    "dcp cover": {"method": "dcp", "merge": "cover"},
    "dcp weighted": {"method": "dcp", "merge": "weighted"},
    "dcp folded": {"method": "dcp", "merge": "folded"},
    "dcp without fallback": {"method": "dcp", "fallback": False},
}


def network(width: int = 60, depth: int = 2, side: int = 9) -> Network:
    """Two convolutions and some dense layers, which take each method long enough to be ended in the midst."""
    rng = np.random.default_rng(0)
    layers: list[Layer] = []
    for i, c_in in enumerate((1, 3)):
        weight = rng.standard_normal((3, c_in, 3, 3)) / math.sqrt(9 * c_in)
        layers += [Conv(f"conv{i}", weight, np.zeros(3)), Activation(f"relu{i}", "relu")]
    layers.append(Flatten("flatten"))
    n = 3 * (side - 4) ** 2
    for i, m in enumerate([*[width] * depth, 10]):
        layers += [Dense(f"dense{i}", rng.standard_normal((m, n)) / math.sqrt(n), np.zeros(m))]
        layers += [Activation(f"relu-dense{i}", "relu")] if i < depth else []
        n = m
    return Network(tuple(layers), (1, side, side))


NETWORK = network()
QUICK = math.prod(map(refined.quick_constant, NETWORK.layers, NETWORK.shapes))


@pytest.fixture(scope="module")
def finished() -> Iterator[dict[str, tuple[Record, float]]]:
    """The record of each method that nothing ended, and its seconds in a process of its own; made when asked for."""

    class Finished(dict):  # type: ignore[type-arg]
        def __missing__(self, name: str) -> tuple[Record, float]:
            limits.end_idle()
            begin = time.monotonic()
            record = certlip.bound(NETWORK, **METHODS[name], max_seconds=100)
            self[name] = record, time.monotonic() - begin
            return self[name]

    yield Finished()
    limits.end_idle()


@contextmanager
def killed_after(seconds: float) -> Iterator[list[psutil.Process]]:
    """Processes of this one are killed after so many seconds, by a signal: with a thread, none would be forked."""
    killed = []

    def kill(*_: Any) -> None:
        for child in psutil.Process().children():
            if "resource_tracker" not in " ".join(child.cmdline()):
                with suppress(psutil.NoSuchProcess):
                    child.kill()
                    killed.append(child)

    before = signal.signal(signal.SIGALRM, kill)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield killed
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def check(record: Record, lowest: float) -> None:
    """It has a certified value, which is proved and between the lowest there is and what takes no time."""
    assert record.status == Status.OK, record.reason
    assert record.value is not None
    assert lowest * (1 - SMALL) <= record.value <= QUICK * (1 + SMALL)
    assert certlip.verify(record.certificate).ok


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", METHODS)
def test_a_method_that_is_killed_has_a_certified_value(
    name: str, share: float, finished: dict[str, tuple[Record, float]]
) -> None:
    best, seconds = finished[name]
    limits.end_idle()
    with killed_after(share * seconds) as killed:
        record = certlip.bound(NETWORK, **METHODS[name], max_seconds=100)
    check(record, finished["lipsdp"][0].value)
    if record.value != best.value:
        assert killed
        assert "SIGKILL" in record.reason


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("seconds", [0.01, 0.2])
def test_a_limit_of_time_is_kept_and_gives_a_certified_value(
    name: str, seconds: float, finished: dict[str, tuple[Record, float]]
) -> None:
    lowest = finished["lipsdp"][0].value
    begin = time.monotonic()
    record = certlip.bound(NETWORK, **METHODS[name], max_seconds=seconds)
    assert time.monotonic() - begin < seconds + limits.ENDING_SECONDS + 3  # of other work on this machine
    check(record, lowest)
