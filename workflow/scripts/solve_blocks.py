"""Solve one part of a plan's semidefinite programs."""

from certlip.solving.blocks import solve_files
from certlip.workflow import job, limits_of, settings_of

with job(snakemake):
    inputs, item, count = snakemake.input, *map(int, snakemake.wildcards.part.split("-of-"))
    how = {"limit": limits_of(snakemake), "n_jobs": snakemake.threads, "cache": settings_of(snakemake).cache_folder}
    solve_files(inputs.network, inputs.plan, item, count, snakemake.output[0], **how)
