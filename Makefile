# `make serve` and `make test` need Python >= 3.11 and PyPI, nothing else.
#
#   make serve MODEL=path-or-hub-id ARGS="--port 9000"
#   make test-gpu VENV= PYTHON=python3     with the packages that PYTHON has; nothing is installed

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := help
.PHONY: help install serve test test-gpu check size bench links clean

PYTHON ?= python3
VENV ?= .venv
MODEL ?=
ARGS ?=

# Keeps this folder off sys.path: ours is `octavo.kernels`, and `kernels` is somebody else's.
export PYTHONSAFEPATH := 1

ifeq ($(VENV),)
RUN := PYTHONPATH=$(CURDIR)/build/types $(PYTHON)
INSTALLED := links
else
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
endif

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##/  make \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

install: $(INSTALLED)  ## build the environment

$(VENV)/.installed: pyproject.toml
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

serve: $(INSTALLED)  ## serve MODEL (default: the bundled demo), with ARGS
	@exec env $(RUN) -m octavo.services.launch serve $(MODEL) $(ARGS)

test: $(INSTALLED)  ## the tests that need no GPU
	$(RUN) -m pytest $(ARGS)

test-gpu: $(INSTALLED)  ## the tests that need one GPU
	$(RUN) -m pytest -m "gpu and not multigpu" $(ARGS)

check: $(INSTALLED) links  ## format, lint, types, size budget, import rules
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy | sed 's#build/types/octavo/##'
	$(RUN) tools/size.py
	$(RUN) tools/rules.py

size: $(INSTALLED)  ## lines per room, and the budget
	$(RUN) tools/size.py

bench: $(INSTALLED)  ## what can be measured without a GPU
	$(RUN) bench/scheduler.py $(ARGS)

links:  ## build/types: what type checkers see as `octavo`
	@mkdir -p build/types/octavo
	@for room in services kernels shared; do ln -sfn ../../../$$room build/types/octavo/$$room; done
	@ln -sfn ../../../services/library build/types/octavo/llm

clean:  ## remove what was built; the environment stays
	rm -rf build dist octavo.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find services kernels shared tests tools bench -name __pycache__ -prune -exec rm -rf {} +
