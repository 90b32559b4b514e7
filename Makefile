# The README's commands. Each builds the environment that it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Processes that run tests. Files stay whole, so that what one compiles serves its neighbours.
JOBS ?= 2
# PyTorch's default Linux wheel pulls gigabytes of CUDA; tests want the CPU build, pinned.
TORCH := torch==2.13.0

.PHONY: demo test test-slow lint clean
.DELETE_ON_ERROR:

# An environment is finished only when its stamp is written, so that an interrupted install is redone.
.venv: $(VENV)/.installed
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[torch,beam,tensorboard,dev]'
	touch $@
.PHONY: .venv

# From nothing to a trained model's scores and weights, in minutes; goes on where it was interrupted.
demo: .venv
	$(BIN)/python -m launch.demo --root=runs/demo

lint: .venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

test: lint
	$(BIN)/python -m pytest -m 'not slow' -n $(JOBS) --dist loadfile

# The TPU compiler, 0.7 GB on disk: what is tested with it needs no TPU.
$(VENV)/.tpu: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[tpu]'
	touch $@

test-slow: $(VENV)/.tpu
	$(BIN)/python -m pytest -m slow

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache
