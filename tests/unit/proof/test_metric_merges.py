"""Merges that give the input pixels of a patch weights of their own, and what their certificates prove."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest

import certlip
from certlip.base.errors import ConfigError
from certlip.base.record import Record
from certlip.network import Activation, Array, Conv, Dense, Flatten, Layer, Network, Pair
from certlip.partition.merges import RULES, WEIGHTED
from certlip.proof import certificate as certificates
from certlip.proof.certificate import BlockProof, SegmentProof, UpperCertificate
from certlip.solving import solved_files

METRIC_MERGES = [name for name, rule in RULES.items() if rule.has_metrics]
RTOL = 1e-4
"""Default of the method: two optima agree to about this much."""


def conv(name: str, seed: int, shape: tuple[int, int, int, int], padding: int = 0, stride: Pair = (1, 1)) -> Conv:
    weight = np.random.default_rng(seed).standard_normal(shape)
    return Conv(name, weight, np.zeros(shape[0]), stride, (padding,) * 4)


def block(seed: int, kind: str = "plain", side: Pair = (9, 8), act: str = "relu") -> Network:
    """Two convolutions; plain, padded, strided, or with remainders on a 2x2 grid."""
    padding, stride = (1 if kind == "padded" else 0), ((2, 1) if kind == "strided" else (1, 1))
    first = conv("first", seed, (2, 1, 3, 3), padding, stride)
    second = conv("second", seed + 1000, (2, 2, 2, 2), padding)
    layers = (first, Activation("act", act), second, Activation("last", act))
    return Network(layers, (1, side[0] + (kind == "remainders"), side[1]))


def tiny(seed: int, kind: str) -> Network:
    """At most eight hidden neurons: small enough for the exact constant."""
    padding, stride = (1 if kind == "padded" else 0), ((2, 1) if kind == "strided" else (1, 1))
    side = {"plain": (3, 5), "padded": (2, 3), "strided": (5, 4)}[kind]
    first = conv("first", seed, (1, 1, 2, 2) if kind != "padded" else (1, 1, 3, 3), padding, stride)
    second = conv("second", seed + 1000, (1, 1, 1, 2) if kind != "padded" else (1, 1, 3, 3), padding)
    return Network((first, Activation("act", "relu"), second), (1, *side))


def dcp(network: Network, merge: str, grid: Pair = (2, 2), **options: Any) -> Record:
    record = certlip.bound(network, method="dcp", grid=grid, merge=merge, **options)
    assert record.value is not None, record.reason
    return record


def merged(network: Network, merge: str, grid: Pair = (2, 2)) -> float:
    """The merge's own constant, without the minimum with the product of norms."""
    from certlip.methods import dcp as method
    from certlip.solving import blocks

    plan = method.plan(network, grid=grid, merge=merge)  # type: ignore[arg-type]
    solved = blocks.solve_blocks(network, plan)
    return blocks.merge_plan(network, plan.model_copy(update={"fallback": False}), solved).value


@pytest.mark.parametrize("merge", METRIC_MERGES)
@pytest.mark.parametrize("kind", ["plain", "padded", "strided"])
def test_a_metric_merge_is_never_below_the_exact_constant(merge: str, kind: str) -> None:
    for seed in range(2):
        network = tiny(seed, kind)
        assert oracle.is_at_least(merged(network, merge, (2, 2) if kind != "strided" else (2, 1)), network)


@pytest.mark.parametrize("merge", METRIC_MERGES)
@pytest.mark.parametrize("kind", ["plain", "padded", "strided", "remainders"])
def test_a_metric_merge_is_never_below_sampled_quotients(merge: str, kind: str) -> None:
    network = block(3, kind)
    assert merged(network, merge) >= oracle.sampled_quotient(network, 0)


