# Learning Engine. A new machine needs only Python 3.11 or 3.12 and make; `make` lists the targets.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV := .venv/bin
# The model server of `make demo` and `make up`: local, or max, the real MAX Serve on the CPU.
SERVER ?= local
# Their base model: toy, which knows a small town, or smollm2, SmolLM2-135M-Instruct.
MODEL ?= toy
# Test processes, one per core: `make test PROCESSES=4`.
PROCESSES ?= 2
PYTEST := $(VENV)/python -m pytest --numprocesses $(PROCESSES) --dist loadscope --no-loadscope-reorder
# pytest exits with 5 if no test was selected.
OR_NO_TESTS := || { status=$$?; if [ $$status -eq 5 ]; then echo "no tests of this kind"; else exit $$status; fi; }

.DEFAULT_GOAL := help
.PHONY: help install demo up down init test test-stack test-real check bench docs lock clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: .venv/.installed .swift-venv/.installed  ## set up .venv and .swift-venv, if they are out of date
	@:

.venv/.installed: requirements.txt requirements-dev.txt requirements.lock requirements.hashes include/setup/install.py include/setup/packages.py
	@$(PYTHON) -m include.setup.install environment
	@touch $@

.swift-venv/.installed: requirements-swift.txt include/setup/install.py include/setup/packages.py
	@$(PYTHON) -m include.setup.install swift
	@if [ -d .swift-venv ]; then touch $@; fi

demo: install  ## run the whole loop on this machine in minutes; SERVER=max: real MAX Serve; MODEL=smollm2: real chat model
	@$(VENV)/python -m demo demo --server $(SERVER) --model $(MODEL)

up: install  ## run the demo and leave its stack running; print address and login
	@$(VENV)/python -m demo up --server $(SERVER) --model $(MODEL)

down:  ## stop what `make up` started
	@if [ -x $(VENV)/python ]; then $(VENV)/python -m demo down; fi

init: $(if $(AIRFLOW_PYTHON),,install)  ## create pools, connections and bucket in an existing Airflow (AIRFLOW_PYTHON=its python)
	@PYTHONPATH=plugins $(or $(AIRFLOW_PYTHON),$(VENV)/python) -m learning_engine.airflow.init

test: install  ## test each mechanism, one fault of each kind, and one week on the whole stack
	@$(PYTEST) -m "not stack and not real" $(OR_NO_TESTS)

test-stack: install  ## test every fault at every step, kills between all writes, the real scheduler, more examples
	@$(PYTEST) -m "(stack or hypothesis) and not real" --hypothesis-profile thorough $(OR_NO_TESTS)

test-real: install  ## test against real counterparts; install what it can, list what is missing
	@$(PYTHON) -m include.setup.counterparts
	@$(PYTEST) -m real $(OR_NO_TESTS)

check: install  ## run ruff, mypy and import-linter
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .
	@$(VENV)/mypy
	@PYTHONPATH=plugins $(VENV)/lint-imports

# Benchmarks that need data which is not here.
BENCH_WITH_DATA := benchmarks/standard_cl.py
bench: install  ## run every benchmark that needs no data: print a table, write JSON to benchmarks/results/
	@for script in $(filter-out $(BENCH_WITH_DATA),$(wildcard benchmarks/*.py)); do \
		echo "== $$script"; $(VENV)/python "$$script" || exit 1; \
	done
	@echo "not run, because they need --data: $(BENCH_WITH_DATA)"

docs: install  ## generate docs/configuration.md, docs/api.md and docs/metrics.md from the code
	@PYTHONPATH=plugins $(VENV)/python -m include.reference.configuration
	@PYTHONPATH=plugins $(VENV)/python -m include.reference.api
	@PYTHONPATH=plugins $(VENV)/python -m include.reference.metrics

lock:  ## update requirements.lock and .hashes to the newest packages within the ranges
	@$(PYTHON) -m include.setup.install lock

clean:  ## stop the demo, remove the environments and all caches
	-@$(MAKE) --no-print-directory down
	rm -rf .venv .swift-venv .demo .cache .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
