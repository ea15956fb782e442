#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""scripts/words.py finds words that were replaced, in trees made up here.

To see it fail: leave out the loop over file names, or one of the assertions on letters in
pattern_of(); let glossary() return all of the document.
"""

import os
import sys

import common

sys.path.insert(0, os.path.join(common.TREE, "scripts"))

import words  # pylint: disable=wrong-import-position

GLOSSARY = ("# x\n\n## Glossary\n\n| term | meaning |\n|---|---|\n"
            f"| a, {', '.join(words.TERMS)} | x |\n\n## y\n\n")
GOOD = ("The relay dials.", "radials, amend and recommend", "theirs or ours", "forever", "dialect")
BAD = ("what mends it", "\"Mend\"", "a relay of ours", "for ever")


class WordsTest(common.TestCase):
    def check(self, line, name="proxy/a.c", glossary=GLOSSARY):
        return self.findings("words.py",
                             self.made({"ARCHITECTURE.md": glossary, name: line + "\n"}))

    def test_other_words_are_fine(self):
        for line in GOOD:
            with self.subTest(line):
                self.assertEqual(self.check(line), "")

    def test_each_word_is_found(self):
        for line in BAD:
            with self.subTest(line):
                self.assertIn("words: proxy/a.c:1: '", self.check(line))

    def test_every_kind_of_file_is_searched(self):
        for name in ("README.md", "meson.build", ".ci/run", "tests/e2e.py", "loader/page.scd"):
            with self.subTest(name):
                self.assertIn(f"words: {name}:1: 'mend': fix", self.check("mend", name))

    def test_file_names(self):
        self.assertIn("words: proxy/mend.c: the file's name has 'mend': fix",
                      self.check("", "proxy/mend.c"))

    def test_numbers_and_random_bytes_are_left_out(self):
        self.assertEqual(self.check("mend", "tests/fuzz/corpus/parse/1"), "")

    def test_term_that_the_glossary_lacks(self):
        for text in (GLOSSARY.replace("upstream", "x"),
                     GLOSSARY.replace("upstream", "x") + "| upstream | x |\n"):
            self.assertIn("words: ARCHITECTURE.md: 'upstream' is not in the glossary",
                          self.check("", glossary=text))


if __name__ == "__main__":
    common.main()
