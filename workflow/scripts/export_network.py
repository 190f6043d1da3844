"""Export a torch module to NumPy; one that cannot be represented or has no weights is written down with why."""

from certlip.errors import NoBound
from certlip.export import export_network
from certlip.files import write_refusal
from certlip.workflow import job, load_module

with job(snakemake):
    entry = snakemake.params.entry
    try:
        export_network(*load_module(entry, snakemake.input[0])).save(snakemake.output[0])
    except NoBound as refusal:
        write_refusal(snakemake.output[0], refusal)
