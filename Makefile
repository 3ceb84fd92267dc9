# Needs Python 3.10 or newer and make; everything else comes from pip into .venv.
PYTHON ?= python3
ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif

.PHONY: help demo demo-train check test test-all lint copies bench figures docs clean
.DEFAULT_GOAL := help

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/ready  ## set up, restore the sample photos with the bundled weights, show before, after and scores
	$(BIN)/python demo/demo.py

demo-train: .venv/ready  ## train a small MHNet on synthetic rain for a few minutes, restore photos with it
	$(BIN)/python demo/train.py

check: .venv/ready-test  ## run the units and reference values: a minute, at each save
	$(BIN)/python -m pytest -m check -n auto --dist loadfile --timeout 60

test: .venv/ready-test  ## run what users rely on; what needs an extra or a program that is not here is skipped
	$(BIN)/python -m pytest -m "not ci" -n auto --dist loadfile

test-all: export MHNET_TEST_ALL = 1  # what is missing is an error
test-all: .venv/ready-test-all  ## run all tests, with all extras, Octave and Chromium, as CI does
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder --durations 25

lint: .venv/ready-test-all .venv/ready-lint  ## check style and types
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m pyright
	$(BIN)/python -m pyright --project .ci/strict.json

copies: .venv/ready  ## write mhnet/models/mhnet.py into both rooms
	$(BIN)/python tests/copies.py

bench: .venv/ready  ## time network, training, loading and scoring against the published ways
	$(BIN)/python benchmarks/inference.py --quick
	$(BIN)/python benchmarks/training.py --quick
	$(BIN)/python benchmarks/data.py
	$(BIN)/python benchmarks/metrics.py

figures: .venv/ready  ## draw the pictures in fig/ again
	$(BIN)/python fig/draw.py
	$(BIN)/python fig/degradations.py

docs: .venv/ready .venv/ready-docs  ## build the site in build/site
	$(BIN)/python docs/build.py

clean:  ## remove .venv, the demo's output and the site
	rm -rf .venv demo/out build .cache

.venv/bare:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "MHNet needs Python 3.10 or newer: try 'make PYTHON=python3.12 $(MAKECMDGOALS)'." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/ready: .venv/bare pyproject.toml
	$(BIN)/python -m pip install --quiet -e .
	@touch $@

.venv/ready-test .venv/ready-test-all .venv/ready-lint .venv/ready-docs: .venv/ready-%: .venv/ready
	$(BIN)/python -m pip install --quiet -e '.[$*]'
	@touch $@
