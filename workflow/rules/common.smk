# The typed configuration, and what several rules ask of it. Executed again in each job: cheap imports only.

import json
import math
import os
import re
import subprocess
import sys

from snakemake.exceptions import WorkflowError

from certlip import claims, figures, layer_norms, tables
from certlip.base import limits, waiting
from certlip.base.attempts import n_cut_short
from certlip.base.errors import CertlipError
from certlip.base.provenance import fingerprint
from certlip.base.timing import HEAD
from certlip.base.yaml_files import read_mapping
from certlip.collect import COMPARED, rows_file
from certlip.config import resolve
from certlip.methods import is_portfolio, needs_calibration
from certlip.partition.plan import Plan
from certlip.partition.predict import MOST_SIDE_BY_SIDE, side_by_side, wall_seconds
from certlip.sdp import solvers

os.environ[HEAD] = str(os.getpid())

try:
    for file in workflow.configfiles:
        read_mapping(
            file
        )  # snakemake, which has read it, forgets the first of two equal keys
    CONFIG = resolve(config, os.path.dirname(SOURCE))
except CertlipError as error:
    sys.exit(f"certlip: {error}")

PLANNED = CONFIG.planned()
SPREAD = [name for name in PLANNED if CONFIG.methods[name].parts > 1]
BOUND = [name for name in CONFIG.methods if name not in PLANNED]
TRAINED = [name for name, entry in CONFIG.networks.items() if entry.train]
FETCHED = [name for name, entry in CONFIG.networks.items() if entry.weights]
SEEDED = {
    name: (entry.architecture, entry.options)
    for name, entry in CONFIG.networks.items()
    if entry.architecture and not (entry.train or entry.weights)
}

SOLVERS = [f"certlip.sdp.solvers.{name}" for name in solvers.names()]
BENCHMARKED = [
    *SOLVERS,
    *(f"certlip.layer_norms.{name}" for name in layer_norms.names()),
]


CLAIMS = os.path.join(CONFIG.data_folder, claims.FOLDER)
"""Where files of what others claim are looked for."""

SCRIPTS = f"{workflow.current_basedir}/../scripts"


def code_of(rule, *modules):
    """Fingerprint of a rule's script, and of these modules with all that they import.

    A param, since a fingerprint is the same after a checkout that changes nothing, and a file's time is not.
    """
    return fingerprint(f"{SCRIPTS}/{rule}.py", *modules)


def require_writable(folder):
    """Without this Snakemake ends in a trace when it clears the way for a job's files."""
    if os.path.exists(folder) and not os.access(folder, os.W_OK):
        raise WorkflowError(
            f"certlip: {folder}/ cannot be written to; run in a copy of this folder"
        )


def require_accounting():
    """Where SLURM keeps no accounts the executor would ask sacct for the state of its jobs for ever."""
    settings = workflow.executor_settings
    if getattr(settings, "status_command", None) != "sacct":
        return
    asked = subprocess.run(["sacct", "-X", "-n"], capture_output=True, text=True)
    if asked.returncode:
        raise WorkflowError(
            f"certlip: sacct, which should say how jobs ended, fails here ({asked.stderr.strip()}); set "
            "slurm-status-command: squeue in the profile"
        )


