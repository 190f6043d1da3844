"""Certify predictions of a network by constants of its margins, and write what proves them; or why there is nothing."""

from pathlib import Path

from certlip.base.errors import NoBound
from certlip.base.provenance import provenance
from certlip.certify import certified
from certlip.certify.accuracies import Accuracy, Attacked, in_units
from certlip.certify.images import first_images
from certlip.certify.margins import Constants
from certlip.network import Network
from certlip.workflow import BROKEN, job, limits_of, refusal_of

with job(snakemake):
    inputs, params, names, limit = snakemake.input, snakemake.params, snakemake.wildcards, limits_of(snakemake)
    folder = Path(snakemake.output.certificates)
    folder.mkdir(parents=True, exist_ok=True)
    own = {"pairs": params.pairs, "local_budget": params.local_budget, **params.options}
    common = {"network": names.network, "method": names.method, "options": own, "unit": params.unit}
    common |= provenance("certlip.certify", params.plugin)
    means = {"module": params.plugin, "seed": params.seed, **vars(limit)}
    try:
        network, attacked = Network.load(inputs.network), Attacked.load(inputs.attack)
        images, labels = first_images(inputs.images, network, params.n_images, params.entry)
    except BROKEN as error:
        record = Accuracy.refused(refusal_of(error), **common)
    else:
        constants = Constants(network, names.method, {**means, **params.options})
        wanted, nearest = in_units(params.radii, params.unit), attacked.nearest(images)
        how = {"local_budget": params.local_budget, "nearest": nearest, "pairs": params.pairs}
        try:
            found = certified(constants, images, labels, wanted, params.budget, **how)
        except NoBound as error:
            record = Accuracy.refused(error.refusal, **common)
        else:
            found.save_certificates(folder)
            record = Accuracy.of(found, attacked, weights_sha256=network.sha256, **common)
    record.save(snakemake.output.accuracy)
