# Methods made of independent semidefinite programs. The plan (shapes only) says how many are solved side by side. One job
# solves and merges them, since to start a job takes as long as small programs do; `parts: n` in a method's entry spreads
# them over n independent jobs, and another merges.


rule calibrate_solver:
    output:
        "results/calibration/{solver}.json",
    log:
        "logs/calibrate_solver/{solver}.log",
    conda:
        "../../environment.yml"
    # alone on the machine, as a benchmark is
    threads: 1000
    resources:
        mem_mb=lambda w: request_mb(1, times_more("calibrate_solver", *w)),
        runtime=lambda w: request_minutes(5, times_more("calibrate_solver", *w)),
    params:
        limits=CONFIG.limits.model_dump(),
        code=code_of("calibrate_solver", "certlip.solving.calibrate", *SOLVERS),
    script:
        "../scripts/calibrate_solver.py"


rule plan_blocks:
    input:
        network="results/networks/{network}.npz",
        calibration=lambda w: calibration_of(w.method),
    output:
        "results/plans/{network}/{method}.json",
    log:
        "logs/plan_blocks/{network}/{method}.log",
    wildcard_constraints:
        method=one_of(PLANNED),
    conda:
        "../../environment.yml"
    params:
        plugin=plugin_name,
        options=lambda w: CONFIG.options(w.method),
        code=lambda w: code_of("plan_blocks", "certlip.solving.blocks", plugin_name(w)),
    script:
        "../scripts/plan_blocks.py"


rule solve_plan:
    input:
        network="results/networks/{network}.npz",
        plan="results/plans/{network}/{method}.json",
    output:
        blocks="results/blocks/{network}/{method}/1-of-1.npz",
        bound="results/bounds/{network}/{method}.json",
        certificate="results/certificates/{network}/{method}.npz",
    log:
        "logs/solve_plan/{network}/{method}.log",
    wildcard_constraints:
        method=one_of(set(PLANNED) - {*SPREAD}),
    conda:
        "../../environment.yml"
    threads: lambda w, input: n_jobs_of_plan(input.plan, "1-of-1")
    resources:
        mem_mb=lambda w, threads: request_mb(threads, times_more("solve_plan", *w)),
        runtime=lambda w, input, threads: request_minutes_of_plan(
            input.plan, "1-of-1", threads, times_more("solve_plan", *w)
        ),
    params:
        plugin=plugin_name,
        options=lambda w: CONFIG.options(w.method),
        code=code_of(
            "solve_plan",
            "certlip.solving.blocks",
            "certlip.solving.evaluate",
            *SOLVERS,
        ),
    script:
        "../scripts/solve_plan.py"


rule solve_blocks:
    input:
        network="results/networks/{network}.npz",
        plan="results/plans/{network}/{method}.json",
    output:
        "results/blocks/{network}/{method}/{part}.npz",
    log:
        "logs/solve_blocks/{network}/{method}/{part}.log",
    wildcard_constraints:
        method=one_of(SPREAD),
    conda:
        "../../environment.yml"
    threads: lambda w, input: n_jobs_of_plan(input.plan, w.part)
    resources:
        mem_mb=lambda w, threads: request_mb(threads, times_more("solve_blocks", *w)),
        runtime=lambda w, input, threads: request_minutes_of_plan(
            input.plan, w.part, threads, times_more("solve_blocks", *w)
        ),
    params:
        code=code_of("solve_blocks", "certlip.solving.blocks", *SOLVERS),
    script:
        "../scripts/solve_blocks.py"


rule merge_blocks:
    input:
        network="results/networks/{network}.npz",
        plan="results/plans/{network}/{method}.json",
        blocks=lambda w: parts_of_plan(w.network, w.method),
    output:
        bound="results/bounds/{network}/{method}.json",
        certificate="results/certificates/{network}/{method}.npz",
    log:
        "logs/merge_blocks/{network}/{method}.log",
    wildcard_constraints:
        method=one_of(SPREAD),
    conda:
        "../../environment.yml"
    resources:
        # each block is proved again; a proof holds less than half of what its program held
        mem_mb=lambda w: request_mb(1, times_more("merge_blocks", *w)),
    params:
        plugin=plugin_name,
        options=lambda w: CONFIG.options(w.method),
        code=code_of(
            "merge_blocks", "certlip.solving.blocks", "certlip.solving.evaluate"
        ),
    script:
        "../scripts/merge_blocks.py"
