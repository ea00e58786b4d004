# Every target sets up what it needs by itself: the environment in .venv, and the programs of the
# local control plane in a cache outside the clone. `make help` lists the targets.

SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/bayplan
UV_VERSION := 0.13.8
UV = $(or $(shell command -v uv),$(CACHE)/uv-$(UV_VERSION)/bin/uv)
BIN := .venv/bin
READY := .venv/.ready
# Tests of the core run beside those that wait for a cluster: e2e/distribution.py.
PYTEST := $(BIN)/python -m pytest -n auto

# Containers say so to stay small; here our programs start hundreds of times in a run of the tests,
# and compiling what they import is half of what that costs.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(READY) ## Make the environment in .venv from requirements.lock

.PHONY: demo
demo: $(READY) ## Show the main job on a real control plane (ARGS=--once: exit at the end)
	@$(BIN)/python -m e2e.demo $(ARGS)

.PHONY: test
test: $(READY) ## Run all tests, those on a real control plane too (ARGS: for pytest)
	@$(BIN)/python -m e2e.cluster build
	$(PYTEST) $(ARGS)

.PHONY: e2e
e2e: $(READY) ## Run the end-to-end tests alone
	@$(BIN)/python -m e2e.cluster build
	$(PYTEST) e2e $(ARGS)

.PHONY: long
long: $(READY) ## Look further: more examples of the properties, ten minutes of chaos
	@$(BIN)/python -m e2e.cluster build
	HYPOTHESIS_PROFILE=thorough $(PYTEST) tests/property $(ARGS)
	BAYPLAN_CHAOS_SECONDS=300 $(BIN)/python -m pytest e2e -k "chaos or die_at_random" $(ARGS)

.PHONY: check
check: $(READY) ## Format, lint, types, import contracts, generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python charts/generate.py --check

.PHONY: generate
generate: $(READY) ## Write CRDs, manifests and the API reference anew from the models and the chart
	$(BIN)/python charts/generate.py

.PHONY: bench
bench: $(READY) ## Run the benchmarks at a small size
	$(BIN)/python -m benchmarks.openb --list default --seeds 1 --json
	$(BIN)/python -m benchmarks.openb --list default --batch --json
	$(BIN)/python -m benchmarks.fleet --nodes 50 --json
	$(BIN)/python -m benchmarks.fleet --nodes 50 --variant mixed --json
	$(BIN)/python -m benchmarks.priority_matters --nodes 16 --seeds 2 --json
	$(BIN)/python -m benchmarks.fleet --nodes 50 --variant units --json
	$(BIN)/python -m benchmarks.preemption --cases 200 --json
	$(BIN)/python -m benchmarks.defrag --nodes 50 --json
	@$(BIN)/python -m e2e.cluster build
	$(BIN)/python -m benchmarks.operator --deployments 20 --foreign 500 --soak 5 --json
	$(BIN)/python -m benchmarks.extender --nodes 10 --pods 20 --rounds 1 --json

.PHONY: format
format: $(READY) ## Format, and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: lock
lock: ## Resolve the dependencies of pyproject.toml anew into requirements.lock
	$(UV) pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --upgrade -q -o requirements.lock

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Bayplan needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Set PYTHON=…"; exit 1; }
	@command -v $(UV) > /dev/null || \
	  { echo "installing uv $(UV_VERSION) into $(CACHE)"; \
	    $(PYTHON) -m pip install --quiet --disable-pip-version-check \
	      --target $(CACHE)/uv-$(UV_VERSION) uv==$(UV_VERSION); }
	@echo "making .venv from requirements.lock (about a minute when nothing is cached)"
	@test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) .venv
	@$(UV) pip sync --quiet --require-hashes --python $(BIN)/python requirements.lock
	@$(UV) pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python -e .
	@touch $(READY)
