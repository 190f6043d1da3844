"""Fetch trained weights, verify their checksum, and check that they fit the network; or write why there are none."""

from pathlib import Path

from certlip.base.errors import NoData
from certlip.base.waiting import save_attempt
from certlip.config import Network
from certlip.pytorch.weights import fetch_weights, in_order, load_into, load_weights, save_refusal, save_weights
from certlip.untrained import build
from certlip.workflow import BROKEN, job, settings_of

with job(snakemake):
    entry = Network.model_validate(snakemake.params.entry)
    output, missing = snakemake.output, None
    file = Path(settings_of(snakemake).data_folder) / entry.weights.place
    try:
        module = build(entry)
        fetch_weights(entry.weights.url, entry.weights.sha256, file)
        weights = load_weights(file, entry.weights.key)
        load_into(module, in_order(module, weights) if entry.weights.in_order else weights)
    except BROKEN as error:
        missing = error if isinstance(error, NoData) else NoData(str(error), [str(file)])
        save_refusal(output.weights, missing.refusal)
    else:
        save_weights(output.weights, module.state_dict())
    save_attempt(snakemake.params.attempts, snakemake.params.attempt, missing)
