# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""From the turns of a run to medians and ratios, as JSON and as a table.

Ratios are made round by round, and the median is taken of them: what disturbs the machine for a
while disturbs both sides of a ratio, so ratios hold where absolute times do not.
"""

import os
import platform
import statistics


class Series:
    """The turns of one variant: numbers for each round, or a reason and no number at all."""

    def __init__(self):
        self.rounds = []
        self.reason = None

    def add(self, numbers):
        self.rounds.append(numbers)

    def fail(self, reason):
        self.rounds = []
        self.reason = reason

    def values(self, key):
        return [numbers[key] for numbers in self.rounds if key in numbers]


def summary(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratios(series, baseline, key):
    """Summary of series/baseline, or None where one has no numbers or the baseline is zero."""
    ours, theirs = series.values(key), baseline.values(key)
    if not ours or len(ours) != len(theirs) or not all(theirs):
        return None
    return summary([a / b for a, b in zip(ours, theirs)])


class Report:
    """The results of a run, workload by workload."""

    def __init__(self, rounds, scale, congestion_control, pinned):
        self.machine = {"kernel": platform.release(), "cores": os.cpu_count(),
                        "congestion_control": congestion_control, "pinned": pinned,
                        "load_average": os.getloadavg()[0]}
        self.rounds = rounds
        self.scale = scale
        self.results = {}  # workload -> {variant name: Series}

    def add(self, workload, series):
        self.results[workload] = series

    def complete(self):
        return all(not series.reason for variants in self.results.values()
                   for series in variants.values())

    def json(self):
        workloads = {workload.name: {name: self.variant_json(workload, name, variants)
                                     for name in variants}
                     for workload, variants in self.results.items()}
        return {"machine": self.machine, "rounds": self.rounds, "scale": self.scale._asdict(),
                "workloads": workloads}

    @staticmethod
    def variant_json(workload, name, variants):
        series = variants[name]
        if series.reason:
            return {"reason": series.reason}
        result = {}
        for metric in workload.metrics:
            values = series.values(metric.key)
            if values:
                result[metric.key] = {**summary(values), "rounds": values, "ratio_to": {
                    baseline: ratios(series, variants[baseline], metric.key)
                    for baseline in workload.baselines if baseline in variants}}
        return result

    def text(self):
        machine = self.machine
        pinned = "clients and server pinned to one each" if machine["pinned"] else "nothing pinned"
        lines = [f"kernel {machine['kernel']}, TCP congestion control "
                 f"{machine['congestion_control']}, load average {machine['load_average']:.2f} at "
                 "the start",
                 f"{machine['cores']} cores that clients, relay and server share, {pinned}",
                 f"{self.rounds} rounds: median (minimum .. maximum)"]
        for workload, variants in self.results.items():
            lines += ["", f"{workload.name}: {workload.title}"]
            lines += self.table(workload, variants)
            lines += [f"  {name}: no number: {series.reason}"
                      for name, series in variants.items() if series.reason]
        return "\n".join(lines)

    @staticmethod
    def table(workload, variants):
        baselines = [name for name in workload.baselines if name in variants]
        rows = [["", "", *(f"/ {name}" for name in baselines), "measured"]]
        for metric in workload.metrics:
            for name, series in variants.items():
                values = series.values(metric.key)
                if values:
                    cells = [ratios(series, variants[baseline], metric.key)
                             if baseline != name else None for baseline in baselines]
                    rows.append([metric.label, name, *(cell(c, 2) for c in cells),
                                 cell(summary(values), metric.digits)])
        widths = [max(map(len, column)) for column in zip(*rows)]
        return ["  " + "  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip()
                for row in rows if len(rows) > 1]


def cell(numbers, digits):
    if numbers is None:
        return "-"
    low, middle, high = (f"{numbers[key]:.{digits}f}" for key in ("min", "median", "max"))
    return middle if low == high else f"{middle} ({low} .. {high})"
