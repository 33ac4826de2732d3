# microseg: `make demo` shows it, `make test` proves it. Plain `make` lists the rest.
# Recipes keep to this folder: .venv/ holds the programs, $MICROSEG_HOME (default .microseg/) the state.

export MICROSEG_HOME := $(or $(MICROSEG_HOME),.microseg)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONUTF8 := 1

VENV := .venv
BIN := $(VENV)/bin
BENCH := .bench
NOTEBOOK := $(BENCH)/notebook
UV := uv==0.13.9

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv demo ui test docs notebook evidence value-tables homogeneity moves bench mutations lint format hooks \
  clean distclean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

venv: $(VENV)/.installed ## the virtual environment with the pinned dependencies
	@:

demo: venv ## the whole chain on a year of a real grocer's data (ARGS=--quick: simulated, two minutes)
	@$(BIN)/microseg demo $(ARGS)

ui: venv ## Dagster's and MLflow's pages over the state that is there
	@$(BIN)/microseg ui $(ARGS)

test: venv ## every test whose programs are here (ARGS="-k NAME": some of them)
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

docs: venv ## the pages of the library, from its docstrings: docs/api/_build/html
	@rm -rf docs/api/generated docs/api/_build
	@$(BIN)/python -m sphinx -q -W --keep-going -b html docs/api docs/api/_build/html
	@echo "docs/api/_build/html/index.html"

notebook: venv ## run docs/first_week.ipynb and store what it prints and draws
	@$(BIN)/python -m tests.notebook

evidence: venv ## the worlds that claims are tested in, beside what the design says about them
	@$(BIN)/python -m ml.simulate.evidence
	@$(BIN)/python -m ml.lifecycle.evidence
	@MICROSEG_EVIDENCE_WHOLE=1 $(BIN)/python -m pytest -n 2 tests/evidence $(ARGS)

value-tables: venv ## the value model on past days of real data, beside others
	@$(BIN)/python -m tests.benchmarks.value_tables

homogeneity: venv ## what micro-segments tell of the next month's spend, beside other groupings
	@$(BIN)/python -m tests.benchmarks.homogeneity

moves: venv ## who moves from day to day and at refits, on real data: border flicker, and letters that are kept
	@$(BIN)/python -m tests.benchmarks.moves $(ARGS)

bench: venv ## seconds and memory of every asset, beside a notebook and a floor (ARGS=--help: sizes, profiles)
	@case " $(ARGS)" in *--no-notebook*|*--from*|*--profile*|*--help*|*" -h"*) ;; \
	  *) $(MAKE) --no-print-directory $(NOTEBOOK)/.installed ;; esac
	@$(BIN)/python -m tests.benchmarks.engine $(ARGS)

mutations: venv ## a thousand broken files: each row accepted unchanged or quarantined, or the file refused
	@MICROSEG_MUTATIONS=1000 $(BIN)/python -m pytest -n 2 tests/mutations $(ARGS)

lint: venv ## style, formatting, who imports whom, types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/mypy

hooks: venv ## run the checks of .pre-commit-config.yaml before every commit of this clone
	@$(BIN)/pre-commit install

format: venv ## what ruff can put right by itself
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

clean: ## remove the state: lake, runs, models
	@case "$$(basename "$(MICROSEG_HOME)")" in \
	  .microseg) rm -rf -- "$(MICROSEG_HOME)" && echo "removed $(MICROSEG_HOME)" ;; \
	  *) echo "MICROSEG_HOME is $(MICROSEG_HOME): remove that yourself if you mean it"; exit 1 ;; \
	esac

distclean: clean ## remove the state, the virtual environments and the caches
	@rm -rf -- $(VENV) $(BENCH) .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache build *.egg-info \
	  docs/api/generated docs/api/_build
	@echo "removed $(VENV), $(BENCH) and the caches"

# uv installs in a tenth of pip's time; pip is the way out where uv cannot work.
$(VENV)/.installed: requirements.lock pyproject.toml
	@for python in $(PYTHON) python3.11 python3.12 python3 python; do \
	  "$$python" -c 'import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' \
	    >/dev/null 2>&1 && found=$$python && break; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "microseg needs Python 3.11 or 3.12 with venv; found: $$(python3 -V 2>&1 || true)." >&2; \
	  echo "Install it (Debian: apt-get install python3 python3-venv) or say where it is: make PYTHON=/path/to/python3.11" >&2; \
	  exit 1; \
	fi; \
	if $(BIN)/python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1; \
	then :; else \
	  echo "making $(VENV) with $$($$found -V)"; \
	  "$$found" -m venv --clear $(VENV) || exit 1; \
	fi
	@echo "installing the pinned dependencies (about a minute the first time)"
	@if $(BIN)/python -m pip install --quiet "$(UV)" 2>/dev/null \
	  && VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet -r requirements.lock \
	  && VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps -e .; \
	then :; else \
	  echo "uv could not; trying pip"; \
	  $(BIN)/python -m pip install --quiet -r requirements.lock && $(BIN)/python -m pip install --quiet --no-deps -e .; \
	fi
	@# Where Python may not write bytecode, every process would compile what it imports: 8 s of 12 for MLflow and SciPy.
	@if [ -n "$$PYTHONDONTWRITEBYTECODE" ]; then \
	  echo "compiling the libraries, as PYTHONDONTWRITEBYTECODE is set"; \
	  $(BIN)/python -m compileall -q -j 0 -x '/tests?/' $(VENV)/lib >/dev/null || true; \
	fi
	@touch $@

# What the notebook of the benchmark needs is no business of the project's environment.
$(NOTEBOOK)/.installed: tests/benchmarks/peer/requirements.txt | $(VENV)/.installed
	@echo "installing the notebook's own environment in $(NOTEBOOK) (about a minute)"
	@$(BIN)/python -m venv --clear $(NOTEBOOK)
	@if VIRTUAL_ENV=$(NOTEBOOK) $(BIN)/uv pip install --quiet --no-deps -r $< 2>/dev/null; then :; \
	  else $(NOTEBOOK)/bin/python -m pip install --quiet --no-deps -r $<; fi
	@# Compiled now, so that no run pays for it: the notebook is compared at its fastest.
	@$(NOTEBOOK)/bin/python -m compileall -q -j 0 -x '/tests?/' $(NOTEBOOK)/lib >/dev/null || true
	@touch $@
