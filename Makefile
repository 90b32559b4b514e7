# The commands of the README. Each first makes the environment that it needs.
#   PYTHON=python3.12   the interpreter that makes the environment; `make clean` before another one
#   JOBS=4              processes that run tests
#   TIMES=3 FAULTS=…    for `make chaos`: how often to try each fault, and which
PYTHON ?= python3
JOBS ?= 2
TIMES ?= 1
FAULTS ?=
VENV := .venv
BIN := $(VENV)/bin
# PyTorch's default Linux wheel pulls gigabytes of CUDA. The tests want the CPU build, pinned.
TORCH := torch==2.13.0
# All tests of a file run in the same process, so that they share what it has compiled.
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

.PHONY: demo lint style types test test-slow test-loaded chaos clean
.DELETE_ON_ERROR:

# The stamp is written last, so that an interrupted installation is done again.
.venv: $(VENV)/.installed
$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "=== install: the packages of constraints.txt into $(VENV), with $(PYTHON)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[torch,beam,tensorboard,dev]'
	touch $@
.PHONY: .venv

# The TPU compiler takes 0.7 GB of disk. It needs no TPU.
$(VENV)/.tpu: $(VENV)/.installed
	@echo "=== install: the TPU compiler into $(VENV)"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[tpu]'
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

chaos: .venv
	@echo "=== chaos: disturb real runs at random moments, each fault $(TIMES) times; prints a table"
	$(BIN)/python -m tests.chaos --times=$(TIMES) $(if $(FAULTS),--faults='$(FAULTS)') --markdown

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .mypy_cache
