#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Publishes a run: what run.py --json has written becomes results/bench.json beside this file, a
picture of it results/bench.svg, and a table of it stands in README.md between two marks.

publish.py FILE writes all three, publish.py --check says whether they agree, with exit status 1 if
they do not: nobody edits a number by hand, nor forgets one. README.md may say that nothing is
published only as long as there is no results/bench.json.
"""

import argparse
import json
import os
import re
import sys

sys.dont_write_bytecode = True

# pylint: disable=wrong-import-position
import floors
import plot
from report import cell, measured, numbers_of, to_json
from sandbox import read, write

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
RESULTS = "tests/bench/results"
JSON, SVG = f"{RESULTS}/bench.json", f"{RESULTS}/bench.svg"
NOTHING = "No run is published yet. `sudo tests/bench/run.py` makes one of your own."


class Disagreement(Exception):
    """What is published contradicts itself, or may not be published."""


def block(document):
    """What stands between the marks."""
    if document is None:
        return NOTHING
    about = document["machine"]
    workloads = document["workloads"]
    lines = [
        f"{about['date']}, kernel {about['kernel']}, {about['cores']} cores ({about['cpu']}), "
        f"TCP congestion control {about['congestion_control']}, commit {about['commit'][:12]}: "
        f"medians of the ratios of at least {document['rounds']} rounds (minimum–maximum).", "",
        *compared({name: workload for name, workload in workloads.items()
                   if "direct" in workload["baselines"]}), "",
        *alone({name: workload for name, workload in workloads.items()
                if "direct" not in workload["baselines"]}), "",
        *reasons(workloads),
        *floors.summary(document),
        f"[All numbers]({JSON}), [as a picture]({SVG}), "
        "[how they are measured](tests/bench/README.md)."]
    return "\n".join(lines)


def headlines(workloads):
    for name, workload in workloads.items():
        for metric in workload["metrics"]:
            if metric["key"] in workload["headlines"]:
                yield name, workload, metric


def compared(workloads):
    """A table of workloads that go through each contender, with a column for each ratio."""
    contenders = []
    for workload in workloads.values():
        contenders += [name for name in workload["variants"] if name not in contenders]
    columns = [("tproxy", "direct"), ("tproxy", "haproxy"),
               *[("tproxy", "bare")][:contenders.count("bare")],
               *((name, "direct") for name in contenders if name not in ("tproxy", "direct"))]
    rows = [["workload", *(f"{name} / {baseline}" for name, baseline in columns), "direct"]]
    for name, workload, metric in headlines(workloads):
        variants = workload["variants"]
        rows.append([f"{name}, {metric['label']}, {metric['better']} is better",
                     *(ratio(variants, variant, baseline, metric) for variant, baseline in columns),
                     measured(variants["direct"][metric["key"]], metric)
                     if metric["key"] in variants["direct"] else "–"])
    return markdown(rows)


def alone(workloads):
    """A table of the others, a row for each variant that is not what it is compared with."""
    rows = [["workload", "variant", "ratio", "measured"]]
    for name, workload, metric in headlines(workloads):
        baseline = (workload["baselines"] or [None])[0]
        for variant, numbers in workload["variants"].items():
            if variant != baseline and metric["key"] in numbers:
                against = f" / {baseline}" if baseline else ""
                rows.append([f"{name}, {metric['label']}", f"{variant}{against}",
                             ratio(workload["variants"], variant, baseline, metric),
                             f"{numbers[metric['key']]['median']:,.{metric['digits']}f}"])
    return markdown(rows)


def ratio(variants, variant, baseline, metric):
    numbers = variants.get(variant, {}).get(metric["key"])
    against = numbers and numbers["ratio_to"].get(baseline)
    return cell(against, 2).replace(" .. ", "–") if against else "–"


def markdown(rows):
    if len(rows) < 2:
        return []
    return ["| " + " | ".join(row) + " |" for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]]]


def reasons(workloads):
    """Why there is no number, said once for all workloads that have the same reason."""
    places = {}
    for name, workload in workloads.items():
        for variant, numbers in workload["variants"].items():
            if "reason" in numbers:
                places.setdefault((variant, numbers["reason"]), []).append(name)
    lines = [f"No number for {variant} in {', '.join(names)}: {reason}."
             for (variant, reason), names in places.items()]
    return [*lines, ""] if lines else []


def verify(document):
    """Raises Disagreement if medians and ratios are not those of the rounds."""
    for name, workload in document["workloads"].items():
        rounds = {variant: {key: value["rounds"] for key, value in numbers.items()
                            if key != "reason"}
                  for variant, numbers in workload["variants"].items()}
        for variant, keys in rounds.items():
            for key in keys:
                again = numbers_of(key, variant, rounds, workload["baselines"])
                if again != workload["variants"][variant][key]:
                    raise Disagreement(f"{JSON}: {name}, {variant}, {key}: not the medians and "
                                       "ratios of its rounds")


def parse(path):
    try:
        document = json.loads(read(path))
        verify(document)
        block(document)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Disagreement(f"{path}: not written by run.py: {error!r}") from error
    return document


def with_block(readme, document):
    """README.md with the block that belongs into it."""
    pattern = re.compile(f"(?<={re.escape(BEGIN)}\n).*?(?={re.escape(END)})", re.DOTALL)
    result, count = pattern.subn(lambda _: block(document) + "\n", readme)
    if count != 1:
        raise Disagreement(f"README.md: not one pair of {BEGIN} and {END}")
    return result


def check(tree):
    """Raises Disagreement if README.md, JSON and picture do not say the same."""
    path = os.path.join(tree, JSON)
    document = parse(path) if os.path.exists(path) else None
    readme = read(os.path.join(tree, "README.md"))
    if with_block(readme, document) != readme:
        raise Disagreement(f"README.md: its table of benchmarks is not that of {JSON}"
                           if document else f"README.md has numbers, but there is no {JSON}")
    svg = os.path.join(tree, SVG)
    if document and not (os.path.exists(svg) and read(svg) == plot.svg(document)):
        raise Disagreement(f"{SVG}: not the picture of {JSON}")
    if not document and os.path.exists(svg):
        raise Disagreement(f"{SVG}: a picture, but there is no {JSON}")


def publish(path, tree):
    document = parse(path)
    if document["quick"]:
        raise Disagreement(f"{path}: from run.py --quick, whose numbers are not to be quoted")
    if not re.fullmatch(r"[0-9a-f]{40}", document["machine"]["commit"]):
        raise Disagreement(f"{path}: measured at {document['machine']['commit']}, which nobody can "
                           "check out: commit, and run again")
    readme = os.path.join(tree, "README.md")
    text = with_block(read(readme), document)
    os.makedirs(os.path.join(tree, RESULTS), exist_ok=True)
    write(os.path.join(tree, JSON), to_json(document))
    write(os.path.join(tree, SVG), plot.svg(document))
    write(readme, text)


def main():
    parser = argparse.ArgumentParser(description="Publishes a run of run.py, or checks what is.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("file", nargs="?", help="of run.py --json")
    what.add_argument("--check", action="store_true", help="change nothing, say what disagrees")
    parser.add_argument("--tree", default=TREE, help="the source tree (this one)")
    options = parser.parse_args()
    try:
        if options.check:
            check(options.tree)
        else:
            publish(options.file, options.tree)
    except (Disagreement, OSError) as error:
        print(f"publish.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
