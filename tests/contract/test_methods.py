"""What every method must do: run over each file of `certlip.methods`, the template, and a method from elsewhere."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import oracle
import pytest
from plugins import METHODS, Variant, choices_of, option_types

import certlip
from certlip import zoo
from certlip.base.errors import CertlipError, ConfigError
from certlip.base.record import Kind, Record, Status
from certlip.methods import MethodInfo
from certlip.network import Activation, Conv, Dense, Flatten, Network
from certlip.proof import certificate as certificates
from certlip.proof.certificate import LowerCertificate, UpperCertificate
from certlip.pytorch.export import export_network

every_method = pytest.mark.parametrize("variant", METHODS, ids=str)

RTOL = 2e-3
"""Methods that solve to a tolerance obey laws of equality up to this."""


def _dense(name: str, weight: np.ndarray) -> Dense:
    return Dense(name, weight, np.linspace(-1, 1, len(weight)))


def _multilayer(kind: str, *slopes: np.ndarray) -> Network:
    rng = np.random.default_rng(7)
    first, second = slopes or (0.2, 0.2)
    layers = (
        _dense("first", rng.standard_normal((4, 3))),
        Activation("act1", kind, negative_slope=first),
        _dense("second", rng.standard_normal((4, 4))),
        Activation("act2", kind, negative_slope=second),
        _dense("third", rng.standard_normal((2, 4))),
    )
    return Network(layers, (3,))


def _convolutional() -> Network:
    rng = np.random.default_rng(8)
    layers = (
        Conv("strided", rng.standard_normal((2, 1, 3, 2)), rng.standard_normal(2), (2, 1), (1, 1, 0, 0)),
        Activation("act", "relu"),
        Conv("grouped", rng.standard_normal((2, 1, 1, 2)), rng.standard_normal(2), groups=2),
        Flatten("flatten"),
    )
    return Network(layers, (1, 4, 3))


NETWORKS = {
    "relu": _multilayer("relu"),
    "leaky": _multilayer("leaky_relu"),
    "prelu": _multilayer("leaky_relu", np.array([0.0, 1.0, -0.5, 1.3]), np.array([1.0, 0.0, 0.0, 1.0])),
    "abs": _multilayer("abs"),
    "conv": _convolutional(),
    "one_pixel": Network((Conv("pixel", np.array([[[[3.0]], [[4.0]]]]), np.zeros(1)),), (2, 1, 1)),
}

KNOWN = [name for name in zoo.names() if zoo.known_constant(name) is not None]


@cache
def outcome(index: int, name: str) -> Record:
    """A method's record on one of the networks, computed once."""
    return METHODS[index].bound(NETWORKS[name] if name in NETWORKS else _known(name))


@cache
def _known(name: str) -> Network:
    return export_network(zoo.make(name, 0), zoo.input_shape(name))


@every_method
def test_info_is_complete(variant):
    info = variant.plugin.INFO
    assert isinstance(info, MethodInfo)
    assert info.title
    assert info.reference
    assert info.kind in Kind
    assert variant.plugin.__doc__


@every_method
def test_every_option_has_a_type_and_a_default(variant):
    types = option_types(variant.plugin)
    assert all(annotation is not None and annotation != "" for annotation in types.values())
    assert variant.plugin.__name__  # options without a default would have failed in every other test


@every_method
def test_an_unknown_option_is_refused_by_name(variant):
    with pytest.raises(ConfigError, match="no option 'no_such_option'"):
        variant.bound(NETWORKS["one_pixel"], no_such_option=1)


@every_method
def test_an_option_of_the_wrong_type_is_refused_by_name(variant):
    for key in option_types(variant.plugin):
        if key not in variant.options:
            with pytest.raises(ConfigError, match=key):
                variant.bound(NETWORKS["one_pixel"], **{key: object()})


