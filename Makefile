# Every command of this repository. docs/layout.md describes the folders that they use.
PYTHON ?= python3
PORT ?= 3000
T ?= tests
FUNCTION ?= hello
VENV ?= .venv
# Besides the locked version of Starlette, its session adapter is tested with these.
STARLETTES := 0.46 0.52
BIN := $(VENV)/bin
PIP := -m pip install --quiet --disable-pip-version-check
export SAM_CLI_TELEMETRY := 0
# Compiled code is kept, or each process that a test starts compiles it again.
unexport PYTHONDONTWRITEBYTECODE
export AWS_DEFAULT_REGION ?= us-east-1

.PHONY: run test soak test-all test-starlette lint fix crash bench build deploy dist starter invoke openapi access docs-check audit lock licences clean

run: $(VENV)/ready ## runs the whole stack on http://127.0.0.1:$(PORT)
	@exec $(BIN)/mayfly up --port $(PORT) $(UP)

test: $(VENV)/ready ## runs the tests, none of which needs an AWS account; T=tests/unit runs a part
	@$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder $(T)

soak: $(VENV)/ready ## runs the soaks: kills under load, random requests, many processes at once
	@$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder --soaks -m soak $(T)

test-all: $(VENV)/ready ## runs every test at full size: 200 rounds of kills, 500 MB of state, 1,000 cases of each search
	@$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder --soaks --rounds 200 --searches 1000 --hostile 60000 \
	  --load-seconds 120 --lease-seconds 15 --webhooks 200 --megabytes 100 --ended-jobs 10000 --continuations 20000 --pyodide --timeout 7200 $(T)

test-starlette: $(VENV)/ready $(STARLETTES:%=.venv-starlette-%/ready) ## tests the session adapter with older versions of Starlette
	@for version in $(STARLETTES); do echo "Starlette $$version"; PYTHONPATH=.venv-starlette-$$version $(BIN)/pytest -q \
	  -W "ignore:The anyio.abc.BlockingPortal alias:DeprecationWarning" \
	  tests/unit/sessions/test_asgi_sessions.py tests/unit/sessions/test_session_options.py || exit 1; done

lint: $(VENV)/ready .venv-sam/ready ## checks that change no file
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/python -m tools.markdown
	@$(BIN)/pytest -q tests/contract/test_imports.py
	@.venv-sam/bin/sam validate --lint

fix: $(VENV)/ready ## formats files, and fixes what the linter can fix
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format --quiet .
	@$(BIN)/python -m tools.markdown --fix

crash: $(VENV)/ready ## the crash lab: kills workers at every store call, and runs the stock recipe for comparison
	@$(BIN)/mayfly crash

bench: $(VENV)/ready ## benchmarks; prints the results and saves them under bench/results
	@$(BIN)/python -m bench

build: .venv-sam/ready ## builds the files that deploy uploads, without Docker; BYTECODE=off if no Python of the template's version can be found
	@PYTHON="$(CURDIR)/.venv-sam/bin/python" .venv-sam/bin/sam build

deploy: build ## deploys to the AWS account of your environment
	@.venv-sam/bin/sam deploy

dist: .venv-dist/ready ## builds the sdist and the wheel into dist/, and checks them
	@.venv-dist/bin/python -m tools.dist

starter: $(VENV)/ready
	@$(BIN)/python -m tools.starter

invoke: $(VENV)/ready .venv-sam/ready ## invokes a function in a container, with the emulator of the running stack
	@$(BIN)/mayfly invoke $(FUNCTION) --container

openapi: $(VENV)/ready ## writes the API's description, /openapi.json, and its page in docs/api
	@$(BIN)/python -m tools.openapi.build

access: $(VENV)/ready ## calls every route of the running stack with every kind of credential
	@$(BIN)/python -m tools.access

docs-check: $(VENV)/ready ## runs the examples of README and docs
	@$(BIN)/pytest -q tests/docs

audit: .venv-audit/ready ## looks for known vulnerabilities of all locked packages (needs the network and npm)
	@for lock in layers/mayfly/requirements.txt requirements/*.txt examples/*/app/requirements.txt; do \
	  .venv-audit/bin/pip-audit --strict --disable-pip --require-hashes -r $$lock || { echo "make audit: pip-audit failed for $$lock; its output above has the vulnerabilities or the error"; exit 1; }; done
	@npm audit --prefix mayfly_cli/bundling/pyodide --package-lock-only

lock: ## resolves all lock files again (needs uv and npm)
	@for lock in layers/mayfly/requirements requirements/local requirements/sam requirements/audit requirements/dist examples/flask_hits/app/requirements; do \
	  uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --python-version 3.11 $$lock.in -o $$lock.txt || exit 1; done
	@for version in $(STARLETTES); do \
	  uv pip compile --quiet --universal --no-deps --generate-hashes --no-annotate --no-header --python-version 3.11 requirements/starlette/$$version.in -o requirements/starlette/$$version.txt || exit 1; done
	@npm install --prefix mayfly_cli/bundling/pyodide --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts --silent
	@$(MAKE) --no-print-directory licences

licences: $(VENV)/ready .venv-sam/ready .venv-audit/ready .venv-dist/ready $(STARLETTES:%=.venv-starlette-%/ready)
	@$(BIN)/python -m tools.licences

clean: ## deletes all files that make has made
	@rm -rf .venv .venv-* .mayfly .aws-sam dist

$(VENV)/ready: requirements/local.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "mayfly needs Python 3.11 or newer; $(PYTHON) is older: make PYTHON=python3.13 ..."; exit 1; }
	@echo "setting up $(VENV) (once, about a minute) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python $(PIP) --require-hashes --no-deps -r requirements/local.txt
	@$(BIN)/python $(PIP) --no-deps --no-build-isolation -e .
	@touch $@

.venv-sam/ready: requirements/sam.txt
	@echo "setting up .venv-sam (once, about a minute) ..."
	@$(PYTHON) -m venv .venv-sam
	@.venv-sam/bin/python $(PIP) --require-hashes --no-deps -r requirements/sam.txt
	@touch $@

.venv-starlette-%/ready: requirements/starlette/%.txt $(VENV)/ready
	@rm -rf $(@D)
	@$(BIN)/python $(PIP) --require-hashes --no-deps --target $(@D) -r $<
	@touch $@

.venv-audit/ready: requirements/audit.txt
	@echo "setting up .venv-audit (once, about a minute) ..."
	@$(PYTHON) -m venv .venv-audit
	@.venv-audit/bin/python $(PIP) --require-hashes --no-deps -r requirements/audit.txt
	@touch $@

.venv-dist/ready: requirements/dist.txt
	@echo "setting up .venv-dist (once, about a minute) ..."
	@$(PYTHON) -m venv .venv-dist
	@.venv-dist/bin/python $(PIP) --require-hashes --no-deps -r requirements/dist.txt
	@touch $@
