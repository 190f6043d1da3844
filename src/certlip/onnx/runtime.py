"""What was read of an ONNX file beside onnxruntime, where that is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from certlip.base.errors import ExportError
from certlip.onnx.files import Graph

_RTOL: dict[int, float] = {onnx.TensorProto.DOUBLE: 1e-9, onnx.TensorProto.FLOAT: 1e-3}
"""Largest difference of outputs, relative to the largest one: the file's numbers are rounded at each step."""
_RTOL_OF_HALVES = 0.05

_SCALES = (0.1, 1.0, 10.0)


def expect_agreement(path: str | Path, graph: Graph, module: nn.Module, axes: tuple[int, ...]) -> None:
    """Raise ExportError if the module and the file give different outputs; axes: of the file's input, as the module
    takes them.

    Nothing is compared without onnxruntime, or with one that does not run the file.
    """
    session = _session(path)
    if session is None:
        return
    kind = onnx.helper.tensor_dtype_to_np_dtype(graph.input_type)
    rng = np.random.default_rng(0)
    for scale in _SCALES:
        inputs = (scale * rng.standard_normal((1, *graph.input_shape))).astype(kind)
        try:
            expected = np.asarray(session.run(None, {graph.input: inputs})[0], np.float64)
        except Exception:  # as below
            return
        with torch.no_grad():
            found = module(torch.tensor(inputs.astype(np.float64).transpose(axes))).numpy()
        if not np.isfinite(expected).all():
            continue
        rtol = _RTOL.get(graph.input_type, _RTOL_OF_HALVES)
        difference = np.abs(found - expected).max() if found.shape == expected.shape else np.inf
        if not difference <= rtol * np.abs(expected).max():
            raise ExportError(
                f"{path}: what was read of it differs from onnxruntime by {difference:.1e} at inputs of scale {scale:g}"
            )


def _session(path: str | Path) -> Any:
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception:  # newer operators, or numbers of a kind that it has no implementation for
        return None
