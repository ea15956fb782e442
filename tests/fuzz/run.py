#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Runs one fuzz target for FUZZ_SECONDS (default 60) and prints a summary in one line.

The seeds in corpus/NAME are only read. New inputs go to found/NAME in the build directory, from
which the next run continues. A failing input is kept there too, as NAME-crash-HASH, NAME-leak-HASH
or NAME-timeout-HASH. To reproduce it, run the target with this file as argument.

usage: run.py NAME TARGET [LIBFUZZER_OPTION]...
"""

import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Inputs are command lines, small files and addresses.
MAX_LEN = 4096
INPUT_SECONDS = 5
MEMORY_MB = 1024
# The corpus is loaded before the clock starts.
SLACK_SECONDS = 120


def seconds():
    value = os.environ.get("FUZZ_SECONDS", "60")
    if not value.isdecimal() or int(value) == 0:
        sys.exit(f"run.py: FUZZ_SECONDS is '{value}', not a number from 1")
    return int(value)


def command(name, target, options):
    found = Path("found", name)
    found.mkdir(parents=True, exist_ok=True)
    argv = [str(Path(target).resolve()), f"-max_total_time={seconds()}", f"-max_len={MAX_LEN}",
            f"-timeout={INPUT_SECONDS}", f"-rss_limit_mb={MEMORY_MB}", "-close_fd_mask=1",
            "-print_final_stats=1", f"-artifact_prefix={Path.cwd()}/{name}-"]
    dictionary = HERE / f"{name}.dict"
    if dictionary.exists():
        argv.append(f"-dict={dictionary}")
    return [*argv, *options, str(found), str(HERE / "corpus" / name)]


def summary(log):
    """The last lines of libFuzzer's output."""
    covered = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", log)
    stats = dict(re.findall(r"stat::(\w+):\s+(\d+)", log))
    cov, features, corpus = covered[-1] if covered else ("?", "?", "?")
    return (f"{stats.get('number_of_executed_units', '?')} inputs, "
            f"{stats.get('average_exec_per_sec', '?')} a second, {cov} edges, "
            f"{features} features, corpus {corpus}, {stats.get('peak_rss_mb', '?')} MB")


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__.rstrip().rpartition("\n")[2])
    name, target, *options = sys.argv[1:]
    argv = command(name, target, options)
    env = {**os.environ,
           "UBSAN_OPTIONS": "print_stacktrace=1:" + os.environ.get("UBSAN_OPTIONS", "")}
    try:
        run = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                             stderr=subprocess.STDOUT, errors="replace", check=False, env=env,
                             timeout=seconds() + SLACK_SECONDS)
    except subprocess.TimeoutExpired:
        sys.exit(f"fuzz {name}: did not end in time")
    Path(f"{name}.log").write_text(run.stdout, encoding="utf-8")
    if run.returncode != 0:
        print(run.stdout[-20000:])
        print(f"fuzz {name}: status {run.returncode}; again with: {' '.join(argv[:1])} "
              f"{''.join(re.findall(r'Test unit written to (.*)', run.stdout)[-1:])}")
        sys.exit(1)
    print(f"fuzz {name}: {summary(run.stdout)}")


if __name__ == "__main__":
    main()
