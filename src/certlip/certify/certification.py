"""What is certified of labelled images: a radius each, and shares of them over radii."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from certlip.certify.attack import Effort
from certlip.certify.radii import Labels
from certlip.network import Array
from certlip.proof.certificate import LocalCertificate, UpperCertificate


@dataclass(frozen=True, eq=False)
class Certification:
    """Of n images, in the unit of the network's input.

    labels, predicted: (n,) classes; right: (n,) whether the network is proved right; radii: (n,) within which it is
    proved to stay so, zero where it is not right; limits: (n,) the class whose margin is the first to vanish; nearest:
    (n,) distance of the nearest point found where it is proved wrong, infinite where none was; wanted: the radii asked
    for; effort: of the attack, None for none; constants: L_ij of all pairs, (n_outputs, n_outputs); certificates: what
    proves them, and constants around images, by name; n_bounded: pairs with a bound of their own; left_open: those that
    some image needs and the budget left out; method; seconds, attack_seconds: of wall time.
    """

    labels: Labels
    predicted: Labels
    right: NDArray[np.bool_]
    radii: Array
    limits: Labels
    nearest: Array
    wanted: tuple[float, ...]
    effort: Effort | None
    constants: Array
    certificates: Mapping[str, UpperCertificate | LocalCertificate]
    n_bounded: int
    left_open: tuple[tuple[int, int], ...]
    method: str
    seconds: float
    attack_seconds: float

    @property
    def n_local(self) -> int:
        """Constants around an image, of one pair each."""
        return sum(isinstance(certificate, LocalCertificate) for certificate in self.certificates.values())

    @property
    def clean_accuracy(self) -> float:
        """Share of the images at which the network is right."""
        return float(self.right.mean())

    def certified_accuracy(self, radius: float) -> float:
        """Share of the images whose label is proved to be predicted within a radius: at or below the truth."""
        return float((self.right & (self.radii >= radius)).mean())

    def attacked_accuracy(self, radius: float) -> float:
        """Share of the images for which no point within a radius was found where the network is wrong: at or above the
        truth."""
        return float((self.nearest > radius).mean())

    def save_certificates(self, folder: str | Path) -> None:
        """Write each as NAME.npz, for `certlip verify`."""
        for name, certificate in self.certificates.items():
            certificate.save(Path(folder) / f"{name}.npz")
