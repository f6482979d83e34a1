# Each target sets up what it needs in .venv; PYTHON names a Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-all check setup clean

demo: .venv/user  ## install, upscale the demo clip, say where the result is
	$(BIN)/legato upscale demo/clip.mp4 demo/out/clip_x4.mp4 --restart
	$(BIN)/legato compare demo/clip.mp4 demo/out/clip_x4.mp4 --out demo/out/compare.mp4
	@echo "The result:            demo/out/clip_x4.mp4"
	@echo "Before and after:      demo/out/compare.mp4"

test: .venv/developer  ## the fast tests
	$(BIN)/pytest -m "not slow"

test-all: .venv/developer  ## every test
	$(BIN)/pytest

check: .venv/developer  ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

setup: .venv/developer

.venv/bin/pip:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "legato needs Python 3.11 or newer: make PYTHON=...")'
	$(PYTHON) -m venv .venv

.venv/user: .venv/bin/pip pyproject.toml constraints.txt
	$(INSTALL) -e .
	touch $@

.venv/developer: .venv/bin/pip pyproject.toml constraints.txt
	$(INSTALL) -e ".[train,dev]"
	touch $@ .venv/user

clean:
	rm -rf .venv demo/out
