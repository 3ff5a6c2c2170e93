# Two commands do everything on a Debian machine with a Rust toolchain: make demo, make test.

CARGO ?= cargo

.PHONY: help demo examples test images lint dist bench fuzz clean

help:
	@echo 'make demo      build dcgi, serve its built-in site, print the URL (Ctrl-C ends it)'
	@echo 'make examples  build dcgi and the example images, serve them, print the URL (Ctrl-C ends it)'
	@echo 'make test      install what is missing, run every suite'
	@echo 'make lint      formatting, clippy, documentation, dependencies'
	@echo 'make dist      build what is shipped: slowly, for the fastest and smallest executable'
	@echo 'make bench     measure: parsers, fresh containers against the bare API, memory, other servers'
	@echo 'make fuzz      each fuzz target for 60 seconds'

demo:
	$(CARGO) run --release -- demo

# What is waited for stays outside of `with-docker`: a build that fails should not start an engine first.
examples:
	@scripts/prerequisites
	$(CARGO) build --release
	scripts/with-docker scripts/examples

test:
	@scripts/prerequisites
	$(CARGO) build --all-targets
	scripts/with-docker scripts/test

images:
	scripts/with-docker cgi-images/build

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --no-deps
	scripts/deny

# Stripped, and in a folder of its own: quick builds do not take its place.
dist:
	$(CARGO) build --profile dist

# What is measured is what is shipped.
bench:
	@scripts/prerequisites
	$(CARGO) bench --profile dist --bench parsers
	scripts/with-docker bench/run

fuzz:
	fuzz/run 60

clean:
	$(CARGO) clean
