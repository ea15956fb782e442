#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Writes files as arrays of C: page.html becomes admin_page_html and admin_page_html_len.

usage: embed.py OUTPUT FILE...
"""

import sys
from pathlib import Path

BYTES_PER_LINE = 24


def array(path):
    data = path.read_bytes()
    name = "admin_" + path.name.replace(".", "_")
    yield f"const unsigned char {name}[] = {{"
    for start in range(0, len(data), BYTES_PER_LINE):
        yield "\t" + ",".join(map(str, data[start:start + BYTES_PER_LINE])) + ","
    yield "};"
    yield f"const size_t {name}_len = sizeof({name});"


def main():
    output, *files = map(Path, sys.argv[1:])
    lines = ["/* Made by embed.py. */", '#include "admin/page.h"']
    for path in files:
        lines += array(path)
    output.write_text("\n".join(lines) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
