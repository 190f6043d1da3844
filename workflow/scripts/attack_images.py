"""Look for points near images of a network that change its prediction; or write why there are none to look for."""

import time

import numpy as np

from certlip.base.files import write_refusal
from certlip.certify.accuracies import Attacked, in_units, sha256_of
from certlip.certify.attack import Effort, wrong_points
from certlip.certify.images import first_images
from certlip.network import Network
from certlip.workflow import BROKEN, job, refusal_of

with job(snakemake):
    inputs, params = snakemake.input, snakemake.params
    try:
        network = Network.load(inputs.network)
        images, labels = first_images(inputs.images, network, params.n_images, params.entry)
    except BROKEN as error:
        write_refusal(snakemake.output[0], refusal_of(error))
    else:
        begin, points = time.perf_counter(), np.full_like(images, np.nan)
        for radius in in_units(params.radii, params.unit):
            left = np.flatnonzero(np.isnan(points.reshape(len(points), -1)[:, 0]))
            if left.size:
                points[left] = wrong_points(network, images[left], labels[left], radius, Effort(**params.effort))
        places = np.flatnonzero(~np.isnan(points.reshape(len(points), -1)[:, 0]))
        seconds = time.perf_counter() - begin
        Attacked(places, points[places], sha256_of(images, labels), seconds).save(snakemake.output[0])
