"""Collect what automatic plans predicted and what it came to, a row a program."""

from pathlib import Path

from certlip.benchmarks import save
from certlip.partition.plan import Plan
from certlip.predictions import collect
from certlip.solving.solved_files import load_solved
from certlip.workflow import job

with job(snakemake):
    rows, inputs = snakemake.params.rows, snakemake.input
    runs = []
    for number, (network, method) in enumerate(rows):
        files = [file for file in inputs.blocks if Path(file).parts[-3:-1] == (network, method)]
        solved = [block for file in files for block in load_solved(file)[2]]
        runs.append((network, method, Plan.load(inputs.plans[number]), solved))
    save(collect(runs), snakemake.output[0])
