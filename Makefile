# `make demo` and `make test` need only Python 3.11 and pip; each makes .venv as needed.
PYTHON ?= python3
BIN = .venv/bin
TORCH = 2.13.0

.PHONY: demo test lint types clean

demo: .venv/ready
	$(BIN)/drawnet train digits_quick --out out/demo --resume
	$(BIN)/drawnet evaluate out/demo --split test --out out/demo/evaluation.json
	$(BIN)/drawnet sample out/demo -n 64 --seed 0 --out out/demo/samples.png \
	  --stages out/demo/stages.png --neighbours out/demo/neighbours.png
	$(BIN)/drawnet sample out/demo -n 16 --seed 0 --out out/demo/drawing.gif

test: .venv/ready lint types
	$(BIN)/python -m pytest

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready
	$(BIN)/mypy

# The CPU build of PyTorch where the index has one for this version, else the registry's own.
.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet torch==$(TORCH)
	$(BIN)/pip install --quiet -e '.[data,demo]' pytest ruff mypy hatchling httpx websockets
	touch $@

clean:
	rm -rf .venv out runs dist
