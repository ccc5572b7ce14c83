# The verbs. Each starts from nothing: it makes .venv where there is none.
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
SOURCES := $(shell git ls-files csrc 2>/dev/null)
CPP := $(filter %.h %.cpp %.cu %.cuh,$(SOURCES))
IN_PLACE := $(VENV)/.in-place

.PHONY: demo test dev lint bench report clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(PIP) "pip>=25.1"
	$(PIP) "$(TORCH)" "numpy>=1.26"

$(IN_PLACE): $(BIN)/python pyproject.toml CMakeLists.txt $(SOURCES)
	$(PIP) --editable ".[papers]" --group test
	touch $@

# Installs as a user would and runs the paper's smoke profile on real data that scikit-learn bundles.
demo: $(BIN)/python
	rm -f $(IN_PLACE)
	$(PIP) ".[papers]"
	$(BIN)/dlaccel doctor
	$(BIN)/dlaccel run benshaul2023multiplicative --profile smoke --out runs/demo
	@echo "The report is runs/demo/report.html"

test: $(IN_PLACE)
	$(BIN)/pytest -q

# Rebuilds on import whenever C++ changes, with the tools of the environment and no network.
dev: $(IN_PLACE)
	$(PIP) scikit-build-core
	$(PIP) --no-build-isolation --no-deps --config-settings editable.rebuild=true --editable .

lint: $(IN_PLACE)
	$(PIP) --group lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/clang-format --dry-run --Werror $(CPP)
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(IN_PLACE)
	$(BIN)/python -m bench.run

report: $(IN_PLACE)
	$(BIN)/dlaccel report benshaul2023multiplicative

clean:
	rm -rf $(VENV) build runs
