"""Check what others publish as bounds against what is proved here."""

from certlip.benchmarks import save
from certlip.claims import check
from certlip.workflow import job

with job(snakemake):
    save(check(snakemake.params.folder), snakemake.output[0])
