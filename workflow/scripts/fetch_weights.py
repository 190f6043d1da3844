"""Fetch trained weights, their checksum verified before a byte is read, and check that they fit the network."""

from certlip.config import Network
from certlip.weights import fetch_weights, load_into, load_weights, save_weights
from certlip.workflow import build, job

with job(snakemake):
    entry = Network.model_validate(snakemake.params.entry)
    download = f"{snakemake.output[0]}.download"
    fetch_weights(entry.weights.url, entry.weights.sha256, download)
    module = build(entry)
    load_into(module, load_weights(download, entry.weights.key))
    save_weights(snakemake.output[0], module.state_dict(), {})
