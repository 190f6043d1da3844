# Data sets, weights, and the export to NumPy: torch ends at results/networks/{network}.npz.


rule fetch_dataset:
    output:
        arrays="results/datasets/{dataset}.npz",
    log:
        "logs/fetch_dataset/{dataset}.log",
    conda:
        "../../environment.yml"
    params:
        entry=lambda w: CONFIG.datasets[w.dataset].model_dump(),
        # no output: snakemake deletes those before a job, and the count of attempts has to survive
        attempts="results/datasets/{dataset}.attempt.json",
        attempt=lambda w: waiting.attempt(f"results/datasets/{w.dataset}.attempt.json"),
        code=lambda w: code_of(
            "fetch_dataset",
            "certlip.datasets",
            "certlip.base.waiting",
            "certlip.workflow",
            f"certlip.datasets.{CONFIG.datasets[w.dataset].dataset}",
        ),
    script:
        "../scripts/fetch_dataset.py"


rule train_network:
    input:
        lambda w: images_of(w.network),
    output:
        weights="results/networks/{network}.pt",
        training="results/networks/{network}.training.json",
    log:
        "logs/train_network/{network}.log",
    wildcard_constraints:
        network=one_of(TRAINED),
    conda:
        "../../environment.yml"
    threads: CONFIG.limits.threads
    params:
        entry=network_entry,
        code=lambda w: code_of(
            "train_network",
            "certlip.untrained",
            "certlip.pytorch.train",
            "certlip.pytorch.weights",
            "certlip.workflow",
            CONFIG.networks[w.network].module_name,
        ),
    script:
        "../scripts/train_network.py"


rule fetch_weights:
    output:
        weights="results/networks/{network}.pt",
    log:
        "logs/fetch_weights/{network}.log",
    wildcard_constraints:
        network=one_of(FETCHED),
    conda:
        "../../environment.yml"
    params:
        entry=network_entry,
        attempts="results/networks/{network}.attempt.json",
        attempt=lambda w: waiting.attempt(f"results/networks/{w.network}.attempt.json"),
        code=lambda w: code_of(
            "fetch_weights",
            "certlip.base.waiting",
            "certlip.untrained",
            "certlip.pytorch.weights",
            "certlip.workflow",
            CONFIG.networks[w.network].module_name,
        ),
    script:
        "../scripts/fetch_weights.py"


rule seed_network:
    output:
        weights="results/networks/{network}.pt",
        exported="results/networks/{network}.npz",
    log:
        "logs/seed_network/{network}.log",
    wildcard_constraints:
        network=one_of(set(CONFIG.networks) - {*TRAINED, *FETCHED}),
    conda:
        "../../environment.yml"
    resources:
        # a network that takes more than the memory limit is bounded by nothing
        mem_mb=lambda w: request_mb(1, times_more("seed_network", *w)),
    params:
        entry=network_entry,
        code=lambda w: code_of(
            "seed_network", "certlip.exported", CONFIG.networks[w.network].module_name
        ),
        file=lambda w: waiting.contents(CONFIG.networks[w.network].file),
    script:
        "../scripts/seed_network.py"


rule export_network:
    input:
        "results/networks/{network}.pt",
    output:
        "results/networks/{network}.npz",
    log:
        "logs/export_network/{network}.log",
    wildcard_constraints:
        # seed_network exports its own; apart, so that another export trains and fetches nothing again
        network=one_of([*TRAINED, *FETCHED]),
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda w: request_mb(1, times_more("export_network", *w)),
    params:
        entry=network_entry,
        code=lambda w: code_of(
            "export_network",
            "certlip.exported",
            CONFIG.networks[w.network].module_name,
        ),
    script:
        "../scripts/export_network.py"
