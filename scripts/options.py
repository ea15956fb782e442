#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Checks that man page and completions agree with the table of options that each program prints
(--print-options). Prints each finding, and exits 1 if there is one.

The man page must describe each option under its names and with the same word for its value, give
its default, and describe no other option. That of the relay must also list the options that a
reload cannot change. Each completion must offer each option, and no other.

usage: options.py SOURCE_DIR BUILD_DIR
"""

import re
import subprocess
import sys
from pathlib import Path

PROGRAMS = {"tproxy-load": "loader", "tproxyctl": "loader", "tproxy-relay": "proxy"}
# The paragraph of the man page with the options that a reload cannot change.
FIXED = re.compile(r"if a line is wrong or if (.*?) would change", re.DOTALL)


class Option:
    def __init__(self, line):
        self.name, self.short, self.arg, _, flags, _, self.default, *_ = line.split("\t")
        self.flags = flags.split()

    def heading(self):
        """The line of the man page that the description follows."""
        short = f"*-{self.short}*, " if self.short else ""
        return f"{short}*--{self.name}*" + (f" _{self.arg}_" if self.arg else "")


def options_of(program):
    said = subprocess.run([program, "--print-options"], text=True, stdout=subprocess.PIPE,
                          check=True).stdout
    return [Option(line) for line in said.splitlines()
            if line.split("\t")[3] not in ("command", "verb")]


def entries_of(man):
    """{heading: description} of the section OPTIONS."""
    section = man.partition("\n# OPTIONS\n")[2].partition("\n# ")[0]
    entries = {}
    for heading, text in re.findall(r"^(\*-.*)\n((?:\t.*\n|\n(?=\t))+)", section, re.MULTILINE):
        entries[heading] = " ".join(text.split())
    return entries


def check_man(page, man, options):
    entries, used = entries_of(man), set()
    for option in options:
        # The words that are commands too follow: "*--version*, *version*".
        found = [heading for heading in entries
                 if heading == option.heading() or heading.startswith(option.heading() + ", ")]
        if not found:
            yield f"{page}: no entry {option.heading()}"
            continue
        # Several commands may have an option of this name, each with a row of its own.
        used.add(found[0])
        text = entries[found[0]].replace("_", "")
        default = option.default.split(";")[0].split(" ")[0]
        # A default that is described in words, or that is no value, has no fixed text.
        if default and default != "one" and default != "enough" and default not in text:
            yield f"{page}: {option.heading()} does not have the default {default}"
    for heading in entries.keys() - used:
        yield f"{page}: {heading} is no option of the program"


def check_fixed(page, man, options):
    match = FIXED.search(man)
    listed = set(re.findall(r"_([a-z-]+)_", match[1])) if match else set()
    fixed = {option.name for option in options if "fixed" in option.flags}
    for name in sorted(fixed ^ listed):
        yield f"{page}: SIGHUP: page and program disagree on whether a reload can change {name}"


def check_completion(file, text, options):
    if file.suffix == ".fish":
        text = re.sub(r" -l ([a-z])", r" --\1", text)
    offered = set(re.findall(r"(?<![a-z-])--([a-z][a-z-]+)", re.sub(r"\[.*?\]|-d '.*'", "", text)))
    names = {option.name for option in options}
    for name in sorted(names - offered):
        yield f"{file}: does not offer --{name}"
    for name in sorted(offered - names):
        yield f"{file}: --{name} is no option of the program"


def check_program(name, source, build):
    program = build / PROGRAMS[name] / name
    if not program.exists():
        yield f"{program} is not built"
        return
    options = options_of(program)
    page = f"{PROGRAMS[name]}/{name}.8.scd"
    man = (source / page).read_text(encoding="utf-8")
    yield from check_man(page, man, options)
    if any("fixed" in option.flags for option in options):
        yield from check_fixed(page, man, options)
    for file in (name, f"_{name}", f"{name}.fish"):
        path = build / "scripts" / "completion" / file
        if path.exists():  # unless -Dcompletions=disabled
            yield from check_completion(path, path.read_text(encoding="utf-8"), options)


def main():
    source, build = map(Path, sys.argv[1:])
    findings = [text for name in PROGRAMS for text in check_program(name, source, build)]
    print("".join(text + "\n" for text in findings), end="")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
