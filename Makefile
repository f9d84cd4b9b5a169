# Every command of this repository, one line of work each; docs/layout.md says where what they run lives.
PYTHON ?= python3
PORT ?= 3000
T ?= tests
FUNCTION ?= hello
BIN := .venv/bin
PIP := -m pip install --quiet --disable-pip-version-check
export SAM_CLI_TELEMETRY := 0
# Compiled code is kept, or each process that a test starts compiles it again.
unexport PYTHONDONTWRITEBYTECODE
export AWS_DEFAULT_REGION ?= us-east-1

.PHONY: run test test-all lint fix crash bench build deploy invoke openapi access docs-check audit lock licences clean

run: .venv/ready ## the whole stack on http://127.0.0.1:$(PORT)
	@exec $(BIN)/mayfly up --port $(PORT) $(UP)

test: .venv/ready ## every test that needs no AWS account; T=tests/unit runs a part
	@$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder $(T)

test-all: .venv/ready ## the same with long runs: 200 rounds of kills, 500 MB of state, 1,000 cases of each search
	@$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder --rounds 200 --searches 1000 --hostile 60000 \
	  --load-seconds 120 --lease-seconds 15 --megabytes 100 --ended-jobs 10000 --timeout 7200 $(T)

lint: .venv/ready .venv-sam/ready ## read-only checks
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/pytest -q tests/contract/test_imports.py
	@.venv-sam/bin/sam validate --lint

fix: .venv/ready ## rewrites what can be rewritten
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format --quiet .

crash: .venv/ready ## the crash lab: workers killed at every store call, the stock recipe beside them
	@$(BIN)/mayfly crash

bench: .venv/ready ## measurements, printed and kept under bench/results
	@$(BIN)/python -m bench

build: .venv-sam/ready ## what deploy uploads; needs neither Docker nor the template's Python
	@.venv-sam/bin/sam build

deploy: build ## to the AWS account of your environment
	@.venv-sam/bin/sam deploy

invoke: .venv/ready .venv-sam/ready ## one function in a container, against the running stack's store
	@$(BIN)/mayfly invoke $(FUNCTION) --container

openapi: .venv/ready ## the API's description, /openapi.json, and its page in docs/api
	@$(BIN)/python -m tools.openapi.build

access: .venv/ready ## every route with every kind of credential, on the running stack
	@$(BIN)/python -m tools.access

docs-check: .venv/ready ## runs the examples of README and docs
	@$(BIN)/pytest -q tests/docs

audit: .venv-audit/ready ## known vulnerabilities of everything that is locked (needs the network)
	@for lock in layers/mayfly/requirements.txt requirements/*.txt examples/*/app/requirements.txt; do \
	  .venv-audit/bin/pip-audit --strict --disable-pip --require-hashes -r $$lock || { echo "make audit: nothing is known of $$lock: pip-audit found something, or could not ask (the reason is above)"; exit 1; }; done

lock: ## resolves all locks anew (needs uv)
	@for lock in layers/mayfly/requirements requirements/local requirements/sam requirements/audit examples/flask_hits/app/requirements; do \
	  uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --python-version 3.11 $$lock.in -o $$lock.txt || exit 1; done
	@$(MAKE) --no-print-directory licences

licences: .venv/ready .venv-sam/ready .venv-audit/ready
	@$(BIN)/python -m tools.licences

clean: ## everything that make made
	@rm -rf .venv .venv-sam .venv-audit .mayfly .aws-sam

.venv/ready: requirements/local.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "mayfly needs Python 3.11 or newer; $(PYTHON) is older: make PYTHON=python3.13 ..."; exit 1; }
	@echo "setting up .venv (once, about a minute) ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python $(PIP) --require-hashes --no-deps -r requirements/local.txt
	@$(BIN)/python $(PIP) --no-deps --no-build-isolation -e .
	@touch $@

.venv-sam/ready: requirements/sam.txt
	@echo "setting up .venv-sam (once, about a minute) ..."
	@$(PYTHON) -m venv .venv-sam
	@.venv-sam/bin/python $(PIP) --require-hashes --no-deps -r requirements/sam.txt
	@touch $@

.venv-audit/ready: requirements/audit.txt
	@echo "setting up .venv-audit (once, about a minute) ..."
	@$(PYTHON) -m venv .venv-audit
	@.venv-audit/bin/python $(PIP) --require-hashes --no-deps -r requirements/audit.txt
	@touch $@
