"""Torch modules as certlip takes them: what a plain copy computes is what the code of its layers says.

Hooks, patched methods, tensor classes and wrappers can make a module compute anything; they are refused by the name of
the layer. Parametrizations are evaluated once, and their results kept as weights.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import fx, nn
from torch.nn.modules import module as torch_module
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.utils._device import DeviceContext

from certlip.base.errors import ConfigError, DataError, ExportError
from certlip.network import Shape
from certlip.pytorch.layers import TENSORS, refused
from certlip.pytorch.tracing import first_line

_WEIGHT_HOOKS = (WeightNorm, SpectralNorm, BasePruningMethod)
"""Hooks that set a weight before each forward, and that torch itself can take off again."""

_WRAPPERS = {
    "ScriptModule": "bound the module that it was scripted or traced from",
    "OptimizedModule": "bound the module that was compiled",
    "DataParallel": "bound its .module",
    "DistributedDataParallel": "bound its .module",
}
"""Classes by name, so that none has to be imported, and what to do instead."""


def plain_copy(model: nn.Module, input_shape: Shape) -> nn.Module:
    """A float64 copy on the CPU, in eval mode, without parametrizations; `model` is not changed.

    input_shape: without a batch axis.

    Raises UnsupportedLayer naming what runs more than the code of its layers, DataError naming weights that are no
    finite numbers or if the module does not take such inputs, ConfigError if `model` is no module, ExportError if it
    cannot be copied.
    """
    expect_module(model)
    _expect_nothing_global(model)
    for name, part in model.named_modules():
        _expect_known_kind(name or type(model).__name__, part)
    for layer, tensor, value in _tensors(model):
        _expect_real_numbers(layer, tensor, value)
    for name, part in model.named_modules():
        _expect_own_code(name or type(model).__name__, part)
    double = _float64_copy(model)
    for layer, tensor, value in _tensors(double):
        if not torch.isfinite(value).all():
            raise DataError(f"{layer}: its {tensor} holds NaN or infinite values; train or fetch the weights again")
    for name, part in list(double.named_modules()):
        _evaluate_parametrizations(name or type(model).__name__, part)
    _expect_to_run(double, input_shape)
    return double


def expect_module(model: object) -> None:
    """Raise ConfigError saying what to give instead, unless it is a torch module."""
    if isinstance(model, nn.Module):
        return
    instead = "give a torch module or a certlip.Network"
    if isinstance(model, type):
        what, instead = f"the class {model.__name__}", f"give an instance of it: {model.__name__}(...)"
    elif isinstance(model, str | Path):
        what = f"the path {str(model)!r}"
        instead = "load it first, with certlip.load"
    elif isinstance(model, Mapping):
        what, instead = "a dictionary of weights", "load them into a module with load_state_dict, and give that"
    elif type(model).__name__ == "ExportedProgram":
        what, instead = "an ExportedProgram", "give the module that it was exported from"
    else:
        what = "None" if model is None else f"of type {type(model).__name__}"
    raise ConfigError(f"the model is {what}: {instead}")


def _expect_nothing_global(model: nn.Module) -> None:
    """Nothing outside of the module changes what it computes."""
    kind = type(model).__name__
    if torch_module._global_forward_hooks or torch_module._global_forward_pre_hooks:
        raise refused(kind, "modules under global forward hooks; remove them first")
    modes = [torch._C._get_function_stack_at(i) for i in range(torch._C._len_torch_function_stack())]
    if torch.is_inference_mode_enabled():
        raise refused(kind, "modules under torch.inference_mode; leave it first")
    if torch._C._len_torch_dispatch_stack() or not all(isinstance(mode, DeviceContext) for mode in modes):
        raise refused(kind, "modules under a TorchFunctionMode or TorchDispatchMode; leave it first")


def _expect_known_kind(name: str, part: nn.Module) -> None:
    """It is neither a wrapper nor quantised: those say nothing of the layers inside."""
    kind = type(part)
    for base in kind.__mro__:
        if base.__name__ in _WRAPPERS and base.__module__.startswith("torch."):
            raise refused(name, f"{base.__name__}; {_WRAPPERS[base.__name__]}")
        if base.__module__.startswith(("torch.ao.", "torchao.")):
            raise refused(name, f"a quantised {kind.__name__}; bound the module that was quantised")


def _tensors(model: nn.Module) -> Iterator[tuple[str, str, torch.Tensor]]:
    """Name of the layer, name in the layer, and value of each parameter and buffer."""
    for name, part in model.named_modules():
        for tensor, value in {**part._parameters, **part._buffers}.items():
            if value is not None:
                yield name or type(model).__name__, tensor, value


def _expect_real_numbers(layer: str, tensor: str, value: torch.Tensor) -> None:
    if is_lazy(value):
        raise DataError(f"{layer}: its {tensor} has no shape yet; call the module once on an input, then load weights")
    if type(value) not in TENSORS:
        raise refused(layer, f"a {tensor} of class {type(value).__name__}, which may compute anything")
    if value.is_meta:
        raise DataError(f"{layer}: its {tensor} is on the meta device, without numbers; load weights first")
    whole = isinstance(value, nn.Parameter) and not (value.is_floating_point() or value.is_complex())
    kinds = {"complex": value.is_complex(), "sparse": value.layout is not torch.strided, "quantised or integer": whole}
    for kind, is_kind in kinds.items():
        if is_kind:
            raise refused(layer, f"a {kind} {tensor}; give it as real, dense numbers")


def _expect_own_code(name: str, part: nn.Module) -> None:
    """A call of it runs the forward that its class defines, and torch's own where the class is torch's."""
    kind = type(part)
    before = [hook for hook in part._forward_pre_hooks.values() if not isinstance(hook, _WEIGHT_HOOKS)]
    if before or part._forward_hooks:
        raise refused(name, f"{kind.__name__} with a forward {'pre-hook' if before else 'hook'}; remove it first")
    inherited = all(getattr(kind, call) is getattr(nn.Module, call) for call in _CALLS)
    if vars(part).keys() & {"forward", "_conv_forward", *_CALLS} or not _is_torchs_own(kind):
        raise refused(name, f"{kind.__name__} with a patched forward; write a class with that forward instead")
    if not inherited and not isinstance(part, fx.GraphModule):
        raise refused(name, f"{kind.__name__} with a __call__ of its own; write it as its forward instead")


_CALLS = ("__call__", "_wrapped_call_impl", "_call_impl")
"""What stands between a call of a module and its forward."""


def _is_torchs_own(kind: type[nn.Module]) -> bool:
    """Whether forward of a class of torch.nn is code of torch; of other classes it is their own and is traced."""
    if not kind.__module__.startswith("torch.nn."):
        return True
    code = getattr(kind.forward, "__globals__", {})
    return str(code.get("__name__", "")).startswith("torch.")


def _float64_copy(model: nn.Module) -> nn.Module:
    """In eval mode on the CPU; attributes that cannot be copied, such as a lock, are shared with `model`."""
    shared: dict[int, Any] = {}
    for part in model.modules():
        for key, value in vars(part).items():
            if key in ("_parameters", "_buffers", "_modules") or isinstance(value, nn.Module):
                continue
            if isinstance(value, torch.Tensor):
                shared[id(value)] = value.detach().clone()  # set by a hook, it is the result of a computation
                continue
            try:
                copy.deepcopy(value, dict(shared))
            except Exception:  # __deepcopy__ is anybody's
                shared[id(value)] = value
    try:
        return copy.deepcopy(model, shared).to("cpu", torch.float64).eval().requires_grad_(False)
    except Exception as error:  # as above
        raise ExportError(
            f"{type(model).__name__} cannot be copied to float64 ({first_line(error)}); load its state_dict into a "
            "module that can"
        ) from error


def _evaluate_parametrizations(name: str, part: nn.Module) -> None:
    """Leave the weights that forward would use, of parametrizations, weight and spectral norms and pruning."""
    try:
        with torch.no_grad():
            used = {**_take_off_weight_hooks(part), **_take_off_parametrizations(part)}
    except Exception as error:  # parametrizations are anybody's
        why = f"with a parametrization that cannot be evaluated ({first_line(error)}); remove it first"
        raise refused(name, f"{type(part).__name__} {why}") from error
    for tensor, value in used.items():
        if not torch.equal(getattr(part, tensor), value):
            raise refused(name, f"{type(part).__name__} with a {tensor} that is another at each evaluation")


def _take_off_weight_hooks(part: nn.Module) -> dict[str, torch.Tensor]:
    """The weights that the hooks of weight and spectral norms and of pruning set, now the module's own."""
    hooks: list[Any] = list(part._forward_pre_hooks.values())
    used = {}
    for hook in hooks:
        hook(part, ())  # as before each forward
        tensor = hook._tensor_name if isinstance(hook, BasePruningMethod) else hook.name
        used[tensor] = getattr(part, tensor).detach().clone()
    for hook in hooks:
        hook.remove(part)
    part._forward_pre_hooks.clear()
    return used


