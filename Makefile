# The only entry point people memorise. `make` alone lists the targets.

VENV := .venv
BIN := $(VENV)/bin
# The newest supported Python on PATH; override with `make PYTHON=/path/to/python3.12 …`.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$p; break; fi; done)
# Processes of pytest-xdist, two for each processor: tests mostly wait. They share one pair of servers, each test has its own database.
PYTEST_WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); echo $$((n > 4 ? 8 : 2 * n)))
# The long form measures: its processes do not take more than the machine has.
CHAOS_WORKERS ?= 2
# What `make test` leaves to targets of their own.
APART := $(addprefix --ignore=tests/,alerts browser ha load hostile compose helm kubernetes celery_suite)
# What breaks first, in two minutes: every rule that needs no process, each call of the API, and the worker's common ways.
QUICK := tests/unit tests/contract tests/integration/api tests/integration/test_claims.py tests/integration/test_reaper.py \
	tests/integration/test_due.py tests/integration/test_key_races.py tests/integration/worker/test_cancel.py \
	tests/integration/worker/test_retries_and_limits.py
VERSION := 0.1.0
UV_VERSION := 0.13.9
# A stamp per set of requirements: nothing is installed twice, and a changed pin is noticed.
RUNTIME := $(VENV)/.runtime-installed
DEVELOPMENT := $(VENV)/.development-installed
# The peers of benchmarks/ have an environment of their own.
BENCH_VENV := .venv-bench
# So has Locust, and what builds the documentation.
LOAD_VENV := .venv-load
DOCS_VENV := .venv-docs
DISTRIBUTIONS := shared/pyproject.toml $(wildcard services/*/pyproject.toml)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
INSTALL := $(BIN)/python scripts/install.py
# Whether the environment's Python runs, is new enough, and is the one for which its packages were installed.
SOUND := import os, sys; v = sys.version_info; \
	sys.exit(v < (3, 11) or not os.path.isdir(f"{sys.prefix}/lib/python{v[0]}.{v[1]}/site-packages"))

.DEFAULT_GOAL := help
.PHONY: help run test test-quick mutants test-chaos test-old test-collations test-alerts test-browser test-ha test-load load test-helm test-compose test-kubernetes lint format reference chart requirements verify hooks bench bench-scale images secrets clean clean-data

help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(RUNTIME) ## start everything (embedded PostgreSQL and Valkey unless .env names others); Ctrl-C stops it
	@exec $(BIN)/python main.py --run-monitor $(ARGS)

test: $(DEVELOPMENT) ## the whole suite against real embedded servers; ARGS="-k name" for a part
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist worksteal --durations=20 $(APART) $(ARGS)

test-quick: $(DEVELOPMENT) ## what breaks first, in about two minutes, while you work; ARGS="-x" stops at the first failure
	$(BIN)/python -m pytest -q -n $(PYTEST_WORKERS) --dist worksteal $(QUICK) $(ARGS)

test-chaos: $(DEVELOPMENT) ## faults in the long form; MINUTES=n, SEED=n as printed by an earlier run
	CHAOS_MINUTES=$(or $(MINUTES),1) CHAOS_SEED=$(or $(SEED),$(shell date +%s)) \
	  $(BIN)/python -m pytest -n $(CHAOS_WORKERS) --dist worksteal -o timeout=0 tests/chaos tests/model $(ARGS)

mutants: $(DEVELOPMENT) ## take out one protection at a time, and see the tests that guard it go red; ONLY="name name"
	$(BIN)/python -m tests.mutants $(ONLY)

test-old: $(DEVELOPMENT) ## the integration suite against PostgreSQL 12 and 15 with Redis 6.2; ARGS="tests/model -x" for a part
	PYTEST_WORKERS=$(PYTEST_WORKERS) scripts/test-old $(ARGS)

test-collations: $(DEVELOPMENT) ## the same on databases that sort text as ICU and as en_US do; ARGS="tests/model -x" for a part
	PYTEST_WORKERS=$(PYTEST_WORKERS) scripts/test-collations $(ARGS)

.PHONY: test-celery
test-celery: $(DEVELOPMENT) ## Celery's own integration tests against its worker and ours; WHOLE=1 for all, POOL=threads, TESTS="test_inspect.py"
	$(BIN)/python -m tests.celery_suite $(if $(WHOLE),--whole) $(if $(POOL),--pool $(POOL)) $(TESTS)

test-alerts: $(DEVELOPMENT) ## cause each alert's condition on a running stack with a real Prometheus
	$(BIN)/python -m pytest -q tests/alerts $(ARGS)

test-helm: $(DEVELOPMENT) ## the Helm chart, rendered, linted and held against Kubernetes' schemas (needs helm, kubeconform)
	@command -v helm >/dev/null || $${LEDGERQ_LAB:-../shared/lab}/install >/dev/null 2>&1 || true
	@if command -v helm >/dev/null; then $(BIN)/python -m pytest -n $(PYTEST_WORKERS) tests/helm $(ARGS); \
	else echo "SKIPPED: helm is not on PATH"; fi

test-compose: $(DEVELOPMENT) ## the images and the Compose stack on a real dockerd; SKIPPED where there is none
	@tests/lab docker $(BIN)/python -m pytest tests/compose $(ARGS)

test-kubernetes: $(DEVELOPMENT) ## the Helm chart on the lab's one-node cluster, under load (needs the lab and root)
	@tests/lab docker scripts/test-kubernetes $(ARGS)

.PHONY: test-hostile
test-hostile: $(DEVELOPMENT) ## the hostile hour, in 90 s, with its figures; MINUTES=n, STACK=compose for Compose, SEED=n as printed
	@HOSTILE_MINUTES=$(MINUTES) HOSTILE_SEED=$(SEED) HOSTILE_STACK=$(STACK) \
	  $(if $(filter compose,$(STACK)),tests/lab docker) $(BIN)/python -m pytest -q -s -o timeout=0 tests/hostile $(ARGS)

test-browser: $(DEVELOPMENT) ## Flower's pages in a headless Chromium; SKIPPED where there is none
	@if command -v "$${CHROMIUM:-chromium}" >/dev/null; then $(BIN)/python -m pytest tests/browser $(ARGS); \
	else echo "SKIPPED: chromium is not on PATH"; fi

test-ha: $(DEVELOPMENT) ## failovers of three PostgreSQL servers with Patroni, under load; HA_ROUNDS=0: short; SKIPPED where they are not to be had
	@scripts/test-ha $(ARGS)

load: $(LOAD_VENV)/.installed ## Locust against a running server; URL=…, SCENARIO=submit|batch|watch|mixed|burst, USERS=n, SECONDS=n
	@mkdir -p load-report
	LOAD_SCENARIO=$(or $(SCENARIO),mixed) LOAD_USERS=$(or $(USERS),20) LOAD_SECONDS=$(or $(SECONDS),60) \
	  $(LOAD_VENV)/bin/locust -f tests/load/locustfile.py --host $(or $(URL),http://127.0.0.1:8000) --headless --only-summary \
	  --stop-timeout 90 --html load-report/report.html --csv load-report/report \
	  $(if $(filter burst,$(SCENARIO)),,--users $(or $(USERS),20) --spawn-rate $(or $(USERS),20) --run-time $(or $(SECONDS),60)s)

test-load: $(DEVELOPMENT) $(LOAD_VENV)/.installed ## ten seconds of each of two scenarios, against a stack of its own
	$(BIN)/python -m pytest tests/load $(ARGS)

# Where `make wheels` puts them.
WHEELS ?= dist

.PHONY: wheels
wheels: $(RUNTIME) ## build the four distributions into dist/, to install LedgerQ elsewhere
	@rm -f $(WHEELS)/ledgerq_*.whl
	@$(PIP) wheel --no-deps --no-build-isolation --wheel-dir $(WHEELS) ./shared ./services/api ./services/worker ./services/monitor
	@ls $(WHEELS)/ledgerq_*.whl

.PHONY: model
model: $(VENV)/.created ## check the model of the protocol with SPIN, and what each protection is good for; SKIPPED where there is none
	@$(BIN)/python scripts/check_model.py $(ARGS)

.PHONY: docs
docs: $(DOCS_VENV)/.installed ## build the documentation into site/: both languages, offline; fails at a broken link or anchor
	@$(DOCS_VENV)/bin/python scripts/make_site.py

lint: $(DEVELOPMENT) ## ruff, mypy --strict, import contracts, SQL in its place
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/check_sql.py

bench: $(DEVELOPMENT) $(BENCH_VENV)/.installed ## speed beside other queues; BENCH="drain http", ONLY=name, ROUNDS=n, N=tasks, PAGE=1
	$(BIN)/python -m benchmarks $(BENCH) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(N),--number $(N)) $(foreach name,$(ONLY),--only $(name)) $(if $(PAGE),--page)

.PHONY: bench-against
bench-against: $(DEVELOPMENT) ## this tree's speed beside an older commit's, in turns; BASE=commit, BENCH="drain http", ONLY=row, ROUNDS=n, N=tasks
	@test -n "$(BASE)" || { echo "BASE=… is missing: the commit to compare with, such as BASE=HEAD~1."; exit 2; }
	$(BIN)/python scripts/bench_against.py $(BASE) $(BENCH) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(N),--number $(N)) $(foreach name,$(ONLY),--only $(name))

bench-scale: $(DEVELOPMENT) ## a ledger of millions beside a small one; ROWS=10000000 DIR=folder with room (it says how much)
	@test -n "$(DIR)" || { echo "DIR=… is missing: a folder with room for the data; it is deleted afterwards."; exit 2; }
	$(BIN)/python -m benchmarks.scale --rows $(or $(ROWS),10000000) --folder $(DIR) $(if $(OPEN),--open-seconds $(OPEN)) $(if $(PAGE),--page)

format: $(DEVELOPMENT) ## fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

reference: $(DEVELOPMENT) ## write docs/reference from the code, the dashboards and the drawings
	$(BIN)/python scripts/make_reference.py
	$(BIN)/python scripts/make_dashboards.py
	$(BIN)/python scripts/make_drawings.py

verify: $(DEVELOPMENT) ## are generated files what their sources say?
	$(BIN)/python -m pip check
	$(BIN)/python scripts/make_reference.py --check
	$(BIN)/python scripts/make_dashboards.py --check
	$(BIN)/python scripts/make_drawings.py --check
	$(BIN)/python scripts/make_chart.py --check
	@$(MAKE) --no-print-directory requirements
	git diff --exit-code -- 'requirements*.txt' 'services/*/requirements.txt'

chart: $(DEVELOPMENT) ## write the Helm chart's schema and tables from its values.yaml
	$(BIN)/python scripts/make_chart.py

requirements: $(VENV)/.created ## pin requirements*.txt anew (UPGRADE=1 for newer versions)
	$(PIP) install uv==$(UV_VERSION)
	PATH="$(CURDIR)/$(BIN):$$PATH" UPGRADE="$(UPGRADE)" scripts/pin-requirements

images: ## build the three images; PYTHON_IMAGE=name for another base, PIP_INDEX_URL from the environment
	for service in api worker monitor; do \
		docker build --tag ledgerq-$$service:$(VERSION) --file services/Dockerfile --target $$service \
			$(if $(PYTHON_IMAGE),--build-arg PYTHON_IMAGE=$(PYTHON_IMAGE)) --build-arg PIP_INDEX_URL \
			--build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD) . || exit 1; \
	done

