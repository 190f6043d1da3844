"""Where a number came from: versions, host, time, and a fingerprint of the code that made it."""

from __future__ import annotations

import ast
import hashlib
import platform
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("certlip", "numpy", "scipy", "torch", "cvxpy")
ROOT = Path(__file__).parent


@cache
def fingerprint(*parts: str) -> str:
    """Hash of the syntax trees, without comments and docstrings, of modules or subpackages of certlip.

    parts: ``"sdp"``, ``"partition"``, ``"norms"``, ...; none stands for the whole package.
    """
    digest = hashlib.sha256()
    for part in sorted(parts) or ["."]:
        folder = ROOT / part
        files = sorted(folder.rglob("*.py")) if folder.is_dir() else [ROOT / f"{part}.py"]
        for file in files:
            digest.update(file.relative_to(ROOT).as_posix().encode() + _canonical(file.read_text()).encode())
    return digest.hexdigest()[:16]


def _canonical(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [s for s in body if not _is_docstring(s)]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _is_docstring(statement: ast.AST) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def provenance() -> dict[str, Any]:
    """The fields of a `Record` that say where it was made."""
    return {
        "code": fingerprint(),
        "versions": {"python": platform.python_version(), **{p: _version(p) for p in PACKAGES}},
        "host": platform.node(),
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