@every_method
def test_a_layer_without_bound_is_refused_by_name_or_only_estimated(variant):
    import torch

    class Unheard(torch.nn.Module):
        def forward(self, x):
            return torch.cumsum(x, dim=1).sin()

    module = torch.nn.Sequential()
    module.add_module("first", torch.nn.Linear(3, 3))
    module.add_module("strange", Unheard())
    record = variant.bound(module, input_shape=(3,))
    if record.status is Status.OK:
        assert record.kind is Kind.ESTIMATE
    else:
        assert record.status is Status.UNSUPPORTED
        assert "strange" in record.reason or "cumsum" in record.reason


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("index", range(len(METHODS)), ids=lambda i: str(METHODS[i]))
def test_a_bound_lies_on_its_side_of_the_truth(index, name):
    record, network = outcome(index, name), NETWORKS[name]
    if record.status is not Status.OK:
        assert record.reason
        pytest.skip(record.reason)
    assert math.isfinite(record.value)
    assert record.value >= 0
    if record.kind is Kind.CERTIFIED:
        assert oracle.is_at_least(record.value, network)
    elif record.kind is Kind.LOWER:
        assert record.value <= oracle.largest_pattern_norm(network) * (1 + 1e-12)
        assert not oracle.is_at_least(math.nextafter(record.value, 0.0), network)


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("index", range(len(METHODS)), ids=lambda i: str(METHODS[i]))
def test_known_answers_are_never_undercut(index, name):
    record, known = outcome(index, name), zoo.known_constant(name)
    if record.status is not Status.OK:
        assert record.reason
        pytest.skip(record.reason)
    if record.kind is Kind.CERTIFIED:
        assert record.value >= known
    elif record.kind is Kind.LOWER:
        assert record.value <= known * (1 + 1e-11)


@pytest.mark.parametrize("name", [*NETWORKS, *KNOWN])
def test_no_certified_bound_is_below_a_lower_bound(name):
    records = [outcome(index, name) for index in range(len(METHODS))]
    certified = [r.value for r in records if r.status is Status.OK and r.kind is Kind.CERTIFIED]
    lower = [r.value for r in records if r.status is Status.OK and r.kind is Kind.LOWER]
    assert certified
    assert lower
    assert min(certified) >= max(lower)


@every_method
def test_scaling_the_output_scales_the_bound(variant):
    network = NETWORKS["relu"]
    last = network.layers[-1]
    scaled = Network((*network.layers[:-1], replace(last, weight=-4 * last.weight)), network.input_shape)
    before, after = outcome(METHODS.index(variant), "relu"), variant.bound(scaled)
    assert after.status is before.status
    if before.status is Status.OK:
        assert after.value == pytest.approx(4 * before.value, rel=RTOL)


def _times_power_of_two(network: Network, shifts: tuple[int, ...]) -> Network:
    """Weights times 2^shift, biases with what they are added to; for piecewise linear networks 2^(sum) times f."""
    layers, total, given = [], 0, iter(shifts)
    for layer in network.layers:
        if isinstance(layer, Conv | Dense):
            shift = next(given)
            total += shift
            layer = replace(layer, weight=np.ldexp(layer.weight, shift), bias=np.ldexp(layer.bias, total))
        layers.append(layer)
    return Network(tuple(layers), network.input_shape)


@pytest.mark.parametrize("name", ["relu", "tanh", "conv"])
@every_method
def test_a_power_of_two_in_any_layer_is_a_factor_of_the_bound_exactly(variant, name):
    if variant.plugin.INFO.takes == "module":
        pytest.skip("it sees the module alone: see its own tests")
    network = NETWORKS.get(name) or _multilayer(name)
    n_layers = sum(isinstance(layer, Conv | Dense) for layer in network.layers)
    before = variant.bound(network, **variant.few)
    for number, k in enumerate((-990, -400, -3, 3, 400, 990)):
        share = k // n_layers
        zeros, shares = (0,) * (n_layers - 1), (share,) * (n_layers - 1)
        places = [(*zeros, k), (k, *zeros), (k - sum(shares), *shares)]
        if before.kind is Kind.LOWER and name == "tanh":
            places = places[:1]  # a steeper tanh saturates elsewhere: another function
        # each layer by 2^400, by the others one layer in turn
        chosen = places if abs(k) == 400 else [places[number % len(places)]]
        for shifts in chosen if name == "relu" else places[: 2 if abs(k) == 400 else 0]:
            after = variant.bound(_times_power_of_two(network, shifts), **variant.few)
            assert after.status is before.status, (shifts, after.reason)
            if before.status is Status.OK:
                assert after.value == math.ldexp(before.value, k), shifts
            if after.certificate is not None:
                assert certlip.verify(after.certificate), shifts


@every_method
def test_permuting_hidden_neurons_changes_nothing(variant):
    first, act, *others = NETWORKS["relu"].layers
    order = np.array([2, 0, 3, 1])
    first = replace(first, weight=first.weight[order], bias=first.bias[order])
    others[0] = replace(others[0], weight=others[0].weight[:, order])
    before, after = outcome(METHODS.index(variant), "relu"), variant.bound(Network((first, act, *others), (3,)))
    assert after.status is before.status
    if before.status is Status.OK:
        assert after.value == pytest.approx(before.value, rel=RTOL)


