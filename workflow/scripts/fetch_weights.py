"""Fetch trained weights, verify their checksum, and check that they fit the network; or write what it waits for."""

from pathlib import Path

from certlip.config import Network
from certlip.errors import NoData
from certlip.waiting import save_attempt
from certlip.weights import fetch_weights, load_into, load_weights, save_refusal, save_weights
from certlip.workflow import build, job

with job(snakemake):
    entry = Network.model_validate(snakemake.params.entry)
    module, output, missing = build(entry), snakemake.output, None
    file = Path(snakemake.params.folder) / "weights" / Path(entry.weights.url).name
    try:
        fetch_weights(entry.weights.url, entry.weights.sha256, file)
    except NoData as refusal:
        missing = refusal
        save_refusal(output.weights, refusal)
    else:
        load_into(module, load_weights(file, entry.weights.key))
        save_weights(output.weights, module.state_dict())
    save_attempt(snakemake.params.attempts, snakemake.params.attempt, missing)
