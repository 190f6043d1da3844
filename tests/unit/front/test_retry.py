"""Rows to be made again: which they are, and what goes with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from certlip.base.errors import ConfigError
from certlip.base.record import Kind, Record, Status
from certlip.cli import app
from certlip.retry import retry

ROWS = {
    "small/lipsdp": (Status.OK, ""),
    "small/dcp": (Status.OK, "the time limit cut it short"),
    "large/lipsdp": (Status.MEMORY_LIMIT, "it needs 9 GB"),
    "large/dcp": (Status.TIME_LIMIT, "it needs an hour"),
    "lost/dcp": (Status.NO_DATA, "no such factory"),
}
PLACES = ("plans/{}.json", "blocks/{}/1-of-1.npz", "certificates/{}.npz")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder of results with a row of each kind."""
    for name, (status, reason) in ROWS.items():
        network, method = name.split("/")
        common = {"network": network, "method": method, "kind": Kind.CERTIFIED, "seconds": 1.0, "threads": 1}
        value = 2.0 if status == Status.OK else None
        record = Record.model_construct(**common, status=status, reason=reason, value=value)
        for place in PLACES:
            (tmp_path / place.format(name)).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / place.format(name)).touch()
        (tmp_path / "bounds" / network).mkdir(parents=True, exist_ok=True)
        (tmp_path / f"bounds/{name}.json").write_text(record.model_dump_json())
        (tmp_path / "networks").mkdir(exist_ok=True)
        (tmp_path / f"networks/{network}.pt").touch()
    return tmp_path


def left(results: Path) -> set[str]:
    """The rows that still have their record."""
    return {str(path.relative_to(results / "bounds").with_suffix("")) for path in results.glob("bounds/*/*.json")}


@pytest.mark.parametrize(
    ("names", "limit_rows", "chosen"),
    [
        (["large"], False, {"large/dcp", "large/lipsdp"}),
        (["lipsdp"], False, {"small/lipsdp", "large/lipsdp"}),
        (["small/dcp"], False, {"small/dcp"}),
        (["l*/dcp"], False, {"large/dcp", "lost/dcp"}),
        ([], True, {"small/dcp", "large/dcp", "large/lipsdp"}),
        (["dcp"], True, {"small/dcp", "large/dcp"}),
    ],
)
def test_rows_are_chosen_by_name_and_by_the_limit_they_hit(
    results: Path, names: list[str], limit_rows: bool, chosen: set[str]
) -> None:
    assert set(retry(results, names, limit_rows)) == chosen
    assert left(results) == set(ROWS) - chosen
    for name in ROWS:
        assert all((results / place.format(name)).exists() == (name not in chosen) for place in PLACES)


def test_a_network_goes_only_where_there_was_none(results: Path) -> None:
    retry(results, ["*"])
    assert {path.stem for path in results.glob("networks/*.pt")} == {"small", "large"}


def test_a_row_whose_record_is_damaged_can_be_made_again(results: Path) -> None:
    (results / "bounds/small/dcp.json").write_text("{")
    assert retry(results, ["small/dcp"]) == ["small/dcp"]


def test_an_unknown_name_is_refused_with_the_nearest_and_nothing_goes(results: Path) -> None:
    with pytest.raises(ConfigError, match=r"'smal'; did you mean 'small'"):
        retry(results, ["large", "smal"])
    with pytest.raises(ConfigError, match="or give --limit-rows"):
        retry(results)
    assert left(results) == set(ROWS)


def test_the_command_says_which_rows_are_made_again(results: Path) -> None:
    answer = CliRunner().invoke(app, ["retry", "--limit-rows", "--results", str(results)])
    assert answer.exit_code == 0
    assert answer.output.splitlines()[1:] == ["large/dcp", "large/lipsdp", "small/dcp"]
