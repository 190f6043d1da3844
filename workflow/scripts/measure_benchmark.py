"""Run one benchmark and write its rows."""

from certlip import benchmarks
from certlip.workflow import job

with job(snakemake):
    options = dict(snakemake.params.options)
    if "networks" in options:
        options["networks"] = list(snakemake.input)
    benchmarks.save(benchmarks.run(snakemake.wildcards.benchmark, options), snakemake.output[0])
