"""Stored proofs. A certificate carries the network itself, so that anyone can re-check it with nothing else at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from certlip.base.errors import DataError
from certlip.base.files import floats, number, read_npz, text, whole, write_npz
from certlip.base.rounding import multiply_up, sqrt_up
from certlip.network import Array, Network
from certlip.network.scaling import multiply_back
from certlip.network.window import Window
from certlip.proof.certify import Certified
from certlip.proof.merge import along


@dataclass(frozen=True, eq=False)
class BlockProof:
    """One verified point of a LipSDP: P(rho, T) >= 0 for the sub-network of each window (None: the whole map).

    metric: d of shape (n_0,) where P_00 = rho diag(d), None for ones; stage: of a `SegmentProof` with cuts.
    """

    windows: tuple[Window | None, ...]
    rho: float
    multipliers: tuple[Array, ...]
    metric: Array | None = None
    stage: int = 0


@dataclass(frozen=True, eq=False)
class SegmentProof:
    """Why layers [first, last) have the Lipschitz constant `constant`.

    rule ``constants``: each layer has its entry of `constants`, which `certlip.proof.merge.along` joins;
    one of `certlip.proof.merge.TOTALS`: the merge of `blocks`;
    ``metric``: the merge of the metrics of `blocks`, rho = 1; between `cuts`, layer indices, lie stages, and each takes
    the merged metric of the stage after it as output metric;
    ``torus``: `blocks` is one, its multipliers one a channel of each node of the stretch's `Relaxation`;
    ``recomputed``: `method` with `options`, which is deterministic and certified, gives it.
    """

    first: int
    last: int
    rule: str
    constant: float
    constants: tuple[float, ...] = ()
    blocks: tuple[BlockProof, ...] = ()
    method: str = ""
    options: Mapping[str, Any] | None = None
    cuts: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class UpperCertificate:
    """The network's Lipschitz constant is at most `value`.

    exponents: e of each layer, none where all are zero. The segments prove their constants of the layers divided by 2^e
    (`certlip.network.scaling.divide`); `value` is the product of these, rounded up, times 2^(sum of e).
    rewritten: whether segments and exponents are about the layers of `network.chain`.
    """

    network: Network
    segments: tuple[SegmentProof, ...]
    exponents: tuple[int, ...] = ()
    rewritten: bool = False

    @property
    def value(self) -> float:
        return multiply_back(multiply_up(s.constant for s in self.segments), self.exponents)

    @classmethod
    def from_constants(cls, network: Network, constants: Sequence[float]) -> UpperCertificate:
        """One certified constant a layer, in order."""
        return cls(network, (constants_proof(0, network, constants),))

    @classmethod
    def from_multipliers(cls, network: Network, scale: float, certified: Certified) -> UpperCertificate:
        """One verified LipSDP point of the network's whole `Chain`, and the chain's scale."""
        block = BlockProof((None,), certified.rho, certified.multipliers)
        constant = multiply_up([scale, certified.bound])
        return cls(network, (SegmentProof(0, len(network.layers), "sum", constant, blocks=(block,)),))

    @classmethod
    def recomputed(cls, network: Network, method: str, options: Mapping[str, Any], value: float) -> UpperCertificate:
        """A value that verification computes again with a method of this package."""
        segment = SegmentProof(0, len(network.layers), "recomputed", value, method=method, options=dict(options))
        return cls(network, (segment,))

    def save(self, path: str | Path) -> None:
        """Write a .npz file that `load` reads without pickle."""
        described, arrays = self.network.to_arrays()
        segments = []
        for s, segment in enumerate(self.segments):
            blocks = []
            for b, block in enumerate(segment.blocks):
                blocks.append(
                    {"windows": [w and list(w) for w in block.windows], "rho": block.rho, "stage": block.stage}
                )
                for t, multiplier in enumerate(block.multipliers):
                    arrays[f"multipliers.{s}.{b}.{t}"] = multiplier
                if block.metric is not None:
                    arrays[f"metric.{s}.{b}"] = block.metric
            entry = {key: getattr(segment, key) for key in _SEGMENT_FIELDS}
            segments.append(
                {**entry, "constants": list(segment.constants), "cuts": list(segment.cuts), "blocks": blocks}
            )
        header = {"certificate": "upper", "network": described, "sha256": self.network.sha256, "segments": segments}
        write_npz(path, {**header, "exponents": list(self.exponents), "rewritten": self.rewritten}, arrays)


_SEGMENT_FIELDS = ("first", "last", "rule", "constant", "method", "options")


@dataclass(frozen=True, eq=False)
class LowerCertificate:
    """The network's Lipschitz constant is at least `value`: its directional derivative at a point.

    point, direction: of the network's input shape.
    """

    network: Network
    point: Array
    direction: Array
    value: float

    def save(self, path: str | Path) -> None:
        """Write a .npz file that `load` reads without pickle."""
        described, arrays = self.network.to_arrays()
        header = {"certificate": "lower", "network": described, "sha256": self.network.sha256, "value": self.value}
        write_npz(path, header, {**arrays, "point": self.point, "direction": self.direction})


@dataclass(frozen=True, eq=False)
class LocalCertificate:
    """|f(x) - f(point)| <= `value` |x - point| for all |x - point| <= radius.

    slopes: smallest and largest, (n_i,) each, of the neurons of each layer of activations, in order, for increments
    from the point; rho, multipliers: a verified point of the matrix inequality with these slopes
    (`certlip.proof.local.inequality`).
    """

    network: Network
    point: Array
    radius: float
    slopes: tuple[tuple[Array, Array], ...]
    rho: float
    multipliers: tuple[Array, ...]

    @property
    def value(self) -> float:
        return sqrt_up(self.rho)

    def save(self, path: str | Path) -> None:
        """Write a .npz file that `load` reads without pickle."""
        described, arrays = self.network.to_arrays()
        header = {"certificate": "local", "network": described, "sha256": self.network.sha256}
        own = {f"slopes.{i}.{end}": array for i, ends in enumerate(self.slopes) for end, array in enumerate(ends)}
        own |= {f"multipliers.{i}": array for i, array in enumerate(self.multipliers)}
        write_npz(path, {**header, "radius": self.radius, "rho": self.rho}, {**arrays, **own, "point": self.point})


Certificate = UpperCertificate | LowerCertificate | LocalCertificate


def kind(path: str | Path) -> str:
    """``upper``, ``lower``, ``local``, ``blocks`` (`certlip.solving.solved_files.save_solved`),
    or ``none`` (`certlip.solving.evaluate.save_none`).

    Raises DataError for other files.
    """
    return _kind(path, read_npz(path)[0])


def _kind(path: str | Path, header: Mapping[str, Any]) -> str:
    found = header.get("certificate")
    if found in ("graph", "torus"):
        raise DataError(f"{path} is of an older version, for a network that is no chain; bound the network again")
    if found not in ("upper", "lower", "local", "blocks", "none"):
        raise DataError(f"{path} is not a certlip certificate")
    return str(found)


def load(path: str | Path) -> Certificate:
    """Read a certificate; raises DataError if the file is missing, damaged or not one."""
    header, arrays = read_npz(path)
    if _kind(path, header) == "none":
        raise DataError(f"{path} holds no certificate: {header.get('reason')}")
    try:
        network = Network.from_arrays(header["network"], arrays)
        if network.sha256 != header["sha256"]:
            raise DataError(f"{path}: the network inside does not match its sha256; do not trust this file")
        if header["certificate"] == "lower":
            point, direction = (floats(arrays[key]) for key in ("point", "direction"))
            return LowerCertificate(network, point, direction, number(header["value"]))
        if header["certificate"] == "local":
            slopes = tuple(zip(_series(arrays, "slopes.{}.0"), _series(arrays, "slopes.{}.1"), strict=True))
            multipliers = tuple(_series(arrays, "multipliers.{}"))
            radius, rho = number(header["radius"]), number(header["rho"])
            return LocalCertificate(network, floats(arrays["point"]), radius, slopes, rho, multipliers)
        segments = tuple(_read_segment(s, entry, arrays) for s, entry in enumerate(header["segments"]))
        exponents = tuple(map(whole, header.get("exponents", ())))
        return UpperCertificate(network, segments, exponents, header.get("rewritten", False) is True)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise DataError(f"{path} is not a certlip certificate ({error!r}); make it again") from error


def constants_proof(first: int, network: Network, constants: Sequence[float]) -> SegmentProof:
    """The proof of a stretch of layers that begins at `first`, by one constant a layer."""
    values = tuple(float(c) for c in constants)
    return SegmentProof(first, first + len(values), "constants", along(network, values), constants=values)


def _series(arrays: Mapping[str, Array], key: str) -> list[Array]:
    """The arrays under a key with 0, 1, ... in its place for a number."""
    found: list[Array] = []
    while (name := key.format(len(found))) in arrays:
        found.append(floats(arrays[name]))
    return found


def _read_segment(s: int, entry: dict[str, Any], arrays: dict[str, Array]) -> SegmentProof:
    blocks = []
    for b, block in enumerate(entry["blocks"]):
        multipliers = _series(arrays, f"multipliers.{s}.{b}.{{}}")
        windows = tuple(None if w is None else Window(*map(whole, w)) for w in block["windows"])
        metric = arrays.get(f"metric.{s}.{b}")
        metric = None if metric is None else floats(metric)
        blocks.append(BlockProof(windows, number(block["rho"]), tuple(multipliers), metric, whole(block["stage"])))
    return SegmentProof(
        first=whole(entry["first"]),
        last=whole(entry["last"]),
        rule=text(entry["rule"]),
        constant=number(entry["constant"]),
        constants=tuple(map(number, entry["constants"])),
        blocks=tuple(blocks),
        method=text(entry["method"]),
        options=None if entry["options"] is None else dict(entry["options"]),
        cuts=tuple(map(whole, entry["cuts"])),
    )
