# make          set up, run the quick configuration, write the report, print the main table
# make test     set up, run the tests, room by room (one of them: make tests/unit/proof)
# make paper    set up, run the configuration of the paper, and its benchmarks
# make field    set up, run the field beyond the paper: published networks, scaling, models of ImageNet
# Also: setup, lint, clean; nightly (tests of an hour), reliability (writes docs/reliability.md).

PYTHON ?= python3
BIN := .venv/bin
RUN := PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/snakemake --workflow-profile workflow/profiles/default --cores all
QUICK := --configfile config/quick.yaml
FIELD := --configfile config/field.yaml
BOTH := -- all benchmarks
# Of the tests, the longest first. A process each: what a test forks must have one thread.
ROOMS := tests/workflow tests/fuzz tests/contract tests/helpers $(sort $(wildcard tests/unit/*))

.DEFAULT_GOAL := quick
.PHONY: quick paper field setup test $(ROOMS) nightly reliability lint clean

quick: setup
	$(RUN) $(QUICK) $(BOTH)
	$(RUN) $(QUICK) --report results/report.html $(BOTH)
	@$(BIN)/certlip show
	@echo "Tables: results/tables/  Figures: results/figures/  Report: results/report.html"

paper: setup
	$(RUN) $(BOTH)
	$(RUN) --report results/report.html $(BOTH)
	@$(BIN)/certlip show
	@echo "Tables: results/tables/  Figures: results/figures/  Report: results/report.html"

field: setup
	$(RUN) $(FIELD)
	$(RUN) $(FIELD) --report results/report.html
	@$(BIN)/certlip show
	@echo "Tables: results/tables/  Figures: results/figures/  Report: results/report.html"

setup: .venv/.complete

.venv/.complete: requirements.txt constraints.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "certlip needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -qq -r requirements.txt -c constraints.txt
	$(BIN)/python -m pip install -qq --no-deps -e .
	touch $@

test: setup
	@$(MAKE) --no-print-directory --keep-going --output-sync=target --jobs=$$(env -u OMP_NUM_THREADS nproc) $(ROOMS)

$(ROOMS): setup
	$(BIN)/python -m pytest $@

nightly: setup
	$(BIN)/python -m pytest --hypothesis-profile=nightly tests/fuzz
	$(BIN)/python -m pytest -m nightly

FAULTS := $(addprefix tests/workflow/test_,kill.py faults.py verify.py slurm.py) \
	$(addprefix tests/unit/,base/test_files.py base/test_limits.py base/test_security.py pytorch/test_plain.py) \
	$(addprefix tests/unit/solving/test_,anytime.py cache.py) tests/fuzz

reliability: setup
	$(BIN)/python -m pytest --junitxml=.reliability.xml $(FAULTS)
	$(BIN)/python -m pytest --junitxml=.reliability_nightly.xml -m nightly $(addprefix tests/workflow/test_,load.py slurm.py)
	$(BIN)/python tests/reliability.py .reliability.xml .reliability_nightly.xml > docs/reliability.md
	rm .reliability.xml .reliability_nightly.xml

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/snakefmt --check Snakefile workflow/rules
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/snakemake --lint --configfile config/quick.yaml

clean:
	@printf 'Delete everything the workflow made in results/ and logs/? [y/N] '; \
	read answer; [ "$$answer" = y ] || { echo "Nothing was deleted."; exit 1; }
	find results -mindepth 1 ! -name README.md -delete
	rm -rf logs .cache .snakemake
