"""Fetch trained weights, verify their checksum, and check that they fit the network; or write why there are none."""

from pathlib import Path

from certlip.base.errors import NoData
from certlip.base.waiting import save_attempt
from certlip.config import Network
from certlip.pytorch.weights import fetch_weights, load_into, load_weights, save_refusal, save_weights
from certlip.untrained import build
from certlip.workflow import BROKEN, job, settings_of

with job(snakemake):
    entry = Network.model_validate(snakemake.params.entry)
    output, missing = snakemake.output, None
    file = Path(settings_of(snakemake).data_folder) / "weights" / Path(entry.weights.url).name
    try:
        module = build(entry)
        fetch_weights(entry.weights.url, entry.weights.sha256, file)
        load_into(module, load_weights(file, entry.weights.key))
    except BROKEN as error:
        missing = error if isinstance(error, NoData) else NoData(str(error), [str(file)])
        save_refusal(output.weights, missing.refusal)
    else:
        save_weights(output.weights, module.state_dict())
    save_attempt(snakemake.params.attempts, snakemake.params.attempt, missing)
