"""Fetch trained weights, their checksum verified before a byte is read, and check that they fit the network."""

from pathlib import Path
from tempfile import TemporaryDirectory

from certlip.config import Network
from certlip.weights import fetch_weights, load_into, load_weights, save_weights
from certlip.workflow import build, job

with job(snakemake):
    entry = Network.model_validate(snakemake.params.entry)
    module = build(entry)
    with TemporaryDirectory() as folder:
        download = Path(folder) / Path(entry.weights.url).name
        fetch_weights(entry.weights.url, entry.weights.sha256, download)
        load_into(module, load_weights(download, entry.weights.key))
    save_weights(snakemake.output[0], module.state_dict(), {})
