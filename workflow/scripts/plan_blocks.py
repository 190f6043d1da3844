"""Plan the semidefinite programs of a method: shapes only."""

import importlib

from certlip.blocks import make_plan
from certlip.network import Network
from certlip.workflow import job

with job(snakemake):
    method = importlib.import_module(snakemake.params.plugin)
    plan = make_plan(lambda: Network.load(snakemake.input[0]), method, snakemake.params.options)
    plan.save(snakemake.output[0])
