"""Measure what this machine solves within the limits."""

from certlip.base.limits import Limits
from certlip.solving.calibrate import calibrate
from certlip.workflow import job

with job(snakemake):
    calibrate(snakemake.wildcards.solver, Limits(**snakemake.params.limits)).save(snakemake.output[0])
