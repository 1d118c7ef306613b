# `make help` lists what there is. Python 3.11 to 3.13 and make are all that has to be there.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
RUN_ID ?= $(shell date -u +run-%Y-%m-%dT%H-%M-%SZ)
ARGS   ?=

.PHONY: help setup score evaluate test test-all check docs lint-cluster audit fuzz bench chaos embedded-model submit

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(VENV)/.done  ## a virtual environment with everything, in .venv

$(VENV)/.done: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "expected Python 3.11 to 3.13, got " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[s3,docs,test,dev]'
	@touch $@

samples/archive.json: | setup
	$(BIN)/python jobs/make_samples.py --output samples

score: setup samples/archive.json  ## score the sample archive with the embedded model: tables in out/, ARGS='--limit 20'
	$(BIN)/python jobs/score.py --input samples/images --path-fields '{category}/{defect}/{name}' --output out --run-id $(RUN_ID) $(ARGS)

build/unseen/manifest.csv: | setup
	$(BIN)/python jobs/make_embedded.py unseen --output build/unseen

evaluate: setup build/unseen/manifest.csv  ## the packaged model on products and defects that it never saw, beside plain CLIP
	$(BIN)/python jobs/evaluate.py --dataset plain --data build/unseen/manifest.csv --output out --baseline --run-id $(RUN_ID) $(ARGS)

test: setup  ## every test that needs Python packages alone
	$(BIN)/python -m pytest $(ARGS)

test-all: setup  ## and those that need Debian packages: ceph-mon ceph-osd radosgw ceph-common chromium chromium-driver poppler-utils prometheus
	$(BIN)/python -m pytest -m 'not gpu and not slow' $(ARGS)

check: setup  ## format, lint, types, layers: what CI runs before the tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: setup  ## the site of docs/ with the API's reference, in build/site
	$(BIN)/python -m mkdocs build --strict --site-dir build/site

lint-cluster: setup  ## what Ray does not look at in cluster.yaml; CLUSTER=mine.yaml
	$(BIN)/python deploy/lint.py $(or $(CLUSTER),cluster.yaml)

audit:  ## known vulnerabilities of what constraints.txt pins; needs a network, and fails without one
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	$(VENV)-audit/bin/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

fuzz: setup  ## 100,000 damaged files through the readers, some five minutes; the report in build/fuzz/, ARGS='--seed 2'
	$(BIN)/python tests/fuzz/fuzz.py $(ARGS)

bench: setup  ## measure: model, precision, pipeline, training, scale, results; some three hours; pages in benchmarks/results/
	$(BIN)/python benchmarks/model.py
	$(BIN)/python benchmarks/precision.py
	$(BIN)/python benchmarks/scaled_jpeg.py
	$(BIN)/python benchmarks/pipeline_job.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/endurance.py
	$(BIN)/python benchmarks/ten_million.py
	$(BIN)/python benchmarks/calibration.py
	$(BIN)/python benchmarks/reporting.py
	$(BIN)/python benchmarks/iceberg.py --rows 200000
	$(BIN)/python benchmarks/telemetry.py

chaos: setup  ## real runs disturbed by 200 faults, some two hours; its table is in docs/reliability.md, ARGS='--faults 20'
	$(BIN)/python tests/chaos/campaign.py $(ARGS)

embedded-model: setup  ## make the packaged model again, from nothing: hours on two cores; goes on where it was stopped
	$(BIN)/python jobs/make_embedded.py make $(ARGS)

submit: setup  ## the main job on the Ray cluster that RAY_ADDRESS names, ARGS='--input s3://… --output s3://…'
	$(BIN)/ray job submit --working-dir . --runtime-env-json '{"env_vars": {"COPS_GIT_COMMIT": "$(shell git rev-parse HEAD)"}}' \
		-- python jobs/score.py $(ARGS)