@pytest.mark.parametrize("merge", METRIC_MERGES)
def test_a_metric_merge_is_at_least_the_norm_of_a_linear_network_and_the_bound_of_the_whole_map(merge: str) -> None:
    linear = block(4, side=(5, 5), act="identity")
    first, _, second, _ = linear.layers
    shape = linear.shapes[2]
    matrix = oracle.dense_matrix(second, shape) @ oracle.dense_matrix(first, linear.input_shape)
    assert oracle.dominates(merged(linear, merge), oracle.rational(matrix))
    network = block(4)
    whole = certlip.bound(network, method="lipsdp").value
    assert whole is not None
    assert merged(network, merge) >= whole * (1 - RTOL)


@pytest.mark.parametrize("merge", METRIC_MERGES)
def test_the_product_of_norms_replaces_a_merge_that_is_worse(merge: str) -> None:
    signs = np.array([1.0, 1.0, -1.0])
    first = Conv("first", np.outer(signs, signs)[None, None], np.zeros(1))
    second = Conv("second", np.ones((1, 1, 1, 1)), np.zeros(1))
    network = Network((first, Activation("act", "relu"), second), (1, 8, 8))
    product = certlip.bound(network, method="product").value
    assert product is not None
    # patches of one pixel do not see that the kernel's entries cannot all be matched at once
    assert merged(network, merge, (6, 6)) > product
    record = dcp(network, merge, (6, 6))
    assert record.value == product
    assert "product of norms" in record.reason


@pytest.mark.parametrize("merge", METRIC_MERGES)
@pytest.mark.parametrize("factor", [1e-6, 3.0, 1e6])
def test_scaling_a_layer_scales_a_metric_merge(merge: str, factor: float) -> None:
    network = block(6)
    first, *others = network.layers
    assert isinstance(first, Conv)
    scaled = Network((replace(first, weight=factor * first.weight), *others), network.input_shape)
    assert merged(scaled, merge) == pytest.approx(factor * merged(network, merge), rel=2 * RTOL)


@pytest.mark.parametrize("merge", METRIC_MERGES)
def test_the_slope_of_a_last_activation_counts(merge: str) -> None:
    network = block(7)
    sigmoid = Network((*network.layers[:3], Activation("last", "sigmoid")), network.input_shape)
    record = dcp(sigmoid, merge)
    assert record.value == pytest.approx(dcp(network, merge).value / 4, rel=1e-3)  # type: ignore[operator]
    assert certlip.verify(record.certificate)


@pytest.mark.parametrize("kind", ["plain", "padded", "strided", "remainders"])
@pytest.mark.parametrize("grid", [(2, 2), (3, 1)])
def test_folded_is_at_most_weighted_and_cover_and_they_are_at_most_sum(kind: str, grid: Pair) -> None:
    for seed in range(3):
        bounds = {m: merged(block(seed, kind), m, grid) for m in RULES}
        assert bounds["folded"] <= min(bounds["weighted"], bounds["cover"]) * (1 + RTOL)
        assert bounds["cover"] <= bounds["sum"]


def test_folded_is_sharper_than_every_fixed_metric() -> None:
    network = block(12, side=(12, 12))
    assert merged(network, "folded", (4, 4)) < 0.97 * min(merged(network, m, (4, 4)) for m in ("weighted", "cover"))


def test_patches_with_another_cover_are_programs_of_their_own() -> None:
    network = block(8, side=(16, 16))
    assert dcp(network, "sum", (4, 4)).n_distinct_sdps < dcp(network, "weighted", (4, 4)).n_distinct_sdps  # type: ignore[operator]
    assert dcp(network, "weighted", (4, 4)).n_sdps == 16


@pytest.mark.parametrize("merge", METRIC_MERGES)
@pytest.mark.parametrize("kind", ["plain", "padded", "strided", "remainders"])
def test_a_metric_certificate_is_verified_from_its_file(merge: str, kind: str, tmp_path: Path) -> None:
    record = dcp(block(9, kind), merge, fallback=False)
    assert [s.rule for s in record.certificate.segments] == ["metric"]
    record.certificate.save(tmp_path / "certificate.npz")
    found = certlip.verify(tmp_path / "certificate.npz")
    assert found, found.reason
    assert found.value == record.value


