"""Draw one figure of the comparison in every format the rule asks for."""

from certlip import figures
from certlip.collect import read_rows
from certlip.workflow import job

with job(snakemake):
    figures.save(snakemake.wildcards.figure, read_rows(snakemake.input.rows), snakemake.output)
