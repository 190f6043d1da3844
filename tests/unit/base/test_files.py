"""Files are whole or not there, whatever ends the writing."""

from __future__ import annotations

import io
import json
import os
import pickle
import signal
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from certlip.base.errors import DataError
from certlip.base.files import read_npz, write_atomically, write_npz


def test_a_file_and_its_folders_appear_when_the_writing_is_done(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.txt"
    with write_atomically(path, "w") as handle:
        handle.write("all of it")
        assert not path.exists()
    assert path.read_text() == "all of it"
    assert os.listdir(path.parent) == ["c.txt"]


def test_an_error_in_the_middle_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "c.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        interrupt(path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["c.txt"]


def interrupt(path: Path) -> None:
    with write_atomically(path, "w") as handle:
        handle.write("half")
        raise KeyboardInterrupt


def test_a_kill_in_the_middle_leaves_no_half_file(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from certlip.base.files import write_atomically\n"
        "with write_atomically(sys.argv[1], 'w') as handle:\n"
        "    handle.write('half'); handle.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "c.txt")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "c.txt").exists()


def test_a_file_gets_the_rights_that_any_new_file_has(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    with write_atomically(tmp_path / "atomic", "w") as handle:
        handle.write("")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_arrays_and_header_come_back_bit_by_bit(tmp_path: Path) -> None:
    values = np.array([0.1, -0.0, 5e-324, np.inf, np.nan])
    write_npz(tmp_path / "x.npz", {"name": "é", "list": [1, None]}, {"a": values, "empty": np.zeros((0, 3))})
    header, arrays = read_npz(tmp_path / "x.npz")
    assert header == {"name": "é", "list": [1, None]}
    assert arrays["a"].tobytes() == values.tobytes()
    assert arrays["empty"].shape == (0, 3)


def test_pickled_objects_are_never_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", header=np.array([{"evil": 1}], dtype=object))
    with pytest.raises(DataError, match=r"x\.npz is damaged or not a certlip file"):
        read_npz(tmp_path / "x.npz")


def member(array: np.ndarray, shape: str | None = None) -> bytes:
    """The bytes of an array's member of an archive; shape: to state instead of its own."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    content = buffer.getvalue()
    return content if shape is None else content.replace(f"{array.shape}".encode(), shape.encode())


def header_member(**header: object) -> bytes:
    return member(np.frombuffer(json.dumps(header).encode(), np.uint8))


GOOD = header_member(arrays={"a": [3]})
THREE = member(np.ones(3))
BOMB = member(np.zeros(2**24))

STRANGE: dict[str, list[tuple[str, bytes]]] = {
    "no header": [("a.npy", THREE)],
    "no array": [("header.npy", GOOD)],
    "an array twice": [("header.npy", GOOD), ("a.npy", THREE), ("a.npy", member(np.zeros(3)))],
    "the header twice": [("header.npy", GOOD), ("header.npy", header_member(arrays={})), ("a.npy", THREE)],
    "a name with and without suffix": [("header.npy", GOOD), ("a.npy", THREE), ("a", THREE)],
    "another shape than stated": [("header.npy", header_member(arrays={"a": [4]})), ("a.npy", THREE)],
    "a shape that is no list": [("header.npy", header_member(arrays={"a": "three"})), ("a.npy", THREE)],
    "arrays that are no names": [("header.npy", header_member(arrays=["a"])), ("a.npy", THREE)],
    "less than its shape": [("header.npy", GOOD), ("a.npy", THREE[:-8])],
    "more than its shape": [("header.npy", GOOD), ("a.npy", THREE + bytes(8))],
    "a shape below zero": [("header.npy", header_member(arrays={"a": [-3]})), ("a.npy", member(np.ones(3), "(-3,)"))],
    "an array that is text": [("header.npy", GOOD), ("a.npy", b"1 2 3")],
    "a member of pickle": [("header.npy", GOOD), ("a.npy", pickle.dumps([1, 2, 3]))],
    "complex numbers": [("header.npy", GOOD), ("a.npy", member(np.ones(3) * 1j))],
    "half precision": [("header.npy", GOOD), ("a.npy", member(np.ones(3, np.float16)))],
    "big-endian numbers": [("header.npy", GOOD), ("a.npy", member(np.ones(3, ">f8")))],
    "truth values": [("header.npy", GOOD), ("a.npy", member(np.ones(3, bool)))],
    "text": [("header.npy", GOOD), ("a.npy", member(np.ones(3).astype("U3")))],
    "records": [("header.npy", GOOD), ("a.npy", member(np.zeros(3, [("x", "f8")])))],
    "a header that is a list": [("header.npy", member(np.frombuffer(b"[1]", np.uint8)))],
    "a header that is nested": [("header.npy", member(np.frombuffer(b"[" * 10**6, np.uint8)))],
    "a header with a gigantic number": [("header.npy", member(np.frombuffer(b"1" * 10**5, np.uint8)))],
    "a header that is no text": [("header.npy", member(np.full(9, 255, np.uint8)))],
    "a bomb": [("header.npy", header_member(arrays={"a": [2**24]})), ("a.npy", BOMB)],
    "a bomb that nobody names": [("header.npy", GOOD), ("a.npy", THREE), ("b.npy", BOMB)],
    "a bomb in the header": [("header.npy", member(np.full(2**26, 32, np.uint8)))],
}


@pytest.mark.parametrize("what", STRANGE)
def test_an_archive_that_is_none_of_ours_is_refused_in_one_sentence_before_it_is_unpacked(
    what: str, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that stand there twice
        for name, content in STRANGE[what]:
            archive.writestr(name, content)
    tracemalloc.start()
    with pytest.raises(DataError, match=r"x\.npz is damaged or not a certlip file"):
        read_npz(tmp_path / "x.npz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**25


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_kinds_of_compression_that_unpack_as_a_whole_are_refused(compression: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w", compression) as archive:
        archive.writestr("header.npy", GOOD)
        archive.writestr("a.npy", THREE)
    with pytest.raises(DataError, match="damaged"):
        read_npz(tmp_path / "x.npz")


def test_what_the_header_does_not_name_is_not_read(tmp_path: Path) -> None:
    write_npz(tmp_path / "x.npz", {}, {"a": np.ones(3)})
    with zipfile.ZipFile(tmp_path / "x.npz", "a") as archive:
        archive.writestr("../../b.npy", b"anything")
    assert list(read_npz(tmp_path / "x.npz")[1]) == ["a"]


def test_large_arrays_that_are_nearly_all_zeros_can_be_read_again(tmp_path: Path) -> None:
    write_npz(tmp_path / "x.npz", {}, {"a": np.zeros(2**24)})
    assert read_npz(tmp_path / "x.npz")[1]["a"].shape == (2**24,)


def test_a_file_whose_header_names_no_arrays_is_read_as_before(tmp_path: Path) -> None:
    header = np.frombuffer(b'{"kept": 1}', dtype=np.uint8)
    np.savez_compressed(tmp_path / "old.npz", header=header, weight=np.ones((2, 3)))
    found, arrays = read_npz(tmp_path / "old.npz")
    assert found == {"kept": 1}
    assert arrays.keys() == {"weight"}
    assert arrays["weight"].shape == (2, 3)
