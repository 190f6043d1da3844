"""The best of the certified methods within a budget of time: what `certlip.bound` does where no method is named.

Each member bounds the network on its own, and the smallest of their certified values is the bound: a minimum of upper
bounds is one. Cheap ones come first, so that there is a value soon; then what is predicted to fit the time that is
left. LipSDP-Neuron of the whole network (`certlip.methods.lipsdp`) is never above any of the others that propose
multipliers, up to the gap of its solver: ECLipsE, the torus and the patches and segments of DCP give points of its
matrix inequality, and so does LipLT, whose recursion is Cauchy's inequality applied to one multiplier a layer. So these
are left out once it came to its end, and it goes before each that may take as long.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from certlip.base.record import Kind
from certlip.methods import Member, MethodInfo, dcp, eclipse, eclipse_fast, gram, liplt, lipsdp, product, torus
from certlip.network import Network
from certlip.sdp.solvers import SolverName

INFO = MethodInfo(title="Best within a budget", kind=Kind.CERTIFIED, reference="this project")


def members(
    network: Network,
    *,
    budget: Annotated[float, Field(gt=0)] = 60.0,
    solver: SolverName = "auto",
    rtol: Annotated[float, Field(gt=0, lt=1)] = 1e-4,
) -> tuple[Member, ...]:
    """What is tried, in order.

    budget: seconds of wall time for all members together, at most max_seconds; solver: of all semidefinite programs;
    rtol: gap asked of the programs of LipSDP and DCP.
    """
    solving: dict[str, Any] = {"solver": solver, "rtol": rtol}
    cut: dict[str, Any] = {"cuts": "auto", "merge": "folded", "chain": True, **solving}
    on_maps = [Member("torus", torus, share=0.2, unless="lipsdp")] if len(network.input_shape) == 3 else []
    return (
        Member("product", product, share=0.1),
        Member("gram", gram, share=0.1),
        Member("eclipse_fast", eclipse_fast, share=0.1),
        *on_maps,
        Member("dcp", dcp, {"grid": "auto", **cut}, share=0.4, unless="lipsdp"),
        Member("lipsdp", lipsdp, solving),
        Member("lipsdp by segments", dcp, {"grid": (1, 1), **cut}, share=0.3, unless="lipsdp"),
        Member("eclipse", eclipse, {"solver": solver}, share=0.3, unless="lipsdp"),
        Member("liplt", liplt, share=0.3, unless="lipsdp"),
    )


def needs_calibration(options: dict[str, Any]) -> bool:
    """What is predicted to fit is read off a calibration of the machine."""
    return True