def _edit(certificate: UpperCertificate, **changes: Any) -> UpperCertificate:
    (segment,) = certificate.segments
    return replace(certificate, segments=(replace(segment, **changes),))


def _with_first(segment: SegmentProof, **changes: Any) -> tuple[BlockProof, ...]:
    return (replace(segment.blocks[0], **changes), *segment.blocks[1:])


def _shrunk(metric: Array | None) -> Array:
    assert metric is not None
    smaller = metric.copy()
    smaller[len(smaller) // 2] *= 0.5
    return smaller


@pytest.mark.parametrize(
    "tamper",
    [
        lambda s: {"constant": s.constant * (1 - 1e-12)},
        lambda s: {"blocks": _with_first(s, metric=0.99 * s.blocks[0].metric), "constant": 0.0},
        lambda s: {"blocks": _with_first(s, metric=_shrunk(s.blocks[0].metric))},
        lambda s: {"blocks": _with_first(s, metric=-s.blocks[0].metric)},
        lambda s: {"blocks": _with_first(s, metric=s.blocks[0].metric[:1])},
        lambda s: {"blocks": _with_first(s, metric=np.full_like(s.blocks[0].metric, np.nan))},
        lambda s: {"blocks": _with_first(s, metric=None)},
        lambda s: {"blocks": _with_first(s, rho=2.0)},
        lambda s: {"blocks": _with_first(s, stage=1)},
        lambda s: {"blocks": _with_first(s, windows=s.blocks[1].windows)},
        lambda s: {"blocks": s.blocks[1:]},
        lambda s: {"blocks": (*s.blocks, s.blocks[0])},
        lambda s: {"cuts": (2,)},
        lambda s: {"rule": "sum"},
        lambda s: {"rule": "cover"},
    ],
)
def test_a_tampered_metric_certificate_is_rejected(tamper: Any) -> None:
    certificate = dcp(block(10), "weighted").certificate
    assert certlip.verify(certificate)
    assert not certlip.verify(_edit(certificate, **tamper(certificate.segments[0])))


def test_a_metric_that_is_larger_somewhere_raises_the_constant_that_verifies() -> None:
    certificate = dcp(block(10), "weighted").certificate
    (segment,) = certificate.segments
    larger = _with_first(segment, metric=2 * segment.blocks[0].metric)
    assert not certlip.verify(_edit(certificate, blocks=larger))
    assert certlip.verify(_edit(certificate, blocks=larger, constant=1.5 * segment.constant))


def test_solved_blocks_with_metrics_are_verified_from_their_file(tmp_path: Path) -> None:
    from certlip.methods import dcp as method
    from certlip.solving import blocks

    network = block(11)
    plan = method.plan(network, merge="weighted")
    solved = blocks.solve_blocks(network, plan)
    path = tmp_path / "blocks.npz"
    solved_files.save_solved(path, network, plan, solved)
    assert certificates.kind(path) == "blocks"
    assert certlip.verify(path)
    assert blocks.merge_plan(*solved_files.load_solved(path)).value == blocks.merge_plan(network, plan, solved).value  # type: ignore[arg-type]
    tampered = [replace(solved[0], metric=0.99 * solved[0].metric), *solved[1:]]  # type: ignore[operator]
    solved_files.save_solved(path, network, plan, tampered)
    assert not certlip.verify(path)


def test_large_patches_share_their_programs_and_small_ones_do_not() -> None:
    from certlip.methods import dcp as method

    layers: list[Layer] = []
    for i in range(4):
        layers += [Conv(f"conv{i}", np.ones((5, 1 if i == 0 else 5, 3, 3)), np.zeros(5)), Activation(f"act{i}", "relu")]
    sides = {
        side: method.plan(Network(tuple(layers), (1, side, side)), grid=(4, 4), merge="folded") for side in (20, 96)
    }
    assert len(sides[20].blocks) == 16
    assert len(sides[96].blocks) == 1


def test_equal_shares_of_a_pixel_add_up_to_at_most_one_where_unequal_covers_share_a_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from certlip.methods import dcp as method
    from certlip.solving.jobs import input_metric

    network = block(13, side=(12, 12))
    monkeypatch.setattr("certlip.partition.segment.MAX_SPLIT", 0)
    (segment,) = method.plan(network, grid=(3, 3), merge="weighted").segments
    (shared,) = segment.blocks
    total = np.zeros(network.input_shape[1:])
    for field in shared.fields:
        assert field is not None
        total[field.slices] += input_metric(network, segment, 0, WEIGHTED.shares).reshape(field.size)  # type: ignore[arg-type]
    assert 0 < total.min() <= total.max() <= 1 + 1e-12


@pytest.mark.parametrize("merge", METRIC_MERGES)
def test_sharing_a_program_between_unequal_covers_stays_sound_and_loses_little(
    merge: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = block(13, side=(12, 12))
    split = merged(network, merge, (3, 3))
    monkeypatch.setattr("certlip.partition.segment.MAX_SPLIT", 0)
    record = dcp(network, merge, (3, 3))
    assert record.n_distinct_sdps == 1
    assert certlip.verify(record.certificate)
    shared = merged(network, merge, (3, 3))
    assert shared >= oracle.sampled_quotient(network, 1)
    assert split * (1 - RTOL) <= shared <= 1.2 * split
    assert merged(network, "folded", (3, 3)) <= merged(network, "weighted", (3, 3)) * (1 + RTOL)


def tailed(seed: int, kind: str = "plain", last: str = "relu") -> Network:
    """A block and a dense tail."""
    head = block(seed, kind, (7, 6))
    n = int(np.prod(head.shapes[-1]))
    rng = np.random.default_rng(seed)
    hidden = Dense("hidden", rng.standard_normal((5, n)), np.zeros(5))
    out = Dense("out", rng.standard_normal((3, 5)), np.zeros(3))
    layers = (*head.layers[:3], Activation("last", last), Flatten("flatten"), hidden, Activation("tail", "relu"), out)
    return Network(layers, head.input_shape)


@pytest.mark.parametrize("kind", ["plain", "padded", "strided", "remainders"])
def test_chained_segments_are_bounded_no_worse_than_by_the_product_rule(kind: str) -> None:
    network = tailed(20, kind)
    chained, apart = dcp(network, "folded", chain=True), dcp(network, "folded")
    assert chained.value < 0.97 * apart.value  # type: ignore[operator]
    assert [s.rule for s in chained.certificate.segments] == ["metric"]
    whole = certlip.bound(network, method="lipsdp").value
    assert whole is not None
    assert chained.value >= whole * (1 - RTOL)  # type: ignore[operator]
    assert chained.value >= oracle.sampled_quotient(network, 0)  # type: ignore[operator]


def test_the_product_rule_stays_where_chaining_is_worse() -> None:
    # the layers' own constants are exact here, and no metric can be better
    matrices = [np.linalg.qr(np.random.default_rng(i).standard_normal((4, 4)))[0] for i in range(4)]
    layers = [Dense(f"dense{i}", m, np.zeros(4)) for i, m in enumerate(matrices)]
    acts = [Activation(f"act{i}", "abs") for i in range(3)]
    network = Network((layers[0], acts[0], layers[1], acts[1], layers[2], acts[2], layers[3]), (4,))
    record = dcp(network, "folded", chain=True, cuts=["act1"])
    assert record.value <= dcp(network, "folded", cuts=["act1"]).value  # type: ignore[operator]
    assert record.value >= 1


@pytest.mark.parametrize("seed", range(3))
def test_chained_segments_are_never_below_the_exact_constant(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = (3, 3, 2, 3, 2)
    layers: list[Layer] = []
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        layers += [
            Dense(f"dense{i}", rng.standard_normal((n_out, n_in)), np.zeros(n_out)),
            Activation(f"act{i}", "relu"),
        ]
    network = Network(tuple(layers[:-1]), (3,))
    record = dcp(network, "folded", chain=True, cuts=["act1"])
    assert oracle.is_at_least(record.value, network)  # type: ignore[arg-type]
    assert certlip.verify(record.certificate)


@pytest.mark.parametrize("last", ["relu", "sigmoid", "tanh", "abs"])
def test_a_chain_is_verified_from_its_file(last: str, tmp_path: Path) -> None:
    record = dcp(tailed(21, last=last), "folded", chain=True)
    record.certificate.save(tmp_path / "certificate.npz")
    found = certlip.verify(tmp_path / "certificate.npz")
    assert found, found.reason
    assert found.value == record.value
    if last == "sigmoid":
        assert record.value == pytest.approx(dcp(tailed(21), "folded", chain=True).value / 4, rel=1e-3)  # type: ignore[operator]


@pytest.mark.parametrize(
    "tamper",
    [
        lambda s: {"blocks": tuple(replace(b, metric=0.5 * b.metric) if b.stage == 1 else b for b in s.blocks)},
        lambda s: {"blocks": tuple(replace(b, metric=2 * b.metric) if b.stage == 1 else b for b in s.blocks)},
        lambda s: {"blocks": tuple(replace(b, stage=0) for b in s.blocks), "cuts": ()},
        lambda s: {"blocks": tuple(replace(b, stage=1 - b.stage) for b in s.blocks)},
        lambda s: {"cuts": (1,)},
        lambda s: {"cuts": (s.last,)},
        lambda s: {"cuts": ()},
        lambda s: {"constant": s.constant * (1 - 1e-12)},
    ],
)
def test_a_tampered_chain_is_rejected(tamper: Any) -> None:
    certificate = dcp(tailed(22), "folded", chain=True).certificate
    assert certlip.verify(certificate)
    assert not certlip.verify(_edit(certificate, **tamper(certificate.segments[0])))


def test_solved_chains_are_verified_from_their_file(tmp_path: Path) -> None:
    from certlip.methods import dcp as method
    from certlip.solving import blocks

    network = tailed(23)
    plan = method.plan(network, merge="folded", chain=True)
    solved = blocks.solve_blocks(network, plan)
    path = tmp_path / "blocks.npz"
    solved_files.save_solved(path, network, plan, solved)
    assert certlip.verify(path)
    spoilt = [replace(s, metric=0.9 * s.metric) if s.chained else s for s in solved]  # type: ignore[operator]
    solved_files.save_solved(path, network, plan, spoilt)
    assert not certlip.verify(path)


def test_only_folded_can_be_chained() -> None:
    with pytest.raises(ConfigError, match="merge 'folded'"):
        certlip.bound(tailed(24), method="dcp", merge="cover", chain=True)


def test_a_segment_left_to_its_layer_constants_is_no_joint_program():
    layers = (Conv("one", np.ones((1, 1, 2, 2)), np.zeros(1)), Activation("relu", "relu"), Flatten("flat"))
    network = Network((*layers, Dense("out", np.ones((1, 16)), np.zeros(1))), (1, 5, 5))
    record = certlip.bound(network, method="dcp", merge="folded", grid=(2, 2))
    assert record.status == "ok"
    assert certlip.verify(record.certificate).ok


def test_a_hidden_layer_without_living_neurons_is_bounded_jointly():
    dead = Conv("dead", np.zeros((2, 1, 2, 2)), np.zeros(2))
    network = Network((dead, Activation("relu", "relu"), conv("last", 0, (1, 2, 2, 2))), (1, 5, 5))
    record = certlip.bound(network, method="dcp", merge="folded", grid=(2, 2))
    assert record.status == "ok"
    assert certlip.verify(record.certificate).ok
