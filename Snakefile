# certlip: certified l2 Lipschitz bounds of CNNs, from data to report.
#   snakemake --cores all                                       the paper (config/config.yaml)
#   snakemake --cores all --configfile config/quick.yaml        minutes, no network, no licence

from snakemake.utils import min_version

min_version("9.0")


if "networks" not in config:

    configfile: "config/config.yaml"


scattergather:
    blocks=1,


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"


rule all:
    default_target: True
    input:
        "results/checks/soundness.json",
        expand(
            "results/tables/{table}.{format}",
            table=CONFIG.tables,
            format=["csv", "md", "tex"],
        ),
        expand(
            "results/figures/{figure}.{format}",
            figure=CONFIG.figures,
            format=["pdf", "svg", "png"],
        ),


include: "workflow/rules/networks.smk"
include: "workflow/rules/blocks.smk"
include: "workflow/rules/methods.smk"
include: "workflow/rules/compare.smk"
