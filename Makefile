# `make` alone prints the targets. Each target installs what it needs first.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
KLINES := $(BIN)/klines
COMPOSE ?= $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)

# `enqueue status cancel flower` use the workers of compose.yaml where they run, else .venv.
RUNNING = $(COMPOSE) ps --services --filter status=running 2>/dev/null
SERVED = $(eval SERVED := $$(shell $(RUNNING) | grep -x worker))$(SERVED)
READY = @$(if $(SERVED),true,$(MAKE) --no-print-directory install)
FLOWER_LOGIN := user and password: FLOWER_BASIC_AUTH in .env
AT_FLEET = $(if $(SERVED),$(COMPOSE) run --rm --no-deps -T worker klines,$(KLINES))

# DEMO=1 with any of `up down scale logs ps enqueue …`: a second project, with a stand-in exchange.
ifdef DEMO
# It has its own bucket and Redis even where .env names shared ones: made-up rows never mix with
# real ones.
COMPOSE_PROJECT_NAME ?= klinefleet-demo
REDIS_HOST ?= redis
S3_ENDPOINT_URL ?= http://s3:8333
S3_BUCKET ?= demo
COMMA := ,
COMPOSE_PROFILES := demo$(addprefix $(COMMA),$(COMPOSE_PROFILES))
KLINES_SPOT_URL := http://exchange:8000
KLINES_UM_URL := http://exchange:8000
KLINES_CM_URL := http://exchange:8000
KLINES_ARCHIVE_URL := http://exchange:8000
KLINES_ARCHIVE_LIST_URL := http://exchange:8000/archive-list
export COMPOSE_PROJECT_NAME COMPOSE_PROFILES REDIS_HOST S3_ENDPOINT_URL S3_BUCKET \
	KLINES_SPOT_URL KLINES_UM_URL KLINES_CM_URL KLINES_ARCHIVE_URL KLINES_ARCHIVE_LIST_URL
endif

MARKET ?= spot
SYMBOLS ?= BTCUSDT
KIND ?= klines
INTERVAL ?= 1m
START ?= 2024-01-01
END ?=
SOURCE ?= auto
SERIES = --market $(MARKET) $(if $(filter all,$(SYMBOLS)),--all,--symbols $(SYMBOLS)) \
	--kind $(KIND) $(if $(filter fundingRate,$(KIND)),,--interval $(INTERVAL))
REQUEST = $(SERIES) --start $(START) $(if $(END),--end $(END)) --source $(SOURCE)

.PHONY: help install demo test test-compose lint format bench pictures up down scale logs ps \
	enqueue download catalog verify coverage worker flower status cancel lock clean

help:  ## Print this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14
	@echo
	@echo "Variables: MARKET=spot|um|cm SYMBOLS=BTCUSDT,ETHUSDT|all KIND=klines INTERVAL=1m"
	@echo "           START=2024-01-01 END=2025-01-01 SOURCE=auto|archive|rest"
	@echo "           RUN=… WORKERS=4 SERVICE=worker DEMO=1"

install: .venv/installed  ## Make .venv from the lock file

.venv/installed: deploy/requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, $(PYTHON) is " \
		+ sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile \
		--require-hashes --requirement deploy/requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--no-build-isolation --editable .
	@touch $@

demo: install  ## Download three markets from a stand-in exchange, with Flower
	@$(BIN)/python -m deploy.demo

# The tests wait half of the time: two files at a time, whatever the number of cores.
test: install  ## Run the unit, integration and acceptance tests
	$(BIN)/pytest -n 2 --dist loadfile

test-compose: install  ## Test the containers, and kill some (needs a Docker engine)
	$(BIN)/pytest tests/compose

lint: install  ## Check style, types and imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install  ## Measure the figures (about an hour; ONLY=name for one)
	$(BIN)/python -m tests.benchmarks $(ONLY)

pictures: install  ## Make the README's pictures (needs tmux and Chromium)
	$(BIN)/python deploy/docs/pictures.py

download: install  ## Download with a private worker, and wait (variables below)
	$(KLINES) download --local $(REQUEST)

up:  ## Start the fleet in containers (WORKERS=4; DEMO=1: with a stand-in exchange)
	@$(PYTHON) -m deploy.up

down:  ## Stop the containers; volumes stay
	$(COMPOSE) down --remove-orphans

scale:  ## Run WORKERS=8 worker containers, also with work under way
	$(COMPOSE) up --detach --no-deps --no-recreate \
		--scale worker=$(or $(WORKERS),$(error set WORKERS, for instance WORKERS=8)) worker

logs:  ## Follow the containers' logs (SERVICE=worker for one)
	$(COMPOSE) logs --follow --tail=100 $(SERVICE)

ps:  ## List the containers
	@$(COMPOSE) ps

enqueue:  ## Queue a download, print the run's id and return (variables below)
	$(READY)
	$(AT_FLEET) download --detach $(REQUEST)

catalog: install  ## Make the catalog of every symbol that MARKET has or had
	$(KLINES) catalog update --local --market $(MARKET)

coverage: install  ## Show what the lake holds and lacks, also as coverage.html
	$(KLINES) coverage --plot coverage.html

verify: install  ## Fetch files that the archive has published again (variables below)
	$(KLINES) verify --revisions --local $(SERIES)

worker: install  ## Run a worker until Ctrl-C
	$(KLINES) worker

flower:  ## Show tasks and workers at http://127.0.0.1:5555
	$(READY)
	$(if $(SERVED),@echo "Flower: http://$$($(COMPOSE) port flower 5555) ($(FLOWER_LOGIN))",$(KLINES) flower)

status:  ## Show the progress of runs (RUN=… for one)
	$(READY)
	$(AT_FLEET) status $(RUN)

cancel:  ## Cancel a run (RUN=…)
	$(READY)
	$(AT_FLEET) cancel $(RUN)

lock:  ## Update deploy/requirements.lock (needs uv)
	uv pip compile --universal --python-version 3.11 --extra read --extra dev --generate-hashes \
		--no-emit-index-url --no-annotate --no-header --quiet \
		pyproject.toml --output-file deploy/requirements.lock

clean:  ## Remove .venv and caches; the lake in ./data stays
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build \
		deploy/package/*.egg-info
