"""Options are the annotated keyword-only arguments of a plug-in's function: checked before anything runs."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Container, Mapping
from itertools import zip_longest
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

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


class Option(NamedTuple):
    """One option for people; type: in words; default: as YAML has it; meaning: what the docstring says of it."""

    name: str
    type: str
    default: str
    meaning: str


def described(function: Callable[..., Any], exclude: Container[str] = ()) -> list[Option]:
    """The options of a function, with what its docstring says after ``name:``."""
    meanings = _meanings(inspect.getdoc(function) or "")
    return [
        Option(name, in_words(_annotation(p.annotation, function)), _as_yaml(p.default), meanings.get(name, ""))
        for name, p in inspect.signature(function).parameters.items()
        if p.kind is p.KEYWORD_ONLY and name not in exclude
    ]


def in_words(kind: Any) -> str:
    """A type as people read it."""
    if isinstance(kind, type) and kind in _WORDS:
        return _WORDS[kind]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        inside = (m for found in arguments[1:] for m in getattr(found, "metadata", [found]))
        limits = [f"{sign} {getattr(m, key)}" for m in inside for key, sign in _SIGNS.items() if hasattr(m, key)]
        return " ".join([in_words(arguments[0]), " and ".join(limits)]).strip()
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin is tuple:
        return f"[{', '.join(map(in_words, arguments))}]"
    if origin is list:
        return f"list of {in_words(arguments[0])}"
    return " | ".join(map(in_words, arguments)) or str(kind)


_WORDS: dict[Any, str] = {
    int: "integer",
    float: "number",
    str: "text",
    bool: "true | false",
    type(None): "null",
}
_SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


def _as_yaml(default: Any) -> str:
    if default is inspect.Parameter.empty:
        return "required"
    plain = list(default) if isinstance(default, tuple) else default
    return json.dumps(plain).strip('"')


def _meanings(docstring: str) -> dict[str, str]:
    """What stands after ``name:`` or ``name, name:``, up to the next of these or the end of the sentence."""
    text = " ".join(docstring.split())
    found = list(re.finditer(r"(?:^|(?<=[;.] ))((?:\w+, )*\w+): ", text))
    meanings: dict[str, str] = {}
    for match, following in zip_longest(found, found[1:]):
        said = text[match.end() : following.start() if following else None]
        meaning = re.split(r"\. (?=[A-Z])", said)[0].rstrip(" .;").replace("``", "")
        meanings.update(dict.fromkeys(match.group(1).split(", "), meaning))
    return meanings


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
