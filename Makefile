# Each target sets up .venv by itself when it is missing or older than pyproject.toml.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test check fix bench clean

demo: $(READY)  ## build an engine from a small generated world, serve it, identify a photograph
	$(BIN)/aitax demo $(ARGS)

test: $(READY)  ## all the tests (ARGS="-k name" for some)
	$(BIN)/python -m pytest $(ARGS)

check: $(READY)  ## format, lint, types: what CI checks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fix: $(READY)  ## format and lint, mending what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)  ## every benchmark, each against its peer, one after the other
	@for file in benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

clean:  ## the virtual environment and what tools left behind
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache *.egg-info build

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else "aitax_ray needs Python 3.11 to 3.13; call make PYTHON=python3.13")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --progress-bar off --upgrade-strategy only-if-needed -e '.[dev]'
	touch $@
