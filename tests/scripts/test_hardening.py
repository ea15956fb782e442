#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The programs are built with the hardening that meson.build asks for.

To see it fail: take one of the flags out of meson.build, or b_pie.
Usage: test_hardening.py fortified|plain PROGRAM...
"""

import os
import subprocess
import sys

import common

FORTIFIED, PROGRAMS = sys.argv[1:2] == ["fortified"], sys.argv[2:]
del sys.argv[1:]


def readelf(option, path):
    return subprocess.run(["readelf", "-W", option, path], text=True, capture_output=True,
                          check=True).stdout


@common.needs("readelf")
class HardeningTest(common.TestCase):
    def each(self):
        self.assertTrue(PROGRAMS)
        for path in PROGRAMS:
            with self.subTest(os.path.basename(path)):
                yield path

    def test_position_independent(self):
        for path in self.each():
            self.assertRegex(readelf("-h", path), r"Type: +DYN")

    def test_relocations_are_resolved_at_the_start_and_read_only(self):
        for path in self.each():
            self.assertIn("GNU_RELRO", readelf("-l", path))
            self.assertRegex(readelf("-d", path), r"BIND_NOW|FLAGS_1.*\bNOW\b")

    def test_no_executable_stack(self):
        for path in self.each():
            self.assertRegex(readelf("-l", path), r"GNU_STACK .* RW +0x")

    def test_stack_protector(self):
        for path in self.each():
            self.assertIn("__stack_chk_fail", readelf("--dyn-syms", path))

    # meson.build asks for this in optimised builds without a sanitizer only.
    if FORTIFIED:
        def test_fortified_functions(self):
            for path in self.each():
                self.assertRegex(readelf("--dyn-syms", path), r"__[a-z]+_chk@")


if __name__ == "__main__":
    common.main()
