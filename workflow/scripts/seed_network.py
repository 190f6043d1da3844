"""Write the weights of a network's seed or file, or why there are none, and export them to NumPy."""

from certlip.entries import make_module
from certlip.exported import save_exported
from certlip.pytorch.weights import save_refusal, save_weights
from certlip.workflow import BROKEN, job, refusal_of

with job(snakemake):
    entry, output = snakemake.params.entry, snakemake.output
    try:
        weights = make_module(entry).state_dict()
    except BROKEN as error:
        save_refusal(output.weights, refusal_of(error))
    else:
        save_weights(output.weights, weights)
    save_exported(output.exported, entry, output.weights)
