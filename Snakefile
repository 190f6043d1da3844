# certlip: certified l2 Lipschitz bounds of CNNs, from data to report.
#   snakemake --cores all                                       the paper (config/config.yaml)
#   snakemake --cores all --configfile config/quick.yaml        minutes, no network, no licence
#   snakemake --cores all benchmarks                             benchmarks, each alone on the machine, and the schedule
#   snakemake --cores all verify                                 proves the results that lie there, and makes none

import os
import sys

from snakemake.utils import min_version

min_version("9.0")


# The package in this checkout, for this file and, with any environment, for the scripts of its jobs.
SOURCE = os.path.join(str(workflow.current_basedir), "src")
SEARCHED = "PYTHONPATH"
sys.path.insert(0, SOURCE)
os.environ[SEARCHED] = os.pathsep.join(
    [SOURCE, *filter(None, [os.environ.get(SEARCHED)])]
)

if "networks" not in config:

    configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"


rule all:
    default_target: True
    input:
        list(comparison_files()),
    message:
        "Every row, table and figure of the comparison is there."


# Apart from the comparison: what is measured runs alone, and would keep all other cores waiting.
rule benchmarks:
    input:
        list(shown_files(benchmarks=True)),
    message:
        "Every table and figure of a benchmark is there."


onstart:
    require_writable("results")
    require_accounting()
    lift_default_rate()


onsuccess:
    for sentence in missing_sentences():
        print(sentence, file=sys.stderr)


# Seconds each, and a node of a cluster may not reach the network: these run where snakemake does.
localrules:
    fetch_dataset,
    fetch_weights,
    plan_blocks,
    collect_bounds,
    collect_predictions,
    collect_accuracies,
    write_table,
    draw_figure,
    simulate_schedule,
    verify,


include: "workflow/rules/networks.smk"
include: "workflow/rules/blocks.smk"
include: "workflow/rules/methods.smk"
include: "workflow/rules/accuracy.smk"
include: "workflow/rules/compare.smk"
include: "workflow/rules/benchmark.smk"
include: "workflow/rules/verify.smk"
