# Everything is installed into .venv and .venv-label-studio; nothing outside this folder is touched.
PYTHON ?= python3
VENV := .venv
STUDIO := .venv-label-studio
BIN := $(VENV)/bin
export OMP_NUM_THREADS ?= 1
# Container images often set it. Each command would then compile the libraries anew, for longer than it works.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo miniature test test-quality trainers check format install label-studio clean-demo

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(VENV)/.installed  ## Create .venv with guardset in it

label-studio: $(STUDIO)/.installed  ## Create Label Studio's own environment (its pins clash with Prefect's)

# torch comes first and through pip, which prefers a local CPU wheel where one is configured.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("guardset needs Python 3.11 or later, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv torch
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.txt -e '.[dev]'
	touch $@

$(STUDIO)/.installed: constraints-label-studio.txt | $(VENV)/.installed
	$(PYTHON) -m venv $(STUDIO)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(STUDIO)/bin/python -r constraints-label-studio.txt
	touch $@

demo: install label-studio  ## Run the whole job on drawn images, in demo-workspace/
	$(BIN)/python -m micro.demo --workspace demo-workspace

miniature: install  ## Decide the paper's claims on drawn images (about two hours on two cores), in miniature-workspace/
	$(BIN)/python -m micro.miniature --workspace miniature-workspace

test: install label-studio  ## Run the test suite, on two processors
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --ignore tests/quality

test-quality: install  ## Judge the weights, the miniature and other people's releases
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests/quality

trainers: install  ## Run an export's configs with each trainer, and write docs/trainers.md (downloads gigabytes)
	$(BIN)/python -m tests.quality.trainers.run

check: install  ## Lint, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install  ## Format and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean-demo: install  ## Stop the demo's servers and delete demo-workspace/
	-$(BIN)/guardset down --workspace demo-workspace
	rm -rf demo-workspace
