# Every target makes what it needs: `make demo` and `make test` start from a bare Python 3.11 and a
# clone. What is installed is remembered in stamps inside .venv and not installed again.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet install --constraint constraints.txt
INTEGRATIONS := integrations/langchain-kosmos integrations/llama-index-readers-kosmos
METADATA := pyproject.toml constraints.txt $(INTEGRATIONS:%=%/pyproject.toml)

.PHONY: demo demo-kosmos test test-fast lint format docs bench soak clean

demo: $(VENV)/.demo  ## read the example archive, ask three questions, draw the cited pages
	$(BIN)/python examples/demo.py

demo-kosmos: $(VENV)/.dev  ## read drawn pages with the small KOSMOS-2.5 of tests/assets
	$(BIN)/python examples/nano_demo.py

test: $(VENV)/.dev  ## all tests, the slow ones too
	$(BIN)/pytest

test-fast: $(VENV)/.dev  ## unit tests only
	$(BIN)/pytest -m "not slow"

lint: $(VENV)/.dev  ## ruff, ruff format, mypy strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy tests/typing/*.py
	cd integrations/langchain-kosmos && ../../$(BIN)/mypy --config-file ../../pyproject.toml -p langchain_kosmos
	cd integrations/llama-index-readers-kosmos && ../../$(BIN)/mypy --config-file ../../pyproject.toml -p llama_index.readers.kosmos -p llama_index.node_parser.kosmos -p llama_index.vector_stores.kosmos

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.dev  ## the documentation, strictly
	$(BIN)/mkdocs build --strict

bench: $(VENV)/.dev  ## reading, retrieval and citation of docs/performance.md
	$(BIN)/python benchmarks/reading.py
	$(BIN)/python benchmarks/retrieval.py
	$(BIN)/python benchmarks/citation.py

soak: $(VENV)/.dev  ## 2,000 pages indexed by a run that is killed fifty times, bad files among them
	$(BIN)/python benchmarks/soak.py

clean:
	rm -rf $(VENV) site demo-out

$(BIN)/pip:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "kosmos-loader needs Python 3.11 or newer; name one with: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/pip
	$(PIP) --editable '.[cpu]'
	touch $@

# torch by itself first: constraints.txt pins it, and a CPU build is taken where one is at hand
$(VENV)/.dev: $(METADATA) | $(BIN)/pip
	$(PIP) torch
	$(PIP) --editable '.[dev]' $(INTEGRATIONS:%=--editable %)
	touch $@ $(VENV)/.demo