@pytest.mark.parametrize("name", ["relu", "prelu", "abs", "conv", "one_pixel", "pooled"])
@pytest.mark.parametrize("index", range(len(METHODS)), ids=lambda i: str(METHODS[i]))
def test_what_is_claimed_is_proved_by_its_certificate_also_from_a_file(index, name, tmp_path):
    record = outcome(index, name)
    if record.status is not Status.OK or record.kind is Kind.ESTIMATE:
        pytest.skip("nothing is claimed")
    assert record.certificate.value == record.value
    verification = certlip.verify(record.certificate)
    assert verification, verification.reason
    if METHODS[index].module is None or record.certificate.segments[0].rule != "recomputed":
        record.certificate.save(tmp_path / "certificate.npz")
        assert certlip.verify(tmp_path / "certificate.npz")
        assert certificates.load(tmp_path / "certificate.npz").value == record.value


@pytest.mark.parametrize("name", ["relu", "prelu", "conv"])
@pytest.mark.parametrize("index", range(len(METHODS)), ids=lambda i: str(METHODS[i]))
def test_a_tampered_certificate_fails_or_is_still_true(index, name):
    record, network = outcome(index, name), NETWORKS[name]
    if record.status is not Status.OK or record.kind is Kind.ESTIMATE:
        pytest.skip("nothing is claimed")
    n_rejected = 0
    for forged in tampered(record.certificate):
        if not _is_accepted(forged):
            n_rejected += 1
        elif isinstance(forged, LowerCertificate):
            assert not oracle.is_at_least(math.nextafter(forged.value, 0.0), network)
        else:
            assert oracle.is_at_least(forged.value, network)
    assert n_rejected


def _is_accepted(certificate) -> bool:
    try:
        return bool(certlip.verify(certificate))
    except CertlipError:
        return False


def tampered(certificate):
    """Certificates with one number changed in their favour, or zeroed."""
    if isinstance(certificate, LowerCertificate):
        yield replace(certificate, value=1.01 * certificate.value)
        yield replace(certificate, value=certificate.value * (1 + 1e-9))
        yield replace(certificate, point=certificate.point + 1.0)
        yield replace(certificate, direction=-np.roll(certificate.direction, 1))
        return
    assert isinstance(certificate, UpperCertificate)
    for i, segment in enumerate(certificate.segments):
        changed = [
            replace(segment, constant=0.99 * segment.constant),
            replace(segment, constant=0.0),
            replace(segment, constant=math.nan),
        ]
        for j, constant in enumerate(segment.constants):
            smaller = (*segment.constants[:j], 0.99 * constant, *segment.constants[j + 1 :])
            changed.append(replace(segment, constants=smaller, constant=0.99 * segment.constant))
        for j, block in enumerate(segment.blocks):
            for forged in _tampered_block(block):
                blocks = (*segment.blocks[:j], forged, *segment.blocks[j + 1 :])
                changed.append(replace(segment, blocks=blocks, constant=0.99 * segment.constant))
        for forged in changed:
            segments = (*certificate.segments[:i], forged, *certificate.segments[i + 1 :])
            yield replace(certificate, segments=segments)
    yield replace(certificate, segments=certificate.segments[:-1])


def _tampered_block(block):
    yield replace(block, rho=0.98 * block.rho)
    if block.metric is not None:
        yield replace(block, metric=0.98 * block.metric)
        yield replace(block, metric=-block.metric)
    for k, t in enumerate(block.multipliers):
        for factor in (0.0, 0.9, -1.0, math.inf):
            forged = np.array(t)
            forged[0] *= factor
            multipliers = (*block.multipliers[:k], forged, *block.multipliers[k + 1 :])
            yield replace(block, multipliers=multipliers, rho=0.98 * block.rho)
            yield replace(block, multipliers=multipliers)


def test_a_method_from_elsewhere_is_among_them():
    assert any(variant.module == "elsewhere.entrywise" for variant in METHODS)
    assert outcome(METHODS.index(Variant("entrywise", "elsewhere.entrywise", {})), "relu").status is Status.OK


def test_both_choices_of_an_option_with_choices_are_among_them():
    for variant in METHODS:
        for key, annotation in option_types(variant.plugin).items():
            if key in variant.options:
                found = {v.options[key] for v in METHODS if v.name == variant.name}
                assert found == set(choices_of(annotation))
