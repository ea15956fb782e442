#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# Installs what is missing, builds with warnings as errors and runs every suite: check, unit,
# verifier and e2e. Then it runs unit with ASan and UBSan, and the fuzz targets, FUZZ_SECONDS (10)
# each. e2e is shared out between the plain build, ASan and TSan, see tests/e2e/builds.py: each test
# runs at least once. It ends with totals. As root nothing may be skipped.
# Usage: test.sh [--no-asan | --tsan]      without the last three; nothing but TSan
set -eu

PATH=/usr/sbin:/usr/bin:/sbin:/bin
cd "$(dirname "$0")/.."
scripts/packages.sh build test
if [ "$(id -u)" -eq 0 ]; then
    export TPROXY_MUST_RUN=1
fi

export FUZZ_SECONDS="${FUZZ_SECONDS:-10}"

# On every exit: end the fuzz targets, remove what killed tests have left, and print as the last
# line the totals, or that there are none.
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

# setup DIR OPTION...: sets up a build directory, or changes the options of an existing one, and
# compiles everything, or $targets. meson itself reconfigures it if meson.build files have changed.
targets=
setup()
{
    dir=$1
    shift
    if [ -f "$dir/build.ninja" ]; then
        meson configure "$dir" --werror "$@" > /dev/null
    else
        meson setup "$dir" --werror --fatal-meson-warnings "$@" > /dev/null
    fi
    # shellcheck disable=SC2086 # a list of targets
    meson compile -C "$dir" $targets > "$dir/compile.log" 2>&1 || {
        cat "$dir/compile.log"
        exit 1
    }
}

# The fuzz targets run in parallel with the end to end tests with ASan, which mostly wait. They run
# one at a time, with the lowest CPU priority.
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

# Only the programs: no other suite runs with TSan.
tsan_suite()
{
    echo "== build with TSan"
    targets='tproxy-load tproxy-relay tproxyctl'
    setup build-tsan -Dtests=enabled -Db_sanitize=thread -Db_lundef=false
    targets=
    suite 'threads with TSan' build-tsan e2e
}

# suite LABEL DIR SUITE...: shows meson's own output, and adds one line to the results. $part is what
# the end to end tests run (tests/e2e/builds.py), by default what belongs to the build.
part=
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
    args=${part:+--test-args=--part=$part}
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
    # Shows pytest's own totals, which meson leaves out, and the names of tests that were skipped or
    # deselected, were expected to fail, or took more than half of their deadline.
    grep -hoE -e '^[0-9]+ (passed|failed)[^=]* in [0-9.]+s.*' \
        -e '^(SKIPPED|DESELECTED|XFAIL|XPASS|SLOW) .*' "$dir/meson-logs/testlog.txt" || :
}

if [ "${1:-}" = --tsan ]; then
    tsan_suite
else
    echo "== build"
    setup build-ci -Dtests=enabled -Dman-pages=enabled
    suite 'check, unit, verifier' build-ci check unit verifier
    export TPROXY_BED_LOAD="$PWD/build-ci/loader/tproxy-load"
    # What runs with ASan below is left to that build.
    [ -n "${1:-}" ] || part=plain
    suite 'end to end' build-ci e2e
    part=
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
