# Short names for the commands of every day. `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help up run-api run-worker test lint fmt bench coverage clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: ## run the whole system in one process, on 127.0.0.1:8080
	cargo run --release --locked -- up

run-api: ## run the API alone (refused: needs a bus between processes)
	cargo run --release --locked -- api

run-worker: ## run a worker alone (refused: needs a bus between processes)
	cargo run --release --locked -- worker

test: ## run every test
	cargo test --locked

lint: ## check format, clippy, docs, and what may enter the build
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --locked --no-deps
	scripts/deny

fmt: ## format the code
	cargo fmt

bench: ## compare with plain Postgres on this machine (BENCH_SECONDS, BENCH_ORDERS)
	scripts/bench

coverage: ## test coverage, to target/lcov.info
	@cargo llvm-cov --version >/dev/null 2>&1 || cargo install cargo-llvm-cov --locked --version 0.9.1
	cargo llvm-cov --locked --lcov --output-path target/lcov.info
	cargo llvm-cov report --summary-only

clean: ## remove what builds made (not the orders in orderstream-data)
	cargo clean