def _take_off_parametrizations(part: nn.Module) -> dict[str, torch.Tensor]:
    """The parametrized weights, now the module's own."""
    if not parametrize.is_parametrized(part):
        return {}
    tensors = list(cast(nn.ModuleDict, part.parametrizations))
    used = {tensor: getattr(part, tensor).clone() for tensor in tensors}
    again = {tensor: nn.Parameter(getattr(part, tensor), requires_grad=False) for tensor in tensors}
    # parametrize.remove_parametrizations would change the class, which the module that was copied shares
    part.__class__ = parametrize.type_before_parametrizations(part)
    del part.parametrizations
    for tensor, value in again.items():
        setattr(part, tensor, value)
    return used


def _expect_to_run(double: nn.Module, input_shape: Shape) -> None:
    """It takes such inputs, two at a time, and does not change its own parameters and buffers."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, *input_shape, dtype=torch.float64, generator=generator)
    before = [(layer, tensor, value, value._version) for layer, tensor, value in _tensors(double)]
    try:
        with torch.no_grad():
            double(inputs)
    except Exception as error:  # torch and the user's forward raise anything
        raise DataError(
            f"{type(double).__name__} does not take an input of shape {input_shape}: {first_line(error)}"
        ) from error
    after = {(layer, tensor): value for layer, tensor, value in _tensors(double)}
    for layer, tensor, value, version in before:
        if after.get((layer, tensor)) is not value or value._version != version:
            raise refused(layer, f"a forward that changes its {tensor}")
