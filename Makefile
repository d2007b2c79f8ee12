# Two commands matter: `make quickstart` and `make test`. Both set up what they need.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
STAMP := $(VENV)/.govor

.PHONY: help quickstart test check bench format setup clean
.DEFAULT_GOAL := help

help: ## Show this list
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

quickstart: $(STAMP)-run ## The main job once, on real speech: 8 to 17 minutes on two cores
	@$(BIN)/govor quickstart

test: $(STAMP)-dev ## Everything a fresh machine can run, the real end-to-end run included
	@if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] && ! { command -v chromium && command -v espeak-ng; } >/dev/null; then \
		echo "installing chromium and espeak-ng, which the tests of pages and word times use"; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium espeak-ng; } >/dev/null 2>&1 || true; fi
	@$(BIN)/python -m pytest

check: $(STAMP)-dev ## Format, lint, types and the fast tests
	$(BIN)/ruff format --check src tests bench
	$(BIN)/ruff check src tests bench
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not real" -x

bench: $(STAMP)-dev ## Side-by-side measurements against peers; prints ratios
	@$(BIN)/python -m bench

format: $(STAMP)-dev ## Format and fix what can be fixed
	$(BIN)/ruff format src tests bench
	$(BIN)/ruff check --fix src tests bench

setup: $(STAMP)-dev ## The virtual environment with everything a developer needs

clean: ## Remove the virtual environment
	rm -rf $(VENV)

$(VENV)/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "govor: $(PYTHON) is missing; install Python 3.11 or newer: apt-get install python3 python3-venv"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "govor: Python 3.11 or newer is needed; name one with PYTHON=python3.11"; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "govor: Python's venv is missing; install it: apt-get install python3-venv"; exit 2; }
	@$(PYTHON) -m venv $(VENV)

$(STAMP)-run: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing the pinned packages into $(VENV) (torch is the largest)"
	@$(PIP) install -qq -c constraints.txt -e . || { echo "govor: the packages cannot be installed; check the network and the disk, then try again"; exit 2; }
	@touch $@

$(STAMP)-dev: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing the pinned packages into $(VENV) (torch is the largest)"
	@$(PIP) install -qq -c constraints.txt -e '.[dev]' || { echo "govor: the packages cannot be installed; check the network and the disk, then try again"; exit 2; }
	@touch $@ $(STAMP)-run
