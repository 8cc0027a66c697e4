# Two commands matter: `make run` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run test test-full lab check bench lock environment contract clean

PYTHON ?= python3
# How many processes share the test suite, a file at a time; 1 for a debugger.
TESTERS ?= 2
UV_VERSION := 0.13.9
BIN := .venv/bin
HASH := $(PYTHON) -c "import hashlib, sys; print(hashlib.sha256(b''.join(open(f, 'rb').read() for f in sys.argv[1:])).hexdigest()[:16])"
STAMP_RUN = .venv/installed-run-$(shell $(HASH) requirements.lock pyproject.toml Makefile)
STAMP_TEST = .venv/installed-test-$(shell $(HASH) requirements-dev.lock pyproject.toml Makefile)
# uv does not read pip's settings: hand it the index that pip was told to use, where there is one.
INDEX = $(shell $(PYTHON) -m pip config get global.index-url 2>/dev/null)
UV = $(if $(INDEX),UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$(INDEX)}") $(BIN)/uv
INSTALL = $(UV) pip install --quiet --compile-bytecode --python $(BIN)/python

help:  ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

run: $(STAMP_RUN)  ## run every notebook that changed and build the site
	$(BIN)/journeylab run --all --keep-going

test: $(STAMP_TEST)  ## the whole test suite, without the long tests
	$(BIN)/python -m pytest -n $(TESTERS) --dist loadfile

test-full: $(STAMP_TEST)  ## the whole test suite, long tests included
	$(BIN)/python -m pytest -n $(TESTERS) --dist loadfile -m ""

lab: $(STAMP_RUN)  ## JupyterLab on the notebooks
	$(BIN)/journeylab lab

check: $(STAMP_TEST)  ## format, lint, types, import layers, notebook rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/journeylab clean --check

bench: $(STAMP_TEST)  ## benchmarks, one table per topic (FULL=1 for the long form)
	@for topic in benchmarks/[!_]*.py; do \
	  case $$topic in benchmarks/table.py) continue;; esac; \
	  $(BIN)/python $$topic $(if $(FULL),--full) || failed=1; \
	done; exit $${failed:-0}

lock: .venv/uv-$(UV_VERSION)  ## make both lock files from pyproject.toml
	$(UV) pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --no-emit-index-url --quiet --output-file requirements.lock
	$(UV) pip compile pyproject.toml --extra dev --extra spark --universal --python-version 3.11 \
	  --generate-hashes --no-header --no-annotate --no-emit-index-url --quiet \
	  --constraint requirements.lock --output-file requirements-dev.lock
	$(MAKE) environment

environment: $(STAMP_RUN)  ## make environment.yml from the lock
	$(BIN)/python environment.py > environment.yml

contract: $(STAMP_RUN)  ## make data/README.md from the contract
	$(BIN)/python -m journeylab.contract > data/README.md

clean:  ## remove the environment and the runs
	rm -rf .venv runs

.venv/uv-$(UV_VERSION):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "JourneyLab needs Python 3.11 or later, found %d.%d: run make PYTHON=python3.11" % sys.version_info[:2])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@

$(STAMP_RUN): .venv/uv-$(UV_VERSION)
	$(INSTALL) --require-hashes --no-deps -r requirements.lock
	$(INSTALL) --no-deps --editable .
	@rm -f .venv/installed-run-* && touch $@

$(STAMP_TEST): .venv/uv-$(UV_VERSION)
	$(INSTALL) --require-hashes --no-deps -r requirements-dev.lock
	$(INSTALL) --no-deps --editable .
	@rm -f .venv/installed-* && touch $@ $(STAMP_RUN)
