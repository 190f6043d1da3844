"""Bound one network with one method that is a single job."""

import importlib
from functools import partial

from certlip.entries import load_images, load_module
from certlip.methods import is_portfolio
from certlip.network import Network
from certlip.solving.evaluate import Subject, evaluate, record_of, save_result
from certlip.workflow import job, limits_of, settings_of


def best_of_others():
    """The bound of a portfolio: its imports are for those that take one."""
    from certlip.partition.calibration import Calibration
    from certlip.solving.outcome import Means
    from certlip.solving.portfolio import bound_of

    measured = Calibration.load(inputs.calibration[0])
    cache = settings_of(snakemake).cache_folder
    return bound_of(subject, plugin, params.options, Means(limit, params.seed, 1, cache, lambda solver: measured))


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
        best_of_others
        if is_portfolio(plugin)
        else lambda: evaluate(subject, plugin, params.options, limit, params.seed),
    )
    save_result(record, snakemake.output.bound, snakemake.output.certificate)
