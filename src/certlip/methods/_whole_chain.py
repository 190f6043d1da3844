"""What methods that propose LipSDP multipliers for the whole network share: limits before, certification after."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from certlip.certificate import UpperCertificate
from certlip.chain import MAX_ENTRIES, Chain, linear_groups
from certlip.errors import LimitExceeded
from certlip.methods import Bound
from certlip.network import Network
from certlip.sdp import reduce
from certlip.sdp.certify import certify
from certlip.sdp.lmi import Lmi, Multipliers


def certified_bound(network: Network, propose: Callable[[Lmi], Multipliers], **details: Any) -> Bound:
    """The bound that `propose`'s multipliers T_1..T_L prove, whatever they are; details: of the `Bound`.

    propose: from what `certlip.sdp.reduce` makes of the inequality, whose layers have norms near one.

    Raises UnsupportedLayer by layer name, LimitExceeded where the matrix inequality would be too large, NotCertified.
    """
    order = sum(math.prod(group[0][1]) for group in linear_groups(network)[0])
    if order**2 > MAX_ENTRIES:
        raise LimitExceeded(
            "memory_limit", f"the matrix inequality has order {order}: more than {MAX_ENTRIES:.0e} entries"
        )
    chain = Chain.of(network)
    lmi = Lmi.of(chain)
    certified = certify(lmi, _proposed(lmi, propose) if lmi.n_multipliers else ())
    certificate = UpperCertificate.from_multipliers(network, chain.scale, certified)
    margins = {"margin": certified.margin, "slack": certified.slack}
    return Bound(certificate.value, certificate, details={"max_order": lmi.order, **margins, **details})


def _proposed(lmi: Lmi, propose: Callable[[Lmi], Multipliers]) -> Multipliers:
    reduced, factors = reduce(lmi)
    return tuple(factor * t for factor, t in zip(factors[1:], propose(reduced), strict=True))
