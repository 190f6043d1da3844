"""A torch module on its way to another process: itself, or its trace where it holds what cannot be pickled."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from joblib.externals.loky.backend.reduction import dumps
from torch import nn

from certlip.base.errors import ExportError
from certlip.network import Shape
from certlip.pytorch.graph import expect_same
from certlip.pytorch.tracing import first_line, trace


@dataclass(frozen=True, eq=False)
class PortableModule:
    """A function that returns a module and the shape of its input.

    module: as `plain_copy` gives it. Pickling raises UnsupportedLayer for a module that can be neither pickled nor
    traced, ExportError if its trace cannot be pickled.
    """

    module: nn.Module
    input_shape: Shape

    def __call__(self) -> tuple[nn.Module, Shape]:
        return self.module, self.input_shape

    def __reduce__(self) -> tuple[object, ...]:
        try:
            dumps(self.module)
        except Exception:  # __reduce__ is anybody's
            return PortableModule, (self._trace(), self.input_shape)
        return PortableModule, (self.module, self.input_shape)

    def _trace(self) -> nn.Module:
        example = torch.randn(1, *self.input_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        traced = trace(self.module, example)
        with torch.no_grad():
            expect_same(self.module, self.module(example), traced(example))
        try:
            dumps(traced)
        except Exception as error:  # as above
            raise ExportError(
                f"{type(self.module).__name__} cannot be sent to the process that keeps the limits "
                f"({first_line(error)}); bound it without limits"
            ) from error
        return traced
