"""Results such as a run makes them: many methods and networks, failures, sweeps; seeded, no network is bounded."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pandas as pd

from certlip.base.record import Kind, Record, Status
from certlip.collect import collect

# method -> kind, tightness between product (1) and lower, seconds
METHODS = {
    "product": (Kind.CERTIFIED, 1.0, 0.004),
    "autolip": (Kind.ESTIMATE, 0.93, 0.5),
    "seqlip": (Kind.ESTIMATE, 0.08, 8.0),
    "gram": (Kind.CERTIFIED, 1.001, 0.1),
    "gram-12": (Kind.CERTIFIED, 1.0005, 0.2),
    "eclipse_fast": (Kind.CERTIFIED, 0.8, 0.4),
    "eclipse": (Kind.CERTIFIED, 0.75, 12.0),
    "liplt": (Kind.CERTIFIED, 0.7, 0.3),
    "lipsdp_layer": (Kind.CERTIFIED, 0.55, 30.0),
    "lipsdp": (Kind.CERTIFIED, 0.42, 4000.0),
    "dcp-2x2-sum": (Kind.CERTIFIED, 0.76, 80.0),
    "dcp-2x2-cover": (Kind.CERTIFIED, 0.7, 80.0),
    "dcp-2x2-weighted": (Kind.CERTIFIED, 0.6, 90.0),
    "dcp-2x2-folded": (Kind.CERTIFIED, 0.48, 60.0),
    "someones_own": (Kind.CERTIFIED, 0.9, 2.0),
    "lower": (Kind.LOWER, 0.1, 20.0),
}
REASON = "conv_3: a dense matrix | 3216 x 4000 |\nexceeds 1e+08 entries, 50% more than allowed"


def comparison(
    networks: Iterable[str] = (), methods: Iterable[str] = METHODS, channels: Iterable[int] = (), seed: int = 0
) -> pd.DataFrame:
    """The frame of `collect`; lipsdp and seqlip fail on about every third network, never on the first."""
    rng = random.Random(seed)
    records, about = [], {}
    sweep = {f"block-c{c:02d}": c for c in channels}
    for index, network in enumerate([*networks, *sweep]):
        size = 2.0 + sweep[network] if network in sweep else 10 ** rng.uniform(0, 6)
        about[network] = {"experiment": "width_sweep", "x": sweep[network]} if network in sweep else {}
        for method in methods:
            kind, tightness, seconds = METHODS[method]
            failed = method in ("lipsdp", "seqlip") and index and rng.random() < 0.3
            outcome = (
                {"status": Status.MEMORY_LIMIT, "reason": REASON}
                if failed
                else {"value": size * tightness * (1 if kind == Kind.LOWER else rng.uniform(1, 1.1))}
            )
            costs = {"seconds": seconds * rng.uniform(0.5, 2), "peak_mb": rng.uniform(150, 3000)}
            records.append(Record(network=network, method=method, kind=kind, **outcome, **costs))
    return collect(records, about)
