"""ONNX files as torch modules, a torch call for each node that depends on the input, named as in the file."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from certlip.base.errors import CertlipError
from certlip.network import Shape
from certlip.onnx.files import SHAPES, load_graph
from certlip.onnx.known import evaluate
from certlip.onnx.operators import OPERATORS
from certlip.onnx.runtime import expect_agreement
from certlip.onnx.steps import Input, Step
from certlip.pytorch.building import Builder, expect_examples_apart
from certlip.pytorch.tracing import first_line


def read_onnx(path: str | Path, input_shape: Shape | None = None) -> tuple[nn.Module, Shape]:
    """The network of an ONNX file as a float64 torch module, and the shape of its input without a batch axis.

    input_shape: needed where the file leaves an axis open besides that of the batch.

    What depends on no input is computed here, in float64. A transposition right after the input is taken into it: the
    module takes (channels, rows, columns) where the file takes channels last, which changes no distance. Where
    onnxruntime is installed, both are run side by side.

    Raises DataError if the file is missing, damaged or no network of one input and one output, ConfigError for an input
    shape that is missing or not the file's, UnsupportedLayer naming all nodes whose operator is not known here, or one
    that cannot be written as a torch call, ExportError if the module does not compute what the file says.

    Example: ``certlip.bound(*read_onnx("net.onnx"), method="lipsdp")``.
    """
    graph = load_graph(path, input_shape, set(OPERATORS))
    builder = Builder(graph.input, "input")
    axes = graph.input_axes
    shape = tuple(graph.input_shape[a - 1] for a in axes[1:])
    back = tuple(axes.index(a) for a in range(len(axes)))
    values: dict[str, Input] = {**graph.known, graph.input: builder.permuted(builder.input(shape), back)}
    for builder.name, node in graph.nodes:
        builder.operator = node.op_type
        step = Step.of(node, [values[name] if name else None for name in node.input], graph.opset, builder)
        results = _results(step)
        values |= zip(node.output, results, strict=False)
        missing = [name for name in node.output[len(results) :] if name in graph.read]
        if missing:
            raise builder.refused(f" whose output {missing[0]} is used")
    builder.name, builder.operator = graph.output, "output"
    output = values[graph.output]
    module = builder.module(Step.value_of(output, builder), Path(path).name)
    expect_examples_apart(module, shape)
    expect_agreement(path, graph, module, axes)
    return module, shape


def _results(step: Step) -> list[Input]:
    """The outputs of a step; raises UnsupportedLayer naming it."""
    try:
        if not step.depends or step.operator in SHAPES:
            return list(evaluate(step))
        found = OPERATORS[step.operator](step)
        return list(found) if isinstance(found, list) else [found]
    except CertlipError:
        raise
    except Exception as error:  # a file may say anything
        raise step.refused(f" ({first_line(error)})") from error
