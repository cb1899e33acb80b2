# make train: set up and train; make test: set up and check everything; make readme: README.md from nbs/index.ipynb
VENV   ?= .venv
PYTHON ?= python3
BIN     = $(VENV)/bin
ARGS   ?=
READY   = $(VENV)/ready

.PHONY: train test stress colab setup readme prepare clean

train: $(READY)
	$(BIN)/hrf_train $(ARGS)

test: $(READY)
	$(BIN)/python tools/test.py
	@echo "all notebooks and tests passed"

# the long form of tests/test_stress.py, about half an hour
stress: $(READY)
	CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz.py 600
	CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 $(BIN)/python tests/kill.py 24
	STRESS=1 CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -p no:cacheprovider tests/test_deploy.py tests/test_many.py
	$(BIN)/python -m pip install --quiet --disable-pip-version-check selenium
	CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 $(BIN)/python tests/browser.py

# the tutorials and replications as in Colab: the built wheel in a fresh environment, about half an hour
colab: $(READY)
	$(BIN)/python tools/colab.py

setup: $(READY)

# The marker file exists only when the installation is complete and newer than the files that it depends on.
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
