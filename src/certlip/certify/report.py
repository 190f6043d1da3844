"""A certification for people: a table of images, a summary, and the curve of accuracies over radii."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.table import Table

from certlip import figures
from certlip.certify.certification import Certification

N_POINTS = 200
"""Of a curve."""
BEYOND = 1.25
"""Where curves end, in units of the largest radius asked for."""


def table(found: Certification) -> Table:
    """A row an image: its radius, rounded down, and the nearest point where the network is wrong, rounded up."""
    rows = Table(box=None, pad_edge=False)
    for column in ("image", "label", "predicted", "certified radius", "limited by", "wrong at"):
        rows.add_column(column, justify="right")
    for k, label in enumerate(found.labels):
        is_right = bool(found.right[k])
        rows.add_row(
            str(k),
            str(label),
            str(found.predicted[k]),
            f"{np.floor(found.radii[k] * 1e4) / 1e4:.4f}" if is_right else "-",
            str(found.limits[k]) if is_right else "-",
            f"{np.ceil(found.nearest[k] * 1e4) / 1e4:.4f}" if np.isfinite(found.nearest[k]) else "-",
        )
    return rows


def summary(found: Certification, name: str) -> str:
    """Lines that say what holds of all images."""
    return "\n".join(_summary(found, name))


def _summary(found: Certification, name: str) -> Iterator[str]:
    n, outputs = len(found.labels), len(found.constants)
    yield f"{name}: {n} images, {found.clean_accuracy:.2%} of them right; radii in the unit of the network's input"
    for radius in found.wanted:
        words = f"radius {radius:g}: {found.certified_accuracy(radius):.2%} certified"
        if found.effort:
            words += f", {found.attacked_accuracy(radius):.2%} stand the attack: the truth lies between"
        yield words
    pairs = f"{found.n_bounded} of {outputs * (outputs - 1) // 2} pairs have a bound of their own by {found.method}"
    yield f"{pairs}, the others sqrt(2) times that of the network; {found.seconds:.3g} s"
    if found.n_local:
        yield f"{found.n_local} margins have a constant around their image"
    if found.left_open:
        words = ", ".join(f"{i}-{j}" for i, j in found.left_open)
        yield f"the budget left out pairs that some image needs: {words}; give a larger one"


def save_curve(found: Certification, path: str | Path) -> None:
    """Draw the accuracies over radii and write them to a file, as its suffix says; raises ConfigError for others."""
    from certlip.figures import style

    radii = np.linspace(0.0, BEYOND * max(found.wanted), N_POINTS)
    with style.applied():
        figure = style.new_figure(2.2)
        axes = figure.subplots()
        axes.axhline(100 * found.clean_accuracy, color="#595959", linestyle=":", label="right")
        if found.effort:
            stood = [100 * found.attacked_accuracy(r) for r in radii]
            axes.plot(radii, stood, color="#D55E00", linestyle="--", label="stand the attack")
        axes.plot(radii, [100 * found.certified_accuracy(r) for r in radii], color="#0072B2", label="certified")
        axes.set_xlabel("radius (l2, in the unit of the network's input)")
        axes.set_ylabel("images, %")
        axes.set_xlim(0.0, radii[-1])
        axes.set_ylim(0.0, 100.0)
        axes.grid()
        axes.set_axisbelow(True)
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
        figures.write(figure, path)
