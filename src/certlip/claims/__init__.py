"""What others publish as a bound, beside what is proved here of the same network: one file a claim.

A claim defines ``SOURCE``, who publishes it, and ``check(folder) -> list[Finding]``, which computes all that it says
from files of the source in `folder`, named in ``FILES``, or from a small network of its own; it raises NoData where a
file is missing. A finding holds numbers: what they mean for the claim is `verdict`'s to say, alike for all.

    python -m certlip.claims circular_padding [FOLDER]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from certlip.base import plugins
from certlip.base.errors import NoData

if TYPE_CHECKING:
    import pandas as pd

FOLDER = "published"
"""In the data folder: where files of sources are looked for, each in the folder that its claim names."""


class Proof(StrEnum):
    """What is proved here.

    lower: of the constant itself, attained at a point; dual: of what multipliers of the claim's kind can prove at
    least; upper: certified.
    """

    LOWER = "lower"
    DUAL = "dual"
    UPPER = "upper"


@dataclass(frozen=True)
class Finding:
    """A value that is claimed to be at or above the Lipschitz constant of a network, and one that is proved.

    what: is claimed, of which network; claimed, proved: values; proof: of which kind; how: the second was computed;
    repair: what is a bound.
    """

    what: str
    claimed: float
    proved: float
    proof: Proof
    how: str
    repair: str


def verdict(claimed: float, proved: float, proof: Proof) -> str:
    """What a proved value means for a claimed one."""
    match proof:
        case Proof.LOWER:
            return "no bound" if proved > claimed else "not refuted"
        case Proof.DUAL:
            return "below what such multipliers can prove" if proved > claimed else "not refuted"
        case Proof.UPPER:
            return f"holds, {claimed / proved:.3g} times above" if claimed >= proved else "below ours, not refuted"


def names() -> list[str]:
    """Names of the claims."""
    return plugins.names(__name__)


def load(name: str) -> ModuleType:
    """The claim's module; an unknown name is a ConfigError that offers the nearest."""
    return plugins.load(__name__, name)


def files(folder: str | Path) -> list[str]:
    """The files of sources that claims are checked on."""
    return [str(Path(folder) / file) for name in names() for file in getattr(load(name), "FILES", ())]


COLUMNS = ["claim", "source", "what", "claimed", "proved", "proof", "verdict", "how", "repair", "command", "reason"]


def check(folder: str | Path, claims: Iterable[str] | None = None) -> pd.DataFrame:
    """A row a finding of each claim, with the columns of `COLUMNS`; a reason for a claim whose files are missing.

    folder: with the files of the sources.
    """
    import pandas as pd

    rows = []
    for name in names() if claims is None else claims:
        claim = load(name)
        common = {"claim": name, "source": claim.SOURCE, "command": f"python -m certlip.claims {name}"}
        try:
            for found in claim.check(Path(folder)):
                outcome = verdict(found.claimed, found.proved, found.proof)
                rows.append({**common, **vars(found), "verdict": outcome, "reason": ""})
        except NoData as error:
            rows.append({**common, "verdict": "no_data", "reason": str(error)})
    return pd.DataFrame(rows, columns=COLUMNS)
