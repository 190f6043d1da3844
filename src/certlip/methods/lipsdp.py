"""LipSDP-Neuron on the whole network (Fazlyab et al. 2019, arXiv 1906.04893, Theorem 2).

    minimise rho  subject to  P(rho, T) >= 0,  T >= 0 diagonal          (`certlip.proof.lmi`)

One semidefinite program whose order is the number of inputs and hidden neurons: the tightest bound here, where it fits
the limits. Where a limit cuts it short, the row has what was proved by then, or what multipliers shared by channel
(`certlip.methods.torus`) or the product of layer constants prove where that is better, and says so in its reason.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from certlip.base.record import Kind
from certlip.methods import MethodInfo
from certlip.network import Network
from certlip.partition.plan import Plan
from certlip.partition.segment import make_segment
from certlip.sdp.solvers import SolverName

INFO = MethodInfo(title="LipSDP-Neuron", kind=Kind.CERTIFIED, reference="Fazlyab et al. 2019, arXiv 1906.04893")


def plan(
    network: Network,
    *,
    solver: SolverName = "auto",
    rtol: Annotated[float, Field(gt=0, lt=1)] = 1e-4,
) -> Plan:
    """One segment, one block: the whole network.

    solver: of the program, ``auto`` or an adapter; rtol: relative gap asked of it.
    """
    whole = make_segment(network, 0, len(network.layers), (1, 1))
    return Plan(segments=(whole,), fallback=False, solver=solver, rtol=rtol)
