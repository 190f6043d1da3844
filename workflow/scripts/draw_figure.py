"""Draw one figure of the comparison in every format the rule asks for."""

from certlip import collect, figures
from certlip.workflow import job

with job(snakemake):
    figures.save(snakemake.wildcards.figure, collect.read(snakemake.input.bounds), snakemake.output)
