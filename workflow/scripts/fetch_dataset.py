"""Fetch a data set and write it as arrays with their checksum; or why there is none."""

from certlip import datasets
from certlip.base.errors import NoData
from certlip.base.files import write_refusal
from certlip.base.waiting import save_attempt
from certlip.workflow import BROKEN, job, settings_of

with job(snakemake):
    entry, output, missing = snakemake.params.entry, snakemake.output, None
    try:
        datasets.fetch(entry["dataset"], settings_of(snakemake).data_folder, **entry["options"]).save(output.arrays)
    except BROKEN as error:
        missing = error if isinstance(error, NoData) else NoData(str(error))
        write_refusal(output.arrays, missing.refusal)
    save_attempt(snakemake.params.attempts, snakemake.params.attempt, missing)
