# make demo     three datacenters as local processes, a ?dc= query, a datacenter lost and back, a report
# make test     every test: units, properties, simulation, real processes
# make verify   everything that must hold before a change lands; writes nothing
# make fix      formats, and applies what clippy can mend by itself
# make bench    measures Causeway and Consul side by side (docs/benchmarks.md)
# make bench-services  the same for services, checks, DNS and agents that are cut off
# make bench-federation  reads at a distance, what mirrors cost, how soon a loss is known; 40 minutes
# make bench-failover  how soon another datacenter answers, what a policy costs, prepared queries beside Consul; 20 minutes
# make bench-gateway  requests through a gateway beside those that go directly; two minutes
# make fuzz     feeds every parser of untrusted bytes for FUZZ_SECONDS (60) each
# make clients  services and failover with clients that others wrote: py-consul, python-consul, dig, HAProxy
# make containers  a plan in containers, a datacenter of which is lost and comes back; needs Docker and docker-compose
# make release  one static binary: target/static/x86_64-unknown-linux-gnu/release/causeway

CARGO ?= cargo
BENCH ?= ../shared/bench
DENY_VERSION := 0.20.2
# An advisory database that is already on this machine; fetching one needs a network.
ADVISORIES := $(wildcard $(or $(CARGO_HOME),$(HOME)/.cargo)/advisory-dbs)
TARGET := $(shell rustc -vV | sed -n 's/^host: //p')

.PHONY: demo build test verify fmt clippy doc deny bench bench-services bench-federation bench-failover bench-gateway fix fuzz clients containers release

demo:
	$(CARGO) build --locked --release --bin causeway
	target/release/causeway drill lose-datacenter

# The tests of real processes start the binary, so it is built first.
build:
	$(CARGO) build --locked --workspace --bins --tests

ifneq ($(shell command -v cargo-nextest),)
test: build
	$(CARGO) nextest run --locked --workspace --no-fail-fast
else
test: build
	$(CARGO) test --locked --workspace --no-fail-fast -- --test-threads=2
endif

verify: fmt clippy doc deny

fmt:
	$(CARGO) fmt --all --check

clippy:
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" $(CARGO) doc --locked --workspace --no-deps --document-private-items

deny:
	@command -v cargo-deny >/dev/null || $(CARGO) install cargo-deny --version $(DENY_VERSION) --locked --no-default-features
	$(CARGO) deny --locked check licenses bans sources
ifneq ($(ADVISORIES),)
	$(CARGO) deny --locked --offline check advisories
else
	@echo "advisories: not checked, no advisory database on this machine"
endif

# The harness that measures Consul and us in one run is kept beside the repository.
bench:
	$(CARGO) build --locked --release --bin causeway
	$(BENCH)/get_peers.sh
	CANDIDATE=$(CURDIR)/target/release/causeway $(BENCH)/peers.py --system consul --system candidate \
		--only idle --only kv_put --only kv_get --only cross_dc --only watch --only leader_kill $(BENCH_FLAGS)

# The same for what Consul knows of services, with what the harness has no scenario for.
bench-services:
	$(CARGO) build --locked --release --bin causeway
	$(BENCH)/get_peers.sh
	BENCH=$(BENCH) CANDIDATE=$(CURDIR)/target/release/causeway tests/bench/services.py --system candidate --system consul \
		--only register --only health --only name_service --only service_watch --only idle_checks \
		--only cached_services --only cut_off --only catalog $(BENCH_FLAGS)

# Causeway alone, with a relay between the datacenters.
bench-federation:
	$(CARGO) build --locked --release --bin causeway
	BENCH=$(BENCH) CANDIDATE=$(CURDIR)/target/release/causeway REPETITIONS=$(or $(REPETITIONS),20) \
		tests/bench/federation.py --system tests/bench/federation.py:Relayed \
		--only remote_reads --only mirror_traffic --only crowd --only losses $(BENCH_FLAGS)

# The first two with a relay between the datacenters.
bench-failover:
	$(CARGO) build --locked --release --bin causeway
	$(BENCH)/get_peers.sh
	BENCH=$(BENCH) CANDIDATE=$(CURDIR)/target/release/causeway REPETITIONS=$(or $(REPETITIONS),20) \
		tests/bench/failover.py --system tests/bench/failover.py:Relayed --only policy_cost --only failovers $(BENCH_FLAGS)
	BENCH=$(BENCH) CANDIDATE=$(CURDIR)/target/release/causeway \
		tests/bench/failover.py --system candidate --system consul --only prepared_queries $(BENCH_FLAGS)

bench-gateway:
	$(CARGO) build --locked --release --bin causeway
	BENCH=$(BENCH) CANDIDATE=$(CURDIR)/target/release/causeway \
		tests/bench/gateway.py --system tests/bench/gateway.py:Gatewayed --only gateway $(BENCH_FLAGS)

# What makes a parser panic is saved to tests/corpus, where `make test` finds it again.
fuzz:
	$(CARGO) run --locked -p tests --bin fuzz -- --seconds $(or $(FUZZ_SECONDS),60) $(FUZZ_FLAGS)

# From PyPI and Debian (dnsutils, haproxy, python3-venv); the script says what is missing.
clients:
	$(CARGO) build --locked --bin causeway
	tests/clients/run.sh
	tests/clients/failover.sh

fix:
	$(CARGO) clippy --fix --allow-dirty --allow-staged --workspace --all-targets
	$(CARGO) fmt --all

containers: release
	tests/containers.sh target/static/$(TARGET)/release/causeway

# Its own target directory: other RUSTFLAGS would rebuild everything in the shared one.
release:
	RUSTFLAGS='-C target-feature=+crt-static --cfg getrandom_backend="linux_getrandom"' \
		$(CARGO) build --locked --release --target $(TARGET) --target-dir target/static --bin causeway
