"""Fetch a data set and write it as arrays with their checksum."""

from certlip import datasets
from certlip.workflow import job

with job(snakemake):
    entry = snakemake.params.entry
    dataset = datasets.fetch(entry["dataset"], snakemake.params.folder, **entry["options"])
    dataset.save(snakemake.output[0])
