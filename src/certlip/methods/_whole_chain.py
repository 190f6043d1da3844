"""What methods that propose LipSDP multipliers for the whole network share: limits before, certification after."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from certlip import limits
from certlip.certificate import UpperCertificate
from certlip.chain import MAX_ENTRIES, Chain, linear_groups
from certlip.deadline import Deadline
from certlip.errors import LimitExceeded, NotCertified
from certlip.methods import Bound
from certlip.network import Network
from certlip.sdp.certify import certify
from certlip.sdp.lmi import Lmi, Multipliers
from certlip.sdp.looks import Looks

N_LOOKS = 6
"""Factorisations for which time is kept: a certificate takes the smallest rho and its proof."""
MOST_KEPT = 0.3
"""Share of the time limit that is kept for them at most."""


class WholeChain:
    """The matrix inequality of a network, and the bounds that multipliers of it prove.

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
        self.lmi = Lmi.of(self._chain)
        kept = 0.0 if max_seconds is None else min(N_LOOKS * Looks(self.lmi).seconds, MOST_KEPT * max_seconds)
        self.deadline = whole.before(kept)

    def bound(self, multipliers: Multipliers, reason: str = "", **details: Any) -> Bound:
        """What T_1..T_L prove, whatever they are; reason, details: of the `Bound`. Raises NotCertified."""
        certified = certify(self.lmi, multipliers)
        certificate = UpperCertificate.from_multipliers(self.network, self._chain.scale, certified)
        margins = {"margin": certified.margin, "slack": certified.slack}
        return Bound(certificate.value, certificate, None, reason, {"max_order": self.lmi.order, **margins, **details})

    def report(self, propose: Callable[[], Multipliers], reason: str) -> None:
        """Say what the multipliers at hand prove, in case that the method is ended before it has better ones."""
        with suppress(NotCertified, np.linalg.LinAlgError):
            limits.report(lambda: self.bound(propose(), reason))
