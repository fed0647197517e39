# make demo   install, train the quickstart vocoder, vocode, compare; everything lands in demo/
# make test   install what tests need, then lint, format, types, layers, tests, doctests
# make help   this

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SHELL := /bin/bash

.PHONY: help demo test install install-test lint format-check types layers unit slow format wheel clean

help:
	@sed -n 's/^# //p' Makefile

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 10) <= v < (3, 13) else f"{sys.executable} is Python {v[0]}.{v[1]}: audiodiff needs 3.10 to 3.12; say make PYTHON=python3.12")'
	@$(PYTHON) -c 'import venv, ensurepip' || { echo "python3 has no venv: install it (Debian: apt-get install python3-venv)"; exit 1; }
	@command -v cc > /dev/null || { echo "no C compiler, which pesq needs: install one (Debian: apt-get install build-essential python3-dev)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $(VENV)/.installed $@

install: $(VENV)/.installed

install-test: $(VENV)/.installed-test

demo: install
	$(BIN)/audiodiff demo --out demo --force

test: lint format-check types layers unit

lint: install-test
	$(BIN)/ruff check .

format-check: install-test
	$(BIN)/ruff format --check .

types: install-test
	$(BIN)/pyright

layers: install-test
	$(BIN)/lint-imports

# Small operations on two threads are many times slower than on one when the machine is busy with something else.
unit: install-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

# What the ordinary tests leave out: whole recipes, and whatever takes more than a few seconds.
slow: install-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'slow or recipe'

format: install-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: install-test
	$(BIN)/python -m hatchling build -t wheel

clean:
	rm -rf $(VENV) dist demo generated runs .pytest_cache .ruff_cache .import_linter_cache
