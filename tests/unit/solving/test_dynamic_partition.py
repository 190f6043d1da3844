"""A dynamic partition is no worse than any given one of its merge whose measured time is within its budget."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import certlip
from certlip import zoo
from certlip.base.limits import Limits
from certlip.base.record import Record
from certlip.solving.calibrate import Case, load_or_calibrate

SMALL = {
    "cnn1": ("cnn1", {"channels": 1}),
    "trade-off": ("conv_block", {"channels": 1, "n_layers": 4, "kernel": 3, "image_size": (14, 14)}),
}
PAPER = {
    "cnn1": ("cnn1", {"channels": 5}),
    "cnn2": ("cnn2", {}),
    "trade-off": ("conv_block", {"channels": 1, "n_layers": 10, "kernel": 5, "image_size": (64, 64)}),
}


def compare(case: tuple[str, dict[str, Any]], budget: float, limit: Limits, **given: Any) -> None:
    """Bound a network of the zoo with random weights by given grids and by an automatic plan, and compare them."""
    architecture, options = case
    module, shape = zoo.make(architecture, 1, **options), zoo.input_shape(architecture, **options)
    limits = {"max_seconds": limit.max_seconds, "max_memory_mb": limit.max_memory_mb}
    load_or_calibrate("auto", limit, given["cache"])

    def bound(**method: Any) -> tuple[Record, float]:
        begin = time.perf_counter()
        record = certlip.bound(module, shape, method="dcp", merge="folded", **limits, **given, **method)
        return record, time.perf_counter() - begin

    auto, _ = bound(grid="auto", cuts="auto", budget=budget)
    assert auto.value is not None, auto.reason
    for side in (2, 3, 4):
        record, seconds = bound(grid=(side, side))
        if record.value is not None and seconds <= budget:
            assert auto.value <= record.value, f"{side}x{side} took {seconds:.1f} s"


@pytest.mark.parametrize("network", SMALL)
def test_small_versions_of_the_papers_networks(network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certlip.solving.calibrate.ALONE", (Case(2, 1, 10), Case(2, 2, 12, 3)))
    monkeypatch.setattr("certlip.solving.calibrate.JOINT", (Case(2, 1, 10, 0, 2), Case(3, 2, 12, 0, 2)))
    monkeypatch.setattr("certlip.solving.calibrate.REPEATED_SECONDS", 0.1)
    compare(SMALL[network], 60.0, Limits(1, 60.0, 4000.0), cache=tmp_path)


@pytest.mark.nightly
@pytest.mark.parametrize("network", PAPER)
def test_the_papers_networks_with_the_papers_limits(network: str, tmp_path: Path) -> None:
    compare(PAPER[network], 30.0, Limits(1, 60.0, 8000.0), cache=tmp_path)
