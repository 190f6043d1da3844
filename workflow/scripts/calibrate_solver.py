"""Measure what this machine solves within the limits."""

from certlip.calibrate import calibrate
from certlip.limits import Limits
from certlip.workflow import job

with job(snakemake):
    calibrate(snakemake.wildcards.solver, Limits(**snakemake.params.limits)).save(snakemake.output[0])
