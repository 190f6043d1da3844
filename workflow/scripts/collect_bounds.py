"""Collect all records into one table, a row a network and method."""

import json
from pathlib import Path

from certlip import zoo
from certlip.base.errors import DamagedFile
from certlip.base.record import Record
from certlip.collect import collect, save
from certlip.workflow import job

with job(snakemake):
    facts = {name: {"experiment": e["name"], "x": e["x"]} for name, e in snakemake.params.experiments.items()}
    for name, reported in snakemake.params.reported.items():
        facts.setdefault(name, {})["reported"] = reported
    for name, (architecture, options) in snakemake.params.architectures.items():
        if (known := zoo.known_constant(architecture, **options)) is not None:
            facts.setdefault(name, {})["known_constant"] = known
    for path in map(Path, snakemake.input.trainings):
        try:
            accuracy = json.loads(path.read_text()).get("test_accuracy")
        except (ValueError, AttributeError, RecursionError) as error:
            raise DamagedFile(f"{path} does not say how the training went", path) from error
        facts.setdefault(path.name.removesuffix(".training.json"), {})["test_accuracy"] = accuracy
    save(collect(map(Record.load, snakemake.input.bounds), facts), snakemake.output[0])
