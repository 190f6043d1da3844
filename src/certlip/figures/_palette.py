"""Colour, marker and dash of every method, the same in all figures, told apart by colour-blind readers too.

Colours start from Okabe & Ito, Color Universal Design (2008). A variant (``dcp-2x2-sum`` of ``dcp``) has a shade of its
family's colour and a marker and dash of its own; any two known methods differ in marker or clearly in colour.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from zlib import crc32

LOWER_MARKER = "^"
"""The marker of every lower value, whatever the method: the truth lies above."""

KNOWN = {
    "product": ("#000000", "s"),
    "autolip": ("#E69F00", "o"),
    "seqlip": ("#CC79A7", "s"),
    "gram": ("#56B4E9", "D"),
    "lipsdp": ("#0072B2", "s"),
    "lipsdp_layer": ("#332288", "D"),
    "eclipse": ("#009E73", "o"),
    "eclipse_fast": ("#0B5A26", "P"),
    "liplt": ("#882255", "P"),
    "dcp": ("#D55E00", "s"),
    "lower": ("#595959", LOWER_MARKER),
}
"""Method -> colour, marker."""

_SPARE_COLOURS = ("#44AA99", "#8C510A", "#CC6677", "#A08A00", "#5F5FB0")
_SPARE_MARKERS = ("X", "p", "*", "h")
_SHADES = (0.0, -0.5, -0.25, 0.35, 0.15, 0.5, -0.4, 0.25)
_MARKERS = ("s", "o", "D", "P", "X", "p", "*", "h")
DASHES: tuple[Any, ...] = (
    "-",
    "--",
    "-.",
    ":",
    (0, (5, 1, 1, 1, 1, 1)),
    (0, (7, 2)),
    (0, (3, 1)),
    (0, (1, 3)),
)


@dataclass(frozen=True)
class Style:
    """colour: #rrggbb; marker, dash: as matplotlib takes them."""

    colour: str
    marker: str
    dash: Any


def styles(methods: Iterable[str]) -> dict[str, Style]:
    """Method -> style, by name: a further method changes no other, unless two names fall on the same style."""
    methods = sorted(set(methods))
    families = {method: _family(method) for method in methods}
    bases = _base_styles(sorted(set(families.values()) - set(KNOWN)))
    found: dict[str, Style] = {}
    for family in sorted(set(families.values())):
        variants = {m: _preferred_slot(m) for m in methods if families[m] == family and m != family}
        for method, slot in {family: 0, **_place(variants, taken={0}, n_slots=len(_SHADES))}.items():
            found[method] = _variant(*bases[family], slot)
    return {method: found[method] for method in methods}


def styles_in_order(names: Iterable[str]) -> dict[str, Style]:
    """Name -> style for what is no method (solvers, rivals): the looks of known methods one after the other."""
    looks = itertools.cycle(look for look in KNOWN.values() if look[1] != LOWER_MARKER)
    return {name: Style(*look, "-") for name, look in zip(dict.fromkeys(names), looks, strict=False)}


def _family(method: str) -> str:
    """The longest known name the method begins with, else its first word."""
    parts = re.split(r"(?<=[-_.])|(?=[-_.])", method)
    begins = ["".join(parts[:n]) for n in range(len(parts), 0, -1)]
    return next((name for name in begins if name in KNOWN), re.split("[-.]", method)[0] or method)


def _base_styles(unknown: list[str]) -> dict[str, tuple[str, str]]:
    n_spare = len(_SPARE_COLOURS) * len(_SPARE_MARKERS)
    slots = _place({name: crc32(name.encode()) for name in unknown}, taken=set(), n_slots=n_spare)
    # 5 colours and 4 markers have no common divisor: stepping both at once visits every pair
    spare = {
        n: (_SPARE_COLOURS[s % len(_SPARE_COLOURS)], _SPARE_MARKERS[s % len(_SPARE_MARKERS)]) for n, s in slots.items()
    }
    return KNOWN | spare


def _preferred_slot(variant: str) -> int:
    """By the last word, so that variants with the same one look alike in all figures."""
    return crc32(re.split("[-_.]", variant)[-1].encode())


def _place(preferred: dict[str, int], taken: set[int], n_slots: int) -> dict[str, int]:
    """Each name on its preferred slot or the next free one; slots are shared once all are taken."""
    placed = {}
    for name, wish in preferred.items():
        free = ((wish + step) % n_slots for step in range(n_slots))
        placed[name] = next((slot for slot in free if slot not in taken), wish % n_slots)
        taken = taken | {placed[name]}
    return placed


def _variant(colour: str, marker: str, slot: int) -> Style:
    if marker == LOWER_MARKER:
        return Style(_shade(colour, _SHADES[slot]), marker, DASHES[slot])
    start = _MARKERS.index(marker)
    return Style(_shade(colour, _SHADES[slot]), _MARKERS[(start + slot) % len(_MARKERS)], DASHES[slot])


def _shade(colour: str, amount: float) -> str:
    """The colour mixed with white (amount > 0) or black (amount < 0)."""
    channels = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    target = 255 if amount > 0 else 0
    return "#" + "".join(f"{round(c + (target - c) * abs(amount)):02X}" for c in channels)
