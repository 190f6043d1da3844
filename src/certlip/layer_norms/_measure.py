"""The rivals side by side, and Gram iteration against its formula as it stands in the paper."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from certlip import norms, plugins
from certlip.files import write_atomically
from certlip.layer_norms import gram
from certlip.layer_norms._shapes import ConvShape
from certlip.network import Array


def measure(shapes: Mapping[str, ConvShape], rivals: Sequence[str], seed: int = 0) -> pd.DataFrame:
    """One row a layer and rival: layer, method, title, kind, value, exact, ratio, seconds, published.

    rivals: names of `certlip.layer_norms`; exact: norm on the layer's torus, proved from above to about 1e-9; ratio:
    value / exact; seconds: wall time of the one call; published: what a paper prints for such a layer, else missing.
    Raises ConfigError for an unknown rival.
    """
    plug_ins = {name: plugins.load(__package__, name) for name in rivals}
    rows = []
    for name, shape in shapes.items():
        layer = shape.layer(name, seed)
        exact = norms.layer_constant(layer, shape.input_shape)
        for rival, plug_in in plug_ins.items():
            value, seconds = _timed(plug_in.norm, layer, shape.input_shape)
            rows.append(
                {
                    "layer": name,
                    "method": rival,
                    "title": plug_in.INFO.title,
                    "kind": str(plug_in.INFO.kind),
                    "value": value,
                    "exact": exact,
                    "ratio": value / exact,
                    "seconds": seconds,
                    "published": shape.published.get(rival, math.nan),
                }
            )
    return pd.DataFrame(rows)


def gram_speed(shapes: Mapping[str, ConvShape], seed: int = 0) -> pd.DataFrame:
    """One row a layer: layer, seconds, naive_seconds, speedup, value, naive_value; unpadded layers of stride one.

    Both do five steps; the naive ones in complex128 on every frequency (`naive_gram`).
    """
    rows = []
    for name, shape in shapes.items():
        plain = ConvShape(shape.c_in, shape.c_out, shape.kernel, shape.image, kaiming=shape.kaiming)
        layer = plain.layer(name, seed)
        naive_value, naive_seconds = _timed(naive_gram, layer.weight, plain.image, 5)
        value, seconds = _timed(gram.norm, layer, plain.input_shape)
        rows.append(
            {
                "layer": name,
                "seconds": seconds,
                "naive_seconds": naive_seconds,
                "speedup": naive_seconds / seconds,
                "value": value,
                "naive_value": naive_value,
            }
        )
    return pd.DataFrame(rows)


def naive_gram(weight: Array, image: int, n_iter: int) -> float:
    """Gram iteration as written in the paper: complex128, every frequency, no rounding margin. Not a bound."""
    spectrum = np.fft.fft2(weight, s=(image, image)).reshape(*weight.shape[:2], -1).transpose(2, 0, 1)
    exponent = np.zeros(len(spectrum))
    for _ in range(n_iter):
        frobenius = np.linalg.norm(spectrum, axis=(1, 2))
        exponent = 2 * (exponent + np.log(frobenius))
        spectrum = spectrum / frobenius[:, None, None]
        spectrum = spectrum.conj().swapaxes(1, 2) @ spectrum
    frobenius = np.linalg.norm(spectrum, axis=(1, 2))
    return float(np.exp((exponent + np.log(frobenius)) * 0.5**n_iter).max())


def save(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a frame as csv."""
    with write_atomically(path, "w") as handle:
        frame.to_csv(handle, index=False)


def _timed(function: Callable[..., float], *arguments: Any) -> tuple[float, float]:
    begin = time.perf_counter()
    value = function(*arguments)
    return value, time.perf_counter() - begin
