# The commands of the README, and nothing clever.

.PHONY: demo demo-check test bench bench-collect bench-versus bench-soak lint

# The demo site behind vestibule, until Ctrl-C.
demo:
	@fixtures/django/demo

# The same, looked at by itself and stopped.
demo-check:
	@DEMO_CHECK=1 fixtures/django/demo

# All the tests, those with real servers and a real browser among them.
test:
	tests/setup
	cargo test --doc --locked
	if command -v cargo-nextest >/dev/null; then cargo nextest run --locked --no-fail-fast; else cargo test --lib --bins --tests --locked --no-fail-fast; fi

bench:
	cargo bench --locked

# `collect` beside WhiteNoise, on the same files.
bench-collect:
	cargo build --release --locked
	benches/versus_whitenoise

# `serve` beside nginx, Caddy and static-web-server, on the same files. Run it while nothing else runs.
bench-versus:
	cargo build --release --locked
	benches/versus

# `serve` under a mixed load for half an hour, with restarts; `benches/soak --help` tells of the crowds.
bench-soak:
	cargo build --release --locked
	benches/soak --binary target/release/vestibule

lint:
	cargo fmt --check
	cargo lint
