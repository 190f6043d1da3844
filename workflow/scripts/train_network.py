"""Train a network, seeded, and write its weights and how the training went."""

import json

from certlip.config import Network
from certlip.datasets import Dataset
from certlip.files import write_atomically
from certlip.train import train
from certlip.weights import save_weights
from certlip.workflow import build, job

with job(snakemake):
    entry = Network.model_validate(snakemake.params.entry)
    module = build(entry)
    options = entry.train.model_dump(exclude={"dataset"})
    result = train(module, Dataset.load(snakemake.input[0]), seed=entry.seed, **options)
    save_weights(snakemake.output.weights, result.state_dict, result.facts)
    with write_atomically(snakemake.output.training, "w") as handle:
        json.dump(result.facts, handle, indent=1)
