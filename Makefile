# "make demo" and "make test" set up what they need; the rest is for those who work on the code.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Several processes with one thread each: waiting threads that spin slow each other many times over.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4

.PHONY: demo venv test test-slow test-lowest test-newest check format clean fuzz

demo: venv
	$(BIN)/python -m ufc_monai demo

venv: $(VENV)/installed

# Everything is pinned by constraints.txt, torch included, so that no other build of it is pulled in.
$(VENV)/installed: setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0 --editable ".[dev]"
	touch $@

# MLflow and Jupyter's kernel bring eighty packages that nothing else needs.
$(VENV)/slow: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0 --editable ".[tracking,docs]"
	touch $@

check: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: check
	$(PYTEST)

test-slow: $(VENV)/slow
	$(PYTEST) -m slow --dist loadfile

fuzz: venv
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python tests/bad_inputs/fuzz.py

# The quick suite with the lowest versions that setup.cfg allows, and with whatever is newest today. PyTorch stays, see above.
test-lowest: $(VENV)-lowest/installed
	$(VENV)-lowest/bin/python -m pytest

test-newest: $(VENV)-newest/installed
	$(VENV)-newest/bin/python -m pytest

$(VENV)-lowest/installed: setup.cfg constraints-lowest.txt
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-lowest.txt torch==2.13.0
	$(VENV)-lowest/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-lowest.txt torch==2.13.0 --editable ".[dev]"
	touch $@

$(VENV)-newest/installed: setup.cfg
	$(PYTHON) -m venv $(VENV)-newest
	$(VENV)-newest/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(VENV)-newest/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 --editable ".[dev]"
	touch $@

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(VENV)-lowest $(VENV)-newest demo build *.egg-info
