"""Solve all semidefinite programs of a plan, and merge their bounds into the bound of the network."""

import importlib

from certlip.solving.blocks import merge_files, solve_files
from certlip.solving.evaluate import record_of, save_result
from certlip.workflow import job, limits_of, settings_of

with job(snakemake):
    inputs, output, params, names = snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards
    how = {"limit": limits_of(snakemake), "n_jobs": snakemake.threads, "cache": settings_of(snakemake).cache_folder}
    solve_files(inputs.network, inputs.plan, 1, 1, output.blocks, **how)
    record = record_of(
        names.network,
        names.method,
        importlib.import_module(params.plugin),
        params.options,
        limits_of(snakemake).threads,
        lambda: merge_files(inputs.network, inputs.plan, [output.blocks]),
    )
    save_result(record, output.bound, output.certificate)
