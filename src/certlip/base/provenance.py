"""Where a number came from: versions, host, time, and a fingerprint of the code that made it."""

from __future__ import annotations

import ast
import hashlib
import platform
import sys
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
PACKAGES = ("certlip", "numpy", "scipy", "torch", "cvxpy")


@cache
def fingerprint(*modules: str) -> str:
    """Hash of the code of modules and of all certlip modules they import, directly or not; a path is a script alone.

    Comments, docstrings and layout do not count. Plug-ins loaded by name are not seen: name them. The package's own
    __init__ is left out, since it names everything.
    """
    digest = hashlib.sha256()
    for name, text in sorted(_closure(modules).items()):
        digest.update(Path(name).name.encode() + b"\0" + text.encode())
    return digest.hexdigest()[:16]


def _closure(modules: tuple[str, ...]) -> dict[str, str]:
    """Module name -> its code, following imports within certlip.

    The configuration is left out: what it reads stands in the rules' params, which Snakemake compares itself.
    """
    texts: dict[str, str] = {}
    pending = list(modules)
    while pending:
        name = pending.pop()
        if name in texts or name in ("certlip", "certlip.config") or (code := _code(name)) is None:
            continue
        texts[name] = code.text
        pending += code.imports
    return texts


class _Code(NamedTuple):
    """A module without what does not count, and the names it imports that may be modules of certlip."""

    text: str
    imports: tuple[str, ...]


@cache
def _code(module: str) -> _Code | None:
    """None for a name that is no module."""
    if module.endswith(".py"):
        return _Code(ast.dump(_without_docstrings(ast.parse(Path(module).read_text()))), ())
    if (source := _source(module)) is None:
        return None
    tree = ast.parse(source)
    imports = [module.rpartition(".")[0] if module.startswith("certlip.") else "certlip"]  # its __init__ runs too
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [alias.name for alias in node.names if alias.name.startswith("certlip.")]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "certlip":
            imports += [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
    return _Code(ast.dump(_without_docstrings(tree)), tuple(imports))


def _source(module: str) -> str | None:
    """The module's source, None for a name that is no module; certlip's own are found without importing anything."""
    if module.startswith("certlip."):
        stem = ROOT.joinpath(*module.split(".")[1:])
        found = [file for file in (stem.with_suffix(".py"), stem / "__init__.py") if file.is_file()]
        return found[0].read_text() if found else None
    spec = _spec(module)
    return Path(spec.origin).read_text() if spec and spec.origin and spec.origin.endswith(".py") else None


def _spec(module: str) -> ModuleSpec | None:
    """Where a module lies; unlike `importlib.util.find_spec` this imports none of the packages that it lies in."""
    spec, path = None, None
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        finders = (finder.find_spec for finder in sys.meta_path)
        spec = next((found for find in finders if (found := find(name, path, None))), None)
        if spec is None or (depth < len(parts) and spec.submodule_search_locations is None):
            return None
        path = spec.submodule_search_locations
    return spec


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [s for s in body if not _is_string(s)]  # type: ignore[attr-defined]
    return tree


def _is_string(statement: ast.AST) -> bool:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def provenance(*modules: str) -> dict[str, Any]:
    """The fields of a `Record` that say where it was made; modules: see `fingerprint`."""
    return {
        "code": fingerprint(*modules),
        "versions": {"python": platform.python_version(), **{p: _version(p) for p in PACKAGES}},
        "host": platform.node(),
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@cache
def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
