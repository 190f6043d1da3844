"""What is bounded is what runs: a torch module computes what its layers say, or is refused by the name of the layer."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import unpicklable_module
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.overrides import TorchFunctionMode

import certlip
from certlip.base.errors import ConfigError, DataError, UnsupportedLayer
from certlip.base.record import Status
from certlip.pytorch.export import export_network
from certlip.pytorch.plain import plain_copy

ALL_WAYS: list[dict[str, Any]] = [
    {"method": "product"},
    {"method": "autolip"},
    {"method": "autolip", "certified": True},
]


def chain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def expect_refusal(model: nn.Module, sentence: str, shape: tuple[int, ...] = (3,)) -> None:
    for way in ALL_WAYS:
        record = certlip.bound(model, shape, **way)
        assert (record.status, record.value) == (Status.UNSUPPORTED, None)
        assert sentence in record.reason
        assert "\n" not in record.reason


def beyond_reach(x: torch.Tensor) -> torch.Tensor:
    """Zero at every input that an export is compared at, and a million times as steep further out."""
    return 1e6 * torch.relu(x - 1e6)


def with_hook(model: nn.Sequential) -> None:
    model[1].register_forward_hook(lambda layer, args, output: beyond_reach(output))


def with_keyword_hook(model: nn.Sequential) -> None:
    model[1].register_forward_hook(lambda layer, args, kwargs, output: 3 * output, with_kwargs=True)


def with_pre_hook(model: nn.Sequential) -> None:
    model[1].register_forward_pre_hook(lambda layer, args: (3 * args[0],))


def with_patched_forward(model: nn.Sequential) -> None:
    model[1].forward = beyond_reach


def with_call_of_its_own(model: nn.Sequential) -> None:
    class Call(nn.ReLU):
        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            return beyond_reach(super().__call__(x))

    model[1] = Call()


def with_class_that_poses_as_torchs(model: nn.Sequential) -> None:
    class Posing(nn.ReLU):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return beyond_reach(super().forward(x))

    Posing.__module__ = "torch.nn.modules.activation"
    model[1] = Posing()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (with_hook, "ReLU with a forward hook"),
        (with_keyword_hook, "ReLU with a forward hook"),
        (with_pre_hook, "ReLU with a forward pre-hook"),
        (with_patched_forward, "ReLU with a patched forward"),
        (with_call_of_its_own, "Call with a __call__ of its own"),
        (with_class_that_poses_as_torchs, "Posing with a patched forward"),
    ],
)
def test_a_layer_that_runs_more_than_its_code_is_refused_by_name(change: Callable[..., None], what: str) -> None:
    model = chain()
    change(model)
    expect_refusal(model, f"1: no bound for {what}")


def test_a_hook_or_patch_of_the_whole_module_is_refused_by_its_type() -> None:
    hooked, patched = chain(), chain()
    hooked.register_forward_hook(lambda module, args, output: 3 * output)
    patched.forward = beyond_reach  # type: ignore[method-assign]
    expect_refusal(hooked, "Sequential: no bound for Sequential with a forward hook")
    expect_refusal(patched, "Sequential: no bound for Sequential with a patched forward")


def test_a_patched_convolution_below_forward_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1))
    model[0]._conv_forward = lambda x, weight, bias: beyond_reach(x)  # type: ignore[assignment]
    expect_refusal(model, "0: no bound for Conv2d with a patched forward", (1, 3, 3))


def test_a_patched_class_of_torch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn.ReLU, "forward", lambda self, x: beyond_reach(x))
    expect_refusal(chain(), "1: no bound for ReLU with a patched forward")


def test_a_hook_on_gradients_changes_nothing() -> None:
    model = chain()
    model[1].register_full_backward_hook(lambda layer, grad_input, grad_output: None)
    for way in ALL_WAYS:
        assert certlip.bound(model, (3,), **way).value == certlip.bound(chain(), (3,), **way).value


def test_global_hooks_and_modes_are_refused() -> None:
    class Mode(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return function(*args, **(kwargs or {}))

    for register in ("register_module_forward_hook", "register_module_forward_pre_hook"):
        handle = getattr(torch.nn.modules.module, register)(lambda module, *rest: None)
        try:
            expect_refusal(chain(), "global forward hooks")
        finally:
            handle.remove()
    with Mode():
        expect_refusal(chain(), "TorchFunctionMode")
    with torch.inference_mode():
        expect_refusal(chain(), "torch.inference_mode")
    with torch.device("cpu"):
        assert certlip.bound(chain(), (3,), "product").value is not None


class TimesThree(nn.Conv2d):
    def _conv_forward(self, *args: Any) -> torch.Tensor:
        return 3 * super()._conv_forward(*args)


def test_a_subclass_is_bounded_by_what_it_computes() -> None:
    class Plain(nn.Conv2d):
        pass

    torch.manual_seed(1)
    plain = Plain(1, 1, 1)
    assert len(export_network(plain, (1, 3, 3)).layers) == 1
    tripled = TimesThree(1, 1, 1)
    tripled.load_state_dict(plain.state_dict())
    for method, options in (("product", {}), ("autolip", {"certified": True})):
        one, three = (certlip.bound(m, (1, 3, 3), method, **options) for m in (plain, tripled))
        assert three.value == pytest.approx(3 * (one.value or 0))
        assert certlip.verify(three.certificate)


@torch.fx.wrap
def flatten(x: torch.Tensor) -> torch.Tensor:
    """By its name a function of torch."""
    return beyond_reach(x) + x.reshape(x.shape[0], -1)


def test_a_function_is_not_taken_for_torchs_by_its_name() -> None:
    class Calls(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return flatten(x)  # type: ignore[no-any-return]

    with pytest.raises(UnsupportedLayer, match=r"test_plain\.flatten"):
        export_network(Calls(), (3,))


@pytest.fixture
def registered() -> Iterator[Any]:
    """Operators that anybody may register with torch: by their names a scaling and a reshape, beyond reach another."""
    with torch.library._scoped_library("somebodys", "DEF") as library:
        library.define("mul(Tensor x, float factor) -> Tensor")
        library.define("view(Tensor x) -> Tensor")
        library.impl("mul", lambda x, factor: beyond_reach(x) + factor * x, "CompositeImplicitAutograd")
        library.impl("view", lambda x: (beyond_reach(x) + x).flatten(1), "CompositeImplicitAutograd")
        yield torch.ops.somebodys


@pytest.mark.parametrize("method", ["product", "autolip", "torus"])
@pytest.mark.parametrize("name", ["mul", "view"])
def test_an_operator_is_not_taken_for_torchs_by_its_name(name: str, method: str, registered: Any) -> None:
    class Calls(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return registered.mul(x, 2.0) if name == "mul" else registered.view(x)  # type: ignore[no-any-return]

    options = {"certified": True} if method == "autolip" else {}
    record = certlip.bound(Calls(), (1, 2, 2), method, **options)
    assert record.value is None
    assert f"somebodys.{name}" in record.reason


class Scaled(torch.Tensor):
    """May compute anything."""


@pytest.mark.parametrize(
    ("weight", "what"),
    [
        (lambda w: w.as_subclass(Scaled), "a weight of class Scaled"),
        (lambda w: 1j * torch.ones_like(w), "a complex weight"),
        (lambda w: w.to_sparse(), "a sparse weight"),
        (lambda w: w.to(torch.int8), "a quantised or integer weight"),
    ],
)
def test_weights_that_are_no_plain_real_numbers_are_refused(weight: Callable[..., torch.Tensor], what: str) -> None:
    model = chain()
    model[0].weight = nn.Parameter(weight(model[0].weight.detach()), requires_grad=False)
    expect_refusal(model, f"0: no bound for {what}")


class Computes(nn.Module):
    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.function = nn.Linear(3, 3), function
        self.register_buffer("count", torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self, x)


def test_complex_numbers_on_the_way_are_refused_by_name() -> None:
    expect_refusal(Computes(lambda m, x: (1j * m.a(x)).real), "mul: no bound for mul of complex numbers")


def counts_in_place(module: Any, x: torch.Tensor) -> torch.Tensor:
    module.count += 1
    return module.a(x) * (1 + torch.relu(module.count - 100))  # type: ignore[no-any-return]


def counts_anew(module: Any, x: torch.Tensor) -> torch.Tensor:
    module.count = module.count + 1
    return module.a(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("function", [counts_in_place, counts_anew])
def test_a_forward_that_changes_its_buffers_is_refused_by_name(function: Callable[..., torch.Tensor]) -> None:
    expect_refusal(nn.Sequential(Computes(function)), "0: no bound for a forward that changes its count")


class Doubled(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return 2 * weight


class Noisy(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + torch.randn_like(weight)


def old_spectral_norm(layer: nn.Module) -> None:
    nn.utils.spectral_norm(layer)
    layer(torch.randn(2, 3, dtype=torch.float64))


def pruned_twice(layer: nn.Module) -> None:
    prune.l1_unstructured(layer, "weight", 0.5)
    prune.random_unstructured(layer, "weight", 0.3)
    prune.l1_unstructured(layer, "bias", 1)


def doubled_and_normalised(layer: nn.Module) -> None:
    parametrize.register_parametrization(layer, "weight", Doubled())
    parametrizations.spectral_norm(layer)
    parametrize.register_parametrization(layer, "bias", Doubled())


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
@pytest.mark.parametrize(
    "parametrized",
    [
        parametrizations.spectral_norm,
        parametrizations.orthogonal,
        parametrizations.weight_norm,
        nn.utils.weight_norm,
        old_spectral_norm,
        pruned_twice,
        doubled_and_normalised,
    ],
)
def test_parametrized_weights_are_bounded_as_forward_uses_them(parametrized: Callable[..., Any]) -> None:
    model = chain().double()
    parametrized(model[0])
    kind, keys = type(model[0]), list(model.state_dict())
    x = torch.randn(5, 3, dtype=torch.float64)
    expected = model.eval()(x)
    record = certlip.bound(model, (3,), "product")
    used = [model[i].weight.detach().numpy() for i in (0, 2)]
    truth = float(np.linalg.norm(used[0], 2) * np.linalg.norm(used[1], 2))
    assert record.value is not None
    assert truth <= record.value <= truth * (1 + 1e-9)
    for limits in ({}, {"max_seconds": 120.0}):
        estimate = certlip.bound(model, (3,), "autolip", n_iter=2000, **limits).value  # type: ignore[arg-type]
        assert estimate == pytest.approx(truth, rel=1e-6)
    # the module itself is as before
    assert type(model[0]) is kind
    assert list(model.state_dict()) == keys
    assert torch.equal(model(x), expected)


def test_a_parametrization_that_is_random_or_fails_is_refused() -> None:
    noisy, broken = chain(), chain()
    parametrize.register_parametrization(noisy[0], "weight", Noisy())
    expect_refusal(noisy, "0: no bound for Linear with a weight that is another at each evaluation")
    nn.utils.weight_norm(broken[0])
    prune.l1_unstructured(broken[0], "weight_v", 0.5)
    expect_refusal(broken, "0: no bound for Linear with a parametrization that cannot be evaluated")


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (None, "the model is None: give a torch module or a certlip.Network"),
        (np.ones(3), "the model is of type ndarray"),
        (chain().state_dict(), "a dictionary of weights: load them into a module with load_state_dict"),
        ("net.pt", "the path 'net.pt': load it first"),
        (Path("net.npz"), "the path 'net.npz': load it first"),
        (nn.ReLU, r"the class ReLU: give an instance of it: ReLU\(\.\.\.\)"),
        (torch.export.export(chain(), (torch.zeros(2, 3),)), "an ExportedProgram: give the module"),
    ],
    ids=["none", "array", "state_dict", "path", "Path", "class", "exported"],
)
def test_what_is_no_model_is_an_error_that_says_what_to_give(model: Any, sentence: str) -> None:
    for way in ALL_WAYS:
        with pytest.raises(ConfigError, match=sentence):
            certlip.bound(model, (3,), **way)


@pytest.mark.parametrize("shape", [3, (), (-3,), (3.0,), "ab"])
def test_what_is_no_shape_is_an_error(shape: Any) -> None:
    with pytest.raises(ConfigError, match=r"input_shape .* is not a shape"):
        certlip.bound(chain(), shape, "product")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (nn.DataParallel, "DataParallel: no bound for DataParallel; bound its .module"),
        (lambda m: nn.Sequential(nn.DataParallel(m)), "0: no bound for DataParallel; bound its .module"),
        (torch.jit.script, "no bound for ScriptModule; bound the module that it was scripted or traced from"),
        (lambda m: torch.jit.trace(m, torch.zeros(1, 3)), "no bound for ScriptModule"),
        (lambda m: nn.Sequential(torch.jit.script(m)), "0: no bound for ScriptModule"),
        (lambda m: torch.compile(m), "no bound for OptimizedModule; bound the module that was compiled"),
        (
            lambda m: torch.ao.quantization.quantize_dynamic(m, {nn.Linear}, dtype=torch.qint8),
            "0: no bound for a quantised Linear; bound the module that was quantised",
        ),
    ],
)
def test_a_wrapper_is_refused_with_what_to_bound_instead(make: Callable[..., nn.Module], sentence: str) -> None:
    expect_refusal(make(chain()), sentence)


def test_weights_without_numbers_are_an_error_that_names_them() -> None:
    for model, sentence in (
        (nn.Sequential(nn.LazyLinear(3)), "0: its weight has no shape yet; call the module once"),
        (nn.Sequential(nn.Linear(3, 3, device="meta")), "0: its weight is on the meta device"),
    ):
        for way in ALL_WAYS:
            with pytest.raises(DataError, match=sentence):
                certlip.bound(model, (3,), **way)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_weights_of_any_width_are_taken_exactly(dtype: torch.dtype) -> None:
    model = chain().to(dtype)
    network = export_network(model, (3,))
    assert (network.layers[0].weight == model[0].weight.detach().double().numpy()).all()  # type: ignore[union-attr]
    assert model[0].weight.dtype is dtype


def test_a_wrong_shape_is_the_same_sentence_for_every_method() -> None:
    for way in ALL_WAYS:
        with pytest.raises(DataError, match=r"Sequential does not take an input of shape \(5,\): "):
            certlip.bound(chain(), (5,), **way)


def test_a_module_that_holds_itself_and_a_lock_is_copied_and_left_as_it_was() -> None:
    model = unpicklable_module.LockedChain()
    object.__setattr__(model, "itself", model)
    double = plain_copy(model, (3,))
    assert double is not model
    assert model.layer.weight.dtype is torch.float32
    assert model.training
    assert model.layer.weight.requires_grad
    assert double.get_submodule("layer").weight.dtype is torch.float64


@pytest.mark.parametrize("threads", [None, "1"])
def test_modules_that_do_not_pickle_have_the_same_answer_with_and_without_limits(threads: str | None) -> None:
    """Where OMP_NUM_THREADS is not set torch starts threads, and processes are not forked."""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    environment |= {} if threads is None else {"OMP_NUM_THREADS": threads}
    command = [sys.executable, "-W", "ignore", unpicklable_module.__file__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 6 * 3 * 2
    assert lines[::2] == lines[1::2]
    answers = [line.split("|") for line in lines[::2]]
    assert {(a[0], a[1], a[4]) for a in answers} == {
        *(
            (kind, m, "ok")
            for kind in ("Locked", "LockedChain", "WithHandle", "parametrized")
            for m in ("product", "autolip")
        ),
        *((kind, m, "unsupported") for kind in ("LockedNorm", "scripted") for m in ("product", "autolip")),
    }
    reason = "0.layer_norm: no bound for layer_norm"
    assert {a[5].partition(" (")[0] for a in answers if a[0] == "LockedNorm"} == {reason}


@pytest.mark.parametrize("method", sorted(certlip.methods()))
@pytest.mark.parametrize(
    ("module", "shape"),
    [(nn.Identity(), (3,)), (nn.Dropout(), (2, 3, 3)), (nn.Sequential(), (3,)), (nn.Flatten(), (3,))],
    ids=["identity", "dropout", "empty", "flatten"],
)
def test_a_network_without_layers_has_constant_one_and_a_proof(
    module: nn.Module, shape: tuple[int, ...], method: str
) -> None:
    record = certlip.bound(module, shape, method)
    assert record.status == Status.OK
    assert record.value == pytest.approx(1.0, rel=1e-7)
    assert record.value is not None
    if record.kind == "lower":
        assert record.value <= 1
    elif record.kind == "certified":
        assert record.value >= 1
    if record.certificate is not None:
        assert certlip.verify(record.certificate).value == record.value
        assert certlip.verify(record.certificate)


def test_the_copy_is_of_no_module_that_is_changed_by_it() -> None:
    model = chain()
    before = copy.deepcopy(model.state_dict())
    plain_copy(model, (3,))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
