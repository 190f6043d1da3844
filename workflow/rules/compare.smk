# From here on nothing knows which method made a number.


rule collect_bounds:
    input:
        bounds=[f"results/bounds/{n}/{m}.json" for n, m in CONFIG.rows],
        trainings=expand("results/networks/{network}.training.json", network=TRAINED),
    output:
        "results/bounds.csv",
    log:
        "logs/collect_bounds.log",
    conda:
        "../../environment.yml"
    params:
        experiments={
            n: e.experiment.model_dump()
            for n, e in CONFIG.networks.items()
            if e.experiment
        },
        reported={
            n: e.reported.model_dump()
            for n, e in CONFIG.networks.items()
            if e.reported
        },
        # trained weights are not those whose constant an architecture knows
        architectures=SEEDED,
        code=code_of(
            "collect_bounds",
            "certlip.collect",
            "certlip.zoo",
            *(f"certlip.zoo.{architecture}" for architecture, _ in SEEDED.values()),
        ),
    script:
        "../scripts/collect_bounds.py"


rule collect_predictions:
    input:
        plans=[f"results/plans/{n}/{m}.json" for n, m in PREDICTED],
        blocks=[file for n, m in PREDICTED for file in parts_of_plan(n, m)],
    output:
        "results/predictions.csv",
    log:
        "logs/collect_predictions.log",
    conda:
        "../../environment.yml"
    params:
        rows=PREDICTED,
        code=code_of(
            "collect_predictions",
            "certlip.benchmarks",
            "certlip.partition.plan",
            "certlip.predictions",
            "certlip.solving.solved_files",
        ),
    script:
        "../scripts/collect_predictions.py"


rule check_claims:
    output:
        "results/claims_of_others.csv",
    log:
        "logs/check_claims.log",
    conda:
        "../../environment.yml"
    params:
        folder=CLAIMS,
        # once a file of a source is there, its claim is checked
        files=lambda w: {path: waiting.contents(path) for path in claims.files(CLAIMS)},
        code=code_of(
            "check_claims",
            "certlip.benchmarks",
            "certlip.claims",
            *(f"certlip.claims.{name}" for name in claims.names()),
        ),
    script:
        "../scripts/check_claims.py"


rule check_bounds:
    input:
        table="results/bounds.csv",
        certificates=[f"results/certificates/{n}/{m}.npz" for n, m in CONFIG.rows],
        accuracies=list(accuracy_files()),
    output:
        "results/checks/soundness.json",
    log:
        "logs/check_bounds.log",
    conda:
        "../../environment.yml"
    threads: 8
    resources:
        # a proof holds less than half of what its program held
        mem_mb=lambda w, threads: request_mb(threads, times_more("check_bounds")) // 2,
    params:
        rows=CONFIG.rows,
        networks={n: entry_of(n) for n in CONFIG.networks},
        accuracies=expected_accuracies(),
        code=code_of("check_bounds", "certlip.completeness"),
    script:
        "../scripts/check_bounds.py"


rule write_table:
    input:
        rows=lambda w: rows_of(tables, w.table),
        checked=lambda w: checks_of(tables, w.table),
    output:
        csv="results/tables/{table}.csv",
        md="results/tables/{table}.md",
        tex="results/tables/{table}.tex",
        html=report(
            "results/tables/{table}.html",
            caption="../report/table.rst",
            category="Tables",
        ),
    log:
        "logs/write_table/{table}.log",
    conda:
        "../../environment.yml"
    params:
        caption=lambda w: tables.load(w.table).INFO.caption,
        code=lambda w: code_of(
            "write_table",
            "certlip.collect",
            "certlip.tables",
            f"certlip.tables.{w.table}",
        ),
    script:
        "../scripts/write_table.py"


rule draw_figure:
    input:
        rows=lambda w: rows_of(figures, w.figure),
        checked=lambda w: checks_of(figures, w.figure),
    output:
        pdf="results/figures/{figure}.pdf",
        png="results/figures/{figure}.png",
        svg=report(
            "results/figures/{figure}.svg",
            caption="../report/figure.rst",
            category="Figures",
        ),
    log:
        "logs/draw_figure/{figure}.log",
    conda:
        "../../environment.yml"
    params:
        caption=lambda w: figures.load(w.figure).INFO.caption,
        code=lambda w: code_of(
            "draw_figure",
            "certlip.collect",
            "certlip.figures",
            f"certlip.figures.{w.figure}",
        ),
    script:
        "../scripts/draw_figure.py"
