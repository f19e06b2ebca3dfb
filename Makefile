# Every target starts from a bare clone: the environment is made first if it is missing.
# VENV may point outside the checkout, so that several clones share one environment.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)-$(shell pwd | cksum | cut -d' ' -f1)

# Local runs stay on loopback; two workers on a small machine must not fight over threads.
export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER ?= 0
export RAY_USAGE_STATS_ENABLED ?= 0
export MLFLOW_DISABLE_TELEMETRY ?= true
export OMP_NUM_THREADS ?= 1
# Test files run side by side; each keeps its own Ray. Three on two cores: many tests wait for processes.
TEST_WORKERS ?= 3

.PHONY: help setup quickstart test test-full ablations-smoke lint coverage clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: $(READY)  ## make the virtual environment and install fssplat in it

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[dev]'
	rm -f $(VENV)/.ready-*
	touch $@

quickstart: $(READY)  ## synthetic data, three methods, one table: the whole tool in minutes
	$(BIN)/fssplat data build synthetic
	$(BIN)/fssplat launch experiments/quickstart.yaml

lint: $(READY)  ## ruff, mypy --strict and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint  ## the fast tier
	$(BIN)/python -m pytest -m 'not slow' -n $(TEST_WORKERS) --dist loadfile

test-full: lint  ## both tiers, with line coverage of fssplat/
	$(BIN)/python -m coverage run -m pytest -m 'not chaos' -n $(TEST_WORKERS) --dist worksteal
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --skip-covered --fail-under=85

ablations-smoke: $(READY)  ## every ablation file to its end on small real images
	$(BIN)/python -m tests.ablations_smoke

test-chaos: $(READY)  ## 40 jobs on 3 local nodes, 32 processes killed at random; FSSPLAT_CHAOS_SEED=n
	$(BIN)/python -m pytest -m chaos tests/launching/test_chaos.py

clean:  ## remove what runs leave behind, but no data and no results
	rm -rf .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache build *.egg-info
