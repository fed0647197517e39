# make demo        install, train the quickstart vocoder, vocode, compare; everything lands in demo/
# make test        install what tests need, then lint, format, types, layers, tests, doctests: 10 minutes on 2 cores
# make test-all    make test's other tier: slow tests and recipes, processors, installs of wheel and sdist
# make lock        renew locks/lock.txt, and say what changed
# make ranges      try the oldest and the newest versions that pyproject.toml allows: several GB
# make help        this
#
# With each of them: PYTHON=python3.12 names the Python, VENV=.venv the environment, and TORCH=cpu takes torch without CUDA.

PYTHON ?= python3
VENV ?= .venv
TORCH ?=
BIN := $(VENV)/bin
TOOLS := .venv-tools
LOCK := locks/lock.txt
SHELL := /bin/bash

# pip installs the versions of the lock, also of what builds a dependency; newer versions of pip have a variable for that.
PIP := PIP_CONSTRAINT=$(LOCK) PIP_BUILD_CONSTRAINT=$(LOCK) $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Small operations on two threads are many times slower than on one when the machine is busy with something else.
# Without compiled files of Python, every command that a test starts would compile the package again.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

.PHONY: help demo test test-all install install-test lint format-check types layers unit slow processors packages lock ranges format wheel clean

help:
	@sed -n '/^# \?/!q; s/^# \?//p' Makefile

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 10) <= v < (3, 14) else f"{sys.executable} is Python {v[0]}.{v[1]}: audiodiff needs 3.10 to 3.13; say make PYTHON=python3.12")'
	@$(PYTHON) -c 'import venv, ensurepip' || { echo "$(PYTHON) has no venv: install it (Debian: apt-get install python3-venv)"; exit 1; }
	@command -v cc > /dev/null || { echo "no C compiler, which pesq needs: install one (Debian: apt-get install build-essential python3-dev)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# The build without CUDA comes from PyTorch's own index, or another that pip knows.
$(VENV)/.torch-cpu: $(VENV)/.python $(LOCK)
	@$(PIP) "$$(grep '^torch==' $(LOCK))+cpu" torchaudio > $(VENV)/torch.log 2>&1 || { \
	if grep -q 'No matching distribution found for torch==\|Cannot install torch==' $(VENV)/torch.log; then \
	echo "no index that pip knows has $$(grep '^torch==' $(LOCK))+cpu: say PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make TORCH=cpu"; \
	else cat $(VENV)/torch.log; fi; exit 1; }
	@touch $@

$(VENV)/.torch-: $(VENV)/.python
	@touch $@

$(VENV)/.torch-%:
	@echo "TORCH=$*: TORCH must be cpu, or left out"; exit 1

$(VENV)/.installed: $(VENV)/.torch-$(TORCH) pyproject.toml $(LOCK)
	$(PIP) --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.torch-$(TORCH) pyproject.toml $(LOCK)
	$(PIP) --editable '.[test]'
	@touch $(VENV)/.installed $@

install: $(VENV)/.installed

install-test: $(VENV)/.installed-test

demo: install
	$(BIN)/audiodiff demo --out demo --force

test: lint format-check types layers unit

test-all: slow processors packages

lint: install-test
	$(BIN)/ruff check .

format-check: install-test
	$(BIN)/ruff format --check .

types: install-test
	$(BIN)/pyright

layers: install-test
	$(BIN)/lint-imports

unit: install-test
	$(PYTEST)

# What the ordinary tests leave out: whole recipes, and whatever takes more than a few seconds.
slow: install-test
	$(PYTEST) -m 'slow or recipe'

# The instruction sets of torch's own kernels, of oneDNN and of MKL; native, which `unit` tries on one thread, is what
# each detects. Two threads share the cores with no second process, and sleep soon where they wait for each other.
processors: install-test
	@set -e; for threads in 1 2; do \
	for set in "ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_ENABLE_INSTRUCTIONS=SSE4_2" \
	"ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2" ""; do \
	[ "$$threads$$set" != 1 ] || continue; \
	echo "processor: $${set:-native}, threads: $$threads"; \
	env GOMP_SPINCOUNT=1000 $$set $(PYTEST) -n $$((2 / threads)) -m 'numeric and not slow and not recipe and not gpu' \
	--threads $$threads $$(grep -rl mark.numeric tests --include='*.py'); done; done

# The wheel and the sdist, each installed with the lock into a new environment, and used.
packages: install-test
	$(BIN)/python scripts/packages.py

$(TOOLS)/bin/uv:
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check uv

lock: $(TOOLS)/bin/uv
	$(TOOLS)/bin/python scripts/lock.py

ranges: $(TOOLS)/bin/uv
	$(TOOLS)/bin/python scripts/ranges.py

format: install-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: install-test
	$(BIN)/python -m hatchling build -t wheel

clean:
	rm -rf $(VENV) $(TOOLS) dist demo generated runs .pytest_cache .ruff_cache .import_linter_cache
