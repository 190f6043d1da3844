"""Export a torch module to NumPy; one that cannot be represented or has no weights is written down with why."""

from certlip.exported import save_exported
from certlip.workflow import job

with job(snakemake):
    save_exported(snakemake.output[0], snakemake.params.entry, snakemake.input[0])
