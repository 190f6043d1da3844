"""DCP-LipSDP: dynamic convolutional partition (Sulehman & Mu 2024, arXiv 2403.18613).

The network is cut into segments f = f_p o ... o f_1 and the output map of each into a grid of patches; patch j of
segment i is computed by a sub-network f_ij from its receptive field. With LipSDP-Neuron bounds L_ij of these,

    L(f) <= prod_i sqrt(sum_j L_ij^2)                                                   (paper, eq. 18; merge ``sum``)

since |f_i(x) - f_i(y)|^2 is the sum over patches that tile the output. Merge ``cover`` is sharper at no cost,
``weighted`` weights the input pixels by how many patches read them, ``folded`` optimally (`certlip.proof.merge`). A
segment is never bounded worse than by the product of its layer constants.

The partition is given, or dynamic: searched for the plan predicted tightest within a budget of time, by what a
calibration of this machine says of the cost of a program (`certlip.partition.search`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field

from certlip.base.errors import ConfigError, NoBound, SolverUnavailable
from certlip.base.record import Kind
from certlip.methods import MethodInfo
from certlip.network import Conv, Network
from certlip.partition.calibration import Calibration
from certlip.partition.merges import RULES, Merge
from certlip.partition.plan import Plan, SegmentPlan
from certlip.partition.predict import predict
from certlip.partition.search import Budget, Search, spans_between
from certlip.partition.segment import find_cuts, make_segment
from certlip.sdp.solvers import SolverName

INFO = MethodInfo(title="DCP-LipSDP", kind=Kind.CERTIFIED, reference="Sulehman & Mu 2024, arXiv 2403.18613")

Grid = tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
Auto = Literal["auto"]


def plan(
    network: Network,
    *,
    grid: Grid | list[Grid] | Auto = (2, 2),
    cuts: list[str] | Auto | None = None,
    merge: Merge = "sum",
    chain: bool = False,
    fallback: bool = True,
    budget: Annotated[float, Field(gt=0)] = 300.0,
    cores: Annotated[int, Field(ge=1)] = 1,
    solver: SolverName = "auto",
    rtol: Annotated[float, Field(gt=0, lt=1)] = 1e-4,
    calibration: Calibration | None = None,
) -> Plan:
    """Segments between the cuts, each with the grid on its output map.

    grid: (rows, columns) of patches, one for all convolutional segments or a list with one for each, one finer than the
    map is cut down to it; ``auto`` for what is predicted tightest within the budget; cuts: names of the layers that end
    a segment, by default those before a flattening, before global or adaptive average pooling and around max pooling,
    and with ``grid: auto`` between others where a segment would not fit; ``auto`` for what is predicted tightest;
    merge: of the patches of a segment, from the paper's ``sum`` to the tightest, ``folded``; chain: with merge
    ``folded``, also bound neighbouring segments in one go, each with the metric of the next as output metric instead of
    that metric's maximum, where that is better; fallback: whether a segment is bounded by the product of its layer
    constants where its programs give no better bound, or none (where a limit cut one of them short it is in any case);
    budget: seconds of wall time that ``auto`` may plan for; cores: on which it does; solver: of the programs, ``auto``
    or an adapter; rtol: relative gap asked of it.

    Where a program of an automatic plan might not keep its limits, a second plan of programs that will is made besides.
    """
    check({"grid": grid, "cuts": cuts, "merge": merge, "chain": chain})
    ends = find_cuts(network, None if cuts == "auto" else cuts)
    common: dict[str, Any] = {"merge": merge, "chain": chain, "fallback": fallback, "solver": solver, "rtol": rtol}
    if "auto" not in (grid, cuts):
        assert grid != "auto"
        return Plan(segments=_segments(network, ends, grid, merge, chain), **common)
    assert not isinstance(grid, list)  # then the cuts are given
    if calibration is None:
        raise SolverUnavailable("an automatic plan needs a calibration")
    if calibration.refusal is not None:
        raise calibration.refusal.error()
    spans = list(pairwise(ends)) if isinstance(cuts, list) else spans_between(network, () if cuts else ends)
    search = Search(network, spans, None if grid == "auto" else grid, calibration, merge, chain)
    found = Plan(segments=search.plans(Budget(budget, cores)), **common)
    return found.model_copy(update={"prediction": predict(network, found, calibration, cores, budget)})


def check(options: Mapping[str, Any]) -> None:
    """Refuse options that cannot go together."""
    merge = options["merge"]
    if options["chain"] and not RULES[merge].joint:
        able = " or ".join(repr(name) for name, rule in RULES.items() if rule.joint)
        raise ConfigError(f"chain: merge {merge!r} has no metric to hand from segment to segment; use merge {able}")
    if isinstance(options["grid"], list) and options["cuts"] == "auto":
        raise ConfigError("grid: a list with one grid a segment needs cuts that are given; use one grid, or 'auto'")


def needs_calibration(options: Mapping[str, Any]) -> bool:
    """Whether a plan with these options is automatic."""
    return "auto" in (options["grid"], options["cuts"])


def _segments(
    network: Network, ends: Sequence[int], grid: Grid | list[Grid], merge: Merge, chain: bool
) -> tuple[SegmentPlan, ...]:
    spans = list(pairwise(ends))
    convolutional = [s for s in spans if any(isinstance(layer, Conv) for layer in network.layers[slice(*s)])]
    grids = grid if isinstance(grid, list) else [grid] * len(convolutional)
    if len(grids) != len(convolutional):
        raise NoBound(f"grid: {len(grids)} grids are given for {len(convolutional)} convolutional segments")
    by_span = dict(zip(convolutional, grids, strict=True))
    return tuple(make_segment(network, *span, by_span.get(span, (1, 1)), merge, chain) for span in spans)
