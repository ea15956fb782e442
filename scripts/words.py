#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Checks that words which the project has replaced do not come back, in texts, names and names of
files. Prints each finding, and exits 1 if there is one.

TERMS has the terms of the glossary in ARCHITECTURE.md, each with the words that it replaces; a term
must be in the first column there. PLAIN has the same for ordinary words. A word is a regular
expression, without regard to case. It matches whole parts of names too: "mend" matches
mend_pins and not amend.

usage: words.py [SOURCE_DIR]
"""

import re
import sys
from pathlib import Path

TERMS = {
    "supervisor": ["guardian", "guardians"],
    "accept throttle": ["crowd", "crowds", "crowded"],
    "spin": ["busypoll"],
    "half": [r"(?:up|down)\.(?:pump|reading|writing)"],
    "mark": ["hooked"],
    "unpolled": ["deaf"],
    "upstream": ["spare_fd", "dialer"],
}
PLAIN = {
    "again": ["anew"],
    "note_event": ["woke"],
    "the name of the hook": [r"answer\.bpf", r"events\.bpf"],
    "fix": ["mend", "mends", "mended", "mending"],
    "forever": ["for ever"],
    "see it fail": ["see it red"],
    "another program, another process": ["somebody"],
    "so too, the same holds for": ["likewise"],
    "tproxy's": ["of ours"],
}
FOLDERS = ("bpf", "common", "loader", "proxy", "scripts", "tests", ".ci")
# These name the words themselves, are random bytes, or have numbers only.
EXCEPT = ("scripts/words.py", "scripts/subjects.sh", "tests/scripts/test_words.py",
          "tests/fuzz/corpus/", "tests/bench/results/")


def pattern_of(word):
    return re.compile(rf"(?<![a-z])(?:{word})(?![a-z])", re.IGNORECASE)


def files(top):
    paths = [path for path in top.iterdir() if path.is_file()]
    for folder in FOLDERS:
        paths += [path for path in (top / folder).rglob("*") if path.is_file()]
    for path in sorted(paths):
        name = path.relative_to(top).as_posix()
        if not name.startswith(EXCEPT) and "__pycache__" not in name:
            yield name, path


def findings(top):
    words = [(pattern_of(word), term) for terms in (TERMS, PLAIN)
             for term, old in terms.items() for word in old]
    for name, path in files(top):
        for pattern, term in words:
            if found := pattern.search(name):
                yield f"{name}: the file's name has '{found[0]}': {term}"
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(lines, 1):
            for pattern, term in words:
                if found := pattern.search(line):
                    yield f"{name}:{number}: '{found[0]}': {term}"


def glossary(top):
    """The first column of the table below the heading "Glossary"."""
    section = (top / "ARCHITECTURE.md").read_text(encoding="utf-8").partition("\n## Glossary\n")[2]
    rows = section.partition("\n## ")[0].splitlines()
    return " ".join(row.split("|")[1] for row in rows if row.startswith("|"))


def main():
    top = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent)
    terms = glossary(top)
    found = [f"ARCHITECTURE.md: '{term}' is not in the glossary" for term in TERMS
             if not pattern_of(term).search(terms)]
    found += findings(top)
    print("".join(f"words: {line}\n" for line in found), end="")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
