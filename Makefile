# Everything from a fresh clone: each target prepares .venv first, and touches nothing outside it and the user's cache.
#
#   make demo                  answer the bundled clips, then serve the page
#   make demo ARGS=--no-serve  answer them and stop
#   make test                  run the tests
#
# torch comes by a pin, from wherever pip is set up to look: a loose range can pull another version with gigabytes of CUDA.
# Where that brings CUDA even so, the smaller CPU build, or another CUDA, is chosen with pip's own options:
#   make clean setup TORCH="torch==2.13.0 --index-url INDEX_OF_CPU_BUILDS"
TORCH ?= torch==2.13.0
PYTHON ?= python3
ARGS ?=

PY := .venv/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
STAMP := .venv/ready

.PHONY: setup demo test bench lint format clean
.DEFAULT_GOAL := setup

setup: $(STAMP)

# --clear: a .venv whose making was interrupted is begun again
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make setup PYTHON=...")'
	@echo "setup: making .venv (a few minutes the first time)"
	$(PYTHON) -m venv $(if $(wildcard $(PY)),,--clear) .venv
	$(PIP) install $(TORCH)
	$(PIP) install --editable '.[demo,eval,dev]'
	@touch $@

demo: $(STAMP)
	$(PY) -m demos.first $(ARGS)

test: $(STAMP)
	$(PY) -m pytest $(ARGS)

bench: $(STAMP)
	$(PY) -m bench $(ARGS)

lint: $(STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright

format: $(STAMP)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis
