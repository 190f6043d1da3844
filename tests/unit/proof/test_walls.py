"""What has to be believed to believe a certificate is small, and loads neither a solver nor torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

import certlip
from certlip.network import Activation, Dense, Network, Sum

MAX_MODULES, MAX_LINES = 30, 5000
"""Files of ours, packages that only say what they are not counted."""

CODE = """
import json, sys
from certlip.verify import verify
assert verify(sys.argv[1]).ok
loaded = {name: module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "certlip"}
print(json.dumps([loaded, [name for name in ("torch", "cvxpy", "pandas") if name in sys.modules]]))
"""


def test_to_verify_a_certificate_loads_a_small_kernel(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    first, last = (Dense(name, rng.standard_normal((4, 4)), np.zeros(4)) for name in ("a", "c"))
    residual = Sum("d", (np.array(1.0), np.array(1.0)), np.array(0.0))
    network = Network((first, Activation("b", "relu"), last, residual), (4,), ((0,), (1,), (2,), (3, 0)))
    record = certlip.bound(network, method="lipsdp")
    assert record.certificate.rewritten
    record.certificate.save(tmp_path / "certificate.npz")
    command = [sys.executable, "-c", CODE, str(tmp_path / "certificate.npz")]
    files, heavy = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert heavy == []
    assert not [name for name in files if name.split(".")[1:2] in (["sdp"], ["methods"], ["solving"], ["pytorch"])]
    lengths = [len(Path(file).read_text().splitlines()) for file in files.values()]
    assert sum(length > 1 for length in lengths) <= MAX_MODULES
    assert sum(lengths) <= MAX_LINES
