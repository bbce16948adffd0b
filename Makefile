# One word a chore. The first that needs it makes the environment in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
AIRFLOW_VENV := build/airflow-venv
AIRFLOW_STAMP := $(AIRFLOW_VENV)/.installed
BENCH_STAMP := $(VENV)/.bench
IMAGES_STAMP := $(VENV)/.images
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: $(shell sed -nE 's/^([a-z-]+):.*##.*/\1/p' $(MAKEFILE_LIST))

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1	/' | expand -t 14

install: $(STAMP)  ## Make the environment in .venv

$(STAMP): setup.py
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "hpo_spark needs Python 3.11 or newer, but $(PYTHON) is " + sys.version.split()[0] + ". Name another: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[spark,connect,arrow,keras-cpu,jax,sklearn,bayes,tpe,cmaes,optuna,report,dev]'
	@touch $@

demo: $(STAMP)  ## Search for a good digits classifier on local[*]
	$(BIN)/hpo-spark run conf/digits.yaml

cluster-demo: $(STAMP)  ## The same on a Spark cluster of this machine, a master and two workers, by spark-submit
	$(BIN)/python jobs/standalone.py conf/standalone/installed.sh run conf/digits.yaml

dist: $(STAMP)  ## Build what travels to clusters: wheel, zip, packed environment; EXTRAS=keras-cpu,sklearn,report for its contents
	$(BIN)/python jobs/pack.py $(if $(EXTRAS),--extras $(EXTRAS))

test: $(STAMP)  ## Run the tests, in two processes
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-long: $(STAMP)  ## Run whole searches that take longer
	$(BIN)/python -m pytest -m long

test-clusters: $(STAMP)  ## Run the tests on real Spark clusters, started and killed on this machine
	$(BIN)/python -m pytest -m cluster

test-gpus: $(STAMP)  ## Run those of them with simulated GPUs
	$(BIN)/python -m pytest -m cluster tests/clusters/test_gpus.py

test-matrix: $(STAMP)  ## Run the core tests on pyspark 3.5, 4.0 and the newest; ARGS="--python python3.13" on another Python
	$(BIN)/python tests/matrix.py $(ARGS)

test-faults: $(STAMP)  ## Kill a search on Spark 50 times and resume it
	$(BIN)/python -m pytest -m faults --timeout=3000

test-storm: $(STAMP)  ## Run the searches in which every fifth trial misbehaves
	$(BIN)/python -m pytest -m storm

test-browser: $(STAMP)  ## Open all kinds of reports in Chromium (apt-get install chromium); screenshots go to build/screenshots
	$(BIN)/python -m pytest -m browser

$(IMAGES_STAMP): $(STAMP)
	$(BIN)/pip install --quiet --editable '.[images]'
	@touch $@

test-images: $(IMAGES_STAMP)  ## Build the image and run searches in containers (as root, on Debian; no Docker needed)
	tests/images/install.sh
	$(BIN)/python -m pytest -m images

pin-image: $(STAMP)  ## Pin what the image gets from PyPI
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile setup.py docker/constraints.in --extra all --extra keras-cpu --python-version 3.11 \
	  --python-platform x86_64-manylinux_2_28 --no-annotate --custom-compile-command 'make $@' --upgrade --quiet --output-file docker/constraints.txt

test-tracking: $(STAMP)  ## Have MLflow load and register best models; and its small package alone
	$(BIN)/python -m pytest -m tracking

$(AIRFLOW_STAMP): jobs/airflow/requirements.txt
	$(PYTHON) -m venv $(AIRFLOW_VENV)
	$(AIRFLOW_VENV)/bin/pip install --quiet --requirement jobs/airflow/requirements.txt
	@touch $@

test-airflow: $(STAMP) $(AIRFLOW_STAMP)  ## Run the DAGs in an Airflow of their own, made in build/airflow-venv
	$(BIN)/python -m pytest -m airflow

test-connect: $(STAMP)  ## Put the executor for Spark Connect to the contract, and run searches, on a real server
	$(BIN)/python -m pytest -m connect --timeout=600

check: $(STAMP)  ## Lint, check the format and the types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## Put the code into its format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench-mnist: $(STAMP)  ## Search on the real MNIST; HPO_SPARK_DATA names the folder that holds mnist.npz
	$(BIN)/python -m benchmarks.mnist

bench-training: $(STAMP)  ## Time a training against Model.fit on the real MNIST; HPO_SPARK_DATA as for bench-mnist
	$(BIN)/python -m benchmarks.training $(ARGS)

$(BENCH_STAMP): $(STAMP)
	$(BIN)/pip install --quiet --editable '.[bench]'
	@touch $@

bench-stage: $(BENCH_STAMP)  ## Time the Spark stage and its peers side by side
	$(BIN)/python -m benchmarks.stage

bench-scale: $(BENCH_STAMP)  ## Keep 64 slots busy
	$(BIN)/python -m benchmarks.stage --scale

bench-flat: $(BENCH_STAMP)  ## Watch the driver's memory over 100,000 submissions
	$(BIN)/python -m benchmarks.stage --flat

bench-search: $(BENCH_STAMP)  ## Compare the searchers with their peers; ARGS=--reuse runs only what has changed
	$(BIN)/python -m benchmarks.search $(ARGS)

bench-bayes: $(BENCH_STAMP)  ## Keep 8 slots busy with Bayesian optimisation
	$(BIN)/python -m benchmarks.asking

bench-folds: $(STAMP)  ## Time the folds of a cross-validation on one slot and on two
	$(BIN)/python -m benchmarks.folds

bench-journal: $(BENCH_STAMP)  ## Time the record of a search, beside Optuna's storages
	$(BIN)/python -m benchmarks.journal

bench-report: $(STAMP)  ## Time the report of 10,000 trials, and weigh it
	$(BIN)/python -m benchmarks.report

bench-data: $(STAMP)  ## Weigh the memory of data, and train on a million rows from Spark and Parquet
	$(BIN)/python -m benchmarks.data

bench-fused: $(STAMP)  ## Train small models together on the real MNIST; HPO_SPARK_DATA as for bench-mnist
	$(BIN)/python -m benchmarks.fused $(ARGS)

bench-fidelities: $(BENCH_STAMP)  ## Search MNIST with a fifth of the grid's epochs; ARGS=--table, HPO_SPARK_DATA as above
	$(BIN)/python -m benchmarks.fidelities $(ARGS)

clean:  ## Remove the environment and what was built
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
