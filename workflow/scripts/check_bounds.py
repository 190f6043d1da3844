"""Fail the run unless each row is there and proved again from its file, and none lies on the wrong side."""

import json
from pathlib import Path

from certlip.base.files import write_atomically
from certlip.completeness import prove
from certlip.workflow import job

with job(snakemake):
    params = snakemake.params
    counts = prove(
        Path(snakemake.input.table).parent, params.rows, params.networks, snakemake.threads, params.accuracies
    )
    with write_atomically(snakemake.output[0], "w") as handle:
        json.dump({"sound": True, **counts}, handle, indent=1)
