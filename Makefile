# Everything sets itself up in .venv; nothing is installed outside this folder.
PYTHON ?= python3
VENV := .venv
# Two processes; each file's tests in one, since they share what they build.
PYTEST_ARGS ?= --numprocesses 2 --dist loadfile --durations 10
BIN := $(VENV)/bin
DEMO ?= demo
FINDINGS ?= findings
# The generated tables of these pages; the tests give cog the same options.
PAGES := README.md $(wildcard docs/*.md)
COG := $(BIN)/python -m cogapp --verbosity=1 -P -p "from benchmark.upkeep.readme import show"

.PHONY: demo keep-demo test lint lock readme walk bench fuzz soak findings clean
.DEFAULT_GOAL := help

help:
	@echo "make demo      a miniature Biwi and SynHead, the four datasets, trained baselines, a scoreboard"
	@echo "make test      the tests"
	@echo "make lint      ruff, mypy, which room may import which, and whether the pages' tables are what results/ gives"
	@echo "make readme    write the tables of the README and of docs/ from results/"
	@echo "make walk      run the commands that the pages in docs/ show, and write down what they print and draw"
	@echo "make bench     measure the build and the training, and keep the figures in results/bench"
	@echo "make findings  train what docs/findings.md rests on (hours), and keep the records in results/findings"
	@echo "make fuzz      ten thousand mutations of valid submissions, each a score or a list of faults"
	@echo "make soak      kill commands at random moments, fill disks, and keep the record in results/soak.json"
	@echo "make lock      resolve the dependencies again into requirements.lock"

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "Python 3.10 or newer is needed, $(PYTHON) is older: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/.ready: requirements.lock setup.cfg pyproject.toml | $(BIN)/uv
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --compile-bytecode --requirement requirements.lock
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --editable .
	@touch $@

demo: $(VENV)/.ready
	$(BIN)/hpp demo $(DEMO)

# What the README shows of a finished demo, into results/demo; then `make readme`.
keep-demo: $(VENV)/.ready
	$(BIN)/python -c "from pathlib import Path; from benchmark.upkeep.readme import keep_demo; keep_demo(Path('$(DEMO)'))"

test: $(VENV)/.ready
	$(BIN)/pytest $(PYTEST_ARGS)

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(COG) --check --diff $(PAGES)

readme: $(VENV)/.ready
	$(COG) -r $(PAGES)

walk: $(VENV)/.ready
	$(BIN)/python -m benchmark.upkeep.walk

bench: $(VENV)/.ready
	$(BIN)/hpp bench build bench --json results/bench/build.json
	$(BIN)/hpp build-datasets --biwi bench/raw/hpdb --synhead bench/raw/synhead2_release \
	  --manifest bench/raw/data_manifest.csv --out bench/data
	$(BIN)/hpp bench loader --data bench/data --json results/bench/loader.json
	$(BIN)/hpp miniature bench/small
	$(BIN)/hpp build-datasets --biwi bench/small/hpdb --synhead bench/small/synhead2_release \
	  --manifest bench/small/data_manifest.csv --size 32 --out bench/small/data
	$(BIN)/hpp bench train --data bench/small/data --preset miniature --json results/bench/train.json
	$(BIN)/hpp bench score --json results/bench/score.json

fuzz: $(VENV)/.ready
	HPP_FUZZ=10000 $(BIN)/pytest tests/benchmark/scoring/test_fuzz.py -q -s

soak: $(VENV)/.ready
	$(BIN)/python -m benchmark.upkeep.soak results/soak.json

findings: $(VENV)/.ready
	$(BIN)/python -m benchmark.studies.diagnosis $(FINDINGS)/diagnosis
	$(BIN)/python -m benchmark.studies.power $(FINDINGS)/power --draws 24
	$(BIN)/python -m benchmark.studies.claims results/findings
	$(BIN)/python -m benchmark.studies.findings results/findings

lock: | $(BIN)/uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --no-header --no-annotate \
	  --no-emit-index-url --extra serve --extra parquet --extra detect --extra miniature --extra render --extra dask --extra study --extra tensorboard --extra dev --output-file requirements.lock setup.cfg

clean:
	rm -rf $(DEMO) bench .pytest_cache .mypy_cache .ruff_cache
