"""Write one table of the comparison in every format the rule asks for."""

from certlip import tables
from certlip.collect import read_rows
from certlip.workflow import job

with job(snakemake):
    tables.write(snakemake.wildcards.table, read_rows(snakemake.input.rows), snakemake.output)
