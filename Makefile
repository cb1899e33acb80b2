# make train: set up and train; make test: set up and check everything; make readme: README.md from nbs/index.ipynb
VENV   ?= .venv
PYTHON ?= python3
BIN     = $(VENV)/bin
ARGS   ?=
READY   = $(VENV)/ready

.PHONY: train test setup readme prepare clean

train: $(READY)
	$(BIN)/hrf_train $(ARGS)

test: $(READY)
	$(BIN)/python tools/check.py
	CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 $(BIN)/nbdev_test --n_workers 2
	CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -p no:cacheprovider tests
	@echo "all notebooks and tests passed"

setup: $(READY)

# One marker says that the installation is complete; it is older than what decides its content, or there is none.
$(READY): constraints.txt settings.ini setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

readme: $(READY)
	$(BIN)/python tools/readme.py

# after editing notebooks
prepare: $(READY)
	$(BIN)/nbdev_export
	$(BIN)/nbdev_clean
	$(BIN)/python tools/readme.py
	$(BIN)/python tools/check.py

clean:
	rm -rf $(VENV) build dist *.egg-info _proc _docs
