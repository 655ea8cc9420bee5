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

# For every save: within a minute on two idle cores. It runs all files of tests but these, whose tests train, start
# processes, wait or open a browser. A new file takes part until it is named here; the slowest tests are listed.
LONG := $(patsubst %,tests/test_%.py,adafocus adafocus_v2 benchmarks cache cache_faults cache_trust commands comparison \
	damage data docs foreign_agents gpu interrupted lists networks notebooks odd_sets packages prediction pretrained released released_adafocus \
	released_adafocus_v2 report runs sb3 study)
LONG_TESTS := tests/test_conventions.py::test_processes_started_by_spawn

test-fast: .venv/installed
	@ls $(LONG) >/dev/null  # names the file that was renamed and is to be renamed here
	$(PYTEST) -q -n auto --dist loadfile --durations 5 --durations-min 2 \
		$(addprefix --ignore=,$(LONG)) $(addprefix --deselect=,$(LONG_TESTS))

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
