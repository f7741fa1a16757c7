.DEFAULT_GOAL := help
.PHONY: help setup repro test fuzz lint bench docs ui clean

PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
PIP_QUIET := --quiet --disable-pip-version-check --no-warn-script-location --root-user-action=ignore

help:
	@echo "make repro   run the pipeline: data, encoder, features, head, recalls, report"
	@echo "make test    run the tests"
	@echo "make fuzz    run stages on 10,000 damaged and odd inputs; some 2 hours"
	@echo "make lint    ruff and mypy"
	@echo "make bench   measure the library and its search; table in docs/performance.md"
	@echo "make docs    this documentation as a site: data/site/index.html"
	@echo "make ui      MLflow on http://127.0.0.1:5000"
	@echo "make clean   remove the environment and everything the pipeline made"

# The stamp says which lock file the environment was made from.
setup: .venv/stamp
.venv/stamp: requirements.lock
	$(PYTHON) -m venv .venv
	.venv/bin/pip install $(PIP_QUIET) --require-hashes -r requirements.lock
	.venv/bin/pip install $(PIP_QUIET) --no-deps --no-build-isolation --editable .
	touch $@

repro: setup
	python -m pipeline.repro

test: setup
	python -m pytest -n logical --dist loadfile --no-loadscope-reorder

fuzz: setup
	python -m tests.fuzz --cases 10000

lint: setup
	ruff check .
	ruff format --check .
	mypy

bench: setup
	python -m bench --write

docs: setup
	python -m sphinx -W --keep-going -q -d data/.site docs data/site
	@echo data/site/index.html

ui: setup
	@echo "http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=rau"
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow server --workers 1 \
		--backend-store-uri sqlite:///mlflow.db --default-artifact-root mlruns

clean:
	rm -rf .venv rau.egg-info .mypy_cache .ruff_cache .pytest_cache data reports/* mlflow.db* mlruns .dvc/cache .dvc/tmp
