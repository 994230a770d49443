# `make` alone prints what there is. Everything installs what it needs first.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
KLINES := $(BIN)/klines

MARKET ?= spot
SYMBOLS ?= BTCUSDT
KIND ?= klines
INTERVAL ?= 1m
START ?= 2024-01-01
END ?=
SOURCE ?= auto
SERIES = --market $(MARKET) $(if $(filter all,$(SYMBOLS)),--all,--symbols $(SYMBOLS)) --kind $(KIND) \
	$(if $(filter fundingRate,$(KIND)),,--interval $(INTERVAL))
REQUEST = $(SERIES) --start $(START) $(if $(END),--end $(END)) --source $(SOURCE)

.PHONY: help install demo test lint format bench download enqueue catalog verify worker flower status cancel lock clean

help:  ## Print this table
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12
	@echo
	@echo "Variables: MARKET=spot|um|cm SYMBOLS=BTCUSDT,ETHUSDT|all KIND=klines INTERVAL=1m START=2024-01-01 END=2025-01-01"
	@echo "           SOURCE=auto|archive|rest RUN=…"

install: .venv/installed  ## Make .venv from the lock

.venv/installed: deploy/requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, $(PYTHON) is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement deploy/requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: install  ## Download three markets from a stand-in exchange, with Flower, and show what came of it
	@$(BIN)/python -m deploy.demo

test: install  ## Run the unit, integration and acceptance tests
	$(BIN)/pytest

lint: install  ## Check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install  ## Put the code into its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install  ## Measure the figures of the README (about half an hour; ONLY=name for one)
	$(BIN)/python -m tests.benchmarks $(ONLY)

download: install  ## Fetch REQUEST variables with a private worker, and wait
	$(KLINES) download --local $(REQUEST)

enqueue: install  ## Hand the request to the fleet, print the run's id and return
	$(KLINES) download --detach $(REQUEST)

catalog: install  ## Make the catalog of every symbol that MARKET has or had
	$(KLINES) catalog update --local --market $(MARKET)

verify: install  ## Fetch again what the archive has published anew of the series
	$(KLINES) verify --revisions --local $(SERIES)

worker: install  ## Work for the fleet until Ctrl-C
	$(KLINES) worker

flower: install  ## Watch tasks and workers at http://127.0.0.1:5555
	$(KLINES) flower

status: install  ## Tell how runs stand (RUN=… for one)
	$(KLINES) status $(RUN)

cancel: install  ## End a run (RUN=…)
	$(KLINES) cancel $(RUN)

lock:  ## Write deploy/requirements.lock anew (needs uv)
	uv pip compile --universal --python-version 3.11 --extra dev --generate-hashes --no-emit-index-url --no-annotate \
		--no-header --quiet pyproject.toml --output-file deploy/requirements.lock

clean:  ## Remove .venv and caches; the lake in ./data stays
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
