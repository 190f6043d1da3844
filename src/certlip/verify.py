"""Re-checking certificates and files of solved blocks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from certlip.proof import certificate as certificates
from certlip.proof.certificate import Certificate, LocalCertificate
from certlip.proof.proofs import certificate_flaw


@dataclass(frozen=True)
class Verification:
    """ok: whether all that was claimed is proved; value: of the network's constant, None for a file of solved blocks;
    reason: the first thing that does not hold; radius: around a point, where the constant is of increments from that
    point alone, None where it is of the whole space."""

    ok: bool
    value: float | None
    reason: str = ""
    radius: float | None = None

    def __bool__(self) -> bool:
        return self.ok


def verify(certificate: Certificate | str | Path) -> Verification:
    """Prove or reject a certificate (or the file of one).

    Raises DataError if the file is missing, damaged or not a certificate.
    """
    if isinstance(certificate, str | Path):
        if certificates.kind(certificate) == "blocks":
            reason = _blocks_flaw(certificate)
            return Verification(not reason, None, reason)
        certificate = certificates.load(certificate)
    reason = certificate_flaw(certificate)
    radius = certificate.radius if isinstance(certificate, LocalCertificate) else None
    return Verification(not reason, certificate.value, reason, radius)


def _blocks_flaw(path: str | Path) -> str:
    from certlip.network.scaling import scale_network
    from certlip.solving.solved_files import load_solved
    from certlip.solving.solved_proofs import plan_flaw, solved_flaw

    network, plan, solved = load_solved(path)
    if network is None or all(s.rho is None for s in solved):
        return "no block in it is solved, so it proves nothing"
    return plan_flaw(network, plan) or solved_flaw(scale_network(network.chain).network, plan, solved)
