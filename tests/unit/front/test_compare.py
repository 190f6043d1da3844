"""Several methods on one network, from Python and on the command line."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import certlip
from certlip import cli
from certlip.base.errors import CertlipError, ConfigError
from certlip.base.record import Record
from certlip.compare import COLUMNS
from certlip.methods import names, options_of
from certlip.network import Activation, Conv, Dense, Flatten, Network


def net() -> Network:
    rng = np.random.default_rng(0)
    layers = (
        Conv("conv", rng.standard_normal((2, 1, 3, 3)), np.zeros(2)),
        Activation("relu", "relu"),
        Flatten("flatten"),
        Dense("dense", rng.standard_normal((3, 32)), np.zeros(3)),
    )
    return Network(layers, (1, 6, 6))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    net().save(tmp_path / "small.npz")
    return tmp_path / "small.npz"


def run(*arguments: str | Path) -> Any:
    """The result of the command line; raises what it raises."""
    return CliRunner().invoke(cli.app, list(map(str, arguments)), catch_exceptions=False, env={"COLUMNS": "150"})


def test_methods_are_compared_in_one_table_and_the_tightest_is_marked() -> None:
    found = certlip.compare(net(), methods=["product", "gram", "lipsdp", "lower"])
    assert tuple(found.columns) == COLUMNS
    assert list(found["method"]) == ["product", "gram", "lipsdp", "lower"]
    assert list(found["kind"]) == ["certified"] * 3 + ["lower"]
    assert list(found["tightest"]) == [False, False, True, False]
    assert (found["status"] == "ok").all()
    assert list(found["value"]) == [certlip.bound(net(), method=m).value for m in found["method"]]


def test_rows_have_names_and_options_of_their_own_as_in_a_configuration() -> None:
    rows = {"coarse": {"method": "dcp", "grid": (1, 1)}, "fine": {"method": "dcp", "grid": (4, 4)}, "gram": {}}
    found = certlip.compare(net(), methods=rows, n_iter=1)
    assert list(found["method"]) == list(rows)
    coarse, fine, gram = found["value"]
    assert coarse <= fine
    assert gram == certlip.bound(net(), method="gram", n_iter=1).value > certlip.bound(net(), method="gram").value


def test_all_are_all_methods_but_those_made_of_others() -> None:
    found = certlip.compare(net(), methods="all")
    assert list(found["method"]) == [name for name in names() if name != "best"]
    failed = found[found["status"] != "ok"]
    assert (failed["reason"] != "").all()
    assert failed["value"].isna().all()


def test_an_option_that_no_method_has_is_refused() -> None:
    with pytest.raises(ConfigError, match="none of product, gram has an option 'n_itre'; did you mean 'n_iter'"):
        certlip.compare(net(), methods="product,gram", n_itre=1)
    with pytest.raises(ConfigError, match="unknown method 'grem'; did you mean 'gram'"):
        certlip.compare(net(), methods="product,grem")


def test_layer_constants_are_a_row_each_and_multiply_to_the_product() -> None:
    found = certlip.layer_constants(net())
    assert list(found["layer"]) == ["conv", "relu", "flatten", "dense"]
    assert list(found["kind"]) == ["Conv", "Activation", "Flatten", "Dense"]
    product = certlip.bound(net(), method="product").value
    assert found["constant"].prod() == pytest.approx(product, rel=1e-12)


def test_a_record_is_a_sentence() -> None:
    record = certlip.bound(net(), name="small")
    assert repr(record) == f"<{record}>"
    assert str(record).startswith(f"small: {record.value!r} certified by best (lipsdp) in ")
    refused = certlip.bound(net(), method="dcp", name="small", cuts=["nowhere"])
    assert str(refused).startswith("small: no bound by dcp, unsupported  (cuts: the network has no layer 'nowhere'")


def test_one_method_is_one_line_and_the_default_is_the_best(file: Path, tmp_path: Path) -> None:
    done = run("bound", file, "--certificate", tmp_path / "c.npz")
    value = certlip.bound(net()).value
    assert done.stdout.startswith(f"small: {value!r} certified by best (lipsdp) in ")
    assert done.stdout.count("\n") == 1
    assert done.exit_code == 0
    assert certlip.verify(tmp_path / "c.npz").value == value


def test_several_methods_are_a_table_and_files(file: Path, tmp_path: Path) -> None:
    folder, csv, png = tmp_path / "saved", tmp_path / "t.csv", tmp_path / "p.png"
    done = run("bound", file, "--method", "product,lipsdp,lower", "--save", folder, "--csv", csv, "--plot", png)
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines if "≤" in line] == ["product", "*"]
    assert tuple(pd.read_csv(csv).columns) == COLUMNS
    assert png.read_bytes().startswith(b"\x89PNG")
    for method in ("product", "lipsdp", "lower"):
        record = Record.load(folder / f"{method}.json")
        assert certlip.verify(record.certificate_file).value == record.value


def test_json_is_the_record_or_a_list_of_them(file: Path) -> None:
    one = json.loads(run("bound", file, "--method", "product", "--json").stdout)
    assert one["value"] == certlip.bound(net(), method="product").value
    several = json.loads(run("bound", file, "--method", "product,gram", "--json", "-o", "n_iter=2").stdout)
    assert [row["method"] for row in several] == ["product", "gram"]
    assert several[1]["options"] == {"n_iter": 2}


def test_no_bound_is_exit_status_1_with_a_sentence(file: Path) -> None:
    with pytest.raises(CertlipError, match=r"dcp gives no bound of small \(unsupported\): cuts"):
        run("bound", file, "--method", "dcp", "-o", "cuts=[nowhere]")
    done = run("bound", file, "--method", "dcp,dcp", "-o", "cuts=[nowhere]")
    assert done.exit_code == 1
    with pytest.raises(ConfigError, match="--certificate is for one method"):
        run("bound", file, "--method", "product,gram", "--certificate", "c.npz")


def test_limits_and_seed_are_handed_on(file: Path) -> None:
    limited = ["bound", file, "--method", "lipsdp", "--max-memory-mb", "1", "--json"]
    assert "MB" in json.loads(run(*limited).stdout)["reason"]
    first, second = (
        json.loads(run("bound", file, "--method", "lower", "--json", "--seed", seed, "-o", "n_steps=0").stdout)
        for seed in ("1", "2")
    )
    assert [row["details"]["seed"] for row in (first, second)] == [1, 2]


def test_the_options_of_a_method_are_listed_with_their_meaning() -> None:
    text = " ".join(run("methods", "dcp").stdout.split())
    for words in ("grid", "auto", "[2, 2]", "budget", "number > 0", "300.0", "seconds of wall time"):
        assert words in text
    assert "lipsdp" in run("methods").stdout


@pytest.mark.parametrize("name", names())
def test_every_option_of_every_method_has_a_type_and_a_meaning_for_people(name: str) -> None:
    for option in options_of(name):
        assert option.meaning, option.name
        assert "Annotated" not in option.type
        assert "class" not in option.type


def test_the_version_is_printed() -> None:
    assert run("--version").stdout == f"certlip {certlip.__version__}\n"


COMMAND = "import sys; from certlip.cli import main; sys.argv[0] = 'certlip'; main()"


def stderr_of(*arguments: str | Path) -> str:
    """What the command line says in a pipe."""
    command = [sys.executable, "-c", COMMAND, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stderr


def test_in_a_pipe_each_stage_is_a_line_and_quiet_says_nothing(file: Path) -> None:
    said = stderr_of("bound", file).splitlines()
    assert said[0] == "best, at most 60 s"
    assert "best › product, at most 6 s" in said
    assert any(line.startswith("best › lipsdp") and "certified so far: " in line for line in said)
    assert stderr_of("bound", file, "--quiet") == ""


SLOW = """
import sys, time
from types import ModuleType
from certlip.methods import best, product, Member
from certlip.cli import main
def slow(network):
    time.sleep(60)
    return product.bound(network)
