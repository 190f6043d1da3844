# Someone else's results. Nothing is an input, so that nothing is made again; nothing an output, so that it always runs.


rule verify:
    log:
        "logs/verify.log",
    conda:
        "../../environment.yml"
    # as many as there are
    threads: 1000
    params:
        rows=CONFIG.rows,
        networks={n: entry_of(n) for n in CONFIG.networks},
        accuracies=expected_accuracies(),
        proved="results/checks/verified.json",
        code=code_of("verify", "certlip.completeness"),
    script:
        "../scripts/verify.py"
