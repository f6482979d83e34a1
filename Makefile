# `make demo` and `make test` need Python 3.11 or newer with its venv module, nothing else.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# the networks of the tests are tiny: files of tests side by side, at 1.2 GB each, use cores better than threads
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile
FAST := -m "not slow"

.PHONY: demo setup check test test-slow test-all clean

demo: .venv/.installed  ## upscale the demo clip and put it beside its input
	@mkdir -p demo/out
	$(BIN)/legato upscale demo/clip.mp4 demo/out/clip_x4.mp4 --restart
	$(BIN)/legato verify demo/clip.mp4 demo/out/clip_x4.mp4
	$(BIN)/legato compare demo/clip.mp4 demo/out/clip_x4.mp4 demo/out/compare.mp4
	@echo
	@echo "Look at demo/out/clip_x4.mp4, and at demo/out/compare.mp4 for before and after side by side."

setup: .venv/.developed  ## everything that developing needs

check: .venv/.developed  ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: .venv/.developed  ## the fast tests
	$(PYTEST) $(FAST)

test-slow: .venv/.developed
	$(PYTEST) -m slow

test-all: .venv/.developed
	$(PYTEST)

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Legato needs Python 3.11 or newer; name one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.installed: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) --editable .
	@touch $@

.venv/.developed: .venv/.installed
	$(PIP) --editable '.[dev,train,page]'
	@touch $@

clean:
	rm -rf .venv demo/out
