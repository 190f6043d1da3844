"""Programs that torch.export saved (.pt2), read without `torch.export.load`, which unpickles what the file holds.

The graph is JSON, the weights are plain numbers. torch has operators that open files: a call of the file is made only
where it is one of `CALLS` or, where it depends on no input, one of `KNOWN`.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from certlip.base.errors import CertlipError, ConfigError, DataError, UnsupportedLayer
from certlip.network import Shape
from certlip.pytorch.building import Builder, Known, Value, expect_examples_apart
from certlip.pytorch.program_calls import CALLS, KNOWN
from certlip.pytorch.tracing import first_line

Node = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Program:
    """nodes: in order, as in the file; known: parameters, buffers and constants; given, output: names of the input and
    the output; sizes: of the input, with the batch axis, None where the program leaves one open."""

    nodes: list[Node]
    known: dict[str, Known]
    given: str
    sizes: list[int | None]
    output: str


def read_program(path: str | Path, input_shape: Shape | None = None) -> tuple[nn.Module, Shape]:
    """The program of a file as a float64 torch module, and the shape of its input without a batch axis.

    input_shape: needed where the program leaves an axis open besides that of the batch.

    Raises DataError if the file is missing, damaged or no program of one input and one output, ConfigError for an input
    shape that is missing or another, UnsupportedLayer naming all calls that are not known here, ExportError if examples
    of a batch change each other's outputs.
    """
    program = _load(path)
    shape = _input_shape(path, program.sizes, input_shape)
    _expect_calls(program)
    builder = Builder("input", "input")
    values: dict[str, Any] = {**program.known, program.given: builder.input(shape)}
    for node in program.nodes:
        builder.name, builder.operator = _name(node), _operator(node)
        found = _result(node, values, builder)
        values |= zip(_outputs(node), found if isinstance(found, list) else [found], strict=False)
    builder.name, builder.operator = "output", "output"
    output = values[program.output]
    if not isinstance(output, Value):
        raise builder.refused(" of a constant")
    module = builder.module(output, Path(path).name)
    expect_examples_apart(module, shape)
    return module, shape


def _load(path: str | Path) -> Program:
    try:
        with zipfile.ZipFile(path) as archive:
            (model,) = [name for name in archive.namelist() if re.fullmatch(r"[^/]+/models/[^/]+\.json", name)]
            root, name = model.split("/")[0], Path(model).stem
            graph = json.loads(archive.read(model))["graph_module"]
            tensors = _tensors(archive, f"{root}/data/weights", f"{name}_weights_config.json", str(path))
            tensors |= _tensors(archive, f"{root}/data/constants", f"{name}_constants_config.json", str(path))
        return _program(path, graph, tensors)
    except CertlipError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; check the path") from error
    except Exception as error:  # a damaged file can say anything
        raise DataError(f"{path} is not a program that this version of torch.export saves; save it again") from error


def _tensors(archive: zipfile.ZipFile, folder: str, config: str, path: str) -> dict[str, Known]:
    """Those of a folder of the archive, by name."""
    tensors = {}
    for name, entry in json.loads(archive.read(f"{folder}/{config}"))["config"].items():
        if entry["use_pickle"]:
            raise DataError(f"{path} keeps {name} as a pickle, which is never read; export plain tensors")
        meta = entry["tensor_meta"]
        sizes, strides = ([size["as_int"] for size in meta[key]] for key in ("sizes", "strides"))
        content = bytearray(archive.read(f"{folder}/{entry['path_name']}"))
        numbers = torch.frombuffer(content, dtype=_KINDS[meta["dtype"]]) if content else torch.empty(0)
        tensor = numbers.as_strided(sizes, strides, meta["storage_offset"]["as_int"])
        tensors[name] = _plain(tensor)
    return tensors


_KINDS = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    12: torch.bool,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    13: torch.bfloat16,
}
"""The numbers that the format gives kinds of numbers."""


def _plain(tensor: torch.Tensor) -> Known:
    """Numbers with a point as float64."""
    array: Known = (tensor.double() if tensor.is_floating_point() else tensor).numpy().copy()
    return array


def _program(path: str | Path, graph_module: Node, tensors: Mapping[str, Known]) -> Program:
    graph, signature = graph_module["graph"], graph_module["signature"]
    known, given = {}, []
    for spec in signature["input_specs"]:
        ((kind, entry),) = spec.items()
        match kind:
            case "user_input":
                given.append(entry["arg"]["as_tensor"]["name"])
            case "parameter" | "buffer" | "tensor_constant":
                known[entry["arg"]["name"]] = tensors[entry[_KEYS[kind]]]
            case _:
                raise DataError(f"{path} takes an input of the kind {kind}: export a function of one tensor")
    outputs = [(kind, entry["arg"]) for spec in signature["output_specs"] for kind, entry in spec.items()]
    if [kind for kind, _ in outputs] != ["user_output"] or len(given) != 1:
        raise DataError(
            f"{path} has {len(given)} inputs and {len(outputs)} outputs, buffers that it changes included: export a "
            "function of one tensor that gives one tensor, in eval mode"
        )
    sizes = [size.get("as_int") for size in graph["tensor_values"][given[0]]["sizes"]]
    output = outputs[0][1]["as_tensor"]["name"]
    return Program(_leading_to(graph["nodes"], output), known, given[0], sizes, output)


_KEYS = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}


def _leading_to(nodes: list[Node], output: str) -> list[Node]:
    needed, found = {output}, []
    for node in reversed(nodes):
        if needed & set(_outputs(node)):
            found.append(node)
            needed |= set(_reads(node))
    return found[::-1]


def _reads(argument: Any) -> list[str]:
    """The names of the values that an argument, or a node, takes."""
    match argument:
        case {"inputs": inputs}:
            return [name for entry in inputs for name in _reads(entry["arg"])]
        case {"name": str(name)} | {"as_name": str(name)}:
            return [name]
        case dict():
            return [name for entry in argument.values() for name in _reads(entry)]
        case list():
            return [name for entry in argument for name in _reads(entry)]
    return []


def _input_shape(path: str | Path, sizes: list[int | None], given: Shape | None) -> Shape:
    """Without the batch axis."""
    written = f"({', '.join('any' if size is None else str(size) for size in sizes)})"
    if len(sizes) < 2 or sizes[0] not in (1, None):
        raise DataError(f"{path} takes an input of shape {written}; export it for one example, with a batch axis")
    if given is None:
        if None in sizes[1:]:
            raise ConfigError(
                f"{path} leaves the shape of its input open, {written}: give input_shape (--input-shape 3,224,224)"
            )
        given = tuple(size for size in sizes[1:] if size is not None)
    if len(given) != len(sizes) - 1 or any(n not in (m, None) for n, m in zip(sizes[1:], given, strict=True)):
        raise ConfigError(f"{path} takes inputs of shape {written}, the batch first, not {given}; correct input_shape")
    return given


def _expect_calls(program: Program) -> None:
    """Raise UnsupportedLayer naming all calls that are not known here."""
    depends = {program.given}
    unknown: dict[str, list[str]] = {}
    for node in program.nodes:
        operator = _operator(node)
        if operator == SIZE:
            continue
        if depends & set(_reads(node)):
            depends |= set(_outputs(node))
            known = operator in CALLS
        else:
            known = operator in KNOWN
        if not known:
            unknown.setdefault(operator, []).append(_name(node))
    if unknown:
        raise UnsupportedLayer("; ".join(f"{', '.join(of)}: no bound for {o}" for o, of in unknown.items()))


SIZE = "sym_size"
"""The operator that reads a length off a value."""


def _operator(node: Node) -> str:
    """``conv2d`` of ``torch.ops.aten.conv2d.default``; of anything but aten's the whole name."""
    match str(node["target"]).split("."):
        case ["torch", "ops", "aten", name, _]:
            return name.rstrip("_") or name
    return str(node["target"])


