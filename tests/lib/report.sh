# shellcheck shell=bash
# Counting and showing what passed: sourced by tests/run.
#
# `step` is one check that passes or fails as a whole. `suite` is a runner of
# many tests whose closing lines are read. `skip` is a check that cannot run
# here. Everything lands in the same three sums.

passed=0
failed=0
failures=()
skips=()
logs=target/tests
log=
seconds=0
# Rust tests that lack a peer append "test: why" here and return.
export VITALD_SKIPPED_TESTS="$PWD/$logs/skipped-tests"

in_ci() { [ "${CI:-}" = true ]; }

start_report() {
    mkdir -p "$logs"
    export CARGO_TERM_COLOR=never
    trap 'echo; echo "interrupted" >&2; exit 130' INT TERM
}

# show WORD NAME REMARK: one line of progress.
show() { printf '%-7s %-28s %s\n' "$1" "$2" "$3"; }

count_failure() { # NAME REMARK
    failed=$((failed + 1))
    failures+=("$1: $2")
}

# The end of a failed step's output, and where the rest is.
show_log() { # LOG
    sed 's/^/    /' "$1" | tail -n 120
    echo "    (all of it: $1)"
}

skip() { # NAME WHY
    if in_ci; then
        show FAILED "$1" "cannot be skipped in CI: $2"
        count_failure "$1" "$2"
    else
        show skipped "$1" "$2"
        skips+=("$1: $2")
    fi
}

# Runs a command with its output in a log. Sets $log and $seconds.
run_logged() { # NAME COMMAND...
    local name=$1 began=$SECONDS status
    shift
    log=$logs/${name//[^a-zA-Z0-9]/-}.log
    "$@" >"$log" 2>&1 </dev/null
    status=$?
    seconds=$((SECONDS - began))
    return $status
}

step() { # NAME COMMAND...
    if run_logged "$@"; then
        passed=$((passed + 1))
        show ok "$1" "${seconds} s"
    else
        show FAILED "$1" "${seconds} s"
        show_log "$log"
        count_failure "$1" "see $log"
        return 1
    fi
}

# Adds up the closing lines of libtest ("test result: ok. 3 passed; 0 failed; 1
# ignored; ...") or nextest ("Summary [ 1.0s] 4 tests run: 3 passed, 1 timed
# out, 1 skipped"); prints "passed failed ignored". With a summary of nextest,
# nothing else counts: the lines of libtest are then those of single tests.
read_totals() { # LOG
    awk '
        function add(runner, line,   items, count, i, words) {
            gsub(/\([^)]*\)/, "", line)
            count = split(line, items, /[,;]/)
            for (i = 1; i <= count; i++) {
                split(items[i], words, " ")
                if (items[i] ~ /^ *[0-9]+ passed/) passed[runner] += words[1]
                else if (items[i] ~ /^ *[0-9]+ (failed|timed out|exec failed)/) failed[runner] += words[1]
                else if (items[i] ~ /^ *[0-9]+ (ignored|skipped)/) ignored[runner] += words[1]
            }
        }
        BEGIN { runner = "libtest" }
        /^test result: [A-Za-z]+\. / { sub(/^test result: [A-Za-z]+\. /, ""); add("libtest", $0) }
        /^ *Summary \[[^]]*\] .* tests? run: / { sub(/^.* tests? run: /, ""); runner = "nextest"; add(runner, $0) }
        END { printf "%d %d %d\n", passed[runner], failed[runner], ignored[runner] }
    ' "$1"
}

suite() { # NAME COMMAND...: a runner that must have run at least one test
    local name=$1 status ran broken ignored missing=0 line
    : >"$VITALD_SKIPPED_TESTS"
    run_logged "$@"
    status=$?
    read -r ran broken ignored < <(read_totals "$log")
    while IFS= read -r line; do
        # It returned early and was counted as passed, or failed in CI.
        in_ci && continue
        skips+=("$name: $line")
        missing=$((missing + 1))
    done <"$VITALD_SKIPPED_TESTS"
    passed=$((passed + ran - missing))
    failed=$((failed + broken))
    local remark="$((ran - missing)) passed, $broken failed, ${seconds} s"
    [ "$missing" -eq 0 ] || remark="$remark, $missing skipped"
    if [ "$ignored" -gt 0 ]; then
        # A test switched off in the source: never wanted here.
        count_failure "$name" "$ignored ignored"
        remark="$remark; $ignored ignored, which counts as a failure"
        status=1
    fi
    if [ $((ran + broken)) -eq 0 ]; then
        count_failure "$name" "no test ran"
        remark="no test ran, ${seconds} s"
        status=1
    elif [ "$status" -ne 0 ] && [ "$broken" -eq 0 ] && [ "$ignored" -eq 0 ]; then
        # It died after its last closing line: a crash or a failed build.
        count_failure "$name" "the runner ended with status $status"
        remark="$remark; the runner ended with status $status"
    elif [ "$broken" -gt 0 ]; then
        failures+=("$name: $broken failed, see $log")
        status=1
    fi
    if [ "$status" -eq 0 ]; then
        show ok "$name" "$remark"
    else
        show FAILED "$name" "$remark"
        show_log "$log"
        return 1
    fi
}

# Prints the sums and ends the script.
close_report() {
    local line
    echo
    if [ ${#failures[@]} -gt 0 ]; then
        echo "Failed:"
        for line in "${failures[@]}"; do echo "  $line"; done
    fi
    if [ ${#skips[@]} -gt 0 ]; then
        echo "Skipped:"
        for line in "${skips[@]}"; do echo "  $line"; done
        echo "$passed passed, $failed failed, ${#skips[@]} skipped"
    else
        echo "$passed passed, $failed failed"
    fi
    [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
    exit
}
