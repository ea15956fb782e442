#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Runs all benchmarks: see README.md beside this file.

Starts every contender once, then runs the workloads one after the other. The rounds of a
workload interleave its variants, after a warm-up round that does not count. Prints progress to
stderr and the table to stdout. Exits 0 if every variant has its numbers, 1 if not, 2 for a
usage error.
"""

import argparse
import os
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True  # run as root in another user's tree: write nothing there

# pylint: disable=wrong-import-position
import floors
import plot
from contenders import Redirected
from peers import CONTENDERS
from report import Report, Series, machine, to_json, to_text
from sandbox import Failure, Sandbox, need, write
from workload import FULL, QUICK
from workloads import WORKLOADS

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def names_of(known):
    """An argparse type: a comma-separated list of known names."""
    def parse(text):
        names = text.split(",")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f'"{name}" is none of {", ".join(known)}')
        return names
    return parse


def positive(text):
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f'"{text}" is no number from 1 to 100')
    return int(text)


def parse_options():
    parser = argparse.ArgumentParser(description="tproxy beside a direct connection and others.")
    parser.add_argument("--quick", action="store_true",
                        help="2 short rounds: to see that all works, not for numbers to quote")
    parser.add_argument("--rounds", type=positive, help="rounds of each workload (5)")
    parser.add_argument("--workloads", type=names_of(WORKLOADS), default=list(WORKLOADS),
                        help=f"some of {','.join(WORKLOADS)}")
    parser.add_argument("--contenders", type=names_of(CONTENDERS), default=list(CONTENDERS),
                        help=f"some of {','.join(CONTENDERS)}")
    parser.add_argument("--json", metavar="FILE", help="write all numbers there")
    parser.add_argument("--plot", metavar="FILE", help="write a picture of the ratios there, SVG")
    parser.add_argument("--floors", action="store_true",
                        help="exit status 1 also if a floor of what is measured is missed")
    parser.add_argument("--build", metavar="DIR", default=os.path.join(TREE, "build"),
                        help="the meson build directory (build)")
    parser.add_argument("--congestion-control", metavar="NAME", default="cubic",
                        help="of TCP, for all (%(default)s)")
    parser.add_argument("--pin", action="store_true",
                        help="clients on one CPU, server on another, relays where they like")
    options = parser.parse_args()
    options.rounds = options.rounds or (2 if options.quick else 5)
    return options


# OSError: a process that has ended has no /proc.
ERRORS = (Failure, OSError, subprocess.SubprocessError)


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def stop(contender):
    """Stops a contender. A failure to stop must not lose what was measured."""
    try:
        contender.stop()
    except ERRORS as failure:
        say(f"{contender.name}: {failure}")


def start_contenders(names, sandbox):
    """Returns the contenders by name, and the reasons of those that cannot take part."""
    contenders, reasons = {}, {}
    for name in names:
        contenders[name] = CONTENDERS[name](sandbox)
        try:
            contenders[name].start()
            contenders[name].prove()
        except ERRORS as failure:
            say(f"{name}: {failure}")
            reasons[name] = str(failure)
            stop(contenders[name])
    return contenders, reasons


def take_turn(workload, variant, scale):
    try:
        return workload.measure(variant, scale)
    except ERRORS as error:
        try:
            workload.recover(variant)
        except ERRORS as another:
            raise Failure(f"{error}; then: {another}") from error
        raise Failure(str(error)) from error


def run_workload(workload, rounds, scale, reasons):
    """Returns the series by variant. Round 0 is the warm-up."""
    variants = {name: Series() for name in workload.variants()}
    for name, series in variants.items():
        if name in reasons:
            series.fail(reasons[name])
    try:
        try:
            workload.begin()
            take_rounds(workload, variants, rounds, scale)
        finally:
            workload.end()
    except ERRORS as failure:
        say(f"{workload.name}: {failure}")
        for series in variants.values():
            series.fail(series.reason or str(failure))
    return variants


def take_rounds(workload, variants, rounds, scale):
    for number in range(rounds + 1):
        # In alternating order: a drift affects both sides of a ratio, and a setup for two variants
        # is not undone between them.
        order = list(variants.items())
        for name, series in order if number % 2 else reversed(order):
            if series.reason:
                continue
            try:
                numbers = take_turn(workload, name, scale if number else scale.warm_up())
            except Failure as failure:
                series.fail(str(failure))
                say(f"{workload.name} {number}/{rounds} {name}: {failure}")
                continue
            if number:
                series.add(numbers)
                first = workload.metrics[0]
                say(f"{workload.name} {number}/{rounds} {name}: "
                    f"{numbers[first.key]:.{first.digits}f} {first.label}")


def run(options):
    if os.geteuid() != 0:
        raise Failure("needs root, for namespaces, cgroups and BPF")
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    need(("ip", "iproute2"), ("sysctl", "procps"), ("nsenter", "util-linux"))
    scale = QUICK if options.quick else FULL
    report = Report(machine(TREE, options.congestion_control, options.pin), options.rounds, scale,
                    options.quick)
    bench = os.path.join(options.build, "tests", "bench", "tproxy-bench")
    if not os.access(bench, os.X_OK):
        raise Failure(f"not built: {bench}")
    Redirected.build = options.build
    with Sandbox(bench, options.congestion_control, options.pin) as sandbox:
        contenders, reasons = start_contenders(options.contenders, sandbox)
        for name in options.workloads:
            workload = WORKLOADS[name](contenders)
            finely = 1 if options.quick else workload.finely
            rounds = 1 if workload.once else options.rounds * finely
            report.add(workload, run_workload(workload, rounds, scale, reasons))
        for contender in contenders.values():
            stop(contender)
    return report


def main():
    options = parse_options()
    # Set both: a shell starts background jobs with SIGINT ignored.
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup(1)
        numbers.append(signal.SIGHUP)
    for number in numbers:
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    try:
        report = run(options)
    except ERRORS as failure:
        print(f"run.py: {failure}", file=sys.stderr)
        return 1
    document = report.document()
    if options.json:
        write(options.json, to_json(document))
    if options.plot:
        write(options.plot, plot.svg(document))
    print(to_text(document), floors.to_text(document), sep="\n\n")
    missed = any(verdict == floors.MISSED for _, verdict, _ in floors.verdicts(document))
    return 0 if report.complete() and not (options.floors and missed) else 1


if __name__ == "__main__":
    sys.exit(main())
