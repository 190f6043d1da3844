"""Export a torch module to NumPy; one that cannot be represented or has no weights is written down with why."""

from certlip.export import export_network
from certlip.files import write_refusal
from certlip.workflow import BROKEN, job, load_module, refusal_of

with job(snakemake):
    entry = snakemake.params.entry
    try:
        network = export_network(*load_module(entry, snakemake.input[0]))
    except BROKEN as error:
        write_refusal(snakemake.output[0], refusal_of(error))
    else:
        network.save(snakemake.output[0])
