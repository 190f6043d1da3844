"""Constants of margins around images: for those that constants of the whole network leave open.

Within the radius that is asked for, many neurons keep their side of zero, and others have slopes in a narrow interval
(`certlip.proof.local`). So LipSDP around one image gives less than of the whole space, at the price of a program for
each image and pair of classes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from certlip.base.deadline import Deadline
from certlip.base.errors import NoBound, UnsupportedLayer
from certlip.base.progress import stage
from certlip.certify.margins import name_of, with_row
from certlip.certify.radii import Labels, is_open, radii_of
from certlip.network import Array, Network
from certlip.proof.certificate import LocalCertificate
from certlip.proof.local import inequality, slopes_around
from certlip.sdp import solve_lmi

RTOL = 1e-3
"""Gap asked of each program."""


@dataclass(frozen=True, eq=False)
class Around:
    """radii: within which each margin of each image is certified around it, (n, n_outputs), zero for none;
    certificates: what proves them, by name; seconds: that all took."""

    radii: Array
    certificates: Mapping[str, LocalCertificate]
    seconds: float


def around_images(
    network: Network,
    images: Array,
    labels: Labels,
    below: Array,
    radii: Array,
    nearest: Array,
    wanted: Sequence[float],
    budget: float,
) -> Around:
    """Constants around images that are open at a wanted radius, those first that miss it by the least.

    below: of `certlip.certify.radii.margins_at`; radii: of `radii_of`, both (n, n_outputs); nearest: (n,) distances of
    points where the network is wrong; budget: seconds. An image is given up with the first margin that stays below its
    radius. None are found of a network that is no chain of linear layers and activations.
    """
    begin, deadline = time.monotonic(), Deadline.after(budget)
    found, certificates, given_up = np.zeros_like(radii), {}, set[int]()
    todo = _open(radii, nearest, wanted) if budget else []
    with stage("constants around images", len(todo)) as advance:
        for k, radius in todo:
            advance()
            if k in given_up or not deadline.allows(0):
                continue
            blocking = np.argsort(radii[k])[: np.count_nonzero(radii[k] < radius)]
            try:
                for j, certificate in _constants(network, images[k], int(labels[k]), blocking, radius, deadline):
                    reached = min(float(radii_of(below[k, j], np.array(certificate.value))), radius)
                    if reached > max(radii[k, j], found[k, j]):
                        found[k, j] = reached
                        certificates[f"image-{k}-{name_of((int(labels[k]), j))}"] = certificate
                    if reached < radius:
                        given_up.add(k)
                        break
            except UnsupportedLayer:
                break
            except NoBound:
                given_up.add(k)
    return Around(found, certificates, time.monotonic() - begin)


def _open(radii: Array, nearest: Array, wanted: Sequence[float]) -> list[tuple[int, float]]:
    """Images and the radii at which they are open, those first that miss theirs by the least."""
    places = [(int(k), r) for r in wanted for k in np.flatnonzero(is_open(r, radii, nearest))]
    return sorted(places, key=lambda place: -radii[place[0]].min() / place[1])


def _constants(
    network: Network, image: Array, label: int, others: Iterable[int], radius: float, deadline: Deadline
) -> Iterator[tuple[int, LocalCertificate]]:
    """Constants of f_label - f_j around an image for the other classes j, as they are found."""
    slopes = slopes_around(network, image, radius)
    for j in map(int, others):
        margin = with_row(network, (label, j))
        solved = solve_lmi(inequality(margin, slopes), rtol=RTOL, max_seconds=deadline.max_seconds)
        yield j, LocalCertificate(margin, image, radius, slopes, solved.rho, solved.multipliers)
