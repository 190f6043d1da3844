"""The Python interface, and the record of a result: the same for every method, failures included."""

from __future__ import annotations

import inspect
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
import torch
from torch import nn

import certlip
from certlip.base.errors import ConfigError, DataError
from certlip.base.record import Kind, Record, Status
from certlip.methods import Bound, MethodInfo, autolip
from certlip.network import Activation, Dense, Flatten, Network
from certlip.solving.evaluate import record_of, save_result

OWN = {"method": "mine", "module": "someones_method"}


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 1, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))


def small() -> Network:
    rng = np.random.default_rng(0)
    layers = (
        Dense("a", rng.standard_normal((4, 3)), np.zeros(4)),
        Activation("r", "relu"),
        Dense("b", rng.standard_normal((2, 4)), np.zeros(2)),
    )
    return Network(layers, (3,))


def test_the_interface_of_the_readme_works_as_written() -> None:
    record = certlip.bound(model(), input_shape=(1, 6, 6), method="dcp", grid=(2, 2), merge="sum")
    assert isinstance(record, certlip.Record)
    assert record.kind == "certified"
    assert record.status == "ok"
    assert record.reason == "" or "norms" in record.reason
    assert record.seconds > 0
    assert record.value is not None
    assert certlip.verify(record.certificate).ok
    lower = certlip.bound(model(), input_shape=(1, 6, 6), method="lower", n_points=32)
    assert lower.kind == "lower"
    assert lower.value is not None
    assert lower.value <= record.value
    assert certlip.verify(lower.certificate).ok


