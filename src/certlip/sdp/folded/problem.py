"""Stages of a network, each cut into patches, with one semidefinite program for all of them.

Stage s maps x^s to x^{s+1}; patch j of it reads the entries R_j of x^s and writes the entries O_j of x^{s+1}. With one
matrix inequality a block (patches may share one) and D = 1 after the last stage,

    minimise max_p D^0(p)   subject to   D^s(p) = sum over patches j of stage s with p in R_j of d_j(p),
                                         P_j >= 0 with input metric d_j and output metric D^{s+1} on O_j,

and L^2 <= max_p D^0(p). One stage is the merge ``folded``, several are metric chaining. The pixel variables d are why
the bound does not grow with the overlap of the patches: what one patch needs the others leave to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from certlip.network import Array
from certlip.proof.lmi import Lmi
from certlip.proof.merge import round_up

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Block:
    """One matrix inequality.

    lmi: without metrics; reads: entries of the stage's input that each patch reads, (n_patches, n_0); writes: entries
    of its output, (n_patches, n_out).
    """

    lmi: Lmi
    reads: Indices
    writes: Indices


@dataclass(frozen=True, eq=False)
class Stage:
    """blocks: whose patches together write each output entry once; n_in: entries of the input; scale: constant of the
    activations before and after the matrices. Before another stage each block has one patch."""

    blocks: tuple[Block, ...]
    n_in: int
    scale: float

    def load(self, metrics: Sequence[Array]) -> Array:
        """D, (n_in,), of the blocks' metrics, (n_0,) each; the same to the last bit as
        `certlip.proof.merge.hand_on`."""
        load = np.zeros(self.n_in)
        for block, metric in zip(self.blocks, metrics, strict=True):
            np.add.at(load, block.reads, np.broadcast_to(metric, block.reads.shape))
        return round_up(load, sum(len(block.reads) for block in self.blocks), self.scale)

    def shares(self) -> list[Array]:
        """Metrics that share each input entry equally between the patches that read it: those of ``weighted``."""
        cover = self.load([np.ones(block.reads.shape[1]) for block in self.blocks])
        return [1 / cover[block.reads].max(axis=0) for block in self.blocks]
