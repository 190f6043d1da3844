"""Write the random weights of a network's seed, or why there is no such network."""

from certlip.weights import save_refusal, save_weights
from certlip.workflow import BROKEN, build, job, refusal_of

with job(snakemake):
    try:
        weights = build(snakemake.params.entry).state_dict()
    except BROKEN as error:
        save_refusal(snakemake.output[0], refusal_of(error))
    else:
        save_weights(snakemake.output[0], weights)
