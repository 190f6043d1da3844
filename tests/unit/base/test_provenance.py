"""Fingerprints of code: what a result depends on changes them, what it does not leaves them alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from certlip.base import provenance
from certlip.base.provenance import fingerprint

FILES = {
    "top.py": '"""Top."""\nfrom certlip import middle\nimport certlip.alone\n\n\ndef f():\n    return middle.x\n',
    "middle.py": "from certlip.folder.leaf import x\n\n\ndef late():\n    from certlip import lazy\n    return lazy\n",
    "lazy.py": "y = 1\n",
    "alone.py": "z = 1\n",
    "stranger.py": "w = 1\n",
    "folder/__init__.py": '"""A package."""\n',
    "folder/leaf.py": 'x = 1  # one\n"""What x is."""\n\n\ndef g(a):\n    """Add."""\n    return a + 1\n',
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package in place of certlip's own source."""
    for name, source in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(source)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    provenance.fingerprint.cache_clear()
    provenance._code.cache_clear()


def changed(root: Path, name: str, old: str, new: str) -> bool:
    """Whether an edit of one file changes the fingerprint of ``top``."""
    before = fingerprint("certlip.top")
    source = (root / name).read_text()
    assert old in source
    (root / name).write_text(source.replace(old, new))
    forget()
    return fingerprint("certlip.top") != before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("top.py", '"""Top."""', '"""Another."""'),
        ("folder/leaf.py", "# one", "# another comment"),
        ("folder/leaf.py", '    """Add."""\n', ""),
        ("folder/leaf.py", '"""What x is."""\n', ""),
        ("folder/leaf.py", "a + 1", "(a  +  1)"),
        ("stranger.py", "w = 1", "w = 2"),
    ],
    ids=["docstring", "comment", "a docstring less", "documented constant", "layout", "a module not imported"],
)
def test_what_does_not_count_leaves_the_fingerprint_alone(root: Path, name: str, old: str, new: str) -> None:
    assert not changed(root, name, old, new)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("folder/leaf.py", "x = 1", "x = 2"),
        ("folder/leaf.py", "a + 1", "a - 1"),
        ("middle.py", "def late", "def later"),
        ("lazy.py", "y = 1", "y = 1.0"),
        ("alone.py", "z = 1", "z = '1'"),
    ],
    ids=["constant", "operator", "name", "imported late", "imported by name"],
)
def test_a_change_of_code_that_is_imported_changes_the_fingerprint(root: Path, name: str, old: str, new: str) -> None:
    assert changed(root, name, old, new)


def test_the_order_of_names_does_not_count_but_their_choice_does(root: Path) -> None:
    assert fingerprint("certlip.lazy", "certlip.alone") == fingerprint("certlip.alone", "certlip.lazy")
    assert fingerprint("certlip.lazy") != fingerprint("certlip.alone")


def test_the_fingerprint_of_a_method_covers_the_bound_it_rests_on() -> None:
    sources = provenance._closure(("certlip.methods.dcp", "certlip.solving.blocks"))
    for module in (
        "certlip.proof.certify",
        "certlip.proof.lmi",
        "certlip.proof.merge",
        "certlip.proof.norms",
        "certlip.base.rounding",
    ):
        assert module in sources


def test_a_module_of_ones_own_has_a_fingerprint_too() -> None:
    assert fingerprint("oracle") != fingerprint("random_networks")


def test_a_module_is_found_without_importing_the_packages_it_lies_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "explosive").mkdir()
    (tmp_path / "explosive/__init__.py").write_text("raise RuntimeError('imported')\n")
    (tmp_path / "explosive/networks.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert provenance._source("explosive.networks") == "x = 1\n"
    assert "explosive" not in sys.modules
    for missing in ("explosive.nothing", "explosive.networks.nothing", "no_such_package.networks", "os.path.nothing"):
        assert provenance._source(missing) is None


def test_where_a_record_was_made_is_complete() -> None:
    found = provenance.provenance("certlip.proof.norms")
    assert found["code"] == fingerprint("certlip.proof.norms")
    assert set(provenance.PACKAGES) < set(found["versions"])
    assert found["host"]
    assert "T" in found["started_at"]


@pytest.mark.parametrize(
    "code",
    [
        "import certlip, certlip.config",
        "from certlip.config import load; config = load('config/quick.yaml'); config.planned(); config.used_datasets()",
        "from certlip.base import provenance; provenance.fingerprint('certlip.pytorch.train', 'certlip.sdp')",
        "from certlip.base import plugins; [plugins.names(f'certlip.{k}') for k in ('zoo', 'datasets', 'figures')]",
        "from certlip.verify import verify; from certlip.sdp import solvers; solvers.names()",
        "import certlip; certlip.methods()",
        "import re; exec('\\n'.join(re.findall('^from certlip.*', open('workflow/rules/common.smk').read(), re.M))); "
        "resolve(read_mapping('config/config.yaml')).planned()",
        "from certlip import figures, tables; [kind.load(n) for kind in (figures, tables) for n in kind.names()]",
    ],
    ids=["package", "configuration", "fingerprint", "plug-ins", "verify", "methods", "Snakefile", "tables"],
)
def test_nothing_heavy_is_imported_by(code: str) -> None:
    """The Snakefile runs this in each job."""
    heavy = ("torch", "torchvision", "cvxpy", "matplotlib", "mosek", "sklearn", "pandas")
    heavy += ("scipy.linalg", "scipy.sparse", "scipy.special")
    script = f"import sys; {code}; print([m for m in {heavy} if m in sys.modules])"
    root = Path(provenance.__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_the_packages_that_a_module_lies_in_count() -> None:
    """Importing a.b.c runs the __init__ of a.b."""
    for module in ("certlip.sdp.structured.rounds", "certlip.methods.seqlip.greedy", "certlip.network.window"):
        assert module.rpartition(".")[0] in provenance._closure((module,))
