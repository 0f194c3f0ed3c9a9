# Three commands for people: "make drill", "make check" and "make test". Each sets up what it needs on a fresh machine with Python 3.11.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: drill check test test-cluster lint benchmark lock clean

drill: $(READY)
	$(BIN)/python -m pytest drills $(ARGS)

check: $(READY)
	$(BIN)/python -m pytest checks $(ARGS)

# Of the cluster a smoke test only; the others take minutes, and the machine for themselves.
test: $(READY)
	$(BIN)/python -m pytest tests -n 2 --dist worksteal -m "not cluster" $(ARGS)

test-cluster: $(READY)
	$(BIN)/python -m pytest tests -m cluster $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmark: $(READY)
	$(BIN)/python -m benchmarks $(ARGS)

$(READY): requirements.lock
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed, this is %d.%d: set PYTHON=" % sys.version_info[:2]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	touch $@

# Pins every dependency with its hashes, from pyproject.toml.
lock:
	$(PYTHON) -m venv --clear .cache/lock
	.cache/lock/bin/pip install --quiet --disable-pip-version-check pip-tools
	.cache/lock/bin/pip-compile --quiet --upgrade --extra dev --generate-hashes --strip-extras --allow-unsafe \
		--no-annotate --no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
		--output-file requirements.lock pyproject.toml

clean:
	rm -rf .venv .cache .pytest_cache .mypy_cache .ruff_cache
