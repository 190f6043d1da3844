"""Solve one part of a plan's semidefinite programs."""

from certlip.blocks import save_solved, solve_blocks
from certlip.network import Network
from certlip.partition.plan import Plan
from certlip.workflow import job, limits_of, settings_of

with job(snakemake):
    item, count = map(int, snakemake.wildcards.part.split("-of-"))
    plan = Plan.load(snakemake.input.plan)
    jobs = plan.jobs[item - 1 :: count]
    if jobs:
        network = Network.load(snakemake.input.network)
        cache = settings_of(snakemake).cache_folder
        common = {"limit": limits_of(snakemake), "n_jobs": snakemake.threads, "cache": cache}
        save_solved(snakemake.output[0], network, plan, solve_blocks(network, plan, jobs, **common))
    else:
        save_solved(snakemake.output[0], None, plan, [])
