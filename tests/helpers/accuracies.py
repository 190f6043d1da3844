"""Rows of certified accuracy as the workflow collects them, of records that say what it takes."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pandas as pd

from certlip.base.errors import Refusal
from certlip.certify.accuracies import Accuracy, collect

REPORTED = {
    "source": "S 2001",
    "note": "note",
    "accuracy": {"radius": 0.3, "certified": {"Theirs": 0.325}, "attacked": 0.54},
}


def rows_of(networks: Sequence[str], waiting: Sequence[str] = ()) -> pd.DataFrame:
    """Of two methods on each network, a figure of others of the first; and of one method on those that wait."""
    records = [_record(network, method, reach) for network in networks for method, reach in _REACHES.items()]
    refusal = Refusal("no_data", "not there")
    records += [Accuracy.refused(refusal, network=network, method="product") for network in waiting]
    text = collect(records, dict.fromkeys(networks[:1], REPORTED)).to_csv(index=False)
    return pd.read_csv(io.StringIO(text))


_REACHES = {"product": 0.15, "lipsdp": 0.35}


def _record(network: str, method: str, reach: float) -> Accuracy:
    n = 40
    return Accuracy(
        network=network,
        method=method,
        wanted=(0.1, 0.3),
        right=tuple(k > 4 for k in range(n)),
        radii=tuple(reach * k / n if k > 4 else 0.0 for k in range(n)),
        nearest=tuple(0.0 if k <= 4 else None if k > 35 else 0.4 * k / n for k in range(n)),
        n_bounded=7,
        seconds=3.2,
    )
