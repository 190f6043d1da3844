"""Bound one network with one method that is a single piece of work."""

import importlib

from certlip.evaluate import Subject, evaluate, record_of, save_result
from certlip.limits import Limits
from certlip.network import Network
from certlip.workflow import input_shape, job, load_images, load_module

with job(snakemake):
    inputs, params, names = snakemake.input, snakemake.params, snakemake.wildcards
    plugin, limit = importlib.import_module(params.plugin), Limits(**params.limits)
    subject = Subject(
        names.network,
        input_shape(params.entry),
        lambda: Network.load(inputs.network),
        lambda: load_module(params.entry, inputs.weights),
    )
    record = record_of(
        names.network,
        names.method,
        plugin,
        params.options,
        limit.threads,
        lambda: evaluate(
            subject, plugin, params.options, limit, load_images(inputs.images, subject.input_shape), params.seed
        ),
    )
    save_result(record, snakemake.output.bound, snakemake.output.certificate)