module = ModuleType("certlip.methods.slow")
module.INFO, module.bound = product.INFO, slow
sys.modules[module.__name__] = module
def members(network, *, budget: float = 60.0, solver: str = "auto"):
    return Member("product", product), Member("slow", module)
best.members = members
sys.argv[0] = "certlip"
main()
"""


def test_ctrl_c_keeps_what_is_certified_and_says_so(file: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", SLOW, "bound", str(file), "--save", str(tmp_path / "kept")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "slow" in line:
                break
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "certified by best (product)" in out
    assert err.splitlines()[-1] == f"certlip: interrupted; what was certified by then is above, and in {tmp_path}/kept"
    value = certlip.bound(net(), method="product").value
    assert certlip.verify(tmp_path / "kept" / "best.npz").value == value


def test_a_terminal_has_one_line_that_moves_and_is_gone_at_the_end(file: Path) -> None:
    code = SLOW.replace("sleep(60)", "sleep(2.5)")
    main, end = pty.openpty()
    command = [sys.executable, "-c", code, "bound", str(file), "--max-seconds", "50"]
    terminal = {**os.environ, "COLUMNS": "120"}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=end, env=terminal):
        os.close(end)
        seen = b""
        try:
            while chunk := os.read(main, 4096):
                seen += chunk
        except OSError:  # how Linux says that the other end is closed
            pass
    os.close(main)
    text = seen.decode()
    assert "best" in text
    assert re.search(r"best \d+ of 60 s › slow 2 of \d+ s", text)
    assert "certified so far: " in text
    assert text.endswith("\r\x1b[2K")
