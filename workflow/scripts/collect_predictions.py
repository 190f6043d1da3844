"""Collect what automatic plans predicted and what it came to, a row a program."""

from certlip.benchmarks import save
from certlip.blocks import load_solved
from certlip.partition.plan import Plan
from certlip.predictions import collect
from certlip.workflow import job

with job(snakemake):
    rows, inputs = snakemake.params.rows, snakemake.input
    n_items = len(inputs.blocks) // max(len(rows), 1)
    runs = []
    for number, (network, method) in enumerate(rows):
        files = inputs.blocks[number * n_items : (number + 1) * n_items]
        solved = [block for file in files for block in load_solved(file)[2]]
        runs.append((network, method, Plan.load(inputs.plans[number]), solved))
    save(collect(runs), snakemake.output[0])
