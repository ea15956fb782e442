# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What is published says what was measured: report.py, plot.py, publish.py on a run made up here.

Each test publishes it to a tree of its own, and has its own way to see it red in it: an edit that
must be found. To see the whole of it red: let publish.check() return at once.
"""

import json
import os
import shutil
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

# pylint: disable=wrong-import-position
import publish
from report import Report, Series, to_json, to_text
from sandbox import read, write
from workload import QUICK
from workloads import Bystander, Crr, Idle

ABOUT = {"date": "2026-01-02 03:04 UTC", "commit": "0123456789" * 4, "kernel": "6.1.0",
         "cpu": "a <CPU> & more", "cores": 2, "congestion_control": "cubic", "pinned": False,
         "load_average": 0.1}
EMPTY = f"# x\n\n{publish.BEGIN}\n{publish.NOTHING}\n{publish.END}\n\nAfter.\n"


def series(key, *values, reason=None):
    result = Series()
    for value in values:
        result.add({key: value})
    if reason:
        result.fail(reason)
    return result


def report(quick=False, about=None):
    result = Report(about or ABOUT, 3, QUICK, quick)
    result.add(Crr({}), {"direct": series("p50_us", 50.0, 100.0, 60.0),
                         "tproxy": series("p50_us", 100.0, 110.0, 240.0),
                         "haproxy": series("p50_us", 200.0, 220.0, 480.0),
                         "redsocks": series("p50_us", 1.0, 2.0, reason="stalled: nothing moves")})
    result.add(Idle({}), {"tproxy": series("bytes", 500.0), "haproxy": series("bytes", 3000.0)})
    result.add(Bystander({}), {})
    return result


class Published(unittest.TestCase):

    def setUp(self):
        self.tree = tempfile.mkdtemp(prefix="tproxy-bench-test.")
        self.addCleanup(shutil.rmtree, self.tree)
        self.readme = os.path.join(self.tree, "README.md")
        self.json = os.path.join(self.tree, publish.JSON)
        self.svg = os.path.join(self.tree, publish.SVG)
        write(self.readme, EMPTY)

    def publish(self, **how):
        path = os.path.join(self.tree, "run.json")
        write(path, to_json(report(**how).document()))
        publish.publish(path, self.tree)

    def edit(self, path, old, new):
        content = read(path)
        self.assertIn(old, content)
        write(path, content.replace(old, new, 1))

    def assert_disagrees(self, words):
        with self.assertRaisesRegex(publish.Disagreement, words):
            publish.check(self.tree)

    def test_nothing_published(self):
        publish.check(self.tree)

    def test_numbers_without_results(self):
        self.edit(self.readme, publish.NOTHING, "tproxy is twice as fast")
        self.assert_disagrees("has numbers, but there is no")

    def test_published(self):
        self.publish()
        publish.check(self.tree)
        content = read(self.readme)
        # By round 2.0, 1.1 and 4.0: not the ratio of the medians, which is 1.83.
        self.assertIn("| crr, p50 µs, lower is better | 2.00 (1.10–4.00) | 0.50 |", content)
        self.assertIn("| idle, bytes each | tproxy / haproxy | 0.17 | 500 |", content)
        self.assertIn("No number for redsocks in crr: stalled: nothing moves.", content)
        self.assertTrue(content.startswith("# x\n") and content.endswith("\nAfter.\n"))
        self.assertIn("a &lt;CPU&gt; &amp; more", read(self.svg))

    def test_published_again(self):
        self.publish()
        before = read(self.readme)
        self.publish()
        self.assertEqual(read(self.readme), before)

    def test_readme_edited(self):
        self.publish()
        self.edit(self.readme, "2.00 (1.10–4.00)", "1.00 (1.10–4.00)")
        self.assert_disagrees("README.md: its table")

    def test_results_still_there_but_readme_emptied(self):
        self.publish()
        write(self.readme, EMPTY)
        self.assert_disagrees("README.md: its table")

    def test_median_edited_everywhere(self):
        self.publish()
        self.edit(self.json, '"median": 2.0', '"median": 1.2')
        self.assert_disagrees("crr, tproxy, p50_us: not the medians")

    def test_rounds_edited(self):
        self.publish()
        self.edit(self.json, "[ 100.0, 110.0, 240.0 ]", "[ 100.0, 100.0, 240.0 ]")
        self.assert_disagrees("crr, tproxy, p50_us: not the medians")

    def test_picture_edited(self):
        self.publish()
        self.edit(self.svg, "2.00 (1.10–4.00)", "1.00 (1.10–4.00)")
        self.assert_disagrees("bench.svg: not the picture")

    def test_picture_missing(self):
        self.publish()
        os.unlink(self.svg)
        self.assert_disagrees("bench.svg: not the picture")

    def test_marks_missing(self):
        self.edit(self.readme, publish.END, "")
        self.assert_disagrees("not one pair")

    def test_quick_is_not_published(self):
        with self.assertRaisesRegex(publish.Disagreement, "--quick"):
            self.publish(quick=True)
        self.assertEqual(read(self.readme), EMPTY)

    def test_uncommitted_is_not_published(self):
        with self.assertRaisesRegex(publish.Disagreement, "nobody can check out"):
            self.publish(about={**ABOUT, "commit": ABOUT["commit"] + "-dirty"})
        self.assertEqual(read(self.readme), EMPTY)

    def test_no_json_of_ours(self):
        path = os.path.join(self.tree, "run.json")
        write(path, json.dumps({"workloads": {"crr": 1}}))
        with self.assertRaisesRegex(publish.Disagreement, "not written by run.py"):
            publish.publish(path, self.tree)


class Told(unittest.TestCase):

    def test_a_failure_leaves_no_number(self):
        lines = to_text(report().document()).splitlines()
        self.assertEqual([line for line in lines if "redsocks" in line],
                         ["  redsocks: no number: stalled: nothing moves"])

    def test_a_failed_baseline_leaves_no_ratio(self):
        result = Report(ABOUT, 1, QUICK, False)
        result.add(Crr({}), {"direct": series("p50_us", 1.0, reason="refused"),
                             "tproxy": series("p50_us", 100.0)})
        document = result.document()
        self.assertIsNone(document["workloads"]["crr"]["variants"]["tproxy"]["p50_us"]
                          ["ratio_to"]["direct"])
        self.assertFalse(result.complete())
        publish.verify(document)


if __name__ == "__main__":
    unittest.main()
