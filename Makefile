# What a person types. The logic is in cargo and `cargo xtask`; each line here is one call.
#
#   make run     the demo: a storefront, a gateway in front of it, and what to try
#   make check   everything that needs no running gateway
#   make test    everything else; installs the Debian packages that tests need, when it may

SHELL := /bin/bash
CARGO ?= cargo
RUSTDOCFLAGS_STRICT := -D warnings
# Seconds per fuzz target in `make fuzz`.
SLUICE_FUZZ_SECONDS ?= 60
TARGET ?=

.PHONY: help run check fmt clippy xtask doc deny test bench fuzz soak dist image

help:
	@sed -n '3,6p' Makefile | sed 's/^#   //'

run:
	$(CARGO) run --locked --profile quick --package sluice-gateway --bin sluice -- demo

check: fmt clippy xtask doc deny

fmt:
	$(CARGO) fmt --all -- --check

clippy:
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

xtask:
	$(CARGO) xtask layers
	$(CARGO) xtask sizes
	$(CARGO) xtask schema --check
	$(CARGO) xtask golden

doc:
	RUSTDOCFLAGS="$(RUSTDOCFLAGS_STRICT)" $(CARGO) doc --workspace --no-deps --document-private-items --locked --quiet

deny:
	@tests/deny

test:
	@tests/setup
	$(CARGO) test --workspace --locked --no-fail-fast

bench:
	$(CARGO) bench --package sluice-gateway --locked
	@tests/load/setup
	$(CARGO) build --release --locked --package sluice-gateway --bin sluice
	tests/load/run

# With a nightly toolchain and cargo-fuzz: coverage-guided. Without: corpus and seeded mutations.
fuzz:
	@SLUICE_FUZZ_SECONDS=$(SLUICE_FUZZ_SECONDS) tests/fuzz/run $(TARGET)

# Reloads under load, optimised, as often as it takes: stop it when you believe it.
soak:
	while $(CARGO) test --locked --profile quick --package sluice-tests --test soak -- --include-ignored --nocapture; do :; done

# One build per program, so that features of one do not leak into another. Static: they run on any Linux.
dist:
	$(CARGO) rustc --release --locked --package sluice-gateway --bin sluice -- -C target-feature=+crt-static
	$(CARGO) rustc --release --locked --package sluice-sidecar --bin sluice-sidecar -- -C target-feature=+crt-static

image:
	docker/build
