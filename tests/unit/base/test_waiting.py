"""What could not be had waits, and is tried again once it can be had: by hand or from an address that answers."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from certlip import datasets
from certlip.base.errors import NoData
from certlip.base.waiting import attempt, save_attempt

NOWHERE = "http://localhost:9"


def test_what_was_never_tried_or_was_had_is_not_tried_again(tmp_path: Path) -> None:
    state = tmp_path / "attempt.json"
    assert attempt(state) == 0
    save_attempt(state, 3, None)
    assert attempt(state) == 3


def test_what_waits_is_tried_again_once_all_its_files_are_there_and_then_never_again(tmp_path: Path) -> None:
    state, files = tmp_path / "attempt.json", [tmp_path / "a", tmp_path / "b"]
    save_attempt(state, 0, NoData("no a and b", [str(file) for file in files], [f"{NOWHERE}/a"]))
    files[0].touch()
    assert attempt(state) == 0
    files[1].touch()
    assert attempt(state) == 1
    save_attempt(state, 1, None)
    assert attempt(state) == 1


def test_a_wrong_file_is_tried_again_once_it_is_another(tmp_path: Path) -> None:
    state, file = tmp_path / "attempt.json", tmp_path / "a"
    file.write_text("wrong")
    save_attempt(state, 0, NoData("another checksum", [str(file)]))
    assert attempt(state) == 0
    file.unlink()
    assert attempt(state) == 0
    file.write_text("right this time")
    assert attempt(state) == 1


def test_what_waits_is_tried_again_once_an_address_answers(tmp_path: Path) -> None:
    (tmp_path / "served").touch()
    state, urls = tmp_path / "attempt.json", [f"{NOWHERE}/a", (tmp_path / "served").as_uri()]
    save_attempt(state, 0, NoData("no a", [str(tmp_path / "a")], urls[:1]))
    assert attempt(state) == 0
    save_attempt(state, 0, NoData("no a", [str(tmp_path / "a")], urls))
    assert attempt(state) == 1


def test_a_data_set_out_of_reach_waits_and_one_with_a_wrong_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoData) as missing:
        datasets.fetch("mnist", tmp_path, mirrors=[NOWHERE])
    assert len(missing.value.files) == 4
    assert missing.value.urls == (f"{NOWHERE}/train-images-idx3-ubyte.gz",)
    Path(missing.value.files[0]).parent.mkdir(parents=True, exist_ok=True)
    Path(missing.value.files[0]).write_bytes(gzip.compress(b"not these"))
    with pytest.raises(NoData, match="that lies there has a wrong checksum"):
        datasets.fetch("mnist", tmp_path, mirrors=[NOWHERE])


def test_what_lies_there_and_cannot_be_read_is_tried_at_each_run(tmp_path: Path) -> None:
    """Its sentence says to repair it, and nothing else would tell that somebody did."""
    state = tmp_path / "attempt.json"
    save_attempt(state, 3, NoData("pictures/train/cat/1.png is not a picture that can be read"))
    assert attempt(state) == 4
    save_attempt(state, 4, None)
    assert attempt(state) == 4


def test_missing_pictures_wait_for_their_folder(tmp_path: Path) -> None:
    with pytest.raises(NoData, match="train/<class>") as missing:
        datasets.fetch("imagefolder", tmp_path, path="pictures", size=[2, 2])
    assert missing.value.files == (str(tmp_path / "pictures"),)
