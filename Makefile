# Everything runs in .venv, which is made by the first target that needs it.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow check docs clean

demo: .venv/installed
	$(BIN)/video-env demo

# One process per core, with one thread each; the tests of a file share what they make.
test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

test-slow: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow

docs: .venv/installed
	$(BIN)/python -m sphinx -W --keep-going -n -b html docs build/docs

check: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

clean:
	rm -rf .venv
