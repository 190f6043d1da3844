# Predictions certified by constants of margins, beside an attack that all methods share.


rule attack_images:
    input:
        network="results/networks/{network}.npz",
        images=lambda w: images_of(w.network)[0],
    output:
        "results/attacks/{network}.npz",
    log:
        "logs/attack_images/{network}.log",
    wildcard_constraints:
        network=one_of(CONFIG.radii),
    conda:
        "../../environment.yml"
    threads: CONFIG.limits.threads
    params:
        entry=network_entry,
        radii=lambda w: CONFIG.radii[w.network],
        unit=lambda w: CONFIG.networks[w.network].unit,
        n_images=lambda w: CONFIG.certified_accuracy.images,
        effort=lambda w: CONFIG.certified_accuracy.attack.model_dump(),
        code=code_of(
            "attack_images",
            "certlip.certify.accuracies",
            "certlip.certify.images",
            "certlip.workflow",
        ),
    script:
        "../scripts/attack_images.py"


rule certify_images:
    input:
        network="results/networks/{network}.npz",
        images=lambda w: images_of(w.network)[0],
        attack="results/attacks/{network}.npz",
    output:
        accuracy="results/accuracies/{network}/{method}.json",
        certificates=directory("results/margins/{network}/{method}"),
    log:
        "logs/certify_images/{network}/{method}.log",
    wildcard_constraints:
        network=one_of(CONFIG.radii),
        method=one_of(CONFIG.margin_methods),
    conda:
        "../../environment.yml"
    threads: CONFIG.limits.threads
    resources:
        mem_mb=lambda w: request_mb(1, times_more("certify_images", *w)),
        runtime=lambda w: request_certifying_minutes(
            w.method, times_more("certify_images", *w)
        ),
    params:
        entry=network_entry,
        plugin=lambda w: CONFIG.margin_plugin(w.method).__name__,
        options=lambda w: CONFIG.margin_methods[w.method].options,
        pairs=lambda w: CONFIG.margin_methods[w.method].pairs,
        budget=lambda w: CONFIG.certified_accuracy.budget,
        local_budget=lambda w: CONFIG.margin_methods[w.method].local_budget,
        radii=lambda w: CONFIG.radii[w.network],
        unit=lambda w: CONFIG.networks[w.network].unit,
        n_images=lambda w: CONFIG.certified_accuracy.images,
        seed=CONFIG.seed,
        code=lambda w: code_of(
            "certify_images",
            "certlip.certify.accuracies",
            "certlip.certify",
            "certlip.base.provenance",
            "certlip.workflow",
            CONFIG.margin_plugin(w.method).__name__,
            *SOLVERS,
        ),
    script:
        "../scripts/certify_images.py"


rule collect_accuracies:
    input:
        [f"results/accuracies/{n}/{m}.json" for n, m in CONFIG.accuracy_rows],
    output:
        "results/certified_accuracy.csv",
    log:
        "logs/collect_accuracies.log",
    conda:
        "../../environment.yml"
    params:
        reported={
            n: CONFIG.networks[n].reported.model_dump()
            for n in CONFIG.radii
            if CONFIG.networks[n].reported
        },
        code=code_of(
            "collect_accuracies", "certlip.benchmarks", "certlip.certify.accuracies"
        ),
    script:
        "../scripts/collect_accuracies.py"
