# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Makes one document with medians and ratios from the turns of a run, and a table from that.

Ratios are computed in each round, and the median is taken of them. A disturbance of the machine
affects both sides of a ratio, so ratios are reliable where absolute times are not. A turn that
measures its baseline too, in pairs of short bursts, has its ratio itself.
"""

import datetime
import json
import os
import platform
import re
import statistics
import subprocess

from sandbox import read

LICENCE = "SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause"


class Series:
    """The turns of one variant: numbers for each round, or a reason and no number at all."""

    def __init__(self):
        self.rounds = []
        self.reason = None

    def add(self, numbers):
        self.rounds.append({key: rounded(number) for key, number in numbers.items()})

    def fail(self, reason):
        self.rounds = []
        self.reason = reason

    def values(self, key):
        return [numbers[key] for numbers in self.rounds if key in numbers]


def rounded(number):
    """Rounds to five digits, which is more than the measurement is worth, and short in a file."""
    return float(f"{number:.5g}") if isinstance(number, float) else number


def summary(values):
    return {"median": rounded(statistics.median(values)), "min": rounded(min(values)),
            "max": rounded(max(values))}


def ratios(ours, theirs):
    """The summary of the ratios, or None if one has no numbers or a baseline is zero."""
    if not ours or len(ours) != len(theirs) or not all(theirs):
        return None
    return summary([a / b for a, b in zip(ours, theirs)])


def paired(key):
    """The key of the ratios to the first baseline, if the turns themselves measured it beside."""
    return f"{key} paired"


def numbers_of(key, name, rounds_by_variant, baselines):
    """The summary of one metric of a variant. rounds_by_variant: {variant: {key: values}}.

    Ratios of pairs take the place of those by round. Then the baseline has one to itself, which
    shows the error of the method."""
    own = rounds_by_variant[name]
    result = {**summary(own[key]), "rounds": own[key],
              "ratio_to": {baseline: ratios(own[key], rounds_by_variant[baseline].get(key, []))
                           for baseline in baselines if baseline != name}}
    if paired(key) in own and baselines:
        result["paired_rounds"] = own[paired(key)]
        result["ratio_to"][baselines[0]] = summary(own[paired(key)])
    return result


def ratio_digits(numbers):
    return 3 if "paired_rounds" in numbers else 2


def commit(tree):
    """The measured commit, with "-dirty" if the tree differs from it."""
    try:
        # As root, git would refuse a tree of another user.
        done = subprocess.run(["git", "-c", "safe.directory=*", "-C", tree, "describe", "--always",
                               "--dirty", "--abbrev=40", "--exclude=*"], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True, timeout=30, check=False)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def machine(tree, congestion_control, pinned):
    model = re.search(r"^model name\s*: (.*)$", read("/proc/cpuinfo"), re.MULTILINE)
    return {"date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
            "commit": commit(tree), "kernel": platform.release(),
            "cpu": model.group(1) if model else platform.machine(), "cores": os.cpu_count(),
            "congestion_control": congestion_control, "pinned": pinned,
            "load_average": os.getloadavg()[0]}


class Report:
    """The results of a run, workload by workload."""

    def __init__(self, about, rounds, scale, quick):
        self.about = about
        self.rounds = rounds
        self.scale = scale
        self.quick = quick
        self.results = {}  # workload -> {variant name: Series}

    def add(self, workload, series):
        self.results[workload] = series

    def complete(self):
        return all(not series.reason for variants in self.results.values()
                   for series in variants.values())

    def document(self):
        """The whole run, as in the JSON. Tables and plot are made from this only."""
        return {"licence": LICENCE, "machine": self.about, "rounds": self.rounds,
                "quick": self.quick, "scale": self.scale._asdict(),
                "workloads": {workload.name: self.workload(workload, variants)
                              for workload, variants in self.results.items()}}

    @staticmethod
    def workload(workload, variants):
        baselines = [name for name in workload.baselines if name in variants]
        keys = [metric.key for metric in workload.metrics]
        rounds = {name: {key: values for key in [*keys, *map(paired, keys)]
                         if (values := series.values(key))}
                  for name, series in variants.items()}
        return {"title": workload.title, "baselines": baselines,
                "headlines": workload.headlines or [workload.metrics[0].key],
                "metrics": [metric._asdict() for metric in workload.metrics],
                "variants": {name: {"reason": series.reason} if series.reason else
                                   {key: numbers_of(key, name, rounds, baselines)
                                    for key in keys if key in rounds[name]}
                             for name, series in variants.items()}}


def to_json(document):
    """Indented, with each innermost list or object on one line, because people read it too."""
    return re.sub(r"[\[{][^\[\]{}]*[\]}]", lambda match: " ".join(match.group().split()),
                  json.dumps(document, indent=1)) + "\n"


def to_text(document):
    about = document["machine"]
    pinned = "clients and server pinned to one each" if about["pinned"] else "nothing pinned"
    lines = [f"{about['date']}, commit {about['commit']}",
             f"kernel {about['kernel']}, TCP congestion control {about['congestion_control']}, "
             f"load average {about['load_average']:.2f} at the start",
             f"{about['cpu']}, {about['cores']} cores that clients, relay and server share, "
             f"{pinned}",
             f"{document['rounds']} rounds at least: median (minimum .. maximum)"]
    for name, workload in document["workloads"].items():
        lines += ["", f"{name}: {workload['title']}", *table(workload)]
        lines += [f"  {variant}: no number: {numbers['reason']}"
                  for variant, numbers in workload["variants"].items() if "reason" in numbers]
    return "\n".join(lines)


def table(workload):
    baselines = workload["baselines"]
    rows = [["", "", *(f"/ {name}" for name in baselines), "measured"]]
    for metric in workload["metrics"]:
        for name, numbers in workload["variants"].items():
            if value := numbers.get(metric["key"]):
                rows.append([metric["label"], name,
                             *(cell(value["ratio_to"].get(baseline), ratio_digits(value))
                               for baseline in baselines),
                             cell(value, metric["digits"])])
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  " + "  ".join(word.ljust(width) for word, width in zip(row, widths)).rstrip()
            for row in rows if len(rows) > 1]


def cell(numbers, digits):
    if numbers is None:
        return "-"
    low, middle, high = (f"{numbers[key]:.{digits}f}" for key in ("min", "median", "max"))
    return middle if low == high else f"{middle} ({low} .. {high})"


def measured(numbers, metric):
    """The median with its unit. The table names the percentile elsewhere."""
    unit = re.sub(r"^p[0-9.]+ ", "", metric["label"])
    return f"{numbers['median']:,.{metric['digits']}f} {unit}"