def test_a_public_name_is_imported_when_it_is_used_and_hides_the_module_of_its_name() -> None:
    code = """
        import sys
        import certlip
        assert not {"numpy", "scipy", "pandas", "torch", "pydantic"} & set(sys.modules)
        assert set(certlip.__all__) <= set(dir(certlip))
        assert {"methods", "verify"} <= set(dir(certlip))
        import certlip.methods, certlip.verify
        from certlip.methods import MethodInfo
        assert certlip.methods()["dcp"].kind == "certified"
        assert type(certlip.methods()["dcp"]) is MethodInfo
        assert certlip.verify.__name__ == "verify" and callable(certlip.verify)
        import certlip.methods, certlip.verify
        from certlip import methods, verify
        assert methods is certlip.methods and verify is certlip.verify
        from certlip.verify import Verification
        assert callable(certlip.sdp.solve) and callable(certlip.bound)
        assert certlip.Network.__name__ == "Network" and certlip.Record.__name__ == "Record"
        try:
            certlip.network_
        except AttributeError as error:
            assert str(error) == "module 'certlip' has no attribute 'network_'"
        else:
            raise AssertionError
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_methods_are_listed_by_name_with_what_they_say() -> None:
    found = certlip.methods()
    assert {"product", "autolip", "gram", "lipsdp", "dcp", "lower"} <= set(found)
    assert all(isinstance(info, MethodInfo) for info in found.values())
    assert found["dcp"].kind is Kind.CERTIFIED


def test_a_semidefinite_program_is_solved_from_bare_matrices() -> None:
    network = small()
    weights = [layer.weight for layer in network.layers if isinstance(layer, Dense)]
    solution = certlip.sdp.solve(weights, solver="auto", rtol=1e-4, threads=1, max_seconds=None)
    assert oracle.is_at_least(solution.bound, network)
    assert [t.shape for t in solution.multipliers] == [(4,)]
    assert solution.status == "ok"
    assert solution.seconds > 0
    assert solution.solver
    assert solution.iterations is None or solution.iterations >= 0
    parameters = inspect.signature(certlip.sdp.solve).parameters
    assert list(parameters)[:5] == ["weights", "solver", "rtol", "threads", "max_seconds"]


@pytest.mark.parametrize(
    "weights",
    [[], [np.zeros((0, 2))], [np.ones(3)], [[["a"]]], [np.full((2, 2), np.nan)], [np.ones((2, 3)), np.ones((2, 3))]],
    ids=["none", "empty", "a vector", "words", "NaN", "shapes"],
)
def test_matrices_that_make_no_network_are_refused(weights: Any) -> None:
    with pytest.raises(DataError):
        certlip.sdp.solve(weights)


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown method 'dpc'; did you mean 'dcp'\?"):
        certlip.bound(small(), method="dpc")
    with pytest.raises(ConfigError, match=r"method 'dcp' has no option 'gird'; did you mean 'grid'\?"):
        certlip.bound(small(), method="dcp", gird=(2, 2))
    with pytest.raises(ConfigError, match=r"'product' has no option 'grid'"):
        certlip.bound(small(), method="product", grid=(2, 2))
    with pytest.raises(ConfigError, match=r"option solver: should be one of auto, .*'scss'"):
        certlip.bound(small(), method="lipsdp", solver="scss")
    with pytest.raises(ConfigError, match=r"unknown solver 'scss'; did you mean 'scs'\?"):
        certlip.sdp.solve([np.eye(2)], solver="scss")
    with pytest.raises(ConfigError, match="input_shape is needed"):
        certlip.bound(model(), method="product")


def test_weights_that_are_not_finite_are_refused_by_layer() -> None:
    broken = model()
    with torch.no_grad():
        broken[2].weight[0, 0, 0, 0] = float("nan")  # type: ignore[index, union-attr]
    with pytest.raises(DataError, match="2: its weight holds NaN"):
        certlip.bound(broken, input_shape=(1, 6, 6), method="product")


def test_a_layer_without_a_bound_makes_a_record_that_names_it() -> None:
    odd = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Hardshrink(), nn.Linear(4, 2))
    for method in ("product", "dcp", "lipsdp"):
        record = certlip.bound(odd, input_shape=(4,), method=method)
        assert (record.status, record.value, record.certificate) == (Status.UNSUPPORTED, None, None)
        assert "2: no bound for Hardshrink" in record.reason


def test_a_solver_that_cannot_run_makes_a_record_with_its_reason() -> None:
    from certlip.sdp.solvers import mosek

    if mosek.unavailable() is None:
        pytest.skip("a licence of MOSEK is here")
    for method in ("lipsdp", "dcp"):
        record = certlip.bound(small(), method=method, solver="mosek")
        assert (record.status, record.value) == (Status.SOLVER_FAILED, None)
        assert "mosek" in record.reason


def test_a_method_of_ones_own_runs_by_its_import_path() -> None:
    record = certlip.bound(small(), **OWN, factor=3.0, data=np.zeros((5, 3)), seed=4, threads=2)
    assert (record.method, record.kind, record.value) == ("mine", Kind.ESTIMATE, 3.0)
    assert record.certificate is None
    assert record.options == {"what": "value", "factor": 3.0}
    assert record.iterations == 7
    assert record.details == {"n_layers": 3, "n_images": 5, "seed": 4, "n_threads": 2, "limit": None}
    with pytest.raises(ConfigError, match="method 'mine' has no option 'seeed'"):
        certlip.bound(small(), **OWN, seeed=1)
    with pytest.raises(ConfigError, match="option factor"):
        certlip.bound(small(), **OWN, factor="much")
    with pytest.raises(ConfigError, match="cannot be imported"):
        certlip.bound(small(), method="mine", module="someones_metod")


def test_refusals_are_rows_and_bugs_are_errors() -> None:
    record = certlip.bound(small(), **OWN, what="refusal")
    assert record.status == Status.UNSUPPORTED
    assert record.reason == "block3.attn: no bound for MultiheadAttention"
    with pytest.raises(ZeroDivisionError, match="a bug"):
        certlip.bound(small(), **OWN, what="bug")
    with pytest.raises(ValueError, match="finite"):
        certlip.bound(small(), **OWN, what="nan")


@pytest.mark.parametrize("field", ["value", "code", "host", "network", "weights_sha256"])
def test_details_cannot_take_the_place_of_a_field_that_is_not_a_cost(field: str) -> None:
    with pytest.raises(TypeError, match=f"{field} of a record cannot be set by details"):
        record_of("n", "m", autolip, {}, 1, lambda: Bound(1.0, details={field: "mine"}))


def test_a_certified_value_without_a_proof_is_not_accepted() -> None:
    with pytest.raises(TypeError, match="brings no certificate"):
        certlip.bound(small(), **OWN, what="unproved")


def test_a_time_limit_is_a_row_that_says_so() -> None:
    record = certlip.bound(small(), **OWN, what="sleep", max_seconds=3.0)
    assert (record.status, record.value) == (Status.TIME_LIMIT, None)
    assert "3 s" in record.reason


def test_a_record_says_where_it_was_made() -> None:
    record = certlip.bound(small(), method="product", name="tiny")
    assert (record.network, record.method, record.threads, record.device) == ("tiny", "product", 1, "cpu")
    assert record.weights_sha256 == small().sha256
    assert record.code
    assert {"python", "numpy", "torch", "cvxpy", "certlip"} <= set(record.versions)
    assert record.peak_mb is not None


def test_a_saved_result_comes_back_with_its_certificate(tmp_path: Path) -> None:
    record = certlip.bound(small(), method="product")
    save_result(record, tmp_path / "r.json", tmp_path / "c.npz")
    loaded = Record.load(tmp_path / "r.json")
    assert loaded.value == record.value
    assert loaded.certificate is None
    assert loaded.certificate_file is not None
    assert certlip.verify(loaded.certificate_file).value == record.value
    assert loaded == record.model_copy(update={"certificate": None, "certificate_file": loaded.certificate_file})


def test_a_result_without_a_proof_has_a_file_that_says_why(tmp_path: Path) -> None:
    save_result(certlip.bound(small(), **OWN), tmp_path / "r.json", tmp_path / "c.npz")
    assert Record.load(tmp_path / "r.json").certificate_file is None
    with pytest.raises(DataError, match="mine gives an estimate"):
        certlip.verify(tmp_path / "c.npz")


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"network": "a", "method": "b", "kind": "certain"}'])
def test_a_file_that_is_no_record_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_bytes(content)
    with pytest.raises(DataError, match=r"r\.json is not a certlip record"):
        Record.load(tmp_path / "r.json")
    with pytest.raises(DataError, match="does not exist"):
        Record.load(tmp_path / "s.json")


@pytest.mark.parametrize(
    "wrong",
    [
        {"value": None},
        {"value": 1.0, "status": Status.TIME_LIMIT},
        {"value": -1.0},
        {"value": float("inf")},
        {"value": float("nan")},
        {"value": 1.0, "secods": 1},
    ],
    ids=["ok without a value", "a failure with one", "negative", "infinite", "NaN", "unknown field"],
)
def test_a_record_cannot_contradict_itself(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"Record|status"):
        Record(network="n", method="m", kind=Kind.CERTIFIED, **wrong)


def test_programs_are_taken_from_the_cache_when_they_are_solved_again(tmp_path: Path) -> None:
    first = certlip.bound(small(), method="lipsdp", cache=tmp_path / "cache")
    second = certlip.bound(small(), method="lipsdp", cache=tmp_path / "cache")
    assert second.value == first.value
    assert second.solver == first.solver
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
    assert certlip.verify(second.certificate).ok


def test_flattening_and_dropout_do_not_change_a_bound() -> None:
    torch.manual_seed(1)
    linear = nn.Linear(4, 3)
    plain = certlip.bound(nn.Sequential(linear), input_shape=(4,), method="product").value
    dressed = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Identity(), linear)
    assert certlip.bound(dressed, input_shape=(1, 2, 2), method="product").value == plain
    assert certlip.bound(Network((Flatten("f"),), (1, 2, 2)), method="product").value == 1.0
