"""What the README shows runs word for word."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import certlip
from certlip.network import Activation, Dense, Network

README = Path(__file__).parents[2] / "README.md"


def test_the_baseline_of_the_readme_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (method,) = [code for code in re.findall(r"```python\n(.*?)```", README.read_text(), re.S) if "INFO =" in code]
    (tmp_path / "readme_method.py").write_text(method)
    monkeypatch.syspath_prepend(tmp_path)
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((5, 4)), rng.standard_normal((3, 5))
    layers = (Dense("first", first, np.zeros(5)), Activation("relu", "relu"), Dense("second", second, np.zeros(3)))
    record = certlip.bound(Network(layers, (4,)), method="mine", module="readme_method", slack=0.1)
    assert record.value is not None
    assert record.value >= np.linalg.norm(first, 2) * np.linalg.norm(second, 2)
    assert certlip.verify(record.certificate).ok
