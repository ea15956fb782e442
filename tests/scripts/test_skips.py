#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A skipped test fails the run if TPROXY_MUST_RUN=1: in files of this folder, and in check.sh.

To see it fail: leave must_run out of main() in common.py; let need() of check.sh, or its test of
clang-format's version, only print.
"""

import os
import subprocess
import sys

import common

FILE = """\
import unittest
import common

@common.needs({program!r})
class SomeTest(unittest.TestCase):
    def test_that_may_be_skipped(self):
        pass

class OtherTest(unittest.TestCase):
    def test_that_runs(self):
        {body}

common.main()
"""
THERE, MISSING = "sh", "tproxy-no-such-program"


def run(program, body, must_run):
    """(exit status, stderr) of a file with two tests."""
    result = subprocess.run(
        [sys.executable, "-B", "-c", FILE.format(program=program, body=body)],
        cwd=os.path.join(common.TREE, "tests/scripts"), text=True, capture_output=True, check=False,
        env={**os.environ, "TPROXY_MUST_RUN": must_run})
    return result.returncode, result.stderr


class SkipsTest(common.TestCase):
    def test_nothing_is_skipped(self):
        for must_run in ("1", ""):
            self.assertEqual(run(THERE, "pass", must_run)[0], 0)

    def test_one_is_skipped(self):
        for must_run, expected in (("1", 1), ("", 0), ("0", 0)):
            with self.subTest(must_run):
                status, said = run(MISSING, "pass", must_run)
                self.assertEqual(status, expected, said)
                self.assertIn(f"{MISSING}: not installed", said)

    def test_all_are_skipped(self):
        for must_run, expected in (("1", 1), ("", common.SKIPPED)):
            with self.subTest(must_run):
                status, said = run(MISSING, "self.skipTest('too')", must_run)
                self.assertEqual(status, expected, said)

    def test_a_failure_is_no_skip(self):
        for must_run in ("1", ""):
            self.assertEqual(run(MISSING, "self.fail('it does')", must_run)[0], 1)

    def test_check_without_its_tools(self):
        """No clang-format, then one of another version."""
        path = self.temporary()
        for tool in ("sh", "dirname", "mktemp", "rm"):
            os.symlink(f"/usr/bin/{tool}", os.path.join(path, tool))
        for said in ("clang-format is not installed", "clang-format is not version 14"):
            for must_run, expected in (("1", 1), ("", 0)):
                with self.subTest(said, must_run=must_run):
                    result = common.script("check.sh", common.TREE, "build", "format",
                                           env={"PATH": path, "TPROXY_MUST_RUN": must_run})
                    self.assertEqual(result.returncode, expected, result.stdout + result.stderr)
                    self.assertIn(said, result.stdout)
            other = os.path.join(path, "clang-format")
            with open(other, "w", encoding="utf-8") as file:
                file.write("#!/bin/sh\necho clang-format version 99.0.0\n")
            os.chmod(other, 0o755)


if __name__ == "__main__":
    common.main()