def lift_default_rate():
    """Let as many jobs start in a second as may, unless another limit was asked for.

    Snakemake's default of 100 starts a timer with each finished job, and each timer has all that is ready weighed again
    every second until the end: half of a core after a thousand jobs (snakemake/snakemake#3804).
    """
    limiter = workflow.scheduler.job_rate_limiter
    if limiter and (limiter.max_jobs, limiter.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None


def one_of(names):
    """A wildcard constraint that matches these names, or nothing."""
    return "|".join(map(re.escape, names)) or "(?!)"


def entry_of(network):
    """What makes a network, as plain values: a change of it runs its rules again."""
    return CONFIG.networks[network].model_dump(
        mode="json", exclude={"experiment", "dataset", "reported"}, exclude_none=True
    )


def network_entry(wildcards):
    return entry_of(wildcards.network)


def plugin_name(wildcards):
    """Import path of a method's module."""
    return CONFIG.plugin(wildcards.method).__name__


def images_of(network):
    """The data set file of a network, as a list of one or none."""
    images = CONFIG.networks[network].images
    return [f"results/datasets/{images}.npz"] if images else []


# What a cluster is asked for: the limits, what a process holds before it works, and more each time a job ran out of it.
GENEROSITY = 4  # predictions come from random weights, trained ones have taken up to twice as long


def times_more(*names):
    """How many times as much the job with these names in its log asks for as it did at first."""
    return 1 + n_cut_short(f"logs/{'/'.join(names)}.log")


def request_mb(n_processes, more=1):
    """Memory of a job whose processes keep the memory limit."""
    return more * n_processes * (int(CONFIG.limits.max_memory_mb) + 500)


def request_minutes(n_rounds, more=1):
    """Wall time of a job that works to the time limit this many times, one after the other."""
    seconds = math.ceil(n_rounds) * (CONFIG.limits.max_seconds + limits.ENDING_SECONDS)
    return more * math.ceil(seconds / 60 + 2)


def request_certifying_minutes(method, more=1):
    """Wall time of all constants of a network's margins by one method."""
    section, entry = CONFIG.certified_accuracy, CONFIG.margin_methods[method]
    return request_minutes(1, more) + more * math.ceil(
        (section.budget + entry.local_budget) / 60
    )


def expected_accuracies():
    """What a folder of results has to say of certified accuracy: `certlip.certify.proving.Expected`."""
    return {
        "rows": CONFIG.accuracy_rows,
        "datasets": {n: CONFIG.networks[n].images for n in CONFIG.radii},
        "radii": CONFIG.radii,
        "n_images": CONFIG.certified_accuracy.images if CONFIG.radii else 0,
        "networks": {n: entry_of(n) for n in CONFIG.radii},
    }


def accuracy_files():
    """All that certified accuracy rests on, if it is asked for."""
    for network in CONFIG.radii:
        yield f"results/attacks/{network}.npz"
    for network, method in CONFIG.accuracy_rows:
        yield f"results/accuracies/{network}/{method}.json"
        yield f"results/margins/{network}/{method}"
    if CONFIG.radii:
        yield "results/certified_accuracy.csv"


def parts_of_plan(network, method):
    """The files that the solved programs of a plan are spread over: as many as its method's entry says."""
    count = CONFIG.methods[method].parts
    folder = f"results/blocks/{network}/{method}"
    return [f"{folder}/{item}-of-{count}.npz" for item in range(1, count + 1)]


def jobs_of_plan(plan, part):
    """The orders of the jobs of a part of a plan, and what they are predicted to take where the plan says.

    While the plan is missing snakemake leaves open what is asked by it.
    """
    with open(plan) as file:
        planned = Plan.model_validate_json(file.read())
    item, count = map(int, part.split("-of-"))
    predicted = planned.prediction.jobs if planned.prediction else ()
    orders = [sum(planned.orders(job)) for job in planned.jobs]
    return orders[item - 1 :: count], predicted[item - 1 :: count]


def n_jobs_of_plan(plan, part):
    """How many jobs of a part are done side by side, at most eight.

    Unlike other resources this cannot be left open while the plan is missing: then it is the most there may be.
    """
    if not os.path.exists(plan):
        return MOST_SIDE_BY_SIDE
    return min(MOST_SIDE_BY_SIDE, side_by_side(jobs_of_plan(plan, part)[0]))


def request_minutes_of_plan(plan, part, threads, more):
    """Wall time of a part: several times what its plan predicts, if it does, at most what the limits allow."""
    orders, predicted = jobs_of_plan(plan, part)
    allowed = request_minutes(len(orders) / threads, more)
    if not predicted:
        return allowed
    seconds = [job.seconds + limits.ENDING_SECONDS for job in predicted]
    longest = wall_seconds(sum(seconds), max(seconds), threads)
    return min(allowed, more * math.ceil(GENEROSITY * longest / 60 + 2))


def threads_asked():
    """Threads that jobs ask for, by rule, and by the file of a part of a plan; they are given at most those there are."""
    asked = {rule.name: rule.resources["_cores"].raw for rule in workflow.rules}
    for network, method in CONFIG.rows:
        for file in parts_of_plan(network, method) if method in PLANNED else []:
            part = os.path.basename(file).removesuffix(".npz")
            plan = f"results/plans/{network}/{method}.json"
            asked[file] = n_jobs_of_plan(plan, part)
    return {key: threads for key, threads in asked.items() if threads}


def calibration_of(method):
    """What a method's plan needs to know of this machine, as a list of one file or none."""
    plugin, options = CONFIG.plugin(method), CONFIG.options(method)
    if not needs_calibration(plugin, options):
        return []
    return [f"results/calibration/{options['solver']}.json"]


def made_by(method):
    """Modules, besides its own, that decide the bound of a method in one job."""
    is_of_others = is_portfolio(CONFIG.plugin(method))
    yield f"certlip.solving.{'portfolio' if is_of_others else 'evaluate'}"
    yield from SOLVERS if "solver" in CONFIG.options(method) else []


PREDICTED = [(n, m) for n, m in CONFIG.rows if m in PLANNED and calibration_of(m)]
"""Rows whose plan predicts what it takes."""


def rows_of(plugins, name):
    """The rows a table or figure is made from: the comparison, predictions, or a benchmark."""
    return f"results/{rows_file(plugins.load(name).INFO.source)}"


def is_benchmark(plugins, name):
    """Whether a table or figure is of a benchmark, and not of the comparison."""
    return plugins.load(name).INFO.source not in COMPARED


def checks_of(plugins, name):
    """What must hold before a table or figure is made: a benchmark shows no bound of the comparison."""
    return [] if is_benchmark(plugins, name) else "results/checks/soundness.json"


def shown_files(benchmarks):
    """Tables and figures of the benchmarks, or all others, with the rows they are made from."""
    for plugins, folder, names, formats in (
        (tables, "tables", CONFIG.tables, (".csv", ".html", ".md", ".tex")),
        (figures, "figures", CONFIG.figures, (".pdf", ".svg", ".png")),
    ):
        for name in names:
            if is_benchmark(plugins, name) == benchmarks:
                yield rows_of(plugins, name)
                yield from multiext(f"results/{folder}/{name}", *formats)


def comparison_files():
    """The comparison and all that it rests on: what is missing is made again, though what is made of it is there."""
    for network in CONFIG.networks:
        yield from images_of(network)
        yield from multiext(f"results/networks/{network}", ".pt", ".npz")
        if network in TRAINED:
            yield f"results/networks/{network}.training.json"
    for network, method in CONFIG.rows:
        yield f"results/bounds/{network}/{method}.json"
        yield f"results/certificates/{network}/{method}.npz"
        yield from calibration_of(method)
        if method in PLANNED:
            yield f"results/plans/{network}/{method}.json"
            yield from parts_of_plan(network, method)
    yield from accuracy_files()
    yield "results/bounds.csv"
    yield "results/checks/soundness.json"
    yield from shown_files(benchmarks=False)


def missing_sentences():
    """One sentence a reason for which networks or data are missing, with the networks whose rows say so."""
    networks = {}
    records = [f"results/bounds/{n}/{m}.json" for n, m in CONFIG.rows]
    records += [f"results/accuracies/{n}/{m}.json" for n, m in CONFIG.accuracy_rows]
    for path in records:
        if os.path.exists(path):
            with open(path) as file:
                record = json.load(file)
            if record["status"] == "no_data":
                networks.setdefault(record["reason"], {})[record["network"]] = None
    return [f"certlip: no_data for {', '.join(n)}: {r}" for r, n in networks.items()]


wildcard_constraints:
    part=r"\d+-of-\d+",
    network=one_of(CONFIG.networks),
    dataset=one_of(CONFIG.datasets),
    method=one_of([*CONFIG.methods, *CONFIG.margin_methods]),
    benchmark=one_of(CONFIG.benchmarks),
    table=one_of(CONFIG.tables),
    figure=one_of(CONFIG.figures),
    solver=one_of(["auto", *solvers.names()]),