def _name(node: Node) -> str:
    """Qualified name of torch's layer that makes the call, or of the call below the module that makes it."""
    name = str(node.get("name") or _outputs(node)[0])
    stack = node.get("metadata", {}).get("nn_module_stack", "")
    if not stack:
        return name
    _, path, kind = stack.split(";")[-1].rsplit(",", 2)
    path = re.sub(r"^L\['self'\]\.?", "", path)
    is_torchs = kind.startswith("torch.nn.modules.") and not kind.startswith("torch.nn.modules.container.")
    return ".".join(filter(None, [path] if is_torchs and path else [path, name]))


def _outputs(node: Node) -> list[str]:
    """The names of the values that a node gives."""
    return _reads(node["outputs"])


def _result(node: Node, values: Mapping[str, Any], builder: Builder) -> Any:
    operator = _operator(node)
    try:
        args = {entry["name"]: _argument(entry["arg"], values) for entry in node["inputs"]}
        if operator == SIZE:
            return args["self"].shape[args["dim"]]
        if any(isinstance(values.get(name), Value) for name in _reads(node)):
            return CALLS[operator](builder, args)
        return _computed(str(node["target"]), args)
    except CertlipError:
        raise
    except Exception as error:  # a file may say anything
        raise builder.refused(f" ({first_line(error)})") from error


def _computed(target: str, args: Mapping[str, Any]) -> Known:
    *_, name, overload = target.split(".")
    function = getattr(getattr(torch.ops.aten, name), overload)
    tensors = {key: torch.from_numpy(a) if isinstance(a, np.ndarray) else a for key, a in args.items()}
    found = function(**tensors)
    return _plain(found[0] if isinstance(found, tuple) else found)


def _argument(argument: Any, values: Mapping[str, Any]) -> Any:
    """What an argument of the file stands for; kinds of numbers, devices and layouts are left to torch."""
    ((kind, content),) = argument.items()
    match kind:
        case "as_tensor" | "as_sym_int" if isinstance(content, dict):
            name = content.get("name", content.get("as_name"))
            return content["as_int"] if name is None else values[name]
        case "as_tensors" | "as_sym_ints":
            return [_argument({"as_sym_int": entry}, values) for entry in content]
        case "as_optional_tensor":
            return _argument(content, values)
        case "as_int" | "as_ints" | "as_float" | "as_floats" | "as_bool" | "as_string":
            return content
    return None
