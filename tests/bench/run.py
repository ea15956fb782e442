#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The benchmarks, all in one command: see README.md beside this file.

Starts every contender once, then runs the workloads one after the other; a workload's rounds
interleave its variants after a warm-up round that does not count. Prints progress to stderr, the
table to stdout. Exit status 0 if every variant has its numbers, 1 if not, 2 for bad usage.
"""

import argparse
import json
import os
import signal
import sys
import time

sys.dont_write_bytecode = True  # run as root from somebody's tree: leave nothing in it

from contenders import CONTENDERS, Tproxy  # pylint: disable=wrong-import-position
from report import Report, Series  # pylint: disable=wrong-import-position
from sandbox import Failure, Sandbox  # pylint: disable=wrong-import-position
from workloads import FULL, QUICK, WORKLOADS  # pylint: disable=wrong-import-position

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


def congestion_control():
    with open("/proc/sys/net/ipv4/tcp_congestion_control", encoding="utf-8") as file:
        return file.read().strip()


def parse_options():
    parser = argparse.ArgumentParser(description="Direct, tproxy and HAProxy side by side.")
    parser.add_argument("--quick", action="store_true",
                        help="3 short rounds: to see that all works, not for numbers to quote")
    parser.add_argument("--rounds", type=positive, help="rounds of each workload (5)")
    parser.add_argument("--workloads", type=names_of(WORKLOADS), default=list(WORKLOADS),
                        help=f"some of {','.join(WORKLOADS)}")
    parser.add_argument("--contenders", type=names_of(CONTENDERS), default=list(CONTENDERS),
                        help=f"some of {','.join(CONTENDERS)}")
    parser.add_argument("--json", metavar="FILE", help="write all numbers there")
    parser.add_argument("--build", metavar="DIR", default=os.path.join(TREE, "build"),
                        help="the meson build directory (build)")
    parser.add_argument("--congestion-control", metavar="NAME", default=congestion_control(),
                        help="of TCP, for all (the host's: %(default)s)")
    parser.add_argument("--pin", action="store_true",
                        help="clients on one CPU, server on another, relays where they like")
    options = parser.parse_args()
    options.rounds = options.rounds or (3 if options.quick else 5)
    return options


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def start_contenders(names, sandbox):
    """The contenders by name, and why those that cannot take part cannot."""
    contenders, reasons = {}, {}
    for name in names:
        contenders[name] = CONTENDERS[name](sandbox)
        try:
            contenders[name].start()
            contenders[name].prove()
        except Failure as failure:
            say(f"{name}: {failure}")
            reasons[name] = str(failure)
    return contenders, reasons


def take_turn(workload, variant, scale):
    try:
        return workload.measure(variant, scale)
    except Failure:
        workload.recover(variant)
        raise


def run_workload(workload, rounds, scale, reasons):
    """Series by variant. Round 0 is the warm-up."""
    variants = {name: Series() for name in workload.variants()}
    for number in range(rounds + 1):
        for name, series in variants.items():
            if name in reasons:
                series.fail(reasons[name])
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
    return variants


def run(options):
    if os.geteuid() != 0:
        raise Failure("needs root, for namespaces, cgroups and BPF")
    scale = QUICK if options.quick else FULL
    report = Report(options.rounds, scale, options.congestion_control, options.pin)
    bench = os.path.join(options.build, "tests", "bench", "tproxy-bench")
    if not os.access(bench, os.X_OK):
        raise Failure(f"not built: {bench}")
    Tproxy.build = options.build
    with Sandbox(bench, options.congestion_control, options.pin) as sandbox:
        contenders, reasons = start_contenders(options.contenders, sandbox)
        for name in options.workloads:
            workload = WORKLOADS[name](contenders)
            rounds = 1 if workload.once else options.rounds
            report.add(workload, run_workload(workload, rounds, scale, reasons))
        for contender in contenders.values():
            contender.stop()
    return report


def main():
    options = parse_options()
    # Both explicitly: a shell starts background jobs with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    try:
        report = run(options)
    except Failure as failure:
        print(f"run.py: {failure}", file=sys.stderr)
        return 1
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(report.json(), file, indent=1)
    print(report.text())
    return 0 if report.complete() else 1


if __name__ == "__main__":
    sys.exit(main())
