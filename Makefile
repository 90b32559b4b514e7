# The commands of the README. Each first makes the environment that it needs.
#   PYTHON=python3.12   the interpreter of the environment; another one makes the environment again
#   JOBS=4              processes that run tests
#   TIMES=3 FAULTS=…    for `make chaos`: how often to try each fault, and which
#   BUCKET=yes          for `make chaos`: the runs lie in a bucket on loopback
JOBS ?= 2
TIMES ?= 1
FAULTS ?=
BUCKET ?=
VENV := .venv
BIN := $(VENV)/bin
NEWEST := .venv-newest
CONSTRAINTS := -c constraints.txt
# The stamp of a complete environment has the interpreter's version in its name. Without PYTHON=… any will do.
ifeq ($(origin PYTHON),undefined)
PYTHON := python3
INSTALLED := $(firstword $(wildcard $(VENV)/.installed-*))
endif
ifeq ($(INSTALLED),)
INSTALLED := $(VENV)/.installed-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
endif
# PyTorch's default Linux wheel pulls gigabytes of CUDA. The tests want the CPU build, pinned.
TORCH := torch==2.13.0
# All tests of a file run in the same process, so that they share what it has compiled.
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

.PHONY: demo lint style types test test-slow test-loaded test-newest chaos clean
.DELETE_ON_ERROR:

# The stamp is written last, so that an interrupted installation is done again.
.venv: $(INSTALLED)
$(INSTALLED): pyproject.toml constraints.txt
	@echo "=== install: packages into $(VENV), with $(PYTHON)"
	[ -e $@ ] || { rm -rf $(VENV) && $(PYTHON) -m venv $(VENV); }
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet $(CONSTRAINTS) -e '.[torch,beam,tensorboard,face,gcs,dev]'
	touch $@
.PHONY: .venv

# The TPU compiler takes 0.7 GB of disk. It needs no TPU.
$(VENV)/.tpu: $(INSTALLED)
	@echo "=== install: the TPU compiler into $(VENV)"
	$(BIN)/python -m pip install --quiet $(CONSTRAINTS) -e '.[tpu]'
	touch $@

demo: .venv
	@echo "=== demo: prepare, train, evaluate and export in runs/demo; an interrupted demo continues"
	$(BIN)/python -m launch.demo --root=runs/demo

lint: style types

style: .venv
	@echo "=== style: ruff"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv
	@echo "=== types: mypy over the packages that pyproject.toml names"
	$(BIN)/python -m mypy

test: style
	@echo "=== test: all tests that are not marked slow, in $(JOBS) processes"
	$(PYTEST) -m 'not slow'

test-slow: $(VENV)/.tpu
	@echo "=== test-slow: the tests marked slow, in $(JOBS) processes"
	$(PYTEST) -m slow

test-loaded: .venv
	@echo "=== test-loaded: make test, while one more process per core only computes"
	$(BIN)/python -m tests.support.loaded $(MAKE) test

test-newest:
	@echo "=== test-newest: make test with the newest of all packages but PyTorch, in a new $(NEWEST)"
	rm -rf $(NEWEST)
	$(MAKE) test VENV=$(NEWEST) CONSTRAINTS=

chaos: .venv
	@echo "=== chaos: disturb real runs at random moments, each fault $(TIMES) times; prints a table"
	$(BIN)/python -m tests.chaos --times=$(TIMES) $(if $(FAULTS),--faults='$(FAULTS)') $(if $(BUCKET),--bucket) --markdown

clean:
	rm -rf $(VENV) $(NEWEST) build *.egg-info .pytest_cache .ruff_cache .mypy_cache
