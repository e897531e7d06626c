# Learning Engine. On a fresh machine Python 3.11 (or 3.12) and make are enough; `make` alone lists the targets.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV := .venv/bin
# What serves in `make demo` and `make up`: local, or max, the real MAX Serve on the CPU.
SERVER ?= local
# A process a core: `make test PROCESSES=4`.
PROCESSES ?= 2
PYTEST := $(VENV)/python -m pytest --numprocesses $(PROCESSES) --dist loadscope --no-loadscope-reorder
# pytest leaves with 5 where no test was selected.
OR_NO_TESTS := || { status=$$?; if [ $$status -eq 5 ]; then echo "no tests of this kind"; else exit $$status; fi; }

.DEFAULT_GOAL := help
.PHONY: help install demo up down init test test-stack test-real check bench docs lock clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: .venv/.installed .swift-venv/.installed  ## set up .venv and .swift-venv; does nothing where they are up to date
	@:

.venv/.installed: requirements.txt requirements-dev.txt requirements.lock requirements.hashes include/setup/install.py include/setup/packages.py
	@$(PYTHON) -m include.setup.install environment
	@touch $@

.swift-venv/.installed: requirements-swift.txt include/setup/install.py include/setup/packages.py
	@$(PYTHON) -m include.setup.install swift
	@if [ -d .swift-venv ]; then touch $@; fi

demo: install  ## the whole loop on this machine, in a few minutes; SERVER=max serves with the real MAX Serve
	@$(VENV)/python -m demo demo --server $(SERVER)

up: install  ## the same stack, left running; prints the address and the login
	@$(VENV)/python -m demo up --server $(SERVER)

down:  ## end what `make up` started
	@if [ -x $(VENV)/python ]; then $(VENV)/python -m demo down; fi

init: $(if $(AIRFLOW_PYTHON),,install)  ## pools, connections and bucket in an Airflow that is there (AIRFLOW_PYTHON=its python)
	@PYTHONPATH=plugins $(or $(AIRFLOW_PYTHON),$(VENV)/python) -m learning_engine.airflow.init

test: install  ## one case for each mechanism, one fault of each kind, one week over the whole stack
	@$(PYTEST) -m "not stack and not real" $(OR_NO_TESTS)

test-stack: install  ## every fault at every step, kills between all writes, the real scheduler at length, more examples
	@$(PYTEST) -m "(stack or hypothesis) and not real" --hypothesis-profile thorough $(OR_NO_TESTS)

test-real: install  ## the tests against real counterparts; installs them in .cache/, names what is missing
	@$(PYTHON) -m include.setup.counterparts
	@$(PYTEST) -m real $(OR_NO_TESTS)

check: install  ## ruff, mypy and import-linter
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .
	@$(VENV)/mypy
	@PYTHONPATH=plugins $(VENV)/lint-imports

bench: install  ## every benchmark: a table each, and JSON under benchmarks/results/
	@for script in benchmarks/*.py; do \
		if [ -e "$$script" ]; then echo "== $$script"; $(VENV)/python "$$script" || exit 1; else echo "no benchmarks"; fi; \
	done

docs: install  ## docs/configuration.md, docs/api.md and docs/metrics.md anew, from the code
	@PYTHONPATH=plugins $(VENV)/python -m include.reference.configuration
	@PYTHONPATH=plugins $(VENV)/python -m include.reference.api
	@PYTHONPATH=plugins $(VENV)/python -m include.reference.metrics

lock:  ## requirements.lock and .hashes anew: the newest packages within the ranges
	@$(PYTHON) -m include.setup.install lock

clean:  ## end the demo, remove the environments and every cache
	-@$(MAKE) --no-print-directory down
	rm -rf .venv .swift-venv .demo .cache .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
