VENV   ?= .venv
PYTHON ?= python3
BIN     = $(VENV)/bin
ARGS   ?=
READY   = $(VENV)/ready

.PHONY: train test stress colab setup readme results prepare clean help coverage docs dist wheel oldest newest release

train: $(READY) ## set up and train; options in ARGS
	$(BIN)/hrf_train $(ARGS)

test: $(READY) ## set up and check everything: notebooks, tests, package in step
	$(BIN)/python tools/test.py
	@echo "all notebooks and tests passed"

stress: $(READY) ## the long tests: corrupted input, kills, export, the app in a browser; about half an hour
	CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz.py 600
	CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 $(BIN)/python tests/kill.py 24
	STRESS=1 CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -p no:cacheprovider tests/test_deploy.py tests/test_many.py
	$(BIN)/python -m pip install --quiet --disable-pip-version-check selenium
	CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 $(BIN)/python tests/browser.py

colab: dist ## tutorials and replications as in Colab, on the newest versions; about half an hour
	$(PYTHON) tools/colab.py

setup: $(READY) ## the environment .venv, with the versions of constraints.txt

# The marker file exists only when the installation is complete and newer than the files that it depends on.
$(READY): constraints.txt settings.ini setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info<(3,10) and "needs Python 3.10 or newer: make PYTHON=python3.12 ...")'
	@echo 'installing into $(VENV), about 7 GB; this takes some minutes'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

readme: $(READY) ## README.md from nbs/index.ipynb
	$(BIN)/python tools/readme.py

results: $(READY) ## the tables and figures of the results page and README, from results/
	$(BIN)/python tools/results.py
	$(BIN)/nbdev_clean
	$(BIN)/python tools/readme.py

prepare: $(READY) ## after editing notebooks: export, clean, README, checks
	$(BIN)/nbdev_export
	$(BIN)/nbdev_clean
	$(BIN)/python tools/readme.py
	$(BIN)/python tools/check.py

coverage: $(READY) ## lines of the package that no page and no test runs
	$(BIN)/python -m pip install --quiet --disable-pip-version-check coverage
	$(BIN)/python tools/covered.py

docs: $(READY) ## the site, in _docs; needs Quarto
	$(BIN)/nbdev_docs

dist: ## wheel and sdist, in dist/
	rm -rf dist build
	$(PYTHON) -m venv build/env
	build/env/bin/python -m pip install --quiet --disable-pip-version-check build
	build/env/bin/python -m build

wheel: dist ## the wheel in a fresh environment of PYTHON, used as a new user would
	$(PYTHON) tools/fresh.py

oldest: dist ## tests and pages with the oldest versions that settings.ini admits; PYTHON is a Python 3.10
	$(PYTHON) tools/fresh.py --all -c constraints-oldest.txt

newest: dist ## tests and pages with the newest versions
	$(PYTHON) tools/fresh.py --all

release: dist ## what a release to PyPI starts with: TAG is the version, and the wheel works
	test -f 'dist/cifar_hrf-$(TAG:v%=%).tar.gz'
	$(PYTHON) tools/fresh.py

clean: ## remove all that make builds
	rm -rf $(VENV) build dist *.egg-info _proc _docs

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## */\1	/p' Makefile | sort | expand -t 12
