# `make` lists the targets. All but `install` build with one profile into one target directory, and each builds only what it
# runs. Packages are always chosen by --workspace: features are resolved over what is chosen, and another choice would compile
# the dependencies a second time, RocksDB among them.

SHELL := /bin/bash
# A target directory kept outside the clone (by CI, or shared by several clones) is used when there is one.
export CARGO_TARGET_DIR ?= $(shell if [ -d /var/cache/rn/target ]; then echo /var/cache/rn/target; else echo $(CURDIR)/target; fi)
# ccache's cc and c++ come first: RocksDB's objects are the same in every profile and clone, and compiled once.
export PATH := /usr/lib/ccache:$(HOME)/.cargo/bin:$(PATH)
BIN := $(CARGO_TARGET_DIR)/debug
RELEASE := $(CARGO_TARGET_DIR)/release
PROGRAMS := --bin rnd --bin rn-shim --bin rnctl
# What the tests and benchmarks start.
STARTED := $(PROGRAMS) --bin rn-testd
# Where tests that cannot run here say so. With RN_REQUIRE=1 those that this machine could run fail.
SKIPS := $(CARGO_TARGET_DIR)/skipped
PREFIX ?= /usr/local
DESTDIR ?=

.DEFAULT_GOAL := help
.PHONY: help deps build test test-clients sim fuzz check fmt demo demo-down bench install clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps: ## install what is missing: Debian packages, and Rust by rustup
	@scripts/deps.sh

build: deps ## build rnd, rn-shim and rnctl as the tests use them; optimised ones: install
	cargo build --workspace $(PROGRAMS)

demo: deps ## three hosts, one service, every node answers (KEEP=1 leaves it up)
	cargo build --workspace $(STARTED) --bin rn-demo
	$(BIN)/rn-demo $(if $(KEEP),--keep)

demo-down: ## tear down what KEEP=1 left up
	$(BIN)/rn-demo --down

test: deps ## build and run every test (needs root: namespaces, containers)
	cargo build --workspace $(STARTED) --tests
	@rm -f $(SKIPS)
	@status=0; RN_SKIPS=$(SKIPS) cargo test --workspace -- --test-threads=2 || status=$$?; \
	if [ -s $(SKIPS) ]; then echo "$$(wc -l <$(SKIPS)) tests were skipped:"; sort $(SKIPS); fi; exit $$status

test-clients: deps ## run docker-py's own integration tests against rnd (needs root and PyPI)
	cargo build --workspace $(PROGRAMS)
	@scripts/test-clients.sh $(BIN)

# Whole clusters in one process each, over a simulated network, disk and clock. A seed is replayed exactly.
sim: deps ## simulate clusters under faults: SEEDS=n seeds (100), or SEED=k, one told in full
	cargo build --workspace --bin rn-sim
	$(BIN)/rn-sim $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),100) --first $(or $(FIRST),0))

# On the stable toolchain, hence without a sanitizer. The workspace in fuzz/ is built by this target only.
fuzz: ## random input for a parser: TARGET=name, RUNS=n (1000000); lists the targets without one
	@cargo fuzz --version >/dev/null 2>&1 || { echo "install it first: cargo install cargo-fuzz" >&2; exit 1; }
	@cd fuzz && if [ -z "$(TARGET)" ]; then cargo fuzz list; else \
	  mkdir -p corpus/$(TARGET) seeds/$(TARGET) && \
	  cargo fuzz run --sanitizer none $(TARGET) corpus/$(TARGET) seeds/$(TARGET) -- \
	    -runs=$(or $(RUNS),1000000) -max_len=$(or $(MAX_LEN),65536) -rss_limit_mb=1024 -timeout=10; fi

# Each is a program that prints its figures; what one cannot measure does not keep the others from it.
BENCHES := convergence throughput names footprint docker_api readiness scale failover starved updates \
           sandbox backends kernel raft_writes control_plane

bench: deps ## print every figure next to its baseline (needs root; about twenty minutes)
	cargo build --workspace $(STARTED) --benches
	@failed=; for bench in $(BENCHES); do \
	  cargo bench -q --workspace --profile dev --bench $$bench || failed="$$failed $$bench"; done; \
	if [ -n "$$failed" ]; then echo "could not measure:$$failed" >&2; exit 1; fi

check: deps ## formatting, lints, licences: reads only
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	@if cargo deny --version >/dev/null 2>&1; then cargo deny check licenses bans sources; \
	 else echo "SKIPPED: cargo deny is not installed (cargo install cargo-deny)"; fi

fmt: ## format the code
	cargo fmt --all

install: deps ## build optimised programs, install them and the systemd unit below PREFIX (/usr/local)
	cargo build --release --workspace $(PROGRAMS)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)/etc/systemd/system $(DESTDIR)/etc/rn
	install -m 0755 $(RELEASE)/rnd $(RELEASE)/rn-shim $(RELEASE)/rnctl $(DESTDIR)$(PREFIX)/bin
	sed 's|@PREFIX@|$(PREFIX)|g' deploy/systemd/rnd.service > $(DESTDIR)/etc/systemd/system/rnd.service
	@echo "installed; start it with: systemctl daemon-reload && systemctl enable --now rnd"

clean: ## remove what was built here
	rm -rf $(CURDIR)/target
