# `make` alone prints what there is. Everything installs what it needs first.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
KLINES := $(BIN)/klines
COMPOSE ?= $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)

# Where workers of compose.yaml run here, `enqueue status cancel flower` go to them; else to the fleet of .venv.
SERVED = $(eval SERVED := $$(shell $(COMPOSE) ps --services --filter status=running 2>/dev/null | grep -x worker))$(SERVED)
READY = @$(if $(SERVED),true,$(MAKE) --no-print-directory install)
AT_FLEET = $(if $(SERVED),$(COMPOSE) run --rm --no-deps -T worker klines,$(KLINES))

# DEMO=1 with any of `up down scale logs ps enqueue …`: a project of its own that asks the stand-in exchange.
ifdef DEMO
# Its own bucket and Redis even where .env names shared ones: what is made up never mixes with what is real.
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
export COMPOSE_PROJECT_NAME COMPOSE_PROFILES REDIS_HOST S3_ENDPOINT_URL S3_BUCKET KLINES_SPOT_URL KLINES_UM_URL \
	KLINES_CM_URL KLINES_ARCHIVE_URL KLINES_ARCHIVE_LIST_URL
endif

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

.PHONY: help install demo test test-compose lint format bench pictures up down scale logs ps enqueue download catalog verify \
	coverage worker flower status cancel lock clean

help:  ## Print this table
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14
	@echo
	@echo "Variables: MARKET=spot|um|cm SYMBOLS=BTCUSDT,ETHUSDT|all KIND=klines INTERVAL=1m START=2024-01-01 END=2025-01-01"
	@echo "           SOURCE=auto|archive|rest RUN=… WORKERS=4 SERVICE=worker DEMO=1"

install: .venv/installed  ## Make .venv from the lock

.venv/installed: deploy/requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, $(PYTHON) is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --require-hashes --requirement deploy/requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: install  ## Download three markets from a stand-in exchange, with Flower, and show what came of it
	@$(BIN)/python -m deploy.demo

# Half of the time they wait: two files at a time, whatever the number of cores.
test: install  ## Run the unit, integration and acceptance tests
	$(BIN)/pytest -n 2 --dist loadfile

test-compose: install  ## Run the fleet in containers and kill parts of it (needs a Docker engine)
	$(BIN)/pytest tests/compose

lint: install  ## Check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install  ## Put the code into its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install  ## Measure the figures of the README (about three quarters of an hour; ONLY=name for one)
	$(BIN)/python -m tests.benchmarks $(ONLY)

pictures: install  ## Make the pictures of the README again (needs tmux and Chromium)
	$(BIN)/python deploy/docs/pictures.py

download: install  ## Fetch REQUEST variables with a private worker, and wait
	$(KLINES) download --local $(REQUEST)

up:  ## Build the image and start the fleet of compose.yaml (WORKERS=4; DEMO=1: with a stand-in exchange)
	@$(PYTHON) -m deploy.up

down:  ## Stop that fleet once work in hand is done or handed back; its volumes stay
	$(COMPOSE) down --remove-orphans

scale:  ## Have WORKERS=8 worker containers, more or fewer, also while work is under way
	$(COMPOSE) up --detach --no-deps --no-recreate --scale worker=$(or $(WORKERS),$(error say WORKERS=8)) worker

logs:  ## Follow its logs (SERVICE=worker for one)
	$(COMPOSE) logs --follow --tail=100 $(SERVICE)

ps:  ## Show its containers
	@$(COMPOSE) ps

enqueue:  ## Hand the request to the fleet, print the run's id and return
	$(READY)
	$(AT_FLEET) download --detach $(REQUEST)

catalog: install  ## Make the catalog of every symbol that MARKET has or had
	$(KLINES) catalog update --local --market $(MARKET)

coverage: install  ## Tell and draw (coverage.html) what the lake holds; exit 1 where something is missing
	$(KLINES) coverage --plot coverage.html

verify: install  ## Fetch again what the archive has published anew of the series
	$(KLINES) verify --revisions --local $(SERIES)

worker: install  ## Work for the fleet until Ctrl-C
	$(KLINES) worker

flower:  ## Watch tasks and workers at http://127.0.0.1:5555
	$(READY)
	$(if $(SERVED),@echo "Flower: http://$$($(COMPOSE) port flower 5555), user and password: FLOWER_BASIC_AUTH in .env",$(KLINES) flower)

status:  ## Tell how runs stand (RUN=… for one)
	$(READY)
	$(AT_FLEET) status $(RUN)

cancel:  ## End a run (RUN=…)
	$(READY)
	$(AT_FLEET) cancel $(RUN)

lock:  ## Write deploy/requirements.lock anew (needs uv)
	uv pip compile --universal --python-version 3.11 --extra read --extra dev --generate-hashes --no-emit-index-url --no-annotate \
		--no-header --quiet pyproject.toml --output-file deploy/requirements.lock

clean:  ## Remove .venv and caches; the lake in ./data stays
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build deploy/package/*.egg-info
