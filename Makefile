# Two commands do everything: `make demo` and `make test`. Where there is no make, CONTRIBUTING.md has the plain lines.
VENV ?= .venv
PYTHON ?= python3
ifeq ($(OS),Windows_NT)
  BIN := $(VENV)/Scripts
else
  BIN := $(VENV)/bin
endif

.PHONY: demo test check notebooks clean help

help:
	@echo "make demo   train the default recipe on text that is always there, in about a minute"
	@echo "make test   run every test"
	@echo "make check  format, lint, types and the layer test"
	@echo "make notebooks  execute the course again and store its outputs"
	@echo "make clean  remove the virtual environment and caches (never runs/)"

demo: $(VENV)/.installed
	$(BIN)/glassgpt train

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layers.py

notebooks: $(VENV)/.installed-dev
	$(BIN)/python notebooks/run.py

$(VENV)/bin/python $(VENV)/Scripts/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "glassgpt needs Python 3.11 or later: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
