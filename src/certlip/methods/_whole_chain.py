"""What methods that propose LipSDP multipliers for the whole network share: limits before, certification after."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from certlip.base import limits
from certlip.base.deadline import Deadline
from certlip.base.errors import LimitExceeded, NotCertified
from certlip.methods import Bound
from certlip.network import Network
from certlip.network.chain import MAX_ENTRIES, Chain, linear_groups
from certlip.proof.certificate import UpperCertificate
from certlip.proof.certify import certify
from certlip.proof.lmi import Lmi, Multipliers
from certlip.sdp import reduce
from certlip.sdp.looks import Looks

N_LOOKS = 6
"""Factorisations for which time is kept: a certificate takes the smallest rho and its proof."""
MOST_KEPT = 0.3
"""Share of the time limit that is kept for them at most."""


class WholeChain:
    """The matrix inequality of a network, and the bounds that multipliers of it prove.

    lmi: what `certlip.sdp.reduce` makes of it, whose layers have norms near one: multipliers are proposed for this;
    deadline: for proposing multipliers; time to certify them is left after it. Raises UnsupportedLayer by layer name,
    LimitExceeded where the matrix inequality would be too large.
    """

    def __init__(self, network: Network, max_seconds: float | None = None) -> None:
        whole = Deadline.after(max_seconds)
        order = sum(math.prod(group[0][1]) for group in linear_groups(network)[0])
        if order**2 > MAX_ENTRIES:
            raise LimitExceeded(
                "memory_limit", f"the matrix inequality has order {order}: more than {MAX_ENTRIES:.0e} entries"
            )
        self.network, self._chain = network, Chain.of(network)
        self._whole = Lmi.of(self._chain)
        self.lmi, self._factors = reduce(self._whole)
        kept = 0.0 if max_seconds is None else min(N_LOOKS * Looks(self._whole).seconds, MOST_KEPT * max_seconds)
        self.deadline = whole.before(kept)

    def bound(self, multipliers: Multipliers, reason: str = "", **details: Any) -> Bound:
        """What T_1..T_L of `lmi` prove, whatever they are; reason, details: of the `Bound`. Raises NotCertified."""
        restored = tuple(f * t for f, t in zip(self._factors[1:], multipliers, strict=True))
        certified = certify(self._whole, restored)
        certificate = UpperCertificate.from_multipliers(self.network, self._chain.scale, certified)
        own = {"max_order": self._whole.order, "margin": certified.margin, "slack": certified.slack}
        return Bound(certificate.value, certificate, None, reason, {**own, **details})

    def report(self, propose: Callable[[], Multipliers], reason: str) -> None:
        """Say what the multipliers at hand prove, in case that the method is ended before it has better ones."""
        with suppress(NotCertified, np.linalg.LinAlgError):
            limits.report(lambda: self.bound(propose(), reason))