.PHONY: pin-images
pin-images: $(DEVELOPMENT) ## write the digests of the images of others beside their tags (needs docker and a registry that answers)
	$(BIN)/python scripts/pin_images.py $(ARGS)

secrets: ## write the Compose stack's secrets as files, before its first start (it makes its own otherwise)
	@deploy/compose/make-secrets

hooks: $(DEVELOPMENT) ## run the linters before every commit
	$(BIN)/pre-commit install

$(LOAD_VENV)/.installed: requirements-load.txt | $(VENV)/.created
	@echo "Installing Locust into $(LOAD_VENV) (once) ..."
	$(BIN)/python -m venv $(LOAD_VENV)
	$(LOAD_VENV)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements-load.txt
	@touch $@

$(DOCS_VENV)/.installed: requirements-docs.txt | $(VENV)/.created
	@echo "Installing what builds the documentation into $(DOCS_VENV) (once) ..."
	$(BIN)/python -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements-docs.txt
	@touch $@

$(BENCH_VENV)/.installed: requirements-bench.txt | $(VENV)/.created
	@echo "Installing the peers of the benchmarks into $(BENCH_VENV) (once) ..."
	$(BIN)/python -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements-bench.txt
	@touch $@

clean: ## remove the environment and the caches (data in .ledgerq/ stays)
	rm -rf .bench-against $(VENV) $(BENCH_VENV) benchmarks/peers/node/node_modules $(LOAD_VENV) $(DOCS_VENV) site load-report .tools .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .schemathesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

