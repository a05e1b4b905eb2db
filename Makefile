# `make serve` and `make test` need Python >= 3.11 and PyPI, nothing else.
#
#   make serve MODEL=path-or-hub-id ARGS="--port 9000"
#   make test-gpu VENV= PYTHON=python3     with the packages that PYTHON has; nothing is installed

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := help
.PHONY: help install serve test units faults soak faults-gpu test-gpu check size docs lock dashboards bench bench-gpu links clean

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

ifeq ($(ARGS),)
test: units faults  ## the tests that need no GPU (with ARGS: those, one after another)
else
test: $(INSTALLED)
	$(RUN) -m pytest $(ARGS)
endif

units: $(INSTALLED)  ## those of them that do not mind company: two files at a time
	$(RUN) -m pytest -n 2 --dist loadfile --ignore tests/faults $(ARGS)

faults: $(INSTALLED)  ## kill, freeze and poison a server under streams (part of `make test`)
	$(RUN) -m pytest -s tests/faults $(ARGS)

soak: $(INSTALLED)  ## all that is too long for `make test` (OCTAVO_TEST_SOAK=minutes)
	$(RUN) -m pytest -s -m "slow and not gpu and not multigpu" $(ARGS)

faults-gpu: $(INSTALLED)  ## the same where one GPU is
	$(RUN) -m pytest -s -m gpu tests/faults $(ARGS)

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

docs: $(INSTALLED)  ## rewrite docs/api.md from the conformance cases
	OCTAVO_TEST_WRITE_DOCS=1 $(RUN) -m pytest -q tests/conformance

lock:  ## pin what images install, by hashes, in requirements.lock (needs uv and PyPI)
	uv pip compile --quiet --upgrade --universal --python-version 3.11 \
		--generate-hashes --no-header --no-annotate --output-file requirements.lock pyproject.toml

dashboards: $(INSTALLED)  ## rewrite deploy/grafana/dashboards
	$(RUN) tools/dashboards.py

bench: $(INSTALLED)  ## measure scheduler and frontend; with a GPU kernels and generation too
	$(RUN) bench/scheduler.py --json build/bench/scheduler.json
	$(RUN) bench/frontend.py --json build/bench/frontend.json
	@if $(RUN) -c 'import torch; raise SystemExit(not torch.cuda.is_available())'; then \
		$(MAKE) --no-print-directory bench-gpu; \
	else echo "no CUDA GPU: bench/kernels and bench/offline.py are left out"; fi
	$(RUN) bench/compare.py build/bench

bench-gpu: $(INSTALLED)
	$(RUN) bench/kernels/paged_attention.py --json build/bench/paged_attention.json
	$(RUN) bench/kernels/rms_norm.py
	$(RUN) bench/kernels/sampling.py
	$(RUN) bench/offline.py --json build/bench/offline.json $(ARGS)

links:  ## build/types: what type checkers see as `octavo`
	@mkdir -p build/types/octavo
	@for room in services kernels shared; do ln -sfn ../../../$$room build/types/octavo/$$room; done
	@ln -sfn ../../../services/library build/types/octavo/llm

clean:  ## remove what was built; the environment stays
	rm -rf build dist octavo.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find services kernels shared tests tools bench -name __pycache__ -prune -exec rm -rf {} +
