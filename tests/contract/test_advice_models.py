"""Advice about torch modules and their weights is followed: what was refused is bounded then, as the module meant."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from advice import follow, value_of
from torch import nn
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

import certlip
from certlip import datasets
from certlip.pytorch.export import export_network
from certlip.pytorch.train import train
from certlip.pytorch.weights import fetch_weights, load_into, load_weights, save_weights

SHAPE = (3,)


def chain(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def other() -> nn.Sequential:
    """Of the same architecture, with other weights."""
    return chain(1)


def loaded(state_dict: dict[str, torch.Tensor]) -> nn.Module:
    module = other()
    module.load_state_dict(state_dict)
    return module


class Doubled(nn.ReLU):
    """Where a forward of one's own belongs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


class DoubledOutside(nn.ReLU):
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().__call__(x)


class Breaks(nn.Module):
    """A parametrization that does not always work."""

    works = True

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        if not self.works:
            raise RuntimeError("not today")
        return weight


class Chain(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(*chain())


class NoCopy(nn.Linear):
    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        raise RuntimeError("no copies")


def hooked(model: nn.Sequential) -> nn.Module:
    model[1].register_forward_hook(lambda layer, args, output: 2 * output)
    return model


def without_hooks(model: Any) -> nn.Module:
    model[1]._forward_hooks.clear()
    return model


def patched(model: nn.Sequential) -> nn.Module:
    model[1].forward = lambda x: 2 * torch.relu(x)
    return model


def with_activation(layer: nn.Module) -> Callable[..., nn.Module]:
    def change(*_: Any) -> nn.Module:
        model = chain()
        model[1] = layer
        return model

    return change


def parametrized(model: nn.Sequential) -> nn.Module:
    breaks = Breaks()
    parametrize.register_parametrization(model[0], "weight", breaks)
    breaks.works = False
    return model


def without_parametrization(model: Any) -> nn.Module:
    parametrize.remove_parametrizations(model[0], "weight", leave_parametrized=False)
    return model


def of_nan(model: nn.Sequential) -> nn.Module:
    return loaded({key: torch.full_like(value, torch.nan) for key, value in model.state_dict().items()})


def sparse(model: nn.Sequential) -> nn.Module:
    model[0].weight = nn.Parameter(model[0].weight.detach().to_sparse())
    return model


def dense(model: Any) -> nn.Module:
    model[0].weight = nn.Parameter(model[0].weight.detach().to_dense())
    return model


def called_and_loaded(model: Any) -> nn.Module:
    model(torch.zeros(1, 3))
    model.load_state_dict(chain().state_dict())
    return model


def assigned(model: Any) -> nn.Module:
    model.load_state_dict(chain().state_dict(), assign=True)
    return model


def without_copies(model: nn.Sequential) -> nn.Module:
    model[2] = NoCopy(4, 2)
    model.load_state_dict(chain().state_dict())
    return model


def original(_: object) -> nn.Module:
    return chain()


def quantised(model: nn.Module) -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


MODELS: dict[str, tuple[Callable[[nn.Sequential], Any], Callable[[Any], nn.Module]]] = {
    "bound its .module": (nn.DataParallel, lambda wrapper: wrapper.module),
    "bound the module that it was scripted or traced from": (torch.jit.script, original),
    "bound the module that was compiled": (torch.compile, original),
    "bound the module that was quantised": (quantised, original),
    "give a torch module or a certlip.Network": (lambda model: None, lambda _: export_network(chain(), SHAPE)),
    "give an instance of it: {}(...)": (lambda model: Chain, lambda kind: kind()),
    "load them into a module with load_state_dict, and give that": (lambda model: model.state_dict(), loaded),
    "give the module that it was exported from": (
        lambda model: torch.export.export(model, (torch.zeros(2, 3),)),
        original,
    ),
    "with a forward {}; remove it first": (hooked, without_hooks),
    "with a parametrization that cannot be evaluated ({}); remove it first": (parametrized, without_parametrization),
    "train or fetch the weights again": (of_nan, lambda _: loaded(chain().state_dict())),
    "give it as real, dense numbers": (sparse, dense),
    "call the module once on an input, then load weights": (
        lambda model: nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.Linear(4, 2)),
        called_and_loaded,
    ),
    "is on the meta device, without numbers; load weights first": (lambda model: model.to("meta"), assigned),
    "load its state_dict into a module that can": (without_copies, lambda model: loaded(model.state_dict())),
}
"""Advice -> what is refused, made of a chain, and what the advice makes of that."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("advice", MODELS)
def test_what_is_refused_is_bounded_when_the_advice_is_followed(advice: str) -> None:
    wrong, right = MODELS[advice]
    refused = wrong(chain())
    found = follow(advice, lambda: value_of(refused, SHAPE), lambda: value_of(right(refused), SHAPE))
    assert found == value_of(chain(), SHAPE)


@pytest.mark.parametrize(
    ("advice", "wrong"),
    [
        ("write a class with that forward instead", patched),
        ("write it as its forward instead", with_activation(DoubledOutside())),
    ],
)
def test_a_forward_of_ones_own_is_bounded_as_a_class(advice: str, wrong: Callable[..., nn.Module]) -> None:
    right = with_activation(Doubled())()
    found = follow(advice, lambda: value_of(wrong(chain()), SHAPE), lambda: value_of(right, SHAPE))
    assert found == pytest.approx(2 * value_of(chain(), SHAPE))


class Mode(TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("advice", "enter"),
    [
        ("modules under torch.inference_mode; leave it first", torch.inference_mode),
        ("modules under a TorchFunctionMode or TorchDispatchMode; leave it first", Mode),
    ],
)
def test_outside_of_a_mode_a_module_is_bounded(advice: str, enter: Callable[[], Any]) -> None:
    def inside() -> None:
        with enter():
            value_of(chain(), SHAPE)

    follow(advice, inside, lambda: value_of(chain(), SHAPE))


def test_without_global_hooks_a_module_is_bounded() -> None:
    handle = torch.nn.modules.module.register_module_forward_hook(lambda module, *rest: None)
    try:
        follow(
            "modules under global forward hooks; remove them first",
            lambda: value_of(chain(), SHAPE),
            lambda: (handle.remove(), value_of(chain(), SHAPE)),
        )
    finally:
        handle.remove()


def test_a_file_is_loaded_before_it_is_bounded(tmp_path: Path) -> None:
    exported, weights = tmp_path / "net.npz", tmp_path / "net.pt"
    export_network(chain(), SHAPE).save(exported)
    save_weights(weights, chain().state_dict())
    of_weights = {"model": f"{__name__}:other", "input_shape": SHAPE}
    for path, options in ((exported, {}), (weights, of_weights)):
        found = follow(
            "load it first, with certlip.load",
            lambda path=path: value_of(path, SHAPE),
            lambda path=path, options=options: value_of(certlip.load(path, **options)),
        )
        assert found == value_of(chain(), SHAPE)


@pytest.mark.parametrize(
    ("advice", "shape"),
    [
        ("input_shape is needed to bound a torch module: give it without the batch axis", None),
        ("give positive integers, without the batch axis", (None, 3)),
    ],
)
def test_an_input_shape_is_given_without_the_batch_axis(advice: str, shape: Any) -> None:
    follow(advice, lambda: value_of(chain(), shape), lambda: value_of(chain(), SHAPE))


def test_what_cannot_be_sent_to_another_process_is_bounded_without_limits() -> None:
    model = chain()
    model[0].lock = threading.Lock()
    follow(
        "bound it without limits",
        lambda: value_of(model, SHAPE, "autolip", max_seconds=100.0),
        lambda: value_of(model, SHAPE, "autolip"),
    )


def test_a_layer_that_changes_its_input_in_place_is_found_and_written_anew() -> None:
    class InPlace(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            first, _, last = self
            y = first(x)
            torch.relu_(y)
            return last(y)

    class Anew(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            first, _, last = self
            return last(torch.relu(first(x)))

    value = follow(
        "look for layers that change their input in place or keep a state",
        lambda: value_of(InPlace(*chain()), SHAPE),
        lambda: value_of(Anew(*chain()), SHAPE),
    )
    assert value == value_of(chain(), SHAPE)


def test_weights_that_overflow_at_every_scale_are_rescaled() -> None:
    def scaled(factor: float) -> nn.Module:
        model = chain().double()
        with torch.no_grad():
            model[0].bias.fill_(1e10)
            model[2].weight.mul_(factor)
        return model

    follow(
        "cannot be compared with it; rescale the weights",
        lambda: value_of(scaled(1e300), SHAPE),
        lambda: value_of(scaled(1.0), SHAPE),
    )


def test_training_that_diverges_comes_to_an_end_with_a_lower_learning_rate(tmp_path: Path) -> None:
    digits = datasets.fetch("digits", tmp_path)

    def trained(learning_rate: float) -> None:
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        train(model, digits, epochs=1, batch_size=100, seed=0, optimizer="sgd", learning_rate=learning_rate)

    follow("lower learning_rate ({})", lambda: trained(1e38), lambda: trained(0.1))


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def test_weights_files_are_written_as_advised(tmp_path: Path) -> None:
    state, path = chain().state_dict(), tmp_path / "w.pt"

    def read(key: str | None = None) -> nn.Module:
        return loaded(load_weights(path, key))

    saved(path, {"ema": state, "epoch": 3})
    advice = "name the entry that is one, or save module.state_dict()"
    named = follow(advice, read, lambda: read("ema"))
    again = follow(advice, read, lambda: (saved(path, state), read())[1])
    saved(path, [1, 2])
    listed = follow("not a state_dict; save module.state_dict()", read, lambda: (saved(path, state), read())[1])
    saved(path, chain())
    whole = follow("save module.state_dict() with torch.save", read, lambda: (saved(path, state), read())[1])
    path.unlink()
    missing = follow("check the path, or fetch or train the weights", read, lambda: (saved(path, state), read())[1])
    assert {value_of(model, SHAPE) for model in (named, again, listed, whole, missing)} == {value_of(chain(), SHAPE)}


def test_weights_of_another_architecture_or_of_nan_are_replaced() -> None:
    narrow = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)).state_dict()
    broken = of_nan(chain()).state_dict()
    for advice, state in (
        ("use the architecture and options that they were trained with", narrow),
        ("hold NaN or infinite values; train or fetch them again", broken),
    ):
        follow(advice, lambda state=state: load_into(chain(), state), lambda: load_into(chain(), chain().state_dict()))


def test_weights_are_fetched_once_address_file_and_checksum_are_right(tmp_path: Path) -> None:
    theirs, mine = saved(tmp_path / "theirs.pt", chain().state_dict()), tmp_path / "data" / "mine.pt"
    sha256, url = hashlib.sha256(theirs.read_bytes()).hexdigest(), theirs.as_uri()

    def fetch(url: str = url, sha256: str = sha256) -> None:
        fetch_weights(url, sha256, mine)

    follow("nothing was kept: check the address and the checksum", lambda: fetch(sha256="0" * 64), lambda: fetch())
    mine.unlink()
    follow("weights could not be fetched from {} ({}); check the address", lambda: fetch("https://["), fetch)
    mine.write_text("older")
    follow(
        "{} has sha256 {}, not the expected {}; give the one that the checksum is of",
        fetch,
        lambda: (mine.write_bytes(theirs.read_bytes()), fetch()),
    )
    assert mine.read_bytes() == theirs.read_bytes()
