"""Solve one scatter item of a plan's semidefinite programs."""

from certlip.blocks import save_solved, solve_blocks
from certlip.limits import Limits
from certlip.network import Network
from certlip.partition.plan import Plan
from certlip.workflow import job

with job(snakemake):
    item, count = map(int, snakemake.wildcards.scatteritem.split("-of-"))
    plan, params = Plan.load(snakemake.input.plan), snakemake.params
    jobs = plan.jobs[item - 1 :: count]
    if jobs:
        network = Network.load(snakemake.input.network)
        options = {"limit": Limits(**params.limits), "n_jobs": snakemake.threads, "cache": params.cache}
        save_solved(snakemake.output[0], network, plan, solve_blocks(network, plan, jobs, **options))
    else:
        save_solved(snakemake.output[0], None, plan, [])
