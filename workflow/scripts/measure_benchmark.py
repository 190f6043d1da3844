"""Run one benchmark and write its rows."""

from certlip import benchmarks
from certlip.workflow import job

with job(snakemake):
    benchmarks.save(benchmarks.run(snakemake.wildcards.benchmark, snakemake.params.options), snakemake.output[0])
