# Every target makes the virtual environment it needs; nothing has to be installed beforehand but
# python3.11+ with venv, and make. PYTHON=python3.12 chooses another interpreter.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# The environment's own settings must not reach the tests: they talk to loopback servers only.
# Nor that Python shall keep nothing that it compiled: each of a hundred processes would compile all of it anew.
CLEAN_ENV := env -u PYTHONDONTWRITEBYTECODE -u AWS_PROFILE -u AWS_ENDPOINT_URL -u AWS_CA_BUNDLE -u http_proxy -u HTTP_PROXY -u https_proxy -u HTTPS_PROXY

.PHONY: bench bench-kms demo test check stress format clean

demo: $(READY)
	$(CLEAN_ENV) $(BIN)/sealift demo

# One process a core, each with its own sandbox; when one has nothing left it takes half of another's tests.
test: $(READY)
	$(CLEAN_ENV) $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

# Every process must draw the same moments: the tests are named after them. SEALIFT_SEED=n repeats those of a run.
stress: export SEALIFT_SEED ?= $(shell date +%s)
stress: $(READY)
	@echo "SEALIFT_SEED=$$SEALIFT_SEED"; $(CLEAN_ENV) $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal -m stress

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev --editable '.[sandbox,inventory,report,dask]'
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

bench: $(READY)
	$(BIN)/python -m benchmarks.run $(BENCH)

bench-kms: $(READY)
	$(BIN)/python -m benchmarks.kms.run $(BENCH)
