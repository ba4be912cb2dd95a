# Hilum: `make run` to see it work, `make test` to prove it. Everything is installed into .venv.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# The tests of a file share what it sets up, so a file stays on one worker.
PYTEST := $(BIN)/python -m pytest
# More than the cores: much of a journey is waiting for processes to start and for answers.
WORKERS ?= 3
# Else, where the environment says so, each of the hundreds of processes of a test run compiles the whole product anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: run demo test check sbom docs soak corpus bench fresh lock clean help
.DEFAULT_GOAL := help

help:  ## what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

run: $(VENV)/.installed  ## the demo of the whole chain, then the server stays up and prints its address and login
	@sh scripts/ohif.sh
	$(BIN)/hilum demo --stay

demo: $(VENV)/.installed  ## the demo of the whole chain alone; fails and names the link that broke
	$(BIN)/hilum demo

# Small matrix products, as of the phantoms, are five times slower where each is divided among threads.
test: export OMP_NUM_THREADS := 1
test: $(VENV)/.developing  ## all tests, against SQLite and PostgreSQL, files and S3, DCMTK and Chromium
	sh scripts/system-packages.sh
	@sh scripts/ohif.sh
	@rm -f .pytest_cache/v/cache/lastfailed
	$(PYTEST) -n $(WORKERS) --dist loadfile --no-loadscope-reorder --reruns 1 -r fER --durations=60 --durations-min=4 \
		|| { [ $$? = 1 ] && $(BIN)/python scripts/failed_again.py; }

check: $(VENV)/.developing  ## lint, format, types, the contracts of the house, schema = migrations, the docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) -q tests/unit/test_docs.py $(wildcard tests/*/test_migrations.py)

sbom: $(VENV)/.developing  ## the software bill of materials, CycloneDX, as dist/hilum.cdx.json
	$(BIN)/python scripts/sbom.py

docs: $(VENV)/.installed  ## write the generated pages of docs/ anew
	$(BIN)/python scripts/configuration_page.py
	$(BIN)/python scripts/policy_page.py
	$(BIN)/python scripts/conformance_page.py

soak: $(VENV)/.developing  ## the long tests in full size (hours)
	sh scripts/system-packages.sh
	HILUM_SOAK=full $(PYTEST) -m soak --timeout=0

corpus: $(VENV)/.developing  ## run a folder of DICOM and HL7 files through the doors: make corpus DIR=…
	$(BIN)/python -W ignore scripts/corpus.py $(DIR)

bench: $(VENV)/.developing  ## the benchmarks, each with its rival beside it
	$(BIN)/python -m benchmarks

fresh:  ## what a newcomer sees: a clean clone without caches, timed
	sh scripts/fresh.sh

lock: $(VENV)/.developing  ## pin what is installed now
	sh scripts/lock.sh $(BIN)/python

clean:  ## remove the environment and all caches; homes are left alone
	rm -rf $(VENV) build dist artefacts .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Hilum needs Python 3.11 or newer: make PYTHON=/path/to/python3.12" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) \
		|| { rm -rf $(VENV); echo "The venv module is missing (on Debian: apt-get install python3-venv)." >&2; exit 2; }

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e . -c constraints.txt
	@touch $@

$(VENV)/.developing: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' -c constraints.txt
	@touch $@
