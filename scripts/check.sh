#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# Checks the rules of the project that a machine can check: format, licence lines, includes, shell
# scripts, that man pages and completions have the options of the programs, that README.md has the
# measured numbers, the names of hosts, the words that were replaced, the functions and files that
# documents name, and the subjects of commits. Prints each finding, and exits 1 if there is one.
# Usage: check.sh [SOURCE_DIR [BUILD_DIR [CHECK...]]]    CHECK: one of $checks below, default all
set -u

cd "${1:-$(dirname "$0")/..}" || exit 2
build=${2:-build}
checks='format licences includes shell python options claims hygiene hosts words references benchmarks history'
[ $# -lt 3 ] || { shift 2 && checks=$*; }
findings=0

finding()
{
    echo "check: $*"
    findings=$((findings + 1))
}

# skip REASON: a check that cannot run. In CI, where TPROXY_MUST_RUN=1, this is a finding.
skip()
{
    if [ "${TPROXY_MUST_RUN:-}" = 1 ]; then
        finding "$*"
    else
        echo "check: SKIP: $*"
    fi
}

need()
{
    command -v "$1" > /dev/null && return 0
    skip "$1 is not installed"
    return 1
}

files()
{
    find bpf common loader proxy scripts tests .ci -type f "$@" ! -path '*/__pycache__/*' \
        ! -path 'tests/fuzz/corpus/*' | sort
}

check_format()
{
    need clang-format || return
    # Other major versions format differently.
    case $(clang-format --version) in
    *"version 14."*) ;;
    *)
        skip "format: clang-format is not version 14"
        return
        ;;
    esac
    for f in $(files -name '*.[ch]'); do
        clang-format --dry-run -Werror "$f" > /dev/null 2>&1 || finding "$f: run clang-format -i"
    done
}

check_licences()
{
    for f in meson.build meson_options.txt .clang-format .clang-tidy .editorconfig ./*.md $(files); do
        head -n 3 "$f" | grep -q 'SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause' ||
            finding "$f: no SPDX licence line"
    done
    for f in $(files -name '*.c'); do
        sed -n 2p "$f" | grep -q '^/\*' || finding "$f: does not begin with what it is for"
    done
}

# includes FILES_GLOB ALLOWED_REGEX: prints each #include of these files that does not match.
includes()
{
    for f in $1; do
        grep -h '^#include' "$f" | grep -vE "$2" | while read -r line; do
            echo "$f: may not have $line"
        done
    done
}

# scripts/includes.py knows which folder may include which headers of the tree, and finds circles.
# Here are those of the system.
check_includes()
{
    own='^#include "'
    {
        /usr/bin/python3 -B scripts/includes.py .
        includes 'bpf/*.c bpf/*.h' "<(linux/[a-z0-9_]+|bpf/bpf_(helpers|endian|core_read)|stdbool)\.h>|$own"
        includes 'common/tproxy_abi*.h' "<linux/types\.h>|$own"
        includes 'common/*.c common/*.h' "<[a-z_/]+\.h>|$own"
        for f in common/*.[ch]; do
            grep -Hn '<event2/' "$f"
            case $f in
            common/bpffs.c | common/observed_entries.c) ;;
            *) grep -Hn '<bpf/' "$f" ;;
            esac
        done
        includes 'loader/*/*.c loader/*/*.h' "<[a-z0-9_/-]+\.h>|$own"
        includes 'proxy/*.[ch] proxy/*/*.[ch]' "<[a-z0-9_/-]+\.h>|$own"
        grep -Hn '<event2/' loader/*/*.[ch]
        grep -Hn '<bpf/' proxy/*.[ch] proxy/*/*.[ch] | grep -vE '^proxy/kernel/(registration|marks|events|counters|live|packets|pending(_maps|_pair|_ring)?)\.c:'
    } > "$tmp"
    while read -r line; do
        finding "include: $line"
    done < "$tmp"
    for f in $(files -name '*.h' ! -path 'tests/*'); do
        guard=TPROXY_$(basename "$f" | tr 'a-z.' 'A-Z_')
        grep -qE "^#ifndef (${guard}|TPROXY_[A-Z]+_${guard#TPROXY_}|${guard#TPROXY_})\$" "$f" ||
            finding "$f: its guard is not $guard"
    done
}

check_shell()
{
    need shellcheck || return
    for f in $(files -name '*.sh') .ci/run; do
        shellcheck "$f" || finding "$f: see shellcheck"
    done
}

check_python()
{
    for f in $(files -name '*.py'); do
        /usr/bin/python3 -c 'import ast, sys; ast.parse(open(sys.argv[1]).read())' "$f" ||
            finding "$f: does not parse"
        awk 'length($0) > 100 { exit 1 }' "$f" || finding "$f: a line over 100 characters"
    done
    grep -rnE 'time\.sleep\(([1-9]|0\.[5-9])' tests/e2e && finding "tests sleep instead of waiting"
}

