"""Fail the run if a certified value lies below the lower bound of its network."""

import json

from certlip.collect import check, read
from certlip.errors import DataError
from certlip.files import write_atomically
from certlip.workflow import job

with job(snakemake):
    bounds = read(snakemake.input[0])
    if complaints := check(bounds):
        raise DataError("not sound: " + "; ".join(complaints))
    with write_atomically(snakemake.output[0], "w") as handle:
        json.dump({"sound": True, "rows": len(bounds), "certified": int((bounds["kind"] == "certified").sum())}, handle)
