"""Merge the bounds of a plan's blocks into the bound of the network."""

import importlib

from certlip.solving.blocks import merge_files
from certlip.solving.evaluate import record_of, save_result
from certlip.workflow import job, limits_of

with job(snakemake):
    inputs, params, names = snakemake.input, snakemake.params, snakemake.wildcards
    record = record_of(
        names.network,
        names.method,
        importlib.import_module(params.plugin),
        params.options,
        limits_of(snakemake).threads,
        lambda: merge_files(inputs.network, inputs.plan, inputs.blocks),
    )
    save_result(record, snakemake.output.bound, snakemake.output.certificate)
