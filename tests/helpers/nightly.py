"""How much is drawn at random: a little in each run of the tests, much with ``make nightly``."""

from __future__ import annotations

from hypothesis import settings

NIGHTLY = settings().max_examples > 100


def examples(n: int) -> int:
    """So many in each run, at night as many as the profile says."""
    return max(n, settings().max_examples) if NIGHTLY else n
