"""Kinds of forgery: a name each, and how it changes the header and the arrays of an honest file in place.

A kind that finds nothing to change in a file leaves it as it is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from certlip.network import Network

Header = dict[str, Any]
Arrays = dict[str, np.ndarray]
Forgery = Callable[[Header, Arrays], object]

NUMBERS: dict[str, Callable[[float], Any]] = {
    "halved": lambda x: x / 2,
    "a little smaller": lambda x: x * 0.99,
    "the next smaller": lambda x: math.nextafter(x, -math.inf),
    "zero": lambda x: 0.0,
    "negative": lambda x: -x,
    "tiny": lambda x: 5e-324,
    "nan": lambda x: math.nan,
    "infinite": lambda x: math.inf,
    "minus infinity": lambda x: -math.inf,
    "doubled": lambda x: 2 * x,
    "null": lambda x: None,
    "true": lambda x: True,
    "text": str,
    "gigantic": lambda x: 10**400,
    "a list": lambda x: [x],
}
ARRAYS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "halved": lambda a: a / 2,
    "doubled": lambda a: 2 * a,
    "a little smaller": lambda a: a * 0.99,
    "zero": lambda a: 0 * a,
    "negative": lambda a: -a,
    "huge": lambda a: a * 1e200,
    "tiny": lambda a: a * 1e-200,
    "nan": lambda a: a * math.nan,
    "first infinite": lambda a: np.where(np.arange(a.size).reshape(a.shape) == 0, math.inf, a),
    "first zero": lambda a: np.where(np.arange(a.size).reshape(a.shape) == 0, 0.0, a),
    "reversed": lambda a: a[..., ::-1].copy(),
    "shorter": lambda a: np.atleast_1d(a)[..., :-1],
    "longer": lambda a: np.append(a, 1.0),
    "of one axis more": lambda a: a[None],
    "complex": lambda a: a + 0j,
    "of single precision": lambda a: a.astype(np.float32),
    "of half precision": lambda a: a.astype(np.float16),
    "of whole numbers": lambda a: a.astype(np.int64),
    "of small whole numbers": lambda a: a.astype(np.int8),
    "of truth values": lambda a: a > 0,
    "text": lambda a: a.astype("U5"),
    "of big-endian numbers": lambda a: a.astype(">f8"),
}
WINDOWS: dict[str, Callable[[list[Any]], list[Any]]] = {
    "all but one": lambda w: w[:-1],
    "none": lambda w: [],
    "the first twice": lambda w: [w[0], *w],
    "the first instead of all": lambda w: [w[0] for _ in w],
    "one shifted": lambda w: [_moved(w[0], 1), *w[1:]],
    "one negative": lambda w: [_moved(w[0], -1), *w[1:]],
    "one turned over": lambda w: [w[0] and [w[0][1], w[0][0], *w[0][2:]], *w[1:]],
    "one larger": lambda w: [w[0] and [w[0][0], w[0][1] + 1, *w[0][2:]], *w[1:]],
    "gigantic": lambda w: [[0, 10**30, 0, 10**30]],
    "far away": lambda w: [_moved(w[0], 2**40), *w[1:]],
    "of fractions": lambda w: [w[0] and [float(x) for x in w[0]], *w[1:]],
    "of three numbers": lambda w: [w[0] and w[0][:3], *w[1:]],
    "the whole map": lambda w: [None],
    "the whole map besides": lambda w: [None, *w],
}
SEGMENTS: dict[str, Callable[[list[Any]], list[Any]]] = {
    "without the first": lambda s: s[1:],
    "without the last": lambda s: s[:-1],
    "none": lambda s: [],
    "turned over": lambda s: s[::-1] if len(s) > 1 else s,
    "twice": lambda s: s + s,
    "first empty": lambda s: [{**s[0], "last": s[0]["first"]}, *s[1:]],
    "last too long": lambda s: [*s[:-1], {**s[-1], "last": s[-1]["last"] + 1}],
    "last too short": lambda s: [*s[:-1], {**s[-1], "last": s[-1]["last"] - 1}],
    "beginning below zero": lambda s: [{**s[0], "first": -1}, *s[1:]],
    "beginning late": lambda s: [{**s[0], "first": 1}, *s[1:]],
}


def _moved(window: list[int] | None, by: int) -> list[int] | None:
    return window and [window[0] + by, window[1] + by, *window[2:]]


def _segments(header: Header) -> list[Header]:
    return header.get("segments", [])


def _entries(header: Header) -> list[Header]:
    """What states a rho."""
    own = [header] if "rho" in header else []
    return [block for segment in _segments(header) for block in segment["blocks"]] + header.get("solved", []) + own


def _changed(owners: Callable[[Header], list[Header]], key: str, change: Callable[[Any], Any]) -> Forgery:
    """The entry of each owner that has one, changed."""

    def forge(header: Header, arrays: Arrays) -> None:
        for owner in owners(header):
            if owner.get(key) not in (None, [], ""):
                owner[key] = change(owner[key])

    return forge


def _each(change: Callable[[Any], Any], which: Callable[[int], bool] = lambda i: True) -> Callable[[list[Any]], list]:
    return lambda values: [change(x) if which(i) else x for i, x in enumerate(values)]


def _of_arrays(start: str, change: Callable[[np.ndarray], np.ndarray]) -> Forgery:
    return lambda header, arrays: arrays.update({k: change(a) for k, a in arrays.items() if k.startswith(start)})


def _of_network(change: Callable[[Header, Arrays], object]) -> Forgery:
    """Another network inside, whose hash is stated rightly: the proof must be of that one."""

    def forge(header: Header, arrays: Arrays) -> None:
        change(header["network"], arrays)
        header["sha256"] = Network.from_arrays(header["network"], arrays).sha256

    return forge


def _last_weight(change: Callable[[np.ndarray], np.ndarray]) -> Forgery:
    def forge(network: Header, arrays: Arrays) -> None:
        key = [k for k in arrays if k.endswith(".weight")][-1]
        arrays[key] = change(arrays[key])

    return forge


def _layers(network: Header) -> list[Header]:
    return network["layers"]


def _set(layer: str, /, **values: Any) -> Forgery:
    return lambda network, arrays: [e.update(values) for e in _layers(network) if e["layer"] == layer]


def _swapped(arrays: Arrays, start: str) -> None:
    keys = [k for k in arrays if k.startswith(start)]
    arrays.update(dict(zip(keys, [arrays[k] for k in keys[::-1]], strict=True)))


def _deep(n: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(n):
        inner = [inner]
    return inner


def _kinds() -> Iterator[tuple[str, Forgery]]:
    lower = lambda header: [header] if header["certificate"] == "lower" else []  # noqa: E731
    for how, change in NUMBERS.items():
        yield f"a segment's constant {how}", _changed(_segments, "constant", change)
        yield f"layer constants {how}", _changed(_segments, "constants", _each(change))
        yield f"the first layer's constant {how}", _changed(_segments, "constants", _each(change, lambda i: i == 0))
        yield f"rho {how}", _changed(_entries, "rho", change)
        yield f"an attained value {how}", _changed(lower, "value", change)
    yield "two layer constants negative", _changed(_segments, "constants", _each(lambda x: -x, lambda i: i < 2))
    yield "layer constants in another order", _changed(_segments, "constants", lambda c: c[::-1])
    yield "one layer constant less", _changed(_segments, "constants", lambda c: c[:-1])
    yield "one layer constant more", _changed(_segments, "constants", lambda c: [*c, 0.5])
    for start, (how, change) in itertools.product(("multipliers.", "metric.", "point", "direction"), ARRAYS.items()):
        yield f"{start.strip('.')} {how}", _of_arrays(start, change)
    for start in ("multipliers.", "metric."):
        yield f"{start.strip('.')} in another order", lambda header, arrays, start=start: _swapped(arrays, start)
        yield (
            f"{start.strip('.')} left out",
            lambda header, arrays, start=start: [arrays.pop(k) for k in list(arrays) if k.startswith(start)],
        )
    yield "multipliers besides", lambda header, arrays: arrays.update({"multipliers.0.0.7": np.ones(2)})
    yield "a metric besides", lambda header, arrays: arrays.update({"metric.0.0": np.full(12, 1e-9)})
    for how, change in WINDOWS.items():
        yield f"patches: {how}", _changed(_entries, "windows", change)
    for how, change in SEGMENTS.items():
        yield f"segments: {how}", _changed(lambda header: [header], "segments", change)
    for rule in ("constants", "sum", "cover", "metric", "torus", "recomputed", "luck", ["sum"]):
        yield f"rule {rule}", _changed(_segments, "rule", lambda _, rule=rule: rule)
    for stage in (0, 1, -1, 7, True):
        yield f"stages {stage}", lambda header, arrays, stage=stage: [b.update(stage=stage) for b in _entries(header)]
    yield "no cuts", _changed(_segments, "cuts", lambda cuts: [])
    yield "cuts twice", _changed(_segments, "cuts", lambda cuts: cuts + cuts)
    yield "cuts moved", _changed(_segments, "cuts", _each(lambda cut: cut - 1))
    for method in ("gram", "seqlip", "lower", "autolip", "dcp", "os", "../x"):
        yield f"method {method}", _changed(_segments, "method", lambda _, method=method: method)
    for name, options in (("estimate", {"mode": "greedy"}), ("unknown", {"trust": 1}), ("ill-typed", {"n_iter": "1"})):
        yield f"{name} options", _changed(_segments, "options", lambda _, options=options: options)
    yield from _kinds_of_network()
    for kind in ("upper", "lower", "graph", "torus", "none", "blocks", "proof", None, ["upper"]):
        yield f"certificate called {kind}", lambda header, arrays, kind=kind: header.update(certificate=kind)
    for key in ("network", "segments", "exponents", "rewritten", "value", "sha256"):
        yield f"no {key}", lambda header, arrays, key=key: header.pop(key, None)
        yield f"{key} null", lambda header, arrays, key=key: header.update({key: None})
        yield f"{key} nested", lambda header, arrays, key=key: header.update({key: _deep(200)})
    yield "a refusal besides", lambda header, arrays: header.update(refused="no", status="ok")


def _kinds_of_network() -> Iterator[tuple[str, Forgery]]:
    for how in ("halved", "doubled", "a little smaller", "zero", "negative", "huge", "tiny", "reversed"):
        yield f"weights {how}", _of_network(_last_weight(ARRAYS[how]))
    yield "weights ten times as large", _of_network(_last_weight(lambda a: 10 * a))
    yield "weights changed under the old hash", _last_weight(lambda a: 10 * a)
    yield "one layer less", _of_network(lambda network, arrays: _layers(network).pop())
    yield "activations steeper", _of_network(_set("Activation", kind="leaky_relu", negative_slope=9.0))
    yield "activations without bound", _of_network(_set("Activation", kind="square"))
    for key, value in (
        *(("negative_slope", v) for v in (True, math.nan, 10**400, "0.1")),
        *(("kind", v) for v in (["relu"], {}, None)),
        *(("name", v) for v in (3, "two\nlines", _deep(300))),
    ):
        yield f"activations with {key} {value!r:.12}", _of_network(_set("Activation", **{key: value}))
    for key, value in (
        *(("groups", v) for v in (True, 0, 2, 1.0)),
        *(("stride", v) for v in ([True, True], [2, 2], [0, 1], [10**30, 1], [1])),
        *(("padding", v) for v in ([1, 1, 1, 1], [10**9, 0, 0, 0], [-1, 0, 0, 0])),
        *(("dilation", v) for v in ([2, 1], [10**30, 1])),
    ):
        yield f"convolutions with {key} {value}", _of_network(_set("Conv", **{key: value}))
    for shape in ([1, 5, 3], [1, 10**5, 10**5], [1, 10**30, 3], [True, 4, 3], [1.0, 4.0, 3.0], [], [12]):
        yield (
            f"input of shape {shape}",
            _of_network(lambda network, arrays, shape=shape: network.update(input_shape=shape)),
        )

    for how, change in SOURCES.items():
        yield f"sources {how}", _of_network(lambda network, arrays, change=change: _rewired(network, change))
    for value in (True, False, None, 1, "true"):
        yield f"rewritten {value!r}", lambda header, arrays, value=value: header.update(rewritten=value)


SOURCES: dict[str, Callable[[list[list[Any]]], Any]] = {
    "of the last layer are the input": lambda s: [*s[:-1], [0 for _ in s[-1]]],
    "of the second layer are the input": lambda s: [s[0], [0], *s[2:]],
    "of the last layers are the first value": lambda s: [*s[:-2], *([1 for _ in of_layer] for of_layer in s[-2:])],
    "are later values": lambda s: [*s[:-1], [len(s) for _ in s[-1]]],
    "are truth values": lambda s: [*s[:-1], [True for _ in s[-1]]],
    "are fractions": lambda s: [*s[:-1], [float(i) for i in s[-1]]],
    "are negative": lambda s: [*s[:-1], [-1 for _ in s[-1]]],
    "are gigantic": lambda s: [*s[:-1], [10**30 for _ in s[-1]]],
    "are twice as many": lambda s: [*s[:-1], s[-1] * 2],
    "are missing for a layer": lambda s: s[:-1],
    "are those of a chain": lambda s: [],
    "are a text": lambda s: "sources",
}


def _rewired(network: Header, change: Callable[[list[list[Any]]], Any]) -> None:
    chain = [[k] for k in range(len(network["layers"]))]
    network["sources"] = change(network.get("sources", chain))


KINDS: dict[str, Forgery] = dict(_kinds())
