"""What is read from a file as a typed model, or one sentence that names what is wrong in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from certlip.base.errors import ConfigError
from certlip.base.plugins import nearest

M = TypeVar("M", bound=BaseModel)


def validate(model: type[M], raw: Any, where: str) -> M:
    """The model of a raw entry.

    where: begins the sentence of an error. Raises ConfigError for an unknown key, with the nearest known one, a value
    of another type or out of range, and an infinite number or NaN anywhere.
    """
    if (infinite := _not_finite(raw)) is not None:
        raise ConfigError(f"{where}{infinite}: it must be a finite number")
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        place = [str(part) for part in first["loc"]]
        if first["type"] == "extra_forbidden":
            known = _fields(model, place[:-1])
            raise ConfigError(f"{where}: unknown key {'.'.join(place)!r}{nearest(place[-1], known)}") from error
        at = f", {'.'.join(place)}" if place else ""
        raise ConfigError(
            f"{where}{at}: {first['msg'].removeprefix('Value error, ')}, not {first['input']!r}"
        ) from error


def _not_finite(raw: Any) -> str | None:
    """Where an infinite number or NaN stands, None if there is none."""
    if isinstance(raw, float) and not math.isfinite(raw):
        return ""
    items = raw.items() if isinstance(raw, Mapping) else enumerate(raw) if isinstance(raw, list | tuple) else ()
    places = (f", {key}{place}" for key, value in items if (place := _not_finite(value)) is not None)
    return next(places, None)


def _fields(model: type[BaseModel], place: list[str]) -> list[str]:
    """Keys that the model nested at `place` knows."""
    for part in place:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        options = [annotation, *getattr(annotation, "__args__", ())]
        nested = [o for o in options if isinstance(o, type) and issubclass(o, BaseModel)]
        if not nested:
            return []
        model = nested[0]
    return list(model.model_fields)
