# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The published files agree with the measurement: report.py, plot.py, publish.py and floors.py
on a made-up run.

Each test publishes it to a tree of its own. Most then make an edit that must be found. To see
all of these fail: let publish.check() return at once.
"""

import json
import os
import re
import shutil
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

# pylint: disable=wrong-import-position
import floors
import publish
from report import Report, Series, paired, to_json, to_text
from sandbox import read, write
from workload import QUICK
from small_talk import SHAPES, Fair, Patterns
from packets import Packets
from workloads import Bystander, Crr, Crr64, Idle

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


def pairs(key, *values):
    """A series whose turns have measured the baseline too: values are (number, ratio)."""
    result = Series()
    for value, ratio in values:
        result.add({key: value, paired(key): ratio})
    return result


def paired_report():
    result = Report(ABOUT, 3, QUICK, False)
    result.add(Packets({}), {"unloaded": pairs("p50_us", (8.0, 1.001), (16.0, 0.999), (8.0, 1.0)),
                             "1M entries": pairs("p50_us", (16.0, 1.02), (8.0, 1.014),
                                                 (8.0, 1.013))})
    return result.document()


def report(quick=False, about=None):
    result = Report(about or ABOUT, 3, QUICK, quick)
    result.add(Crr({}), {"direct": series("p50_us", 50.0, 100.0, 60.0),
                         "tproxy": series("p50_us", 100.0, 110.0, 240.0),
                         "haproxy": series("p50_us", 200.0, 220.0, 480.0),
                         "redsocks": series("p50_us", 1.0, 2.0, reason="stalled: nothing moves")})
    result.add(Idle({}), {"tproxy": series("bytes", 500.0), "haproxy": series("bytes", 3000.0)})
    result.add(Bystander({}), {})
    return result


def judged(series_of_patterns, series_of_fair=None):
    """{name of a floor: (verdict, value)} of a run with these two workloads."""
    result = Report(ABOUT, 1, QUICK, False)
    result.add(Patterns({}), series_of_patterns)
    result.add(Fair({}), series_of_fair or {})
    document = result.document()
    publish.verify(document)
    return {floor.name(): (verdict, value) for floor, verdict, value in floors.verdicts(document)}


class Published(unittest.TestCase):

    def setUp(self):
        self.tree = tempfile.mkdtemp(prefix="tproxy-bench-test.")
        self.addCleanup(shutil.rmtree, self.tree)
        self.readme = os.path.join(self.tree, "README.md")
        self.json = os.path.join(self.tree, publish.JSON)
        self.svg = os.path.join(self.tree, publish.SVG)
        self.tables = os.path.join(self.tree, publish.TABLES)
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
        # By round 2.0, 1.1 and 4.0; the ratio of the medians would be 1.83.
        content = read(self.tables)
        self.assertIn("| crr, p50 µs, lower is better | 2.00 (1.10–4.00) | 0.50 |", content)
        self.assertIn("| idle, bytes each | tproxy / haproxy | 0.17 | 500 |", content)
        self.assertIn("No number for redsocks in crr: stalled: nothing moves.", content)
        # crr twice, idle; bystander was run without a variant.
        self.assertIn("Floors (tests/bench/floors.py): 3 of 3 are met; not measured: rr, crr64, "
                      "bulk-up, bulk-down, patterns, fair, churn, bystander, "
                      "tproxy-honest in crr, honest, observe, "
                      "decide, watch, packets, drops, chain-load, failover.", content)
        content = read(self.readme)
        self.assertIn("\n| direct | 60.0 µs |\n| tproxy / direct | 2.00 |\n"
                      "| HAProxy / direct | 4.00 |\n| redsocks / direct | – |\n\n", content)
        self.assertTrue(content.startswith("# x\n") and content.endswith("\nAfter.\n"))
        self.assertIn("a &lt;CPU&gt; &amp; more", read(self.svg))

    def test_published_again(self):
        self.publish()
        before = read(self.readme), read(self.tables)
        self.publish()
        self.assertEqual((read(self.readme), read(self.tables)), before)

    def add(self, about):
        later = Report(about, 7, QUICK, False)
        later.add(Bystander({}), {"outside, detached": series("p50_us", 10.0),
                                  "outside, attached": series("p50_us", 11.0)})
        self.publish_added(later)

    def publish_added(self, later):
        path = os.path.join(self.tree, "later.json")
        write(path, to_json(later.document()))
        publish.publish(path, self.tree, add=True)

    def test_added(self):
        """The rest stays as it was, and the added workload has the commit of its run."""
        self.publish()
        before = read(self.readme)
        commit = "abcdef0123" * 4
        for _ in range(2):
            self.add({**ABOUT, "commit": commit})
            publish.check(self.tree)
        content = read(self.tables)
        self.assertIn("Measured separately: bystander, 2026-01-02 03:04 UTC, commit "
                      f"{commit[:12]}, at least 7 rounds.", content)
        self.assertIn("| crr, p50 µs, lower is better | 2.00 (1.10–4.00) | 0.50 |", content)
        self.assertIn("| bystander, p50 µs | outside, attached / outside, detached | 1.10 |",
                      content)
        self.assertEqual(read(self.readme), before)

    def test_added_from_elsewhere(self):
        self.publish()
        with self.assertRaisesRegex(publish.Disagreement, "kernel is 6.2.0"):
            self.add({**ABOUT, "kernel": "6.2.0"})

    def test_added_to_the_small_table(self):
        self.publish()
        with self.assertRaisesRegex(publish.Disagreement, "crr is in README.md's table"):
            self.publish_added(report())

    def test_readme_edited(self):
        self.publish()
        self.edit(self.readme, "| tproxy / direct | 2.00", "| tproxy / direct | 1.00")
        self.assert_disagrees("^README.md: its table")

    def test_tables_edited(self):
        self.publish()
        self.edit(self.tables, "2.00 (1.10–4.00)", "1.00 (1.10–4.00)")
        self.assert_disagrees("results/README.md: not the tables")

    def test_floors_edited(self):
        self.publish()
        self.edit(self.tables, "3 of 3 are met", f"{len(floors.FLOORS)} of {len(floors.FLOORS)}")
        self.assert_disagrees("results/README.md: not the tables")

    def test_tables_missing(self):
        self.publish()
        os.unlink(self.tables)
        self.assert_disagrees("results/README.md: not the tables")

    def test_results_removed_but_tables_still_there(self):
        self.publish()
        os.unlink(self.json)
        write(self.readme, EMPTY)
        self.assert_disagrees("results/README.md: it exists")

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
        self.assert_disagrees("crr, direct, p50_us: not the medians")

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


class InPairs(unittest.TestCase):
    """A turn that has measured its baseline too has the ratio. That of the rounds would be 1.0.
    Fails if numbers_of() divides numbers of two turns in its place."""

    def test_ratios_are_those_of_the_pairs(self):
        document = paired_report()
        publish.verify(document)
        row = "| packets, rr p50 µs | 1M entries / unloaded | 1.014 (1.013–1.020) | 8.0 |"
        self.assertIn(row, publish.tables(document))
        self.assertIn("1.014 (1.013 .. 1.020)", to_text(document))
        verdicts = {floor.name(): value for floor, _, value in floors.verdicts(document)}
        self.assertEqual(verdicts["packets, p50_us: 1M entries / unloaded"], 1.01)

    def test_the_baseline_has_a_ratio_to_itself(self):
        self.assertIn("| packets, rr p50 µs | unloaded / unloaded | 1.000 (0.999–1.001) | 8.0 |",
                      publish.tables(paired_report()))

    def test_pairs_edited(self):
        """Fails if publish.rounds_of() leaves them out."""
        document = paired_report()
        numbers = document["workloads"]["packets"]["variants"]["1M entries"]["p50_us"]
        numbers["paired_rounds"][1] = 1.002
        with self.assertRaisesRegex(publish.Disagreement, "packets, 1M entries, p50_us: not the"):
            publish.verify(document)


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

    def test_bare_has_a_column_where_it_took_part(self):
        result = Report(ABOUT, 1, QUICK, False)
        result.add(Crr({}), {"direct": series("p50_us", 50.0), "tproxy": series("p50_us", 110.0),
                             "bare": series("p50_us", 100.0)})
        rows = publish.compared(result.document()["workloads"])
        self.assertIn("| tproxy / bare | bare / direct |", rows[0])
        self.assertIn("| 1.10 | 2.00 |", rows[2])


class Floors(unittest.TestCase):
    """Fails if verdicts() takes a bound for its opposite, or no number for a good one."""

    shape = SHAPES[0]
    name = f"patterns, {shape}: tproxy - direct, µs"

    def test_shapes_are_those_of_the_load_generator(self):
        """Fails if a shape is missing, or misnamed, in either of shape.c and small_talk.py."""
        code = read(os.path.join(os.path.dirname(os.path.abspath(__file__)), "shape.c"))
        self.assertEqual(tuple(re.findall(r'\.name = "([^"]+)"', code)), SHAPES)

    def test_each_has_a_name_of_its_own(self):
        names = [floor.name() for floor in floors.FLOORS]
        self.assertEqual(len(set(names)), len(names))

    def test_a_shape_that_stalls(self):
        """By round 44,000, 100 and 0 above: the median is 100. The medians differ by 44,000."""
        verdicts = judged({"direct": series(self.shape, 50.0, 60.0, 44000.0),
                           "tproxy": series(self.shape, 44050.0, 160.0, 44000.0)})
        self.assertEqual(verdicts[self.name], (floors.MET, 100))
        verdicts = judged({"direct": series(self.shape, 50.0),
                           "tproxy": series(self.shape, 1051.0)})
        self.assertEqual(verdicts[self.name], (floors.MISSED, 1001))

    def test_no_number_is_below_any_floor(self):
        verdicts = judged({"direct": series(self.shape, 50.0),
                           "tproxy": series(self.shape, reason="stalled: nothing moves")})
        self.assertEqual(verdicts[self.name], (floors.MISSED, None))

    def test_not_measured(self):
        verdicts = judged({"tproxy": series(self.shape, 50.0)})
        self.assertEqual(verdicts[self.name], (floors.UNKNOWN, None))
        self.assertEqual(verdicts["rr, p50_us: tproxy / direct"], (floors.UNKNOWN, None))

    def test_rounded_as_published(self):
        for times, verdict in ((3.004, floors.MET), (3.006, floors.MISSED)):
            verdicts = judged({}, {"tproxy": series("times", times)})
            self.assertEqual(verdicts["fair, times: tproxy"][0], verdict)

    def test_at_least(self):
        for ours, verdict in ((120.0, floors.MET), (119.0, floors.MISSED)):
            result = Report(ABOUT, 1, QUICK, False)
            result.add(Crr64({}), {"haproxy": series("rate", 100.0),
                                   "tproxy": series("rate", ours)})
            found = [found for floor, found, _ in floors.verdicts(result.document())
                     if floor.name() == "crr64, rate: tproxy / haproxy"]
            self.assertEqual(found, [verdict])


if __name__ == "__main__":
    unittest.main()
