"""Attack by projected gradient in the Euclidean norm (Madry et al. 2018, arXiv 1706.06083): what cannot be certified.

Points near an image at which another class has the largest output, found by ascent from random starts and then pulled
towards the image. A point counts only where the exact network is proved to be wrong there, so its distance is above
every radius within which the prediction can be certified. No pixel is kept in a range: certificates hold for all
inputs, and so does the attack.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from certlip.base.rounding import gamma
from certlip.certify.radii import Labels, margins_at
from certlip.network import Array, Network

if TYPE_CHECKING:
    from torch import Tensor

AT_ONCE = 256
"""Images of one batch."""
STEP = 2.5
"""Length of a step, in units of the radius over the number of steps."""
INSIDE = 1 - 1e-9
"""Share of the radius that points keep to, so that rounding does not take them out of it."""
N_HALVINGS = 30
"""Of the way from a point to its image."""


class Effort(NamedTuple):
    """n_steps: of an ascent; n_restarts: ascents of an image, the first from the image itself; seed: of the others."""

    n_steps: int = 40
    n_restarts: int = 4
    seed: int = 0


Losses = Callable[["Tensor"], "Tensor"]
"""Largest output of another class minus that of the label, one number an image: positive where it is misclassified."""


def attack(
    network: Network,
    images: Array,
    labels: Labels,
    radius: float,
    effort: Effort = Effort(),  # noqa: B008, immutable
) -> Array:
    """Distance of the nearest point within the radius where the network is wrong: (n,), infinite where none was found.

    images: (n, *input_shape); labels: (n,). Distances are rounded up, zero where the image itself is misclassified.
    """
    return distances_up(images, wrong_points(network, images, labels, radius, effort))


def wrong_points(
    network: Network,
    images: Array,
    labels: Labels,
    radius: float,
    effort: Effort = Effort(),  # noqa: B008, immutable
) -> Array:
    """The nearest points found within the radius where the network is proved to be wrong: (n, *input_shape), NaN where
    there is none, the image itself where it is misclassified."""
    import torch

    from certlip.pytorch.to_torch import to_torch

    module = to_torch(network).requires_grad_(False)
    generator = torch.Generator().manual_seed(effort.seed)
    found = np.where(_over_pixels(are_wrong(network, images, labels), images), images, np.nan)
    for restart in range(effort.n_restarts):
        left = np.flatnonzero(np.isnan(found.reshape(len(found), -1)[:, 0]))
        for part in (left[k : k + AT_ONCE] for k in range(0, len(left), AT_ONCE)):
            centres = torch.from_numpy(images[part])
            noise = torch.randn(centres.shape, generator=generator, dtype=torch.float64)
            lengths = torch.rand(len(part), generator=generator, dtype=torch.float64) if restart else torch.zeros(1)
            start = centres + _along(noise, radius * INSIDE * lengths)
            losses = _losses_of(module, torch.from_numpy(labels[part]))
            climbed = _ascended(losses, centres, start, radius * INSIDE, effort.n_steps)
            points = _pulled(losses, centres, climbed).numpy()
            wrong = are_wrong(network, points, labels[part]) & (distances_up(images[part], points) <= radius)
            found[part] = np.where(_over_pixels(wrong, points), points, np.nan)
    return found


def distances_up(images: Array, points: Array) -> Array:
    """Euclidean distances of points from their images, (n,), rounded up; zero where equal, infinite for NaN."""
    differences = points - images
    largest = np.abs(differences).reshape(len(images), -1).max(axis=1, initial=0.0)
    return np.where(np.isnan(largest), np.inf, np.where(largest > 0, norms_up(differences), 0.0))


def _over_pixels(of_images: NDArray[np.bool_], images: Array) -> NDArray[np.bool_]:
    """One truth value an image, to be broadcast over its pixels."""
    return of_images.reshape(-1, *[1] * (images.ndim - 1))


def norms_up(vectors: Array) -> Array:
    """Euclidean norms of differences of doubles, (n, ...) -> (n,), rounded up, the rounding of the differences too."""
    flat = vectors.reshape(len(vectors), -1)
    largest = np.abs(flat).max(axis=1, initial=0.0)
    unit = flat / np.where(largest > 0, largest, 1.0)[:, None]  # its squares do not underflow to nothing
    return np.nextafter(np.linalg.norm(unit, axis=1) * (1 + gamma(flat.shape[1] + 12)) * largest, np.inf)


def are_wrong(network: Network, points: Array, labels: Labels) -> NDArray[np.bool_]:
    """Where it is proved that another output is above that of the label."""
    return margins_at(network, points, labels)[1].min(axis=1) < 0


def _losses_of(module: Callable[[Tensor], Tensor], labels: Tensor) -> Losses:
    def losses(points: Tensor) -> Tensor:
        outputs, own = module(points), labels[:, None]
        return outputs.scatter(1, own, -np.inf).amax(dim=1) - outputs.gather(1, own)[:, 0]

    return losses


def _ascended(losses: Losses, centres: Tensor, points: Tensor, radius: float, n_steps: int) -> Tensor:
    """The last point of each image that was misclassified on the way, or else the last one."""
    import torch

    found = points
    for _ in range(n_steps):
        points = points.detach().requires_grad_(True)
        loss = losses(points)
        (gradient,) = torch.autograd.grad(loss.sum(), points)
        points = points.detach()
        found = _where(loss > 0, points, found)
        moved = points + _along(gradient, torch.full((len(points),), STEP * radius / n_steps, dtype=torch.float64))
        lengths = (moved - centres).flatten(1).norm(dim=1)
        points = centres + _along(moved - centres, lengths.clamp(max=radius))
    return _where((losses(points) > 0) | (losses(found) <= 0), points, found)


def _pulled(losses: Losses, centres: Tensor, points: Tensor) -> Tensor:
    """The points, moved towards their images for as long as they stay misclassified, by bisection."""
    import torch

    correct, wrong = torch.zeros(len(points), dtype=torch.float64), torch.ones(len(points), dtype=torch.float64)
    for _ in range(N_HALVINGS):
        middle = (correct + wrong) / 2
        is_wrong = losses(_between(centres, points, middle)) > 0
        correct, wrong = middle.where(~is_wrong, correct), middle.where(is_wrong, wrong)
    return _between(centres, points, wrong)


def _between(centres: Tensor, points: Tensor, shares: Tensor) -> Tensor:
    return centres + shares.reshape(-1, *[1] * (points.ndim - 1)) * (points - centres)


def _along(directions: Tensor, lengths: Tensor) -> Tensor:
    """Vectors of these lengths, one an image; a direction of zero stays zero."""
    norms = directions.flatten(1).norm(dim=1)
    factors = lengths / norms.where(norms > 0, norms.new_ones(()))
    return directions * factors.reshape(-1, *[1] * (directions.ndim - 1))


def _where(condition: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return first.where(condition.reshape(-1, *[1] * (first.ndim - 1)), second)
