# Each target sets up .venv by itself when it is missing or older than pyproject.toml or constraints.txt.
PYTHON ?= python3
# The versions that the tests last passed with. CONSTRAINTS=/dev/null takes the newest ones instead.
CONSTRAINTS ?= constraints.txt
# Processes that run the tests. Two of them run all that needs Ray, and wait for it much of the time: a third one helps
# on two cores, too.
WORKERS ?= 3
BIN := .venv/bin
READY := .venv/.ready
# The web component, which a few tests run. It needs Node.js 18 or later; without npm these tests are skipped.
COMPONENT := tests/clients/node_modules/.package-lock.json

# Each process would compile this project's modules anew, and the tests start hundreds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check fix bench site constraints lock clean

demo: $(READY)  ## build an engine from a small generated world, serve it, identify a photograph
	$(BIN)/aitax demo $(ARGS)

test: $(READY) $(if $(shell command -v npm),$(COMPONENT))  ## all the tests (ARGS="-k name" for some)
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

check: $(READY)  ## format, lint, types: what CI checks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fix: $(READY)  ## format and lint, mending what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)  ## every benchmark, each against its peer, one after the other
	@for file in benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

site: $(READY)  ## the guides as web pages, in build/site
	$(BIN)/mkdocs build --strict

constraints:  ## write constraints.txt: the newest versions, in a new .venv; run the tests before you commit it
	rm -rf .venv
	$(MAKE) CONSTRAINTS=/dev/null $(READY)
	@echo "# Made by 'make constraints'. Without torch and what comes with it: which build fits is the machine's choice." > constraints.txt
	$(BIN)/python -m pip freeze --exclude-editable | grep -viE '^(torch|torchvision|triton|nvidia-|cuda-)' >> constraints.txt
	touch $(READY)

lock: $(READY)  ## write containers/*.lock: what images install, with hashes, in the versions of .venv; after constraints
	mkdir -p build
	$(BIN)/python -m pip freeze --exclude-editable > build/installed.txt
	printf '%s\n' setuptools "onnxruntime-gpu; sys_platform == 'linux' and platform_machine == 'x86_64'" > build/images.in
	$(PYTHON) -m venv build/uv
	build/uv/bin/pip install --quiet uv
	build/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	  --constraints build/installed.txt --output-file build/all.lock pyproject.toml build/images.in
	awk '/^[a-z]/ {file = /^(torch|triton|timm|nvidia-|cuda-|efficientnet|onnxruntime-gpu)/ ? "torch" : "base"} \
	  {print > ("containers/" file ".lock")}' build/all.lock

clean:  ## the virtual environment and what tools left behind
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache *.egg-info build tests/clients/node_modules

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else "aitax_ray needs Python 3.11 to 3.13; call make PYTHON=python3.13")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --progress-bar off --no-compile --upgrade-strategy only-if-needed -c $(CONSTRAINTS) -e '.[dev]'
	# pip would compile in one process, and also the tests of packages. Some packages hold files of other Python versions,
	# which do not compile.
	-$(BIN)/python -m compileall -qq -j 0 -x '/tests?/' .venv/lib
	touch $@

# Without a network the tests run all the same.
$(COMPONENT): tests/clients/package-lock.json
	-npm ci --prefix tests/clients --ignore-scripts --no-audit --no-fund --prefer-offline && touch $@
