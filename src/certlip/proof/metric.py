"""A verified input metric: P >= 0 with P_00 = diag(d), that is |f(x) - f(y)|_Q^2 <= sum_p d(p) |x_p - y_p|^2."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from certlip.base.errors import NotCertified
from certlip.network import Array
from certlip.proof.certify import margin
from certlip.proof.lmi import Lmi, Multipliers

INFLATIONS = (0.0, 1e-15, 1e-13, 1e-11)


@dataclass(frozen=True, eq=False)
class CertifiedMetric:
    """metric: d of shape (n_0,), verified with `multipliers`; margin: the c of the Cholesky verification."""

    metric: Array
    multipliers: Multipliers
    margin: float


def absorb(lmi: Lmi, rho: float, multipliers: Multipliers) -> CertifiedMetric:
    """The metric rho m of a verified point (rho, T) of an `Lmi` with input metric m, verified again with rho = 1.

    Raises NotCertified where rounding rho m loses what was verified.
    """
    weights = np.ones(lmi.sizes[0]) if lmi.input_metric is None else lmi.input_metric
    for inflation in INFLATIONS:
        metric = rho * (1 + inflation) * weights
        c = margin(replace(lmi, input_metric=metric), 1.0, multipliers)
        if c is not None:
            return CertifiedMetric(metric, multipliers, c)
    raise NotCertified("the metric of a verified bound could not be verified")
