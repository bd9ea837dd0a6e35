# Everything sets itself up in .venv; nothing is installed outside this folder.
PYTHON ?= python3
VENV := .venv
# Two processes; each file's tests in one, since they share what they build.
PYTEST_ARGS ?= --numprocesses 2 --dist loadfile --durations 10
BIN := $(VENV)/bin
DEMO ?= demo
# What a run of the demo needs beside the packages that every use needs; `make install EXTRAS=serve,parquet` adds others.
EXTRAS ?= miniature
# auto: torch's CPU build where there is no NVIDIA GPU; cpu, cu126 and the like: that build; pypi: the package index's.
TORCH ?= auto
FINDINGS ?= findings
# The generated tables of these pages; the tests give cog the same options.
PAGES := README.md $(wildcard docs/*.md)
COG := $(BIN)/python -m cogapp --verbosity=1 -P -p "from benchmark.upkeep.readme import show"

.PHONY: install demo keep-demo test lint lock readme docs walk bench bench-service fuzz soak findings clean
.DEFAULT_GOAL := help

help:
	@echo "make install   hpp in .venv, with what the demo needs; EXTRAS=serve,parquet adds extras, TORCH=cpu picks a build"
	@echo "make demo      a miniature Biwi and SynHead, the four datasets, trained baselines, a scoreboard"
	@echo "make test      the tests"
	@echo "make lint      ruff, mypy, which room may import which, and whether the pages' tables are what results/ gives"
	@echo "make readme    write the tables of the README and of docs/ from results/"
	@echo "make docs      the documentation as a site, into site/: the pages, the commands, every function; links checked"
	@echo "make walk      run the commands that the pages in docs/ show, and write down what they print and draw"
	@echo "make bench     measure the build, the training and how both grow, and keep the figures in results/bench"
	@echo "make bench-service  measure the service's database on SQLite and PostgreSQL (EXTRAS=serve)"
	@echo "make findings  train what docs/findings.md rests on (hours), and keep the records in results/findings"
	@echo "make fuzz      ten thousand mutations of valid submissions, each a score or a list of faults"
	@echo "make soak      kill commands and the service, fill disks, attack secret labels: results/soak.json"
	@echo "make lock      resolve the dependencies again into requirements.lock"

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "Python 3.10 or newer is needed, $(PYTHON) is older: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

# Versions and hashes are those of requirements.lock, whatever part of it is installed.
INSTALL = VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --constraint requirements.lock

# For Linux on x86-64 the package index has torch with CUDA alone. CPU builds lie in PyTorch's own index, which not every
# network reaches. Their files are others, so the hashes of the lock are not theirs; their versions are the lock's.
TORCH_ALONE = $(INSTALL) --no-deps torch torchvision
FROM_ELSEWHERE = --no-verify-hashes --torch-backend
WITH_CUDA = torch comes with CUDA: about 3.0 GB to download, 5.5 GB on disk

$(VENV)/.torch: requirements.lock | $(BIN)/uv
	@case "$(TORCH) $$(uname -sm)" in \
	  "auto Linux x86_64") \
	    if nvidia-smi > /dev/null 2>&1; then echo "There is a GPU here: $(WITH_CUDA)."; \
	    elif UV_HTTP_RETRIES=0 UV_HTTP_TIMEOUT=10 $(TORCH_ALONE) $(FROM_ELSEWHERE) cpu --dry-run --quiet 2> /dev/null; then \
	      $(TORCH_ALONE) $(FROM_ELSEWHERE) cpu; \
	    else echo "There is no GPU here, but PyTorch's index of CPU builds gives none (make install TORCH=cpu says why)."; \
	      echo "So $(WITH_CUDA)."; \
	    fi;; \
	  auto*) ;; \
	  pypi*) $(TORCH_ALONE) --reinstall;; \
	  *) $(TORCH_ALONE) --reinstall $(FROM_ELSEWHERE) $(TORCH);; \
	esac
	@touch $@

$(VENV)/.installed: requirements.lock setup.cfg pyproject.toml $(VENV)/.torch
	$(INSTALL) --build-constraint requirements.lock --compile-bytecode --editable '.[$(EXTRAS)]'
	@touch $@

# All that tests, linters and upkeep need.
$(VENV)/.ready: requirements.lock setup.cfg pyproject.toml $(VENV)/.torch
	$(INSTALL) --build-constraint requirements.lock --compile-bytecode --all-extras --requirement setup.cfg --editable .
	@touch $(VENV)/.installed $@

install:
	@rm -f $(VENV)/.torch $(VENV)/.installed
	@$(MAKE) --no-print-directory $(VENV)/.installed

demo: $(VENV)/.installed
	$(BIN)/hpp demo $(DEMO)

# What the pages show of a finished demo, into results/demo; then `make readme`.
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

docs: $(VENV)/.ready
	$(BIN)/python docs/site

walk: $(VENV)/.ready
	$(BIN)/python -m benchmark.upkeep.walk

bench: $(VENV)/.ready
	$(BIN)/hpp bench build bench --json results/bench/build.json
	$(BIN)/hpp build-datasets --biwi bench/raw/hpdb --synhead bench/raw/synhead2_release --out bench/data
	$(BIN)/hpp bench loader --data bench/data --raw bench/raw --batch 100 --seconds 1 --json results/bench/loader.json
	$(BIN)/hpp miniature bench/small
	$(BIN)/hpp build-datasets --biwi bench/small/hpdb --synhead bench/small/synhead2_release \
	  --size 32 --out bench/small/data
	$(BIN)/hpp bench train --data bench/small/data --preset miniature --json results/bench/train.json
	$(BIN)/hpp bench train --data bench/data --batch 20 --device cpu --json results/bench/train-resnet18.json
	$(BIN)/hpp bench score --json results/bench/score.json
	$(BIN)/hpp bench start --json results/bench/start.json
	$(BIN)/hpp bench step --json results/bench/step.json
	$(BIN)/hpp bench scale --json results/bench/scale.json

bench-service: $(VENV)/.ready
	$(BIN)/hpp bench service --json results/bench/service.json

fuzz: $(VENV)/.ready
	HPP_FUZZ=10000 $(BIN)/pytest tests/benchmark/scoring/test_fuzz.py -q -s

soak: $(VENV)/.ready
	$(BIN)/python -m benchmark.upkeep.soak results/soak.json

findings: $(VENV)/.ready
	$(BIN)/python -m benchmark.studies.diagnosis $(FINDINGS)/diagnosis
	$(BIN)/python -m benchmark.studies.power $(FINDINGS)/power --draws 24
	$(BIN)/python -m benchmark.studies.claims results/findings
	$(BIN)/python -m benchmark.studies.findings results/findings
	$(BIN)/python -m benchmark.upkeep.pictures results/findings/*.png

lock: | $(BIN)/uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-header --no-annotate \
	  --no-emit-index-url --all-extras --output-file requirements.lock setup.cfg

clean:
	rm -rf $(DEMO) bench build site .pytest_cache .mypy_cache .ruff_cache
