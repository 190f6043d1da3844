"""Train a network, seeded, and write its weights and how the training went; or why there are none."""

import json

from certlip.base.files import write_atomically
from certlip.config import Network
from certlip.datasets import Dataset
from certlip.pytorch.train import train
from certlip.pytorch.weights import save_refusal, save_weights
from certlip.untrained import build
from certlip.workflow import BROKEN, job, refusal_of

with job(snakemake):
    entry = Network.model_validate(snakemake.params.entry)
    options = entry.train.model_dump(exclude={"dataset"})
    try:
        result = train(build(entry), Dataset.load(snakemake.input[0]), seed=entry.seed, **options)
    except BROKEN as error:
        save_refusal(snakemake.output.weights, refusal_of(error))
        facts = {}
    else:
        save_weights(snakemake.output.weights, result.state_dict)
        facts = result.facts
    with write_atomically(snakemake.output.training, "w") as handle:
        json.dump(facts, handle, indent=1)
