"""Simulate the run that made the comparison on other numbers of cores."""

from certlip.base.timing import load_timings
from certlip.benchmarks import save
from certlip.schedule import head_seconds_of, jobs_of, simulate
from certlip.workflow import job

with job(snakemake):
    timings = list(load_timings("logs"))
    jobs = jobs_of(timings, snakemake.input, snakemake.params.threads)
    save(simulate(jobs, head_seconds_of(timings)), snakemake.output[0])
