# `make demo` and `make test` are all that a newcomer needs on a fresh Debian 12: root, and the network
# to the distribution's packages. Each installs what it needs, builds, and runs.

SHELL := /bin/bash
CACHE := /var/cache/stockade
# A toolchain of the user's own comes first; the packaged one is taken only when there is none.
export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: help demo test check lint bench judges faults fuzz mutants install build packages root clean

help:
	@printf '%s\n' \
	  'make demo     boot a Debian and an nginx under their policies (first time under 3 minutes)' \
	  'make test     everything that CI runs' \
	  'make check    only what needs neither root nor a Debian' \
	  'make bench    start-up time and memory beside the peers, as ratios' \
	  'make judges   ten million calls before six judges (a few minutes)' \
	  'make mutants  faults in our own compiler, and how many the tests find (hours; needs cargo-mutants)' \
	  'make faults   the whole fault sweep (about a quarter of an hour)' \
	  'make install  to $$(PREFIX)/bin, default /usr/local'

packages:
	@tests/packages build

build: packages
	@cargo build --release

root: packages
	@tests/packages root
	@tests/make-root $(CACHE) >/dev/null

# The Debian is unpacked while the program is built, without the optimiser: it's the first look that is waited for.
demo:
	@tests/packages build root
	@tests/make-root $(CACHE) demo >/dev/null 2> >(cat >&2) & root=$$!; \
	  cargo build --profile demo --bin stockade || { kill $$root; wait $$root; exit 1; }; wait $$root
	@tests/demo $(CACHE) target/demo/stockade

# What needs no root: units, meaning, language, architecture.
check: packages lint
	cargo test --lib --bins --test architecture --test text --test meaning

test:
	@tests/packages build root test
	@$(MAKE) --no-print-directory build root lint
	cargo test --lib --bins
	cargo test --test architecture --test text --test meaning --test kernel
	cargo test --test rows_launch --test rows_calls --test rows_tree --test rows_life --test fail_open
	cargo test --test machines --test user --test review --test within --test claims --test reviewing --test revisions --test exchange --test fuzz
	cargo test --test resources --test network
	cargo test --test faults -- --test-threads=1
	cargo test --test vm -- --test-threads=1
	docs/check-examples target/debug/stockade
	@tests/demo $(CACHE) target/release/stockade

bench: build root
	@tests/packages bench
	@tests/bench
	@tests/bench-network

# The same calls before the evaluator, the diagram, both generators' programs and the running kernel.
judges: packages
	STOCKADE_JUDGES=10000000 cargo test --release --test kernel the_judges -- --nocapture

# Each target for ten minutes; needs cargo-fuzz and a nightly toolchain.
fuzz: packages
	for target in $$(ls fuzz/fuzz_targets | sed 's/\.rs$$//'); do \
	  cargo +nightly fuzz run $$target -- -max_total_time=$${SECONDS_EACH:-600} -timeout=30 -rss_limit_mb=4096 || exit 1; done

mutants: packages
	@tests/mutants

faults: build root
	@tests/packages test
	STOCKADE_FAULTS=all cargo test --test faults -- --test-threads=1 --nocapture

# A toolchain may come without the two linters: then they are skipped, in words, and never in CI.
lint:
	@for tool in fmt clippy; do \
	  if ! cargo $$tool --version >/dev/null 2>&1; then \
	    echo "SKIP: cargo $$tool is not installed"; [ "$${STOCKADE_REQUIRE:-}" != all ] || exit 1; \
	  elif [ $$tool = fmt ]; then cargo fmt --all --check || exit 1; \
	  else cargo clippy --all-targets --quiet -- -D warnings || exit 1; fi; \
	done

PREFIX ?= /usr/local
install: build
	install -D -m 755 target/release/stockade $(DESTDIR)$(PREFIX)/bin/stockade

clean:
	cargo clean
