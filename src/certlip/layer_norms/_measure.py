"""The rivals side by side, and Gram iteration against its formula as it stands in the paper."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from certlip.base import limits, plugins
from certlip.base.limits import Limits, load_scipy
from certlip.layer_norms import gram, names
from certlip.layer_norms._shapes import ConvShape
from certlip.network import Array, Conv, Shape

if TYPE_CHECKING:
    import pandas as pd


def measure(layers: Mapping[str, tuple[Conv, Shape]], published: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """One row a layer and rival: layer, method, title, kind, value, norm, ratio, seconds, published.

    layers: name -> convolution and the shape of its inputs; published: layer -> rival -> what a paper prints for such a
    layer; norm: the layer's, proved from above to about 1e-9: of its own matrix where that is small, else on its torus
    (`certlip.proof.norms`); ratio: value / norm; seconds: wall time of the one call,
    on one thread.
    """
    import pandas as pd

    rivals = {name: plugins.load(__package__, name) for name in names()}
    for plug_in in rivals.values():  # what a first call loads is no rival's time
        plug_in.norm(Conv("small", np.ones((1, 1, 3, 3)), np.zeros(1)), (1, 3, 3))
    rows = []
    for layer, (conv, shape) in layers.items():
        measured = {rival: _timed(plug_in.norm, conv, shape) for rival, plug_in in rivals.items()}
        norm = measured["certified"][0]
        for rival, (value, seconds) in measured.items():
            rows.append(
                {
                    "layer": layer,
                    "method": rival,
                    "title": rivals[rival].INFO.title,
                    "kind": str(rivals[rival].INFO.kind),
                    "value": value,
                    "norm": norm,
                    "ratio": value / norm,
                    "seconds": seconds,
                    "published": published.get(layer, {}).get(rival, math.nan),
                }
            )
    return pd.DataFrame(rows)


def gram_speed(shapes: Mapping[str, ConvShape], seed: int = 0) -> pd.DataFrame:
    """One row a layer: layer, seconds, naive_seconds, speedup, value, naive_value; unpadded layers of stride one.

    Both do five steps; the naive ones in complex128 on every frequency (`naive_gram`).
    """
    import pandas as pd

    load_scipy()
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


def _timed(function: Callable[..., float], *arguments: Any) -> tuple[float, float]:
    measured = limits.call(function, *arguments, limit=Limits(threads=1))
    return measured.value, measured.seconds
