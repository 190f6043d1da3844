# Every other method, the lower bound among them: one job for each network and method.


rule bound_network:
    input:
        network="results/networks/{network}.npz",
        weights="results/networks/{network}.pt",
        images=lambda w: images_of(w.network) if CONFIG.takes(w.method, "data") else [],
        calibration=lambda w: calibration_of(w.method),
    output:
        bound="results/bounds/{network}/{method}.json",
        certificate="results/certificates/{network}/{method}.npz",
    log:
        "logs/bound_network/{network}/{method}.log",
    wildcard_constraints:
        method=one_of(BOUND),
    conda:
        "../../environment.yml"
    threads: CONFIG.limits.threads
    resources:
        mem_mb=lambda w: request_mb(1, times_more("bound_network", *w)),
        runtime=lambda w: request_minutes(1, times_more("bound_network", *w)),
    params:
        entry=network_entry,
        plugin=plugin_name,
        options=lambda w: CONFIG.options(w.method),
        seed=CONFIG.seed,
        code=lambda w: code_of(
            "bound_network",
            "certlip.entries",
            "certlip.workflow",
            plugin_name(w),
            *made_by(w.method),
        ),
    script:
        "../scripts/bound_network.py"
