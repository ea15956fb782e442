#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Checks that documents and docstrings name functions and files that exist. Prints each finding,
and exits 1 if there is one.

In documents (*.md) these are names between backquotes: `name()`, and `file.c` with all or the end
of its path. In the docstrings of tests it is name(): a test says how to see it fail by a change of
that function. Comments of C files are not searched: many of their names are the kernel's.

usage: references.py [SOURCE_DIR]
"""

import ast
import io
import re
import sys
import tokenize
from pathlib import Path

FOLDERS = ("bpf", "common", "loader", "proxy", "scripts", "tests", ".ci")
# A function of the kernel; a file that the build makes.
EXCEPT = {"rebuild_header", "tproxy.skel.h"}
SUFFIXES = "c|h|py|sh|scd|in|lua|md|build"


def files(top):
    paths = [path for path in top.iterdir() if path.is_file()]
    for folder in FOLDERS:
        paths += [path for path in (top / folder).rglob("*") if path.is_file()]
    return {path.relative_to(top).as_posix(): path for path in sorted(paths)
            if "__pycache__" not in path.parts and "corpus" not in path.parts}


def names_of(path):
    """The identifiers in the code of a file, without comments and strings."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return {token.string for token in tokenize.generate_tokens(io.StringIO(text).readline)
                if token.type == tokenize.NAME}
    if path.suffix == ".sh":
        return set(re.findall(r"\w+", text))
    return set(re.findall(r"\w+", re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)))


def docstrings(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            yield ast.get_docstring(node) or ""


def findings(top):
    tree = files(top)
    known = set(EXCEPT)
    for path in tree.values():
        if path.suffix in (".c", ".h", ".py", ".sh"):
            known |= names_of(path)
    for name, path in tree.items():
        if path.suffix == ".md":
            text = path.read_text(encoding="utf-8")
            functions = re.findall(r"`(\w+)\(\)`", text)
            for file in sorted(set(re.findall(rf"`([\w./-]+\.(?:{SUFFIXES}))`", text))):
                if file not in known and "NAME" not in file and not any(
                        other == file or other.endswith("/" + file) for other in tree):
                    yield f"{name}: there is no {file}"
        elif path.suffix == ".py" and name.startswith("tests/"):
            functions = re.findall(r"\b(\w+)\(\)", "\n".join(docstrings(path)))
        else:
            continue
        for function in sorted(set(functions) - known):
            yield f"{name}: there is no {function}()"


def main():
    top = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent)
    found = list(findings(top))
    print("".join(f"references: {line}\n" for line in found), end="")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
