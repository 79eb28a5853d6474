# Two commands do everything: `make demo` and `make test`. Where there is no make, CONTRIBUTING.md has the plain lines.
VENV ?= .venv
PYTHON ?= python3
ifeq ($(OS),Windows_NT)
  SCRIPTS := Scripts
else
  SCRIPTS := bin
endif
BIN := $(VENV)/$(SCRIPTS)
# Errors are shown, and nothing else: not that there is a newer pip, or which account this is.
PIP_OPTIONS := -qq --disable-pip-version-check
TWO := -n 2 --dist worksteal # whoever has run its half takes of the other's
INSTALL := -m pip $(PIP_OPTIONS) install --no-warn-script-location --root-user-action ignore

.PHONY: demo test check notebooks lock test-newest test-oldest clean help
.DELETE_ON_ERROR:
.NOTPARALLEL: # one pip at a time

help:
	@echo "make demo         train the default recipe on text that is always there, in about a minute"
	@echo "make test         run every test, with the locked development dependencies"
	@echo "make check        format, lint, types and the layer test"
	@echo "make notebooks    execute the course again and store its outputs"
	@echo "make lock         lock the newest development dependencies: requirements/dev.txt"
	@echo "make test-newest  run every test with the newest of everything; deprecations are errors"
	@echo "make test-oldest  run the tests with the oldest versions that users may have"
	@echo "make clean        remove the virtual environments and caches (never runs/)"
	@echo "PYTHON=python3.12 makes the environment with that Python, VENV=folder in that folder (now: $(VENV))"

demo: $(VENV)/.installed
	$(BIN)/glassgpt train

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(TWO)

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layers.py

notebooks: $(VENV)/.installed-dev
	$(BIN)/python notebooks/run.py

lock: $(VENV)/.created
	$(BIN)/python $(INSTALL) uv
	$(BIN)/python requirements/lock.py

# Each time anew, in an environment of its own: what is the newest changes, and half of an installation is no start.
test-newest: $(VENV)-newest/.created
	@echo "installing the newest of everything into $(VENV)-newest …"
	@$(VENV)-newest/$(SCRIPTS)/python $(INSTALL) --upgrade --upgrade-strategy eager --editable ".[dev]"
	$(VENV)-newest/$(SCRIPTS)/python -m pytest $(TWO) -o filterwarnings=error

test-oldest: $(VENV)-oldest/.created
	@echo "installing the oldest dependencies into $(VENV)-oldest …"
	@$(VENV)-oldest/$(SCRIPTS)/python requirements/oldest.py > $(VENV)-oldest/oldest.txt
	@$(VENV)-oldest/$(SCRIPTS)/python $(INSTALL) --constraint $(VENV)-oldest/oldest.txt --editable ".[dev,bench]"
	$(VENV)-oldest/$(SCRIPTS)/python -m pytest $(TWO)

# The last step of each rule makes its stamp, and installing begins with removing all: an interrupted one begins again.
%/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "glassgpt needs Python 3.11 or later: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $*
	@touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.created
	@echo "installing glassgpt into $(VENV): minutes the first time, since PyTorch is large …"
	@rm -f $(VENV)/.installed $(VENV)/.installed-dev
	@$(BIN)/python $(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml requirements/dev.txt $(VENV)/.created
	@echo "installing glassgpt and its tests' tools into $(VENV): minutes the first time, since PyTorch is large …"
	@rm -f $(VENV)/.installed $(VENV)/.installed-dev
	@$(BIN)/python $(INSTALL) --no-deps --requirement requirements/dev.txt
	@$(BIN)/python $(INSTALL) --no-build-isolation --editable .
	@touch $(VENV)/.installed $@

clean:
	rm -rf $(VENV) $(VENV)-newest $(VENV)-oldest .pytest_cache .mypy_cache .ruff_cache .hypothesis
