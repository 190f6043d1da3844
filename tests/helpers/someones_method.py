"""Methods that live outside the package, as `module=` names them; some of them break the contract."""

from __future__ import annotations

import time
from typing import Any

from certlip.base.errors import UnsupportedLayer
from certlip.base.record import Kind
from certlip.methods import Bound, MethodInfo
from certlip.network import Network

INFO = MethodInfo("Someone's own", Kind.ESTIMATE, "unpublished", reads_biases=True)


def bound(
    network: Network,
    *,
    what: str = "value",
    factor: float = 2.0,
    data: Any = None,
    seed: int = 0,
    threads: int = 1,
    max_seconds: float | None = None,
) -> Bound:
    """An estimate, or whatever else is asked for."""
    if what == "sleep":
        time.sleep(60)
    if what == "bug":
        raise ZeroDivisionError("a bug")
    if what == "refusal":
        raise UnsupportedLayer("block3.attn: no bound for MultiheadAttention")
    if what == "unproved":
        return Bound(1.0, kind=Kind.CERTIFIED)
    if what == "nan":
        return Bound(float("nan"))
    filled = {"n_images": 0 if data is None else len(data), "seed": seed, "n_threads": threads, "limit": max_seconds}
    return Bound(factor, details={"n_layers": len(network.layers), "iterations": 7, **filled})
