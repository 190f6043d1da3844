# The typed configuration, and what several rules ask of it. Executed again in each job: cheap imports only.

from snakemake.exceptions import WorkflowError

from certlip import figures, tables
from certlip.config import resolve
from certlip.errors import CertlipError
from certlip.provenance import fingerprint
from certlip.sdp import solvers

try:
    CONFIG = resolve(config, workflow.basedir)
except CertlipError as error:
    raise WorkflowError(str(error)) from None

PLANNED = CONFIG.planned()
BOUND = [name for name in CONFIG.methods if name not in PLANNED]
TRAINED = [name for name, entry in CONFIG.networks.items() if entry.train]
FETCHED = [name for name, entry in CONFIG.networks.items() if entry.weights]


SOLVERS = [f"certlip.sdp.solvers.{name}" for name in solvers.names()]


def one_of(names):
    """A wildcard constraint that matches these names, or nothing."""
    return "|".join(names) or "(?!)"


def network_entry(wildcards):
    """What makes a network, as plain values: a change of it runs its rules again."""
    return CONFIG.networks[wildcards.network].model_dump(
        mode="json", exclude={"experiment", "dataset"}, exclude_none=True
    )


def plugin_name(wildcards):
    """Import path of a method's module."""
    return CONFIG.plugin(wildcards.method).__name__


def images_of(network):
    """The data set file of a network, as a list of one or none."""
    images = CONFIG.networks[network].images
    return [f"results/datasets/{images}.npz"] if images else []


wildcard_constraints:
    network=one_of(CONFIG.networks),
    dataset=one_of(CONFIG.datasets),
    method=one_of(CONFIG.methods),
    table=one_of(CONFIG.tables),
    figure=one_of(CONFIG.figures),
