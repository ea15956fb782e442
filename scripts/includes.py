#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Checks which of the project's own headers each folder includes. Prints each finding, and exits 1
if there is one.

A folder may include itself and the folders that MAY_INCLUDE lists for it, and no file outside of
them. ONLY names the files that alone may include a header, or a folder. No includes may form a
circle. X.c and X.h count as one place, because X.c implements what X.h declares.

usage: includes.py [SOURCE_DIR]
"""

import re
import sys
from pathlib import Path

# What the others may use of loader/rules: the compiled rules, not how they come about.
RULES = ["loader/rules/rules.h", "loader/rules/message.h"]
# The longest name that a path begins with is its folder.
MAY_INCLUDE = {
    "bpf": ["common/tproxy_abi.h"],
    "common": [],
    "loader/host": ["common"],
    "loader/rules": ["loader/host", "common", "bpf/ruleindex.bpf.h"],
    "loader/state": RULES + ["loader/host", "common"],
    "loader/block": RULES + ["loader/rules/file.h", "loader/rules/prefix.h",
                             "loader/rules/source.h", "loader/rules/token.h", "loader/state",
                             "loader/host", "common"],
    "loader/capture": ["loader/state", "loader/host", "common"],
    "loader/load": RULES + ["loader/block", "loader/state", "loader/host", "common"],
    "loader/doctor": ["loader/block", "loader/state", "loader/host", "loader/rules/prefix.h",
                      "common"],
    "loader/ctl": RULES + ["loader/block", "loader/capture", "loader/doctor", "loader/state",
                           "loader/host", "common", "bpf/decide.bpf.h", "bpf/port.bpf.h",
                           "bpf/share.bpf.h", "bpf/block.bpf.h", "bpf/endpoint.bpf.h",
                           "bpf/rules.bpf.h", "loader/load/instance.h", "loader/rules/prefix.h"],
    "proxy/kernel": ["common"],
    "proxy/report": ["proxy/upstream", "proxy/kernel", "common"],
    "proxy/upstream": ["proxy/kernel", "common"],
    "proxy/session": ["proxy/upstream", "proxy/report", "proxy/kernel", "common"],
    "proxy/worker": ["proxy/session", "proxy/upstream", "proxy/report", "proxy/kernel", "common"],
    "proxy/admin": ["common"],
    "proxy/relay": ["proxy/admin", "proxy/worker", "proxy/session", "proxy/upstream",
                    "proxy/report", "proxy/kernel", "common", "proxy/options.h"],
    "proxy": ["proxy/relay", "proxy/admin", "proxy/worker", "proxy/upstream", "proxy/report",
              "proxy/kernel", "common"],
}
ONLY = {
    "tproxy.skel.h": ["loader/load/load.c", "loader/load/instance.c", "loader/load/types.c"],
    "capture.skel.h": ["loader/capture/tap.c"],
    "loader/doctor/": ["loader/ctl/doctor.c", "loader/doctor/"],
    "common/bpffs.h": ["common/bpffs.c", "common/observed_entries.c", "loader/",
                       "proxy/kernel/registration.c", "proxy/kernel/counters.c",
                       "proxy/kernel/events.c", "proxy/kernel/live.c",
                       "proxy/kernel/packets.c", "proxy/kernel/pending.c"],
}
# Its parts, which all others have by it.
ABI = "common/tproxy_abi.h"
ONLY |= {f"common/tproxy_abi_{part}.h": [ABI] for part in ("block", "events", "pending", "rules")}
ONLY["common/tproxy_abi_base.h"] = [ABI, *(name for name in ONLY if "tproxy_abi_" in name)]
# Made by the build.
GENERATED = {"config.h": ["common", "loader", "proxy"], "version.h": ["common", "loader", "proxy"],
             "tproxy.skel.h": ["loader"], "capture.skel.h": ["loader"]}


def folder_of(path):
    found = [name for name in MAY_INCLUDE if path.startswith(name + "/")]
    return max(found, key=len, default=None)


def includes_of(text):
    return re.findall(r'^#include "([^"]+)"', text, re.MULTILINE)


def resolve(path, name, files):
    """The file that #include "name" means in the file @path, or None: the one beside it, else the
    one below its own folder at the top, else the one in common/ or bpf/."""
    beside = str(Path(path).parent / name)
    if beside in files:
        return beside
    for top in (path.split("/")[0], "common", "bpf"):
        found = [f for f in files if f.startswith(top + "/") and f.endswith("/" + name)]
        if len(found) == 1:
            return found[0]
    return None


def is_listed(path, names):
    return any(path == name or path.startswith(name.rstrip("/") + "/") for name in names)


def check_include(path, name, target):
    """Returns what is wrong with this include, or None."""
    folder = folder_of(path)
    if name in GENERATED:
        target, allowed = name, is_listed(path, GENERATED[name])
    elif target is None:
        return f'{path}: #include "{name}" is no header of the tree, or of several folders'
    else:
        allowed = folder_of(target) == folder or is_listed(target, MAY_INCLUDE[folder])
    for header, users in ONLY.items():
        if is_listed(target, [header]) and not is_listed(path, users):
            allowed = False
    return None if allowed else f'{path}: may not have #include "{name}"'


def circle_from(start, edges):
    """A circle of places through @start, as a list, or None. The shortest one."""
    paths = [[start]]
    seen = set()
    while paths:
        path = paths.pop(0)
        for place in sorted(edges.get(path[-1], ())):
            if place == start:
                return path + [start]
            if place not in seen:
                seen.add(place)
                paths.append(path + [place])
    return None


def circles(edges):
    """Each circle once, beginning at its first place in alphabetical order."""
    found = (circle_from(place, edges) for place in sorted(edges))
    return [circle for circle in found if circle and circle[0] == min(circle)]


def check(files):
    """@files: a dictionary from path to text. Returns the findings."""
    findings, edges = [], {}
    for path, text in sorted(files.items()):
        for name in includes_of(text):
            target = resolve(path, name, files)
            wrong = check_include(path, name, target)
            if wrong:
                findings.append(wrong)
            place, other = (re.sub(r"\.[ch]$", "", p or "") for p in (path, target))
            if other and other != place:
                edges.setdefault(place, set()).add(other)
    return findings + ["circle: " + " -> ".join(circle) for circle in circles(edges)]


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    files = {str(p.relative_to(root)): p.read_text()
             for top in {name.split("/")[0] for name in MAY_INCLUDE}
             for p in (root / top).rglob("*.[ch]")}
    findings = check(files)
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
