# Everything sets itself up: `make demo` and `make test` work in a fresh clone.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.ready
PIP_QUIET := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip --quiet --quiet
# More than one thread a process makes a suite of two processes on two cores ten times slower.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 MKL_CBWR=AUTO,STRICT TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1

.PHONY: setup demo test test-all check bench docs golden

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "instar needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1 || echo missing). Name another: make $(or $(MAKECMDGOALS),setup) PYTHON=python3.12" >&2; exit 2; }
	@test -x $(BIN)/python || { echo "making .venv"; $(PYTHON) -m venv .venv; } || { \
	  echo "$(PYTHON) cannot make a virtual environment; on Debian: apt install python3-venv" >&2; rm -rf .venv; exit 2; }
	@echo "installing instar and what it needs into .venv (minutes, once)"
	@$(PIP_QUIET) install --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: setup
	@$(BIN)/instar demo

test: setup
	@$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist worksteal

# With the storms and the long trainings, which `make test` leaves out.
test-all: setup
	@$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist worksteal -m ""

check: setup
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python docs/build.py --check

bench: setup
	@$(BIN)/python benchmarks/pretrain.py

docs: setup
	@$(BIN)/python docs/build.py

golden: setup
	@$(ONE_THREAD) $(BIN)/python -m tests.golden.record
