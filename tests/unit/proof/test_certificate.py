"""Certificates and files of solved blocks: what is proved comes back proved, what is changed is seen or still true."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
from changed_files import after_each_change, changed_files

import certlip
from certlip.base.errors import DataError, Refusal
from certlip.base.files import read_npz, write_npz
from certlip.base.record import Status
from certlip.methods import dcp
from certlip.network import Activation, Conv, Dense, Flatten, Network
from certlip.network.scaling import scale_network
from certlip.network.window import Window
from certlip.partition.plan import Plan
from certlip.proof import certificate
from certlip.proof.certificate import BlockProof, LowerCertificate, SegmentProof, UpperCertificate
from certlip.solving import blocks, solved_files
from certlip.solving.evaluate import save_none
from certlip.solving.solved import SolvedBlock


@cache
def network() -> Network:
    rng = np.random.default_rng(0)
    layers = (
        Conv("c1", rng.standard_normal((1, 1, 2, 2)), rng.standard_normal(1)),
        Activation("r1", "relu"),
        Conv("c2", rng.standard_normal((1, 1, 2, 2)), rng.standard_normal(1)),
        Activation("r2", "leaky_relu", 0.5),
        Flatten("f"),
        Dense("d", rng.standard_normal((1, 2)), np.zeros(1)),
    )
    return Network(layers, (1, 4, 3))


@cache
def truth() -> float:
    return oracle.attained_norm(network())


CASES: dict[str, dict[str, Any]] = {
    "constants": {"method": "product"},
    "sum": {"method": "dcp", "grid": (2, 1), "merge": "sum"},
    "cover": {"method": "dcp", "grid": (2, 1), "merge": "cover"},
    "whole": {"method": "lipsdp"},
    "recomputed": {"method": "liplt"},
    "lower": {"method": "lower", "n_points": 16},
}


@cache
def proof(case: str) -> UpperCertificate | LowerCertificate:
    if case in ("sum", "cover"):  # even where the product of norms would be the better bound
        plan = dcp.plan(network(), grid=(2, 1), merge=case).model_copy(update={"fallback": False})  # type: ignore[arg-type]
        return blocks.merge_plan(network(), plan, blocks.solve_blocks(network(), plan)).certificate
    found: UpperCertificate | LowerCertificate = certlip.bound(network(), **CASES[case]).certificate
    return found


@pytest.mark.parametrize("case", CASES)
def test_a_certificate_holds_in_memory_and_from_its_file(case: str, tmp_path: Path) -> None:
    proof(case).save(tmp_path / "c.npz")
    assert certificate.kind(tmp_path / "c.npz") == ("lower" if case == "lower" else "upper")
    loaded = certificate.load(tmp_path / "c.npz")
    for subject in (proof(case), loaded, tmp_path / "c.npz", str(tmp_path / "c.npz")):
        verification = certlip.verify(subject)
        assert verification.ok, verification.reason
        assert verification.value == proof(case).value
    assert loaded.network.sha256 == network().sha256
    if isinstance(loaded, UpperCertificate):
        rules = {segment.rule for segment in loaded.segments}
        assert ("sum" if case == "whole" else case) in rules


@pytest.mark.parametrize("case", CASES)
def test_any_number_that_is_changed_in_a_file_is_refused_or_leaves_a_true_claim(case: str, tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    proof(case).save(path)
    n_refused, proved = after_each_change(path)
    for value in proved:
        if case == "lower":
            assert value <= truth() * (1 + 1e-12)
        else:
            assert value >= truth() * (1 - 1e-12)
    assert n_refused > 50


def upper(*segments: SegmentProof) -> str:
    """The flaw of a certificate made of these segments."""
    return certlip.verify(UpperCertificate(network(), segments, scale_network(network()).exponents)).reason


def test_segments_that_do_not_cover_the_network_in_order_are_rejected() -> None:
    (whole,) = proof("constants").segments  # type: ignore[union-attr]
    assert not upper(whole)
    halves = [
        SegmentProof(first, last, "constants", math.inf, constants=whole.constants[first:last])
        for first, last in ((0, 3), (3, 6))
    ]
    assert not upper(*halves)
    for wrong in ([], halves[:1], halves[1:], halves[::-1], [halves[0], *halves], [whole, whole]):
        assert "segments do not" in upper(*wrong)


def test_a_product_that_is_rounded_down_is_rejected() -> None:
    (whole,) = proof("constants").segments  # type: ignore[union-attr]
    assert "below the product" in upper(replace(whole, constant=np.nextafter(whole.constant, 0)))
    assert "not one constant a layer" in upper(replace(whole, constants=whole.constants[:-1]))


def block_segment() -> SegmentProof:
    return next(s for s in proof("sum").segments if s.rule == "sum" and len(s.blocks[0].windows) == 2)  # type: ignore[union-attr]


def rest() -> SegmentProof:
    return proof("sum").segments[1]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("windows", "reason"),
    [
        ([Window(0, 1, 0, 1)], "do not tile"),
        ([Window(0, 1, 0, 1), Window(0, 2, 0, 1)], "do not tile"),
        ([Window(0, 1, 0, 1)] * 2, "do not tile"),
        ([None, None], "mixed"),
        ([None, Window(0, 2, 0, 1)], "mixed"),
        ([], "no blocks"),
        ([Window(0, 3, 0, 1)], "do not tile"),
    ],
    ids=["a gap", "an overlap", "one patch twice", "the whole map twice", "whole map and patch", "none", "outside"],
)
def test_patches_that_do_not_tile_the_map_are_rejected(windows: list[Window | None], reason: str) -> None:
    segment = block_segment()
    block = replace(segment.blocks[0], windows=tuple(windows))
    assert reason in upper(replace(segment, blocks=(block,)), rest())


def test_a_proof_of_one_patch_does_not_serve_a_larger_one() -> None:
    segment = block_segment()
    larger = replace(segment.blocks[0], windows=(None,))
    assert "not proved" in upper(replace(segment, blocks=(larger,)), rest())


def test_a_merge_of_less_than_all_blocks_is_rejected() -> None:
    segment = block_segment()
    assert "the merge gives" in upper(replace(segment, constant=segment.constant * 0.999), rest())
    assert "unknown rule" in upper(replace(segment, rule="luck"), rest())  # type: ignore[arg-type]


def test_activations_outside_the_matrices_count_in_a_merge() -> None:
    steep = Network((Activation("a", "leaky_relu", 5.0), Dense("d", np.eye(2), np.zeros(2))), (2,))
    block = BlockProof((None,), 1.0 + 1e-9, ())
    for constant, holds in ((1.001, False), (5.001, True)):
        claim = UpperCertificate(steep, (SegmentProof(0, 2, "sum", constant, blocks=(block,)),))
        assert certlip.verify(claim).ok is holds


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("lipt", "unknown method"),
        ("dcp", "cannot be computed again"),
        ("autolip", "cannot be computed again"),
        ("lower", "does not certify"),
    ],
)
def test_only_certified_methods_of_this_package_are_recomputed(method: str, reason: str) -> None:
    assert reason in upper(SegmentProof(0, 6, "recomputed", 1e9, method=method))


def test_a_recomputed_value_below_the_methods_own_is_rejected() -> None:
    (segment,) = proof("recomputed").segments  # type: ignore[union-attr]
    assert "liplt gives" in upper(replace(segment, constant=np.nextafter(segment.constant, 0)))
    assert "no option" in upper(replace(segment, options={"n_iter": 3}))


def test_a_lower_claim_above_what_its_point_attains_is_rejected() -> None:
    lower = proof("lower")
    assert isinstance(lower, LowerCertificate)
    assert certlip.verify(lower).ok
    for wrong in (
        replace(lower, value=np.nextafter(lower.value, 1e9)),
        replace(lower, value=math.nan),
        replace(lower, direction=0 * lower.direction),
        replace(lower, point=lower.point * math.nan),
        replace(lower, point=lower.point[0]),
    ):
        assert not certlip.verify(wrong).ok


def test_a_certificate_of_other_weights_than_its_hash_is_refused(tmp_path: Path) -> None:
    proof("sum").save(tmp_path / "c.npz")
    header, arrays = read_npz(tmp_path / "c.npz")
    write_npz(tmp_path / "c.npz", header | {"sha256": "0" * 64}, arrays)
    with pytest.raises(DataError, match="sha256"):
        certlip.verify(tmp_path / "c.npz")


@pytest.mark.parametrize("damage", [0, 1, 0.3, 0.9])
def test_a_truncated_certificate_is_refused(damage: float, tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    proof("cover").save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(damage) if damage in (0, 1) else int(damage * len(content))])
    with pytest.raises(DataError, match="damaged"):
        certlip.verify(path)


def test_flipped_bits_are_refused_or_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    proof("cover").save(path)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    n_refused = 0
    for position in rng.integers(len(content), size=60):
        flipped = bytearray(content)
        flipped[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        try:
            verification = certlip.verify(path)
        except DataError:
            n_refused += 1
        else:
            assert verification.ok
            assert verification.value == proof("cover").value
    assert n_refused > 30


def test_files_without_a_certificate_say_so(tmp_path: Path) -> None:
    save_none(tmp_path / "none.npz", "autolip gives an estimate")
    assert certificate.kind(tmp_path / "none.npz") == "none"
    with pytest.raises(DataError, match="autolip gives an estimate"):
        certlip.verify(tmp_path / "none.npz")
    network().save(tmp_path / "network.npz")
    with pytest.raises(DataError, match="not a certlip certificate"):
        certlip.verify(tmp_path / "network.npz")
    with pytest.raises(DataError, match="does not exist"):
        certlip.verify(tmp_path / "missing.npz")


def solved_file(path: Path) -> Path:
    plan = dcp.plan(network(), grid=(2, 1), merge="cover")
    solved_files.save_solved(path, network(), plan, blocks.solve_blocks(network(), plan))
    return path


def test_solved_blocks_come_back_from_their_file_and_are_verified(tmp_path: Path) -> None:
    path = solved_file(tmp_path / "b.npz")
    assert certificate.kind(path) == "blocks"
    assert certlip.verify(path).ok
    loaded, plan, solved = solved_files.load_solved(path)
    assert loaded is not None
    assert loaded.sha256 == network().sha256
    assert plan == dcp.plan(network(), grid=(2, 1), merge="cover")
    direct = blocks.merge_plan(network(), plan, solved)
    network().save(tmp_path / "n.npz")
    plan.save(tmp_path / "p.json")
    assert blocks.merge_files(tmp_path / "n.npz", tmp_path / "p.json", [path]).value == direct.value


def test_any_number_that_is_changed_in_solved_blocks_is_refused_or_still_proved(tmp_path: Path) -> None:
    path = solved_file(tmp_path / "b.npz")
    _, plan, solved = solved_files.load_solved(path)
    least = {(s.segment, s.block): (s.rho or 0.0) for s in solved}
    n_refused = 0
    for header, arrays in changed_files(path):
        write_npz(path, header, arrays)
        try:
            ok = certlip.verify(path).ok
        except DataError:
            ok = False
        n_refused += not ok
        if ok:
            _, _, found = solved_files.load_solved(path)
            # a value proved with changed multipliers can be lower by the solver's tolerance only
            assert all((s.rho or math.inf) >= least[s.segment, s.block] * (1 - 3e-4) for s in found)
    assert n_refused > 50
    assert plan.merge == "cover"


def test_blocks_of_another_network_or_plan_are_not_merged(tmp_path: Path) -> None:
    path = solved_file(tmp_path / "b.npz")
    plan = dcp.plan(network(), grid=(2, 1), merge="cover")
    network().save(tmp_path / "n.npz")
    plan.save(tmp_path / "p.json")
    dcp.plan(network(), grid=(2, 1), merge="sum").save(tmp_path / "other.json")
    with pytest.raises(DataError, match="another network or plan"):
        blocks.merge_files(tmp_path / "n.npz", tmp_path / "other.json", [path])
    with pytest.raises(DataError, match="are not solved"):
        blocks.merge_files(tmp_path / "n.npz", tmp_path / "p.json", [])
    changed = Network((*network().layers[:-1], Dense("d", np.ones((1, 2)), np.zeros(1))), network().input_shape)
    changed.save(tmp_path / "n.npz")
    with pytest.raises(DataError, match="another network or plan"):
        blocks.merge_files(tmp_path / "n.npz", tmp_path / "p.json", [path])


def merged(folder: Path, change_blocks: Callable[[dict, dict], object], change_plan: Callable[[dict], object]) -> Any:
    """The bound of a forged file of solved blocks and the same forgery of the plan, as the workflow merges them."""
    header, arrays = read_npz(solved_file(folder / "b.npz"))
    change_blocks(header, arrays)
    change_plan(header["plan"])
    write_npz(folder / "b.npz", header, arrays)
    (folder / "p.json").write_text(json.dumps(header["plan"]))
    network().save(folder / "n.npz")
    return blocks.merge_files(folder / "n.npz", folder / "p.json", [folder / "b.npz"])


def first_block(plan: dict) -> dict:
    return plan["segments"][0]["blocks"][0]


FORGED_PLANS: dict[str, tuple[Callable[[dict], object], str]] = {
    "a patch left out": (
        lambda p: first_block(p).update({k: first_block(p)[k][:1] for k in ("windows", "fields")}),
        "do not tile",
    ),
    "no patches": (lambda p: first_block(p).update(windows=[], fields=[]), "there are no blocks"),
    "other receptive fields": (
        lambda p: first_block(p).update(fields=[[0, 1, 0, 1]] * len(first_block(p)["fields"])),
        "do not read what it says",
    ),
    "a segment left out": (lambda p: p["segments"].pop(), "do not reach the last layer"),
    "layers of other names": (lambda p: p["segments"][0].update(layers=["x"]), "not of the network's layers"),
    "a refusal of no kind": (lambda p: p.update(refusal={"status": "ok", "reason": "why"}), "refused as 'ok'"),
    "patches without a grid": (
        lambda p: p.update(merge="weighted") or p["segments"][0].update(grid=[1, 1]),
        "patches but no grid",
    ),
}


@pytest.mark.parametrize("how", FORGED_PLANS)
def test_a_plan_that_does_not_fit_its_network_is_named_and_nothing_is_merged(how: str, tmp_path: Path) -> None:
    change, words = FORGED_PLANS[how]
    with pytest.raises(DataError, match=rf"p\.json is no plan of .*n\.npz \(.*{words}.*\); give another file"):
        merged(tmp_path, lambda header, arrays: None, change)


def test_a_plan_whose_patches_differ_but_are_one_program_is_named(tmp_path: Path) -> None:
    """A patch in the middle reads more than one at the border, which pads."""
    conv = Conv("c", np.ones((1, 1, 3, 1)), np.zeros(1), padding=(1, 1, 0, 0))
    padded = Network((conv, Activation("r", "relu"), replace(conv, name="d")), (1, 9, 1))
    plan = dcp.plan(padded, grid=(3, 1), merge="cover").model_dump(mode="json")
    top, middle, *_ = plan["segments"][0]["blocks"]
    for key in ("windows", "fields"):
        top[key] += middle[key]
    plan["segments"][0]["blocks"].remove(middle)
    (tmp_path / "p.json").write_text(json.dumps(plan))
    padded.save(tmp_path / "n.npz")
    with pytest.raises(DataError, match="patches that differ are one program"):
        blocks.merge_files(tmp_path / "n.npz", tmp_path / "p.json", [])


FORGED_BLOCKS: dict[str, Callable[[dict, dict], object]] = {
    "a smaller rho": lambda header, arrays: header["solved"][0].update(rho=header["solved"][0]["rho"] * 1e-4),
    "a metric": lambda header, arrays: arrays.update({"metric.0": np.full(6, 1e-9)}),
    "no multipliers": lambda header, arrays: [arrays.pop(k) for k in list(arrays) if k.startswith("multipliers")],
    "multipliers that are not finite": lambda header, arrays: arrays.update(
        {k: a * math.nan for k, a in arrays.items() if k.startswith("multipliers")}
    ),
}


@pytest.mark.parametrize("how", FORGED_BLOCKS)
def test_solved_blocks_that_prove_nothing_are_named_and_nothing_is_merged(how: str, tmp_path: Path) -> None:
    assert merged(tmp_path, lambda header, arrays: None, lambda plan: None).value >= truth()
    with pytest.raises(DataError, match=r"b\.npz does not prove what it claims \(segment 1, .*\); give another file"):
        merged(tmp_path, FORGED_BLOCKS[how], lambda plan: None)


def test_an_empty_share_of_blocks_is_a_file_that_proves_nothing(tmp_path: Path) -> None:
    plan = dcp.plan(network(), grid=(2, 1), merge="cover")
    solved_files.save_solved(tmp_path / "b.npz", None, plan, [])
    assert solved_files.load_solved(tmp_path / "b.npz") == (None, plan, [])
    verification = certlip.verify(tmp_path / "b.npz")
    assert not verification
    assert "proves nothing" in verification.reason


@pytest.mark.parametrize("case", ["no blocks", "failed blocks", "a refused plan"])
def test_a_file_without_a_solved_block_proves_nothing(case: str, tmp_path: Path) -> None:
    plan = dcp.plan(network(), grid=(2, 1), merge="cover")
    failed = [SolvedBlock(0, b, Status.TIME_LIMIT, "late") for b in range(len(plan.segments[0].blocks))]
    if case == "a refused plan":
        plan = Plan(segments=(), refusal=Refusal(Status.TIME_LIMIT, "late"))
    solved_files.save_solved(tmp_path / "b.npz", network(), plan, failed if case == "failed blocks" else [])
    verification = certlip.verify(tmp_path / "b.npz")
    assert not verification
    assert "proves nothing" in verification.reason


def test_blocks_of_no_network_are_refused(tmp_path: Path) -> None:
    path = solved_file(tmp_path / "b.npz")
    header, arrays = read_npz(path)
    write_npz(path, {**header, "network": {}, "sha256": None}, arrays)
    with pytest.raises(DataError, match="blocks of no network"):
        certlip.verify(path)
