# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the tests of this folder share: calls of scripts, an identity for git, and skips.

A skipped test is named on stderr. It fails the file if TPROXY_MUST_RUN=1. Otherwise the exit status
is 77, meson's SKIP, if all tests of the file were skipped.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest

SKIPPED = 77
TREE = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"
IDENTITY = {f"GIT_{who}_{what}": "tproxy@example.org" for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")}


def script(name, *args, **how):
    """The result of scripts/NAME; its output is text, and a failure raises nothing."""
    return subprocess.run([os.path.join(TREE, "scripts", name), *args], text=True,
                          capture_output=True, check=False, **how)


def needs(*programs):
    """Decorator: skips a test, or those of a class, unless all these programs are installed."""
    missing = [program for program in programs if not shutil.which(program, path=PATH)]
    return unittest.skipIf(missing, f"{', '.join(missing)}: not installed")


class TestCase(unittest.TestCase):
    def temporary(self):
        """The path of a directory that lives as long as the test."""
        holder = tempfile.TemporaryDirectory(prefix="tproxy-scripts-")
        self.addCleanup(holder.cleanup)
        return holder.name

    def made(self, files):
        """The path of a directory with these files, {path: text}, that lives as long as the
        test."""
        top = self.temporary()
        for name, text in files.items():
            path = os.path.join(top, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        return top

    def findings(self, name, *args):
        """What scripts/NAME prints. It must exit 1 if it prints anything, otherwise 0."""
        result = script(name, *args)
        self.assertEqual(result.stderr, "")
        self.assertEqual(result.returncode, 1 if result.stdout else 0)
        return result.stdout


def main():
    """Runs the tests of the file that calls this, and exits."""
    result = unittest.main(exit=False).result
    for test, reason in result.skipped:
        print(f"SKIP: {test}: {reason}", file=sys.stderr)
    ran = result.testsRun - len(result.skipped)
    must_run = os.environ.get("TPROXY_MUST_RUN") == "1"
    if not result.wasSuccessful() or must_run and (result.skipped or ran <= 0):
        sys.exit(1)
    sys.exit(0 if ran > 0 else SKIPPED)
