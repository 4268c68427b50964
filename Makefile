# The doors to Fireside. Works with GNU make 3.81 (macOS) and newer; every path is relative, so the
# folder may have spaces in its name.
SHELL := /bin/sh
.DEFAULT_GOAL := help
# `make test` checks first and tests then, whatever -j says.
.NOTPARALLEL:
.PHONY: help run install test test-only check format tree soak mutants demo-table recipe-table real bench bench-clips bench-conversion peers bench-peers bench-graph screenshots lock check-lock clean

PYTHON := .venv/bin/python
SETUP := sh tools/setup/python.sh tools/setup

# Options of the app: make run ARGS="--model /path/to/checkpoint"
ARGS ?=
# Which tests: make test-only T=tests/app/test_theme.py
T ?= tests
# Which planted bugs: make mutants M=norm
M ?=

# A stranger's shell must not lead Python to other packages than those of .venv.
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP
export PYTHONNOUSERSITE := 1

help:
	@echo "make run      open Fireside (the first time: make .venv and install the packages)"
	@echo "make test     format, lint, types, layers and tests"
	@echo "make check    the quick part of it: everything but the tests"
	@echo "make install  make .venv alone"
	@echo "make soak     the long versions of the tests"
	@echo "make real     try the real 0.8B: download, convert, ask (SIZE=2B|4B|9B, REFERENCE=1)"
	@echo "make mutants  plant known bugs one by one; each must turn a test red (M=norm: some of them)"
	@echo "make format   put the code into the project's format"
	@echo "make tree     write the README's tree of modules and table of planted bugs anew"
	@echo "make lock     write the lock files anew from pyproject.toml"
	@echo "make clean    remove .venv and everything that was built"

run:
	@$(SETUP)/preflight.py
	@$(SETUP)/environment.py run
	@$(PYTHON) -m app $(ARGS)

install:
	@$(SETUP)/environment.py run

test: check test-only

test-only:
	@$(SETUP)/preflight.py --offscreen
	@$(SETUP)/environment.py test
	QT_QPA_PLATFORM=offscreen $(PYTHON) -m pytest -m "not slow" $(T)

soak:
	@$(SETUP)/preflight.py --offscreen
	@$(SETUP)/environment.py test
	QT_QPA_PLATFORM=offscreen $(PYTHON) -m pytest -m slow $(T)

# Works in temporary copies; the working tree stays as it is.
mutants:
	@$(SETUP)/preflight.py --offscreen
	@$(SETUP)/environment.py test
	$(PYTHON) -m tools.mutants $(M)

check:
	@$(SETUP)/environment.py test
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	$(PYTHON) .venv/bin/lint-imports --no-logo

format:
	@$(SETUP)/environment.py test
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

tree:
	@$(SETUP)/environment.py run
	$(PYTHON) tools/readme_tree.py
	$(PYTHON) -m tools.mutants --readme

# What the demo model gets right, through the program's own pipeline.
demo-table:
	@$(SETUP)/environment.py test
	$(PYTHON) -m tools.train_demo.evaluate assets/demo_model --scenes 1000

# What each recipe costs the demo model: make recipe-table SOURCE=/path/to/its/fp32/checkpoint
recipe-table:
	@$(SETUP)/environment.py test
	$(PYTHON) -m tools.train_demo.recipe_table "$(or $(SOURCE),build/train_demo/checkpoint)"

# The whole way of a real model, with figures. REFERENCE=1 also holds its logits against those of
# transformers, in an environment of its own (torch: a gigabyte or more).
SIZE ?= 0.8B
REFERENCE ?=
REFERENCE_PYTHON := build/reference/bin/python
real:
	@$(SETUP)/environment.py run
	$(if $(REFERENCE),@$(MAKE) --no-print-directory build/reference/installed)
	@$(PYTHON) -m tools.real --size $(SIZE) $(if $(REFERENCE),--reference $(REFERENCE_PYTHON))

build/reference/installed:
	$(PYTHON) -m venv --clear build/reference
	$(REFERENCE_PYTHON) -m pip install --disable-pip-version-check torch==2.13.0 transformers==5.23.0
	touch $@

# How late the window's event loop is while an answer streams, and how long a large picture goes on
# being looked at after Stop.
bench:
	@$(SETUP)/preflight.py --offscreen
	@$(SETUP)/environment.py run
	QT_QPA_PLATFORM=offscreen $(PYTHON) -m tools.bench.event_loop_delay
	$(PYTHON) -m tools.bench.cancel_while_looking
	$(PYTHON) -m tools.bench.long_draft
	$(PYTHON) -m tools.bench.state_cost

# Reading the frames of ten-minute clips, beside a seek for each frame. Takes some minutes.
bench-clips:
	@$(SETUP)/environment.py run
	$(PYTHON) -m tools.bench.clip_reading

# How much memory a conversion takes; needs about 6 GB of disk.
bench-conversion:
	@$(SETUP)/environment.py run
	$(PYTHON) -m tools.bench.conversion_memory

# mlx-lm and mlx-vlm from the package index, in an environment of their own.
PEERS_PYTHON := build/peers/bin/python
peers: build/peers/installed

build/peers/installed:
	@$(SETUP)/environment.py run
	$(PYTHON) -m venv --clear build/peers
	$(PEERS_PYTHON) -m pip install --disable-pip-version-check \
		mlx-lm==0.32.2 "mlx-vlm[$(if $(filter Darwin,$(shell uname)),,cpu)]==0.7.10"
	touch $@

# This project beside mlx-lm and mlx-vlm. Takes about a quarter of an hour; what is in
# build/bench-peers is not measured again. ARGS="--model demo --rows speed" picks.
bench-peers: peers
	$(PYTHON) -m tools.bench.peers $(ARGS)

# What a decoded token reads and launches on Metal, beside mlx-lm: computed, in some seconds.
bench-graph:
	@$(SETUP)/environment.py run
	$(PYTHON) -m tools.bench.decode_graph

screenshots:
	@$(SETUP)/preflight.py --offscreen
	@$(SETUP)/environment.py run
	$(PYTHON) -m tools.screenshots

# UPGRADE=--upgrade takes newer versions; without it, pins that still fit stay.
lock:
	@$(SETUP)/environment.py lock
	build/lock-tools/bin/python tools/packaging/write_lock.py $(UPGRADE)

# Asks the package index whether every pinned file exists for each supported machine and Python.
check-lock:
	@$(SETUP)/environment.py lock
	build/lock-tools/bin/python tools/packaging/check_lock.py

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find app mlx_model tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
