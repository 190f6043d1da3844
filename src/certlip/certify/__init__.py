"""Predictions certified within a radius: what a Lipschitz constant of margins says of labelled images.

At an image x with label y the prediction is certified within min_j (f_y(x) - f_j(x)) / L_yj, where L_yj is a certified
constant of f_y - f_j (`certlip.certify.margins`). Constants are of the network alone: they cost nothing an image, and
only those that some image needs are found. Images that these leave open may have constants of their own, around each of
them (`certlip.certify.around`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from certlip.base.errors import ConfigError
from certlip.base.progress import stage
from certlip.certify.around import around_images
from certlip.certify.attack import Effort, attack
from certlip.certify.certification import Certification
from certlip.certify.images import checked
from certlip.certify.margins import Constants
from certlip.certify.radii import Labels, is_open, margins_at, most_needed, radii_of
from certlip.network import Array, Network, Shape
from certlip.run import subject_of

if TYPE_CHECKING:
    from torch import nn


def certify(
    model: Network | nn.Module,
    images: Any,
    labels: Any,
    radius: float | Sequence[float],
    input_shape: Shape | None = None,
    method: str = "lipsdp",
    *,
    budget: float | None = None,
    local_budget: float = 0.0,
    effort: Effort | None = Effort(),  # noqa: B008, immutable
    n_jobs: int = 1,
    **options: Any,
) -> Certification:
    """Radii within which the predictions of images are certified, beside an attack within `radius`.

    model: a torch module or a `Network`, with one number a class; images: (n, *input_shape), floats as it takes them;
    labels: (n,) classes; radius: or several, in the unit of the network's input; input_shape: of a torch module,
    where it is not that of the images; method: one that certifies; budget: seconds for constants; local_budget: seconds
    for constants around images; effort: of the attack, None for none; n_jobs: constants found side by side; options: of
    `certlip.bound` and of the method.

    First sqrt(2) times the constant of the network serves for each pair. An image whose prediction neither that nor
    the attack settles at a radius needs constants of its pairs; those that help most images are found first, as long as
    the budget lasts. What is open then may be settled by LipSDP around the image, those first that miss the least.

    Raises ConfigError, DataError, and where the network has no bound what `certlip.margins` raises.

        found = certlip.certify(model, images, labels, radius=0.3)
        found.clean_accuracy, found.certified_accuracy(0.3), found.attacked_accuracy(0.3)
    """
    network = subject_of(model, np.shape(images)[1:] if input_shape is None else input_shape).network()
    images, labels = checked(images, labels, network)
    constants = Constants(network, method, options, n_jobs)
    return certified(constants, images, labels, _radii(radius), budget, local_budget, effort)


def certified(
    constants: Constants,
    images: Array,
    labels: Labels,
    wanted: Sequence[float],
    budget: float | None = None,
    local_budget: float = 0.0,
    effort: Effort | None = None,
    nearest: Array | None = None,
    pairs: bool = True,
) -> Certification:
    """`certify` of images and labels that fit the network of `constants`.

    nearest: (n,) distances of points where the network is known to be wrong, infinite where none is; pairs: whether
    pairs of classes may have constants of their own.
    """
    network = constants.network
    below, above = margins_at(network, images, labels)
    nearest = np.where(above.min(axis=1) < 0, 0.0, np.inf if nearest is None else nearest)
    constants.find([()], budget)
    begin = time.monotonic()
    if effort is not None:
        radii = radii_of(below, constants.table()[labels])
        for r in wanted:
            left = np.flatnonzero(is_open(r, radii, nearest))
            if left.size:
                nearest[left] = attack(network, images[left], labels[left], r, effort)
    attack_seconds = time.monotonic() - begin
    missing = _find_needed(constants, below, labels, nearest, wanted, budget) if pairs else []
    each = radii_of(below, constants.table()[labels])
    around = around_images(network, images, labels, below, each, nearest, wanted, local_budget)
    each = np.maximum(each, around.radii)
    right = below.min(axis=1) > 0
    return Certification(
        labels=labels,
        predicted=np.where(right, labels, below.argmin(axis=1)),
        right=right,
        radii=each.min(axis=1),
        limits=each.argmin(axis=1),
        nearest=nearest,
        wanted=tuple(wanted),
        effort=effort,
        constants=constants.table(),
        certificates={**constants.certificates(), **around.certificates},
        n_bounded=int(np.triu(constants.known, 1).sum()),
        left_open=tuple(missing),
        method=constants.method,
        seconds=constants.seconds + around.seconds,
        attack_seconds=attack_seconds,
    )


def _find_needed(
    constants: Constants, below: Array, labels: Labels, nearest: Array, wanted: Sequence[float], budget: float | None
) -> list[tuple[int, int]]:
    """Bound the pairs that images need, the most needed first; returns those that the budget leaves out.

    None is begun where less of the budget is left than the last took.
    """
    with stage("constants of margins") as advance:
        while True:
            radii = radii_of(below, constants.table()[labels])
            pairs = most_needed(wanted, radii, labels, nearest, constants.known)
            left = None if budget is None else budget - constants.seconds
            if not pairs or (left is not None and left < constants.last_seconds):
                break
            constants.find(pairs[: constants.n_jobs], left)
            advance()
    return pairs


def _radii(radius: float | Sequence[float]) -> list[float]:
    radii = sorted(float(r) for r in np.atleast_1d(radius))
    if not radii or not all(0 < r < np.inf for r in radii):
        raise ConfigError(f"radius {radius!r}: give positive numbers, in the unit of the network's input")
    return radii
