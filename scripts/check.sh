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

# each [PREFIX]: each line of $tmp is a finding.
each()
{
    while read -r line; do
        finding "${1:-}$line"
    done < "$tmp"
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

# The checks start one program for all files: a process for each would take minutes in all.
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
    # shellcheck disable=SC2046 # a list of files, here and below
    clang-format --dry-run -Werror $(files -name '*.[ch]') > "$tmp" 2>&1 ||
        grep -q ': error:' "$tmp" || finding "clang-format failed: $(head -n 1 "$tmp")"
    sed -ni 's/^\([^:]*\):[0-9]*:[0-9]*: error:.*/\1: run clang-format -i/p' "$tmp"
    sort -u -o "$tmp" "$tmp"
    each
}

# without_line FIRST LAST REGEX TEXT FILE...: prints each file that has no such line from FIRST to
# LAST.
without_line()
{
    first=$1 last=$2 regex=$3 text=$4
    shift 4
    regex=$regex awk -v first="$first" -v last="$last" -v text="$text" 'BEGIN {
        for (i = 1; i < ARGC; i++) {
            found = 0
            for (n = 1; n <= last && (getline line < ARGV[i]) > 0; n++)
                found = found || (n >= first && line ~ ENVIRON["regex"])
            close(ARGV[i])
            if (!found)
                print ARGV[i] ": " text
        }
    }' "$@"
}

check_licences()
{
    licence='SPDX-License-Identifier: GPL-2[.]0-only OR BSD-2-Clause'
    # shellcheck disable=SC2046
    {
        without_line 1 3 "$licence" 'no SPDX licence line' \
            meson.build meson_options.txt .clang-format .clang-tidy .editorconfig ./*.md $(files)
        without_line 2 2 '^/[*]' 'does not begin with what it is for' $(files -name '*.c')
    } > "$tmp"
    each
}

# includes ALLOWED_REGEX FILE...: prints each #include of these files that does not match.
includes()
{
    allowed=$1
    shift
    allowed=$allowed awk '/^#include/ && $0 !~ ENVIRON["allowed"] {
        print FILENAME ": may not have " $0
    }' "$@"
}

# Prints the headers whose guard is neither NAME_H, TPROXY_NAME_H nor TPROXY_FOLDER_NAME_H.
wrong_guards()
{
    awk 'BEGIN {
        for (i = 1; i < ARGC; i++) {
            name = ARGV[i]
            sub(".*/", "", name)
            gsub("[^a-z0-9]", "_", name)
            name = toupper(name)
            found = 0
            while (!found && (getline line < ARGV[i]) > 0)
                found = line ~ "^#ifndef (TPROXY_([A-Z]+_)?)?" name "$"
            close(ARGV[i])
            if (!found)
                print ARGV[i] ": its guard is not TPROXY_" name
        }
    }' "$@"
}

# scripts/includes.py knows which folder may include which headers of the tree, and finds circles.
# Here are those of the system.
check_includes()
{
    own='^#include "'
    # shellcheck disable=SC2046
    {
        /usr/bin/python3 -B scripts/includes.py .
        includes "<(linux/[a-z0-9_]+|bpf/bpf_(helpers|endian|core_read)|stdbool)\.h>|$own" bpf/*.[ch]
        includes "<linux/types\.h>|$own" common/tproxy_abi*.h
        includes "<[a-z_/]+\.h>|$own" common/*.[ch]
        grep -Hn '<event2/' common/*.[ch]
        grep -Hn '<bpf/' common/*.[ch] | grep -vE '^common/(bpffs|observed_entries)\.c:'
        includes "<[a-z0-9_/-]+\.h>|$own" loader/*/*.[ch]
        includes "<[a-z0-9_/-]+\.h>|$own" proxy/*.[ch] proxy/*/*.[ch]
        grep -Hn '<event2/' loader/*/*.[ch]
        grep -Hn '<bpf/' proxy/*.[ch] proxy/*/*.[ch] | grep -vE '^proxy/kernel/(registration|marks|events|counters|live|packets|pending(_maps|_pair|_ring)?)\.c:'
        wrong_guards $(files -name '*.h' ! -path 'tests/*')
    } > "$tmp"
    each 'include: '
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
    # shellcheck disable=SC2046
    {
        /usr/bin/python3 -c 'if True:
            import ast, sys
            for path in sys.argv[1:]:
                try:
                    ast.parse(open(path).read())
                except Exception as error:
                    print(f"{path}: does not parse: {error}")' $(files -name '*.py')
        awk 'length($0) > 100 { print FILENAME ": a line over 100 characters" }' \
            $(files -name '*.py') | uniq
    } > "$tmp"
    each
    grep -rnE 'time\.sleep\(([1-9]|0\.[5-9])' tests/e2e && finding "tests sleep instead of waiting"
}

# scripts/options.py compares the table of options that each program prints with its man page and its
# completions.
check_options()
{
    /usr/bin/python3 -B scripts/options.py . "$build" > "$tmp" && return
    [ -s "$tmp" ] || finding "scripts/options.py failed"
    each 'options: '
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
    # shellcheck disable=SC2046
    {
        grep -oHE "$url" meson.build meson_options.txt ./*.md $(files) |
            grep -vE -e "$reserved" -e "$standard"
        grep -oHE "$mirror" meson.build meson_options.txt ./*.md $(files) |
            grep -v ':www\.debian\.org$'
    } | sort -u | sed 's/:/: names the host of /' > "$tmp"
    each
}

# by_script NAME: each line that scripts/NAME.py prints is a finding.
by_script()
{
    "scripts/$1.py" . > "$tmp" || [ -s "$tmp" ] || finding "scripts/$1.py failed"
    each
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
    sed -i 's/^subjects: //' "$tmp"
    each 'history: '
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
