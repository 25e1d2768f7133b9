# `make demo`, `make test` and `make docs` need only Python 3.11 and pip; each makes .venv as needed.
PYTHON ?= python3
BIN = .venv/bin
TORCH = 2.13.0

PYTEST = OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n 2

.PHONY: demo test test-all test-versions fuzz kills lint types docs clean

demo: .venv/ready
	$(BIN)/drawnet train digits_quick --out out/demo --resume
	$(BIN)/drawnet evaluate out/demo --split test --out out/demo/evaluation.json
	$(BIN)/drawnet sample out/demo -n 64 --seed 0 --out out/demo/samples.png \
	  --stages out/demo/stages.png --neighbours out/demo/neighbours.png
	$(BIN)/drawnet sample out/demo -n 16 --seed 0 --out out/demo/drawing.gif

test: .venv/ready lint types
	$(PYTEST) -m "not slow"

test-all: test
	$(PYTEST) -m slow

# Thousands of hostile cases, in five minutes on two cores; `make fuzz SEED=1` runs others.
SEED ?= 0
fuzz: .venv/ready
	cd tests && PYTHONPATH=.:../tools OMP_NUM_THREADS=1 ../$(BIN)/python -m fuzz --seed $(SEED)

# Trainings killed 200 times, 56 of them within the writing of a checkpoint; some ten minutes.
kills: .venv/ready
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python tests/kills.py 200

# The short form of the tests on every Python at hand from 3.11 to 3.14, with the oldest and the newest torch
# that pyproject.toml declares, where the index has them; an environment each, in out/versions.
test-versions:
	$(PYTHON) tools/versions.py

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready
	$(BIN)/mypy

# The CPU build of PyTorch where the index has one for this version, else the registry's own.
.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet torch==$(TORCH)
	$(BIN)/pip install --quiet -e '.[compression,data,demo,plots,export,hub,notebooks,tensorboard,wandb,mlflow,ray]' \
	  datasets pytest pytest-xdist hypothesis \
	  ruff mypy hatchling httpx playwright
	touch $@

docs: .venv/docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -d out/doctrees docs out/site
	@echo out/site/index.html

.venv/docs: .venv/ready
	$(BIN)/pip install --quiet -e '.[docs]'
	touch $@

clean:
	rm -rf .venv .hypothesis out runs dist
