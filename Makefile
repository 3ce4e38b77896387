# Every target needs only Python, git and make: `venv` builds .venv with uv, which it installs into .venv itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
PYTEST := $(BIN)/python -m pytest
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help venv demo test fast check format bench soak serve docs generate peers clean lock

help: ## Show the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "%-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(STAMP) ## Build .venv: default install plus test tools

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable . --group dev
	touch $@

demo: venv ## Run the main job end to end, printing what it does and its figures
	$(BIN)/python -m ipfs_kit.demo

test: venv ## The whole suite (under 12 minutes)
	$(PYTEST) -n $(WORKERS) --dist worksteal -m "not soak"

fast: venv ## The tier for the inner loop (under 2 minutes)
	$(PYTEST) -n $(WORKERS) --dist worksteal -m "not slow and not soak"

soak: venv ## Long runs; prints seeds and results
	$(PYTEST) -m soak -s

check: venv ## Format, lint, types, layers, tidiness
	$(BIN)/ruff format --check src tests benchmarks tools
	$(BIN)/ruff check src tests benchmarks tools
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) -q tests/test_tidy.py tests/test_public_names.py tests/test_generated.py

format: venv ## Rewrite files to the format
	$(BIN)/ruff format src tests benchmarks tools
	$(BIN)/ruff check --fix src tests benchmarks tools

bench: venv ## Print the figures, each beside its limit or peer
	$(BIN)/python -m benchmarks

serve: venv ## Serve a store over loopback HTTP
	$(BIN)/ipfs-kit serve

generate: venv ## Rewrite generated files: Python view, schema snapshots, reference
	$(BIN)/python -m tools.generate

docs: generate ## Rewrite the reference and run the guides' commands
	$(PYTEST) -q tests/docs

peers: venv ## Build current Kubo into .peers and regenerate the golden vectors
	$(BIN)/python -m tools.peers

lock: ## Recompile constraints.txt
	$(BIN)/uv pip compile --quiet --no-header --no-emit-index-url --group dev pyproject.toml --output-file constraints.txt

clean: ## Remove what builds leave behind
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
