"""Write one table of the comparison in every format the rule asks for."""

from certlip import collect, tables
from certlip.workflow import job

with job(snakemake):
    tables.write(snakemake.wildcards.table, collect.read(snakemake.input.bounds), snakemake.output)
