"""Plan the semidefinite programs of a method: shapes only."""

import importlib

from certlip.network import Network
from certlip.partition.calibration import Calibration
from certlip.solving.blocks import make_plan
from certlip.workflow import job

with job(snakemake):
    inputs, params = snakemake.input, snakemake.params
    plan = make_plan(
        lambda: Network.load(inputs.network),
        importlib.import_module(params.plugin),
        params.options,
        lambda: Calibration.load(inputs.calibration[0]),
    )
    plan.save(snakemake.output[0])
