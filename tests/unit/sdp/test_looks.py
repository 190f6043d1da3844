"""What a look at the gap is predicted to cost: not what the first product of a process takes."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import scipy

from certlip.proof.lmi import Lmi
from certlip.sdp import looks


def test_the_first_products_of_a_process_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    product, n_calls = scipy.linalg.blas.dgemm, 0

    def slow_at_first(*arguments: Any) -> Any:
        nonlocal n_calls
        n_calls += 1
        time.sleep(0.5 if n_calls < 3 else 0.0)
        return product(*arguments)

    monkeypatch.setattr(scipy.linalg.blas, "dgemm", slow_at_first)
    assert looks._rate() > looks.PROBE**3 / 0.4


def test_an_inequality_is_predicted_by_its_size() -> None:

    def of(n: int) -> float:
        weights = (np.ones((n, n)), np.ones((n, n)))
        return looks._multiplications(Lmi(weights, ((0.0, 1.0),)))

    assert 7 < of(200) / of(100) < 9
