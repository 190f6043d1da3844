"""Bound one network with one method that is a single piece of work."""

import importlib
from functools import partial

from certlip.network import Network
from certlip.solving.evaluate import Subject, evaluate, record_of, save_result
from certlip.workflow import job, limits_of, load_images, load_module

with job(snakemake):
    inputs, params, names = snakemake.input, snakemake.params, snakemake.wildcards
    plugin, limit = importlib.import_module(params.plugin), limits_of(snakemake)
    subject = Subject(
        partial(Network.load, inputs.network),
        partial(load_module, params.entry, inputs.weights),
        partial(load_images, inputs.images, params.entry),
    )
    record = record_of(
        names.network,
        names.method,
        plugin,
        params.options,
        limit.threads,
        lambda: evaluate(subject, plugin, params.options, limit, params.seed),
    )
    save_result(record, snakemake.output.bound, snakemake.output.certificate)
