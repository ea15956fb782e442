#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""scripts/references.py finds functions and files that do not exist, in trees made up here.

To see it fail: let names_of() keep comments or strings; leave out one of the two kinds of files.
"""

import common

CODE = "/* see gone() */\nint a_run(void)\n{\n\treturn a_stop();\n}\n"
TEST = 'def test_a():\n    """%s"""\n    made("gone()")  # gone\n'


class ReferencesTest(common.TestCase):
    def check(self, document="", docstring=""):
        return self.findings("references.py", self.made({
            "README.md": document, "proxy/session/a.c": CODE,
            "tests/e2e/test_a.py": TEST % docstring}))

    def test_names_that_exist(self):
        for document in ("`a_run()`", "`a_stop()`, gone()", "`a.c`, `session/a.c`, `README.md`",
                         "`loader/NAME.c`", "`proxy/session/a.c`"):
            with self.subTest(document):
                self.assertEqual(self.check(document=document), "")
        self.assertEqual(self.check(docstring="Fails if a_run() does not call made()."), "")

    def test_names_that_do_not_exist(self):
        for document, name in (("`gone()`", "gone()"), ("`b.c`", "b.c"),
                               ("`worker/a.c`", "worker/a.c"),
                               ("`test_a.py`: `test_b.py`", "test_b.py")):
            with self.subTest(document):
                self.assertEqual(self.check(document=document),
                                 f"references: README.md: there is no {name}\n")
        self.assertEqual(self.check(docstring="Fails without gone()."),
                         "references: tests/e2e/test_a.py: there is no gone()\n")


if __name__ == "__main__":
    common.main()
