"""Files are whole or not there, whatever ends the writing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from certlip.errors import DataError
from certlip.files import read_npz, write_atomically, write_npz


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
        "import os, signal, sys; from certlip.files import write_atomically\n"
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
