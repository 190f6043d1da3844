"""Collect all records of certified accuracy into one table, a row a network, method and radius."""

from certlip.benchmarks import save
from certlip.certify.accuracies import Accuracy, collect
from certlip.workflow import job

with job(snakemake):
    save(collect(map(Accuracy.load, snakemake.input), snakemake.params.reported), snakemake.output[0])
