# Everything runs in .venv, which is made by the first target that needs it.
PYTHON ?= python3
BIN := .venv/bin
# One thread for each process.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: demo study test test-fast test-slow check docs hooks clean

demo: .venv/installed
	$(BIN)/video-env demo

study: .venv/installed
	$(BIN)/video-env study --seeds 3

# One process per core; the tests of a file share what they make.
test: .venv/installed
	$(PYTEST) -n auto --dist loadfile

# For every save: all files of tests but these. A new file takes part until it is named here.
LONG := SLOWLIST
test-fast: .venv/installed
	@ls $(LONG) >/dev/null  # a file that was renamed must be renamed here, or its tests would run again
	$(PYTEST) -q -n auto --dist loadfile --durations 5 --durations-min 2 $(addprefix --ignore=,$(LONG))

test-slow: .venv/installed
	$(PYTEST) -m slow

docs: .venv/installed
	$(BIN)/python -m sphinx -W --keep-going -n -b html docs build/docs

check: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# What .pre-commit-config.yaml names runs at every commit from now on.
hooks: .venv/installed
	$(BIN)/pre-commit install

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

clean:
	rm -rf .venv