# scripts/options.py compares the table of options that each program prints with its man page and its
# completions.
check_options()
{
    /usr/bin/python3 -B scripts/options.py . "$build" > "$tmp" && return
    [ -s "$tmp" ] || finding "scripts/options.py failed"
    while read -r line; do
        finding "options: $line"
    done < "$tmp"
}

# The last cells of two tables name tests: of claims in SECURITY.md ("file: name, name; file: name"),
# and of invariants in ARCHITECTURE.md (`test_file.py`: name, name). Each of them must exist.
check_claims()
{
    {
        awk -F ' *[|] *' 'NF == 6 { print $5 }' SECURITY.md | tr ';' '\n' | sed 's/^ *//' |
            grep -E '^[a-z0-9_]+: ' | grep -v '^kernel: ' | sed 's/^/SECURITY.md:/'
        awk -F ' *[|] *' '/^[|] I[0-9]+ / { print $5 }' ARCHITECTURE.md | tr -d '\140' |
            tr ';' '\n' | sed -n 's/^ *test_\([a-z0-9_]*\)\.py: /ARCHITECTURE.md:\1: /p'
    } > "$tmp"
    for document in SECURITY.md ARCHITECTURE.md; do
        grep -q "^$document:" "$tmp" || finding "$document: no claim names a test"
    done
    while IFS=: read -r document file names; do
        for name in $(echo "$names" | tr -d ,); do
            grep -qs "^def test_$name(" "tests/e2e/test_$file.py" ||
                finding "$document: there is no test_$name in tests/e2e/test_$file.py"
        done
    done < "$tmp"
}

check_hygiene()
{
    grep -rn bpf_printk bpf && finding "bpf_printk in a shipped program"
    [ "$(wc -l < ARCHITECTURE.md)" -le 180 ] ||
        finding "ARCHITECTURE.md: over 180 lines; move detail to the README.md of a folder"
    [ "$(wc -l < README.md)" -le 150 ] ||
        finding "README.md: over 150 lines; move detail to the man pages"
    grep -rnE '[[:space:]]+$' bpf common loader proxy scripts tests .ci --include='*.[ch]' \
        --include='*.sh' --include='*.py' --include='*.scd' --include=meson.build |
        grep -v Binary && finding "white space at the end of a line"
}

# The tree names no package mirror and no other host. Scripts use the mirror of the machine's apt
# (mirror.sh), documents use the hosts that RFC 2606 reserves. URLs of standards are allowed.
# Variables and addresses do not match.
check_hosts()
{
    url='[a-z]+://([^/ ]+@)?[a-z0-9.-]*[a-z0-9]\.[a-z]+([:/][^] "<>()`]*)?'
    mirror='[a-z0-9.-]+\.(debian|ubuntu|fedoraproject|centos|archlinux|opensuse|alpinelinux)\.[a-z]+'
    reserved='//([a-z0-9.-]+\.)?(example\.(org|com|net)|example|test|invalid)([:/]|$)'
    standard='//(www\.w3\.org|spdx\.org|www\.debian\.org/doc|developercertificate\.org)(/|$)'
    for f in meson.build meson_options.txt ./*.md $(files); do
        {
            grep -oE "$url" "$f" | grep -vE -e "$reserved" -e "$standard"
            grep -oE "$mirror" "$f" | grep -vx 'www\.debian\.org'
        } | sort -u | sed "s|^|$f: names the host of |"
    done > "$tmp"
    while read -r line; do
        finding "$line"
    done < "$tmp"
}

# by_script NAME: each line that scripts/NAME.py prints is a finding.
by_script()
{
    "scripts/$1.py" . > "$tmp" || [ -s "$tmp" ] || finding "scripts/$1.py failed"
    while read -r line; do
        finding "$line"
    done < "$tmp"
}

# scripts/words.py knows the words that the project has replaced.
check_words()
{
    by_script words
}

# scripts/references.py looks up the functions and files that documents and tests name.
check_references()
{
    by_script references
}

# The numbers in README.md and in tests/bench/results must be those of bench.json there.
check_benchmarks()
{
    /usr/bin/python3 -B tests/bench/publish.py --check ||
        finding "README.md and tests/bench/results: see tests/bench/README.md, Publishing"
}

check_history()
{
    if scripts/subjects.sh . > "$tmp"; then
        sed 's/^subjects: /check: /' "$tmp"
        return
    fi
    [ -s "$tmp" ] || finding "scripts/subjects.sh failed"
    while read -r line; do
        finding "history: ${line#subjects: }"
    done < "$tmp"
}

tmp=$(mktemp) || exit 2
trap 'rm -f "$tmp"' EXIT
for check in $checks; do
    "check_$check"
done
if [ "$findings" -gt 0 ]; then
    echo "check: $findings findings"
    exit 1
fi
echo "check: clean"
