"""Options are the annotated keyword-only arguments of a plug-in's function: checked before anything runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from certlip.base.errors import ConfigError
from certlip.base.plugins import nearest


def check_keywords(
    where: str, function: Callable[..., Any], options: Mapping[str, Any], exclude: Container[str] = ()
) -> dict[str, Any]:
    """The options of a function, typed and complete with defaults.

    where: begins the sentence of an error; exclude: keyword-only arguments that are not options. Raises ConfigError
    naming an unknown or ill-typed one.
    """
    model = _model(function, exclude)
    known = list(model.model_fields)
    for key in options:
        if key not in known:
            raise ConfigError(f"{where} has no option {key!r}{nearest(key, known)}")
    try:
        return {key: getattr(model(**options), key) for key in known}
    except ValidationError as error:
        first = error.errors()[0]
        complaint = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{where}, option {first['loc'][0]}: {complaint}, not {first['input']!r}") from error


def option_names(function: Callable[..., Any], exclude: Container[str] = ()) -> list[str]:
    """Names of a function's options."""
    return list(_model(function, exclude).model_fields)


def _model(function: Callable[..., Any], exclude: Container[str]) -> type[BaseModel]:
    fields: dict[str, Any] = {
        p.name: (_annotation(p.annotation, function), ... if p.default is p.empty else p.default)
        for p in inspect.signature(function).parameters.values()
        if p.kind is p.KEYWORD_ONLY and p.name not in exclude
    }
    return create_model("Options", __config__=ConfigDict(extra="forbid", allow_inf_nan=False), **fields)


def _annotation(annotation: Any, function: Any) -> Any:
    """An option's type, also where annotations are postponed."""
    return eval(annotation, function.__globals__) if isinstance(annotation, str) else annotation
