# Every target builds .venv by itself when it is missing or out of date.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

# Enough that a median is known to some per cent; half a minute.
BASELINE := tests/baseline.json
BASELINE_RUN = $(BIN)/tradetui run --cycles 320 --toggles optimised --session
SCRATCH := .compare

.PHONY: run test lint compare baseline bench screenshots prove lock clean

run: $(READY)
	$(BIN)/tradetui

test: $(READY)
	$(BIN)/pytest -q

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# This tree against the kept baseline, span by span. Another machine or a busy one shows as slower: it prints, no more.
compare: $(READY)
	@rm -rf $(SCRATCH)
	$(BASELINE_RUN) $(SCRATCH)
	$(BIN)/tradetui compare $(BASELINE) $(SCRATCH) --print-only
	@rm -rf $(SCRATCH)

# Every figure of README, from one run on a quiet machine: hours, or make bench FORM=--short for some 18 minutes.
bench: $(READY)
	$(BIN)/tradetui bench all $(FORM) --json docs/bench.json
	$(BIN)/tradetui bench table docs/bench.json --md docs/bench.md --readme README.md

# Keeps the baseline anew: on a quiet machine.
baseline: $(READY)
	@rm -rf $(SCRATCH)
	$(BASELINE_RUN) $(SCRATCH)
	$(BIN)/tradetui compare $(SCRATCH) --keep $(BASELINE)
	@rm -rf $(SCRATCH)

screenshots: $(READY)
	$(BIN)/python -m tests.tui.screenshots

# The long checks that CI leaves out.
prove: $(READY)
	$(BIN)/pytest -q -m "prove or not prove" -o addopts="-ra --strict-markers --timeout=3600"

lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--group dev pyproject.toml --output-file requirements.lock

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "tradetui needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

clean:
	rm -rf .venv .compare .mypy_cache .ruff_cache .pytest_cache
