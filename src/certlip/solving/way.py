"""From proofs of parts of a network to one of the whole: the tightest way through its layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

from certlip.base.rounding import multiply_up
from certlip.proof.certificate import SegmentProof
from certlip.solving.solved import SolvedBlock


class Step(NamedTuple):
    """A proof of layers [first, last); gap: of its programs, zero without any and None where it is not known; note:
    what there is to say where the step is taken."""

    proof: SegmentProof
    gap: float | None = 0.0
    note: str = ""

    @classmethod
    def of(cls, proof: SegmentProof, blocks: Sequence[SolvedBlock]) -> Self:
        """By the programs of these blocks, whose widest gap is the step's."""
        gaps = [block.gap for block in blocks]
        known = [gap for gap in gaps if gap is not None]
        notes = dict.fromkeys(block.reason for block in blocks if block.reason)
        return cls(proof, max(known) if len(known) == len(gaps) else None, "; ".join(notes))


def tightest(steps: Sequence[Step], n_layers: int) -> list[Step] | None:
    """The steps from the first layer to the last with the smallest product of constants, the first of equals; None
    where they do not reach."""
    ways: dict[int, list[Step]] = {0: []}
    for last in range(1, n_layers + 1):
        found = [[*ways[s.proof.first], s] for s in steps if s.proof.last == last and s.proof.first in ways]
        if found:
            ways[last] = min(found, key=lambda way: multiply_up(step.proof.constant for step in way))
    return ways.get(n_layers)


def gap_of(way: Sequence[Step]) -> float | None:
    """Certified over dual value of the product, minus one; None without a program or where one's is not known."""
    if all(step.proof.rule == "constants" for step in way) or any(step.gap is None for step in way):
        return None
    return multiply_up(1.0 + (step.gap or 0.0) for step in way) - 1.0
