"""What strangers give is data: no pickle of theirs builds more than arrays, no YAML tag is run, no archive escapes.

Weights files: test_weights; the cache's mode: test_cache; addresses and checksums: test_weights and test_datasets.
"""

from __future__ import annotations

import ast
import hashlib
import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

import certlip
from certlip import config, datasets
from certlip.base.errors import ConfigError, DataError
from certlip.base.files import read_npz
from certlip.datasets._torchvision import torchvision_datasets
from certlip.datasets.cifar10 import read_batch

SOURCES = sorted(Path(certlip.__file__).parent.rglob("*.py"))

RUN_CODE = {"pickle.load", "pickle.loads", "joblib.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load"}
RUN_CODE |= {"os.system", "marshal.loads", "shelve.open", "dill.load"}


class Code:
    """Unpickling it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def calls(tree: ast.AST) -> list[tuple[str, dict[str, ast.expr]]]:
    return [
        (ast.unparse(node.func), {k.arg: k.value for k in node.keywords if k.arg})
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    ]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_nothing_in_the_package_runs_the_code_of_a_file(path: Path) -> None:
    for name, keywords in calls(ast.parse(path.read_text())):
        assert name not in RUN_CODE, name
        assert not name.endswith((".extractall", ".extract", "extract_archive", "unpack_archive")), name
        if name == "torch.load":
            assert ast.literal_eval(keywords["weights_only"]) is True
        if name == "np.load":
            assert ast.literal_eval(keywords["allow_pickle"]) is False


def test_an_array_file_that_holds_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    np.savez(tmp_path / "file.npz", header=np.array([Code(tmp_path / "ran")], dtype=object))
    with pytest.raises(DataError, match=r"file\.npz is damaged or not a certlip file"):
        read_npz(tmp_path / "file.npz")
    assert not (tmp_path / "ran").exists()
    with np.load(tmp_path / "file.npz", allow_pickle=True) as archive:
        _ = archive["header"]
    assert (tmp_path / "ran").exists(), "the file holds no code: this test shows nothing"


def test_a_tag_in_a_yaml_file_is_refused_and_not_run(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(f"networks: !!python/object/apply:os.mkdir [{tmp_path / 'ran'}]\n")
    with pytest.raises(ConfigError, match=r"c\.yaml is not valid YAML"):
        config.load(tmp_path / "c.yaml")
    assert not (tmp_path / "ran").exists()


def test_a_batch_of_pictures_that_names_code_is_refused_and_not_run(tmp_path: Path) -> None:
    batch = {"data": np.zeros((2, 3072), np.uint8), "labels": [3, 4]}
    pixels, labels = read_batch(pickle.dumps(batch, 4))
    assert (pixels.shape, labels) == ((2, 3072), [3, 4])
    with pytest.raises(DataError, match="mkdir, which is not run"):
        read_batch(pickle.dumps({**batch, "more": Code(tmp_path / "ran")}, 4))
    assert not (tmp_path / "ran").exists()


def test_members_of_an_archive_cannot_escape_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CIFAR-10 from an archive with a member that climbs out: it is read, and nothing is written beside it."""
    source, folder = torchvision_datasets().CIFAR10, tmp_path / "data"
    folder.mkdir()
    content = pickle.dumps({"data": np.full((2, 3072), 255, np.uint8), "labels": [3, 4]}, 4)
    batches = [f"{source.base_folder}/{name}" for name, _ in source.train_list + source.test_list]
    with tarfile.open(folder / source.filename, "w:gz") as archive:
        for name in [*batches, "../escaped", str(tmp_path / "absolute")]:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    monkeypatch.setattr(source, "tgz_md5", hashlib.md5((folder / source.filename).read_bytes()).hexdigest())
    dataset = datasets.fetch("cifar10", folder)
    assert dataset.train_images.shape == (10, 3, 32, 32)
    assert dataset.test_labels.tolist() == [3, 4]
    assert (dataset.train_images == 1).all()
    assert [path.name for path in tmp_path.rglob("*")] == ["data", source.filename]
