"""Prove a folder of results again as it lies there, whoever made it."""

import json
import sys

from certlip.base.files import write_atomically
from certlip.completeness import prove
from certlip.workflow import job

with job(snakemake):
    params = snakemake.params
    counts = prove("results", params.rows, params.networks, snakemake.threads, params.accuracies)
    with write_atomically(params.proved, "w") as handle:
        json.dump({"verified": True, **counts}, handle, indent=1)
    print(f"certlip: verified {', '.join(f'{n} {what}' for what, n in counts.items())}", file=sys.__stdout__)
