VENV := .venv
BIN := $(abspath $(VENV))/bin
READY := $(VENV)/.ready
PYTHON ?= python3
PORT ?= 5000
# The stages are commands of the environment, so they are found there first.
export PATH := $(BIN):$(PATH)

.PHONY: help setup versioned demo cv predict fetch test validate kills lint docs format bench compare experiments plots page ui \
  team-server clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY) ## make the virtual environment with everything in it

# Python compiles a module when it is first imported; pip would compile all of them, which takes a minute.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Space Warps needs Python 3.11 or later, but $(PYTHON) is $$($(PYTHON) --version 2>&1); set PYTHON=..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	"$(BIN)"/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev,docs,hdf5,onnx,ray,s3,team,zarr]'
	@touch $@

versioned:
	@git rev-parse --git-dir >/dev/null 2>&1 || { echo "DVC needs a git repository, and this folder is in none" \
	  "(a zip download?); make one: git init && git add --all && git commit --message 'Space Warps'" >&2; exit 2; }

demo: versioned $(READY) ## run the whole pipeline and say where its results are
	@if dvc status --quiet dvc.yaml; then echo "Data and pipelines are up to date." && spacewarps result; else dvc repro; fi

cv: versioned $(READY) ## search, train and test in every outer fold of the survey (some minutes each)
	dvc repro crossvalidation/dvc.yaml

predict: versioned $(READY) ## ask the final network about the survey of `predict` in params.yaml
	dvc repro prediction/dvc.yaml

fetch: versioned $(READY) ## fetch the stamps of the catalogue that `fetch` in params.yaml names, from an archive
	dvc repro fetching/dvc.yaml

test: $(READY) ## run the test suite
	pytest -q -n 2 -m 'not long and not kills'

validate: $(READY) ## run the pipeline as its users drive it: repeats, experiments, losses (some minutes)
	pytest -q -n 3 -m 'long and not kills'

kills: $(READY) ## kill searches and pipelines a hundred times and more (some minutes)
	pytest -q -n 2 -m kills

lint: $(READY) ## check format, style and types
	ruff format --check .
	ruff check .
	mypy

docs: $(READY) ## build the site of the documentation into build/docs
	rm -rf build/docs docs/api
	sphinx-build --quiet --builder html --fail-on-warning --keep-going --nitpicky docs build/docs
	@echo "open build/docs/index.html"

format: $(READY) ## put the code into its format
	ruff format .
	ruff check --fix .

bench: $(READY) ## measure what training costs, beside the common way
	python benchmarks/throughput.py

compare: $(READY) ## search beside Optuna and fixed networks, in outer folds of the prepared survey (hours)
	python benchmarks/comparison.py data/prepared .spacewarps/comparison
	python benchmarks/search_settings.py data/prepared .spacewarps/comparison

# Without these words DVC's table has a column for each file of code, and for each param that no experiment changes. With
# them, three changed params fit into 120 columns, and two with short names into 80.
experiments: versioned $(READY) ## list the experiments: what was changed, and what came of it
	@if [ "$$(tput cols 2>/dev/null || echo 80)" -lt 120 ]; then kept=accuracy; else kept='accuracy|log_loss'; fi; \
	  dvc exp show --only-changed --keep "($$kept)$$" --drop 'Created|log_loss|ece|blocks|.*/'

# DVC's own page loads its scripts from the network. They come with a package of 33 MB, so only who asks gets it.
plots: versioned $(READY) ## draw DVC's plots on a page that works without a network (REV='HEAD NAME' compares two)
	@python -c 'import vl_convert' 2>/dev/null || python -m pip install --quiet --constraint constraints.txt --editable '.[plots]'
	@mkdir -p build && python -m spacewarps.commands.plots_page build/plots.html
	@dvc plots $(if $(REV),diff $(REV),show) --html-template build/plots.html

page: $(READY) build/npm/node_modules/onnxruntime-web ## write the final network as a page that runs it in a browser, build/page.html
	spacewarps export --out build/model.onnx --page build/page.html --runtime build/npm/node_modules/onnxruntime-web

# What runs the network there: 14 MB, so only who asks gets it.
build/npm/node_modules/onnxruntime-web:
	npm install --silent --no-save --no-package-lock --no-audit --no-fund --prefix build/npm onnxruntime-web@1.30.0

ui: $(READY) ## open the MLflow UI on 127.0.0.1 (PORT=5000)
	@MLFLOW_BACKEND_STORE_URI=$$(python -m spacewarps.tracking.ui $(PORT)) && export MLFLOW_BACKEND_STORE_URI && \
	  MLFLOW_DISABLE_TELEMETRY=true mlflow ui --host 127.0.0.1 --port $(PORT)

# `exec`, so that a signal for the shell reaches the server.
team-server: $(READY) ## try out MLflow as a team runs it, on 127.0.0.1: PostgreSQL, S3, passwords (PORT=5000)
	@exec python -m spacewarps.team --port $(PORT)

clean: ## remove the virtual environment
	rm -rf $(VENV)
