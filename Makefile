# `make demo` and `make test` are all that a newcomer needs: both first set the project up in .venv, which takes python3
# (3.11 or newer), make, git and, the first time, a network.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
# On shared cores a model as small as the miniature was 30 times slower with two threads than with one.
ONE_THREAD := OMP_NUM_THREADS=1
# Processes that tests run in, one a core; each takes up to 2 GB. The tests of a module stay in one, with what they share.
TEST_PROCESSES ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint check parity faults audit

help:
	@echo "make demo    set up, then generate, judge and report the miniature"
	@echo "make test    set up, then run the tests, the import rules, ruff and mypy"
	@echo "make lint    ruff (lint and format), mypy, import rules"
	@echo "make check   lint and test: what a change must pass"
	@echo "make parity  compare GenEval's detector with mmdet's and write docs/parity.md; takes minutes"
	@echo "make faults  kill, corrupt and starve it as often as docs/reliability.md says, and write that page; takes half an hour"
	@echo "make audit   ask a vulnerability service about every installed package; needs a network"
	@echo "make setup   only install, into .venv"

setup: $(INSTALLED)

# The stamp is older than a file that says what to install: install again. --python, because uv would otherwise prefer
# whatever environment is active in this shell.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "star-bench needs Python 3.11 or newer, and '$(PYTHON)' is not: name another one, as in 'make $(firstword $(MAKECMDGOALS)) PYTHON=python3.12'." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { rm -rf .venv; echo "'$(PYTHON) -m venv' does not work here: install your system's venv package (on Debian and Ubuntu: python3-venv)." >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --constraint constraints.txt uv
	$(BIN)/uv pip install --python $(BIN)/python --constraint constraints.txt --editable ".[dev,train,mmdet,ray,parquet]"
	@touch $@

demo: $(INSTALLED)
	$(ONE_THREAD) $(BIN)/star-bench run --model miniature --suite geneval-miniature
	@echo "Open this page in a browser: $$(ls -t reports/miniature-geneval-miniature-*/index.html | head -n 1)"

test: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(ONE_THREAD) $(BIN)/python -m pytest --hypothesis-profile=ci -n $(TEST_PROCESSES) --dist loadscope

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

check: lint test

parity: $(INSTALLED)
	$(ONE_THREAD) $(BIN)/python -m benchmarks.parity.geneval_detectors

# The page is written whatever came out; the tests' own exit code counts.
faults: $(INSTALLED)
	STAR_BENCH_FAULTS=full $(ONE_THREAD) $(BIN)/python -m pytest --hypothesis-profile=ci -m "slow or not slow" tests/faults \
	  tests/reporting/test_viewer.py::test_thirty_hostile_prompts_run_nothing_and_show_as_text; \
	code=$$?; $(BIN)/python tests/faults/reliability.py; exit $$code

# Not part of check: it needs a network, and its answer changes while nothing here does. --strict: a package that the
# service does not know fails it, since otherwise a service that knows none would pass.
audit: $(INSTALLED)
	$(BIN)/uv pip freeze --python $(BIN)/python --exclude-editable > .venv/audited.txt
	$(BIN)/uv tool run --from 'pip-audit>=2.7' pip-audit --strict --no-deps --disable-pip -r .venv/audited.txt
