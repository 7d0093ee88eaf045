# `make lint`, `make test`, `make docs` and `make demo` each build the environment they need and run in it.
# Another Python: make test PYTHON=python3.12

PYTHON ?= python3
PROCESSES ?= 2

BIN := .venv/bin
READY := .venv/.ready
LOGGERS_READY := .venv/.ready-loggers
BROWSER_READY := .venv/.ready-browser
DOCS_READY := .venv/.ready-docs
OLDEST_BIN := .venv-oldest/bin
OLDEST_READY := .venv-oldest/.ready

BUILT := setup.py $(wildcard lightning_tailindex/kernels/*.[ch])

PIP := python -m pip --disable-pip-version-check --no-input install --quiet
# The tests run in several processes: one thread each, or they fight over the cores.
test test-long test-loggers test-oldest test-browser pictures: export OMP_NUM_THREADS := 1
test test-long test-loggers test-oldest test-browser pictures: export MKL_NUM_THREADS := 1
# What a file of tests trains for all of them is trained once: a file stays with one process.
PYTEST := python -m pytest -n $(PROCESSES) --dist loadfile -rs

.DEFAULT_GOAL := help
.PHONY: help demo test test-long test-loggers test-oldest test-browser pictures docs lint format clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## train on scikit-learn's digits and measure the tails of the gradient noise
	$(BIN)/python examples/digits.py

test: $(READY) ## run the tests, and ask them to cover 95 % of the package
	$(BIN)/$(PYTEST) -m "not long and not browser" --cov --cov-report=term-missing:skip-covered --cov-fail-under=95

# Both are large, 190 MB; whoever does not touch the loggers can do without them.
test-loggers: $(LOGGERS_READY) ## run the tests of MLflow and W&B, on Python 3.11 or later
	$(BIN)/python -m pytest -rs tests/loggers -k "mlflow or wandb"

test-long: $(READY) ## run the tests that take minutes
	$(BIN)/$(PYTEST) -m long --timeout 3600

# Old versions deprecate what other old versions do; what we do that is deprecated shows on the newest.
test-oldest: $(OLDEST_READY) ## run the tests on the oldest supported versions (Python 3.10 or 3.11)
	$(OLDEST_BIN)/$(PYTEST) -m "not long and not browser" -W ignore::DeprecationWarning -W ignore::FutureWarning

# One browser looks at one TensorBoard, so this is one process. Without chromium it is skipped, with the reason.
test-browser: $(BROWSER_READY) ## look at the demo's run in TensorBoard with chromium, page by page
	$(BIN)/python -m pytest -rs -m browser tests/browser

pictures: $(BROWSER_READY) ## the same, and keep what is seen as the pictures of the documentation
	$(BIN)/python -m pytest -rs -m browser tests/browser --pictures docs/dashboard

# Read anew each time: of pages that did not change there would be no warnings.
docs: $(DOCS_READY) ## build the documentation into site/; a warning is an error
	rm -rf site
	$(BIN)/python -m sphinx -b html -c docs -d build/doctrees -E -W --keep-going -q . site

lint: $(READY) ## check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict lightning_tailindex examples

format: $(READY) ## let ruff mend style and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove what builds, tests and demos leave behind; the environments stay
	rm -rf build dist site lightning_logs runs .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find lightning_tailindex tests examples -name __pycache__ -prune -exec rm -rf {} +

# What builds the package comes first, and from the pins: a build in isolation would take whichever is newest.
$(READY): pyproject.toml constraints.txt $(BUILT)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/$(PIP) -c constraints.txt setuptools
	$(BIN)/$(PIP) -c constraints.txt --no-build-isolation -e '.[dev]'
	touch $@

$(LOGGERS_READY): $(READY)
	$(BIN)/$(PIP) -c constraints.txt --no-build-isolation -e '.[loggers]'
	touch $@

$(BROWSER_READY): $(READY)
	$(BIN)/$(PIP) -c constraints.txt --no-build-isolation -e '.[browser]'
	touch $@

$(DOCS_READY): $(READY)
	$(BIN)/$(PIP) -c constraints.txt --no-build-isolation -e '.[docs]'
	touch $@

$(OLDEST_READY): pyproject.toml constraints-oldest.txt $(BUILT)
	test -x $(OLDEST_BIN)/python || $(PYTHON) -m venv .venv-oldest
	$(OLDEST_BIN)/$(PIP) -c constraints-oldest.txt setuptools
	$(OLDEST_BIN)/$(PIP) -c constraints-oldest.txt --no-build-isolation -e '.[test]'
	touch $@
