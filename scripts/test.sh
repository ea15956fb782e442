#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# Installs what is missing, builds with warnings as errors and runs every suite: check, unit,
# verifier, e2e; then e2e once more with both programs built with ASan and UBSan; then those of e2e
# that are about threads, built with TSan; then the fuzz targets, FUZZ_SECONDS (60) each. Ends with
# totals. As root nothing may be skipped.
# Usage: test.sh [--no-asan | --tsan]      without the last three; nothing but TSan
set -eu

PATH=/usr/sbin:/usr/bin:/sbin:/bin
cd "$(dirname "$0")/.."
scripts/packages.sh build test
if [ "$(id -u)" -eq 0 ]; then
    export TPROXY_MUST_RUN=1
fi

export FUZZ_SECONDS="${FUZZ_SECONDS:-60}"

# However it ends: what runs beside it ends too, nothing of killed tests stays, and the last line is
# the totals or says that there are none.
fuzz_pid=
totals=
finish()
{
    status=$?
    trap - EXIT
    [ -z "$fuzz_pid" ] || kill "$fuzz_pid" 2> /dev/null || :
    if [ "$(id -u)" -eq 0 ]; then
        /usr/bin/python3 -B tests/e2e/host.py || status=1
    fi
    echo "${totals:-test.sh: FAILED, it ended before its time with status $status}"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# setup DIR OPTION...: configured once, and anew when meson.build files want it.
setup()
{
    dir=$1
    shift
    if [ -f "$dir/build.ninja" ]; then
        meson configure "$dir" --werror "$@" > /dev/null
    else
        meson setup "$dir" --werror --fatal-meson-warnings "$@" > /dev/null
    fi
    meson compile -C "$dir" > "$dir/compile.log" 2>&1 || {
        cat "$dir/compile.log"
        exit 1
    }
}

# The fuzz targets run beside the end to end tests with ASan, which mostly wait: one at a time, and
# the last in the queue for a CPU.
fuzz_start()
{
    echo "== build the fuzz targets"
    (
        export CC=clang
        setup build-fuzz -Dfuzz=true
    )
    MESON_TESTTHREADS=1 nice -n 19 meson test -C build-fuzz --no-rebuild --print-errorlogs \
        --suite fuzz > build-fuzz/run.log 2>&1 &
    fuzz_pid=$!
}

fuzz_finish()
{
    echo "== fuzz, $FUZZ_SECONDS s each"
    if wait "$fuzz_pid"; then
        passed "fuzz, $FUZZ_SECONDS s each"
    else
        failed "fuzz, $FUZZ_SECONDS s each"
    fi
    fuzz_pid=
    cat build-fuzz/run.log
    grep -hE '^fuzz [a-z_]+: [0-9]+ inputs' build-fuzz/meson-logs/testlog.txt || :
}

tsan_suite()
{
    echo "== build with TSan"
    setup build-tsan -Dtests=enabled -Db_sanitize=thread -Db_lundef=false
    suite 'threads with TSan' build-tsan e2e
}

# suite LABEL DIR SUITE...: meson's own output, and one line for the end.
results=
failures=0
passed()
{
    results="$results$1: passed
"
}

failed()
{
    results="$results$1: FAILED
"
    failures=$((failures + 1))
}

suite()
{
    label=$1
    dir=$2
    shift 2
    args=
    for s in "$@"; do
        args="$args --suite $s"
    done
    echo "== $label"
    # shellcheck disable=SC2086 # a list of options
    if meson test -C "$dir" --no-rebuild --print-errorlogs $args; then
        passed "$label"
    else
        failed "$label"
    fi
    # pytest's own count, which meson does not show, and by name what has not run or may fail.
    grep -hoE -e '^[0-9]+ (passed|failed)[^=]* in [0-9.]+s.*' \
        -e '^(SKIPPED|DESELECTED|XFAIL|XPASS) .*' "$dir/meson-logs/testlog.txt" || :
}

if [ "${1:-}" = --tsan ]; then
    tsan_suite
else
    echo "== build"
    setup build-ci -Dtests=enabled -Dman-pages=enabled
    suite 'check, unit, verifier' build-ci check unit verifier
    suite 'end to end' build-ci e2e
fi
if [ -z "${1:-}" ]; then
    echo "== build with ASan and UBSan"
    setup build-asan -Dtests=enabled -Db_sanitize=address,undefined -Db_lundef=false
    suite 'unit with ASan and UBSan' build-asan unit
    fuzz_start
    suite 'end to end with ASan and UBSan' build-asan e2e
    tsan_suite
    fuzz_finish
fi
echo
printf '%s' "$results"
totals="$(printf '%s' "$results" | grep -c ': passed$' || :) passed, $failures failed"
[ "$failures" -eq 0 ]
