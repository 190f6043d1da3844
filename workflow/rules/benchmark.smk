# Benchmarks: ours and the peers' in one run on the same input.


rule measure_benchmark:
    input:
        lambda w: expand(
            "results/networks/{network}.npz",
            network=CONFIG.benchmarks[w.benchmark].get("networks", []),
        ),
    output:
        "results/benchmarks/{benchmark}.csv",
    log:
        "logs/measure_benchmark/{benchmark}.log",
    conda:
        "../../environment.yml"
    # alone on the machine, since a neighbour would be measured too: more than there are, scaled down to all of them
    threads: 1000
    params:
        options=lambda w: CONFIG.benchmarks[w.benchmark],
        code=lambda w: code_of(
            "measure_benchmark",
            "certlip.benchmarks",
            f"certlip.benchmarks.{w.benchmark}",
            *BENCHMARKED,
        ),
    script:
        "../scripts/measure_benchmark.py"


rule simulate_schedule:
    input:
        list(comparison_files()),
    output:
        "results/benchmarks/schedule.csv",
    log:
        "logs/simulate_schedule.log",
    conda:
        "../../environment.yml"
    params:
        threads=lambda w: threads_asked(),
        code=code_of(
            "simulate_schedule",
            "certlip.benchmarks",
            "certlip.schedule",
            "certlip.base.timing",
        ),
    script:
        "../scripts/simulate_schedule.py"
