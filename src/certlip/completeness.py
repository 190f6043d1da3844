"""Whether a folder of results is whole: each expected row is there, and each claim holds by its own files alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import joblib
import pandas as pd

from certlip.base.errors import CertlipError, DataError
from certlip.base.record import Kind, Record, Status
from certlip.certify.proving import Expected, accuracies_flaws, accuracy_flaw
from certlip.collect import COLUMNS, check, collect, read
from certlip.proof import certificate as certificates
from certlip.proof.certificate import LowerCertificate, UpperCertificate
from certlip.verify import verify

Pair = tuple[str, str]
"""(network, method)."""

_NOT_IN_RECORDS = (
    *("experiment", "x", "test_accuracy", "known_constant"),
    *("reported", "reported_seconds", "reported_by", "published"),
)
"""Columns that come from the configuration and from training."""


def prove(
    results: str | Path,
    rows: Sequence[Pair],
    networks: Mapping[str, Mapping[str, Any]],
    n_jobs: int = 1,
    accuracies: Mapping[str, Any] | None = None,
) -> dict[str, int]:
    """Prove the folder again, `n_jobs` certificates at a time, and say how much there was to prove.

    rows: those to expect; networks: the entry of each row's network; accuracies: what certified accuracy to expect, as
    of `Expected`. A network's file must be what its weights export to, or the refusal that they export to; a certified
    or lower value must be proved by its certificate, of the network that the weights export to; bounds.csv must say
    what the records say, and certify nothing below what is attained or known. So must radii of images be proved by
    certificates, and what an attack found by its points, and certified_accuracy.csv say what the records say.

    Raises DataError, one sentence that names the first things that do not hold.
    """
    from certlip.exported import exported_sha256  # imports torch, which the processes that prove do without

    folder = Path(results)
    flaws: list[str] = []
    exported: dict[str, str | None] = {}
    expected = Expected(**(accuracies or {}))
    for name in dict.fromkeys(network for network, _ in [*rows, *expected.rows]):
        try:
            exported[name] = exported_sha256(folder / "networks", name, networks[name])
        except CertlipError as error:
            flaws.append(str(error))
    todo = [joblib.delayed(_row_flaw)(folder, row, exported[row[0]]) for row in rows if row[0] in exported]
    todo += [
        joblib.delayed(accuracy_flaw)(folder, row, exported[row[0]], expected)
        for row in map(tuple, expected.rows)
        if row[0] in exported
    ]
    flaws += filter(None, joblib.Parallel(n_jobs)(todo))
    flaws = flaws or _table_flaws(folder, rows) or accuracies_flaws(folder, expected)
    if flaws:
        more = f"; and {len(flaws) - 3} more" if len(flaws) > 3 else ""
        raise DataError(f"not sound: {'; '.join(flaws[:3])}{more}")
    bounds = read(folder / "bounds.csv")
    counts = bounds[bounds["status"] == Status.OK]["kind"].value_counts()
    counted = {"rows": len(bounds), **{str(kind): int(counts.get(kind, 0)) for kind in Kind}}
    return counted | ({"accuracies": len(expected.rows)} if expected.rows else {})


def _row_flaw(results: Path, row: Pair, sha256: str | None) -> str:
    """The first thing that does not hold of a row, in words; empty if all does. sha256: of the network."""
    place = "/".join(row)
    try:
        record = Record.load(results / "bounds" / f"{place}.json")
        if (record.network, record.method) != row:
            return f"{place}: its record is that of {record.network}/{record.method}"
        path = results / "certificates" / f"{place}.npz"
        if record.value is None or record.kind == Kind.ESTIMATE:
            return f"{path}: a proof of what claims none" if certificates.kind(path) != "none" else ""
        certificate = certificates.load(path)
    except CertlipError as error:
        return str(error)
    if not isinstance(certificate, LowerCertificate if record.kind == Kind.LOWER else UpperCertificate):
        return f"{path}: not the proof of a {record.kind} value"
    if not certificate.network.sha256 == record.weights_sha256 == sha256:
        return f"{path}: it proves something of other weights than those of its record and of {row[0]}.pt"
    if certificate.value != record.value:
        return f"{place}: its record says {record.value!r}, its certificate {certificate.value!r}"
    verification = verify(certificate)
    return "" if verification else f"{path} does not hold: {verification.reason}"


def _table_flaws(results: Path, rows: Sequence[Pair]) -> list[str]:
    path = results / "bounds.csv"
    try:
        bounds = read(path)
    except DataError as error:
        return [str(error)]
    records = collect([Record.load(results / "bounds" / n / f"{m}.json") for n, m in rows], {})
    found, expected = (_by_row(frame) for frame in (bounds, records))
    if list(found.index) != list(expected.index):
        wrong = set(found.index) ^ set(expected.index) or {"a row that stands there twice"}
        return [f"{path}: its rows are not those of the configuration: {', '.join(map(str, sorted(map(str, wrong))))}"]
    same = (found == expected).fillna(False).astype(bool) | (found.isna() & expected.isna())
    wrong_rows = expected[~same.all(axis=1)]
    names = wrong_rows["network"] + "/" + wrong_rows["method"]
    differing = [f"{path}: {name} is not what its record says" for name in names]
    return differing or check(bounds)


def _by_row(bounds: pd.DataFrame) -> pd.DataFrame:
    kept = [name for name in COLUMNS if name not in _NOT_IN_RECORDS]
    return bounds[kept].set_index(["network", "method"], drop=False).sort_index()
