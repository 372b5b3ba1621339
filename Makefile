# Short names for the usual commands. `make` alone lists them.
.DEFAULT_GOAL := help
TARGET := $(or $(CARGO_TARGET_DIR),target)
FIRST_BUILD := Building OrderStream. The first build compiles its C libraries too, and takes about three minutes on \
	two processors; later ones take seconds. Then it prints its addresses.
.PHONY: help up migrate run-api run-worker servers servers-down secrets test test-kafka-tls fuzz lint fmt \
	bench soak package coverage docs book clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: ## run the whole system in one process, on 127.0.0.1:8080
	@test -e $(TARGET)/quick/orderstream || echo "$(FIRST_BUILD)"
	cargo run --profile quick --locked -- up

migrate: ## bring the store's schema to this version
	cargo run --profile quick --locked -- migrate

run-api: ## run the API alone (needs POSTGRES_DSN and KAFKA_BROKERS)
	cargo run --profile quick --locked -- api

run-worker: ## run a worker alone (needs POSTGRES_DSN and KAFKA_BROKERS)
	cargo run --profile quick --locked -- worker

servers: ## start a Postgres, a Redis and a Kafka of your own, and print their addresses
	@scripts/servers up

servers-down: ## stop them and delete their data
	@scripts/servers down --purge

# The folder is closed to others; the files in it are not, because a container's user is not you.
secrets: ## make the password of Postgres for compose.yaml, once, in ./secrets
	@mkdir -p -m 700 secrets
	@test -s secrets/postgres_password || openssl rand -hex 24 >secrets/postgres_password
	@printf 'postgres://orderstream:%s@postgres/orderstream\n' "$$(cat secrets/postgres_password)" >secrets/postgres_dsn
	@chmod 644 secrets/*

test: ## run every test (KEEP_SERVERS=1 leaves the servers that they start running)
	scripts/test

# With little optimisation, which takes a quarter of the time: only the logins are tested in that build.
test-kafka-tls: ## lint the build with TLS for Kafka, and test its logins
	@pkg-config --exists openssl || scripts/install-libssl
	CARGO_PROFILE_DEV_OPT_LEVEL=0 cargo clippy --locked --all-targets --features kafka-tls -- -D warnings
	CARGO_PROFILE_DEV_OPT_LEVEL=0 cargo test --locked --features kafka-tls --test it bus::kafka::logins

fuzz: ## test the HTTP API against its OpenAPI document with over 20,000 requests
	for seed in 1 2 3 4; do SCHEMATHESIS_SEED=$$seed scripts/schemathesis 400 || exit; done

lint: ## check format, clippy, docs, licences and bans
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --locked --no-deps
	scripts/deny

fmt: ## format the code
	cargo fmt

bench: ## compare with plain Postgres and Kafka on this machine (settings: see scripts/bench)
	scripts/bench

soak: ## load several processes for half an hour while servers are killed and paused (settings: see scripts/soak)
	scripts/soak

package: ## build the files of a release for this machine, into target/package
	scripts/package

coverage: ## test coverage, to target/lcov.info
	@cargo llvm-cov --version >/dev/null 2>&1 || cargo install cargo-llvm-cov --locked --version 0.9.1
	cargo llvm-cov --locked --lcov --output-path target/lcov.info
	cargo llvm-cov report --summary-only

docs: ## regenerate the generated sections of the pages in docs/
	ORDERSTREAM_WRITE_DOCS=1 cargo test --locked --test it docs::configuration

book: ## the documentation as a book, to target/book
	scripts/book

clean: ## remove the files of builds (not the orders in orderstream-data)
	cargo clean
