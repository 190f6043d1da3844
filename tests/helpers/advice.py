"""Following what an error advises."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

import certlip
from certlip.base.errors import CertlipError, NoBound

Do = Callable[[], Any]


def follow(advice: str, fails: Do, works: Do) -> Any:
    """What the second gives, which follows the advice that the first fails with, in one sentence.

    advice: part of it as it stands in the source, with {} for what is filled in.
    """
    with pytest.raises(CertlipError, match=".*".join(map(re.escape, advice.split("{}")))) as refusal:
        fails()
    assert "\n" not in str(refusal.value)
    return works()


def value_of(model: Any, input_shape: tuple[int, ...] | None = None, method: str = "product", **options: Any) -> float:
    """The bound; where a record has none, its reason is raised."""
    record = certlip.bound(model, input_shape, method, **options)
    if record.value is None:
        raise NoBound(record.reason)
    return record.value
