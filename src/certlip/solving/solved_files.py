"""Files of solved blocks, which carry their plan and their network: strangers' until they are proved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from certlip.base.errors import DamagedFile, DataError
from certlip.base.files import read_npz, write_npz
from certlip.network import Network
from certlip.partition.plan import Place, Plan
from certlip.solving.solved import SolvedBlock, from_arrays, to_arrays


def save_solved(path: str | Path, network: Network | None, plan: Plan, solved: Sequence[SolvedBlock]) -> None:
    """Write solved blocks with their plan and network to one .npz file; without blocks the network may be None."""
    described, arrays = network.to_arrays() if network else ({}, {})
    entries, more = to_arrays(solved)
    header = {"network": described, "sha256": network.sha256 if network else None, "plan": plan.model_dump(mode="json")}
    write_npz(path, {"certificate": "blocks", **header, "solved": entries}, arrays | more)


def load_solved(path: str | Path) -> tuple[Network | None, Plan, list[SolvedBlock]]:
    """Read a file of `save_solved`; raises DataError if it is missing, damaged or not one."""
    header, arrays = read_npz(path)
    try:
        network = Network.from_arrays(header["network"], arrays) if header["network"] else None
        if network is not None and network.sha256 != header["sha256"]:
            raise DataError(f"{path}: the network inside does not match its sha256; do not trust this file")
        solved = from_arrays(header["solved"], arrays)
        plan = Plan.model_validate(header["plan"])
        if not {((s.segment, s.block), s.chained) for s in solved} <= places_of(plan):
            raise ValueError("a block that is not in the plan")
        if solved and network is None:
            raise ValueError("blocks of no network")
        return network, plan, solved
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        said = " ".join(repr(error).split())
        raise DamagedFile(f"{path} does not hold solved blocks ({said})", path) from error


def places_of(plan: Plan) -> set[tuple[Place, bool]]:
    """Place of each block that is to be solved, and whether as one of a chain."""
    return {(place, job.chained) for job in plan.jobs for place in job.places}