clean-data: ## remove the embedded servers' data, for good
	@test -n "$(wildcard $(BIN)/python)" || { echo "nothing to remove: run 'make run' first"; exit 1; }
	$(BIN)/python -m ledgerq_shared.embedded remove .ledgerq

# Looked at before each use, because the system's Python may be another one by now.
.PHONY: $(VENV)/.sound
$(VENV)/.sound:
	@test ! -e $(VENV) || $(BIN)/python -c '$(SOUND)' 2>/dev/null || \
	  { echo "$(VENV) belongs to another Python, or to one that is gone: run 'make clean', then this again."; exit 1; }

$(VENV)/.created: | $(VENV)/.sound
	@test -n "$(PYTHON)" || { echo "LedgerQ needs Python 3.11 or newer; none was found on PATH (set PYTHON=...)."; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# What others wrote is held against the hashes of requirements-lock.txt; requirements.txt, with our own folders, cannot have any.
$(RUNTIME): $(VENV)/.created requirements.txt requirements-lock.txt requirements-build.txt $(DISTRIBUTIONS) | $(VENV)/.sound
	@echo "Installing LedgerQ into $(VENV) (once; about a minute) ..."
	@$(INSTALL) "packages of others" --require-hashes -r requirements-lock.txt
	@$(INSTALL) "build tools" --require-hashes -r requirements-build.txt
	@$(INSTALL) "LedgerQ" --no-deps --no-build-isolation $$(grep '^-e' requirements.txt)
	@touch $@

$(DEVELOPMENT): $(RUNTIME) requirements-dev.txt
	@echo "Installing the tools for tests and lint into $(VENV) (once) ..."
	@$(INSTALL) "tools" --require-hashes -r requirements-dev.txt
	@touch $@
