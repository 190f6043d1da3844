"""Export a torch module to NumPy; one that cannot be represented is written down with the reason."""

from certlip.errors import UnsupportedLayer
from certlip.export import export_network
from certlip.network import save_refusal
from certlip.workflow import input_shape, job, load_module

with job(snakemake):
    entry = snakemake.params.entry
    module = load_module(entry, snakemake.input[0])
    try:
        export_network(module, input_shape(entry)).save(snakemake.output[0])
    except UnsupportedLayer as refusal:
        save_refusal(snakemake.output[0], str(refusal))
