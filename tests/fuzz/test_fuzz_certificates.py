"""Forged certificates: whatever is changed, what verification accepts is true, and what it refuses it says in one
sentence. The kinds of forgery are in tests/helpers/forgeries.py.

One network here, twenty new ones with ``make nightly``.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import oracle
from forgeries import KINDS, Arrays, Header
from nightly import NIGHTLY
from random_networks import PIECEWISE_LINEAR
from test_fuzz_bounds import floor
from test_fuzz_readers import beside_itself, without_copy

import certlip
from certlip.base.errors import CertlipError
from certlip.base.files import read_npz, write_npz
from certlip.base.rounding import sqrt_up
from certlip.methods import load
from certlip.network import Activation, Conv, Dense, Flatten, Network
from certlip.proof import certificate as certificates
from certlip.proof import norms
from certlip.proof.certificate import (
    BlockProof,
    Certificate,
    LowerCertificate,
    SegmentProof,
    UpperCertificate,
    constants_proof,
)
from certlip.proof.torus_relaxation import Relaxation
from certlip.sdp.torus.solve import solve
from certlip.solving import blocks
from certlip.verify import Verification

SEEDS = [int(s) for s in np.random.default_rng().integers(2**31, size=20)] if NIGHTLY else [0]

PLANNED = {
    "sum": {"grid": (2, 1), "merge": "sum"},
    "cover": {"grid": (2, 2), "merge": "cover"},
    "weighted": {"grid": (2, 1), "merge": "weighted"},
    "folded": {"grid": (2, 1), "merge": "folded"},
    "chained": {"grid": (2, 1), "merge": "folded", "chain": True},
}
METHODS = {
    "product": {},
    "lipsdp": {},
    "liplt": {},
    "lower": {"n_points": 8, "n_starts": 1, "n_steps": 0},
}


def random_chain(seed: int) -> Network:
    """Two convolutions, to be cut into patches, and two dense layers; few enough neurons to know the constant."""
    rng = np.random.default_rng(seed)
    kinds, slopes = rng.choice(PIECEWISE_LINEAR, 3), rng.choice([0.1, 0.5, -0.7], 3)
    acts = [Activation(f"act{i}", str(kinds[i]), float(slopes[i])) for i in range(3)]
    convs = [Conv(f"conv{i}", rng.standard_normal((1, 1, 2, 2)), rng.standard_normal(1)) for i in (0, 1)]
    dense = [Dense(f"dense{i}", rng.standard_normal((2, 2)), np.zeros(2)) for i in (0, 1)]
    layers = (convs[0], acts[0], convs[1], acts[1], Flatten("flatten"), dense[0], acts[2], dense[1])
    return Network(layers, (1, 4, 3))


def honest(network: Network) -> dict[str, Certificate]:
    """One certificate of each kind of proof."""
    found = {
        method: certlip.bound(network, method=method, **options).certificate for method, options in METHODS.items()
    }
    for case, options in PLANNED.items():
        # even where the product of norms would be the better bound
        plan = blocks.make_plan(lambda: network, load("dcp"), options).model_copy(update={"fallback": False})
        found[case] = blocks.merge_plan(network, plan, blocks.solve_blocks(network, plan)).certificate
    convolutions, rest = network.segment(0, 4), network.segment(4, 8)
    tail = constants_proof(4, rest, norms.layer_constants(rest))
    found["torus"] = UpperCertificate(network, (on_torus(convolutions), tail))
    found["graph"], graph = beside_itself(network), beside_itself(convolutions).network
    found["graph on the torus"] = UpperCertificate(graph, (on_torus(graph),))
    found["rewritten"] = certlip.bound(beside_itself(network).network, method="lipsdp").certificate
    assert found["rewritten"].rewritten
    return found


def on_torus(network: Network) -> SegmentProof:
    found = solve(Relaxation.of(network), rtol=1e-2)
    block = BlockProof((None,), found.rho, found.multipliers)
    return SegmentProof(0, len(network.layers), "torus", sqrt_up(found.rho), blocks=(block,))


def test_what_is_accepted_of_forged_certificates_is_true(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    path, n_forged, n_accepted, tried = tmp_path / "c.npz", 0, 0, set()
    for seed in SEEDS:
        for case, certificate in honest(random_chain(seed)).items():
            certificate.save(path)
            assert certlip.verify(path), (seed, case)
            header, arrays = read_npz(path)
            for kind in KINDS:
                if not forge(kind, header, arrays, path):
                    continue
                tried.add(kind)
                n_forged += 1
                n_accepted += accepts_only_what_is_true(path, (seed, case, kind))
    assert tried == set(KINDS)
    record_property("networks", len(SEEDS))
    record_property("kinds", len(KINDS))
    record_property("forged", n_forged)
    record_property("accepted_and_true", n_accepted)


def forge(kind: str, header: Header, arrays: Arrays, path: Path) -> bool:
    """Write a forged file, if this kind changes anything of the honest one and leaves what can be written."""
    forged, changed = copy.deepcopy(header), dict(arrays)
    try:
        KINDS[kind](forged, changed)
    except (CertlipError, KeyError):  # a network inside that is none, or there is nothing of this kind
        if "network" in forged:
            forged["sha256"] = "0" * 64
    same = changed.keys() == arrays.keys() and all(changed[key] is arrays[key] for key in arrays)
    if same and json.dumps(forged) == json.dumps(header):
        return False
    write_npz(path, forged, changed)
    return True


def accepts_only_what_is_true(path: Path, which: tuple[int, str, str]) -> bool:
    """Whether the file is accepted; fails where it is wrongly, or where it is refused in other than one sentence."""
    try:
        verification = certlip.verify(path)
    except CertlipError as error:
        verification = Verification(False, None, str(error))
    if not verification:
        assert verification.reason, which
        assert "\n" not in verification.reason, which
        return False
    certificate = certificates.load(path)
    assert certificate.value == verification.value, which
    if isinstance(certificate, LowerCertificate):
        assert certificate.value <= most(certificate.network) * (1 + 1e-12), which
    else:
        assert certificate.value >= least(certificate) * (1 - 1e-12), which
    return True


def least(certificate: Certificate) -> float:
    """A number that the constant of the certificate's network is known to reach."""
    graph = certificate.network
    if graph.is_chain:
        return attained(graph)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 50, *graph.input_shape))
    y = x + y * 1e-3
    with np.errstate(all="ignore"):
        moved = np.linalg.norm((graph.forward(x) - graph.forward(y)).reshape(50, -1), axis=1)
    quotient = float(np.nanmax(moved / np.linalg.norm((x - y).reshape(50, -1), axis=1))) * (1 - 1e-9)
    f = without_copy(graph)
    return max(quotient, 0.0 if f is None else math.sqrt(1.25) * attained(f))


@cache
def known_constants() -> dict[str, float]:
    """The constants of the networks that are forged, found by enumeration, by their hashes."""
    chains = [random_chain(seed) for seed in SEEDS]
    return {network.sha256: oracle.attained_norm(network) for c in chains for network in (c, c.segment(0, 4))}


def attained(network: Network) -> float:
    """The constant of a network that is forged, or what is attained at some points of what was made of it."""
    return known_constants().get(network.sha256) or floor(network)


def most(network: Network) -> float:
    """A number that the constant of the network is known not to exceed."""
    values = [certlip.bound(network, method=method).value for method in ("product", "lipsdp")]
    return min((value for value in values if value is not None), default=math.inf)
