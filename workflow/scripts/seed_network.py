"""Write the random weights of a network's seed."""

from certlip.weights import save_weights
from certlip.workflow import build, job

with job(snakemake):
    save_weights(snakemake.output[0], build(snakemake.params.entry).state_dict())
