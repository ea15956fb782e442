# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The relays of a soak: start, stop, kill, reap; and their logs, which do not grow."""

import collections
import contextlib
import ctypes
import os
import re
import signal
import time

import programs
import report

_CLOSED = re.compile(r"connection \S+ -> \S+: .* (?:s|min), ([a-z -]+)")
_LINES_MAX = 200_000
_PUNCH_HOLE = 1 | 2  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE

_libc = ctypes.CDLL(None, use_errno=True)


class LoggedRelay(programs.Relay):
    """Lines about connections are counted and their space is freed. Others are kept."""

    def __init__(self, *args, **program):
        self.closes = collections.Counter()
        self._lines = collections.deque(maxlen=_LINES_MAX)
        self._read = 0
        super().__init__(*args, **program)

    def read_log(self):
        with self.log.open("r+b") as log:
            log.seek(self._read)
            whole, newline, _ = log.read().rpartition(b"\n")
            self._read += len(whole + newline)
            # Best effort: without it the log takes more memory.
            _libc.fallocate(log.fileno(), _PUNCH_HOLE, ctypes.c_long(0),
                            ctypes.c_long(self._read))
        for line in whole.decode(errors="replace").splitlines(keepends=True):
            if closed := _CLOSED.search(line):
                self.closes[closed[1]] += 1
            else:
                self._lines.append(line)

    def text(self):
        self.read_log()
        return "".join(self._lines)


class Relays:
    """The relay that serves now, and those that drain."""

    def __init__(self, bed, binary, outcome, workers):
        self._bed, self._binary, self._outcome, self._workers = bed, binary, outcome, workers
        self.relay = self.generation = None
        self._draining, self._running = [], []
        self._count = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """Ends the relays that an interruption has left."""
        for relay in self._running:
            if relay.running():
                relay.kill()

    def start(self):
        """Starts the next relay, which registers."""
        self._count += 1
        log = self._bed.directory / f"soak-relay{self._count}.log"
        relay = LoggedRelay(self._binary, self._bed.pins.path, "--workers", self._workers,
                            "--drain-timeout", f"{report.DRAIN:.0f}s",
                            place=self._bed.relay_place, log=log)
        self._running.append(relay)
        self.relay, self.generation = relay, report.Generation(relay.pid, time.monotonic())
        self._outcome.generations.append(self.generation)
        relay.wait_registered()

    def restart(self):
        """Starts the next relay and ends the old one. Returns the time just before SIGTERM."""
        old, generation = self.relay, self.generation
        self.start()
        began = time.monotonic()
        old.signal(signal.SIGTERM)
        self._draining.append((old, generation, began))
        return began

    def kill(self):
        self.relay.kill()
        killed = time.monotonic()
        self._bury(self.relay, self.generation, "killed")
        self.start()
        return killed

    def reap(self, wait=False):
        """Handles the relays that drain."""
        for entry in list(self._draining):
            relay, generation, began = entry
            if wait:
                relay.wait(report.DRAIN + 10)
            if relay.running():
                if time.monotonic() > began + report.DRAIN + 5:
                    self._outcome.findings.append(f"relay {relay.pid} does not end")
                    self._draining.remove(entry)
                    relay.kill()
                continue
            self._draining.remove(entry)
            self._bury(relay, generation, "drained")

    def end(self):
        self.relay.signal(signal.SIGTERM)
        self._draining.append((self.relay, self.generation, time.monotonic()))
        self.relay = None
        self.reap(wait=True)

    def _bury(self, relay, generation, how):
        """Checks exit status and log."""
        generation.end, generation.ended = time.monotonic(), how
        try:
            relay.__exit__()
        except AssertionError as error:
            self._outcome.findings.append(str(error)[-2000:])
        generation.closes = dict(relay.closes)
        relay.log.unlink()
        self._running.remove(relay)

    def sample(self):
        self.relay.read_log()
        pid, kinds = self.relay.pid, collections.Counter()
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                kinds[os.readlink(f"/proc/{pid}/fd/{name}").partition(":")[0]] += 1
        sockets, pipes = kinds.pop("socket", 0), kinds.pop("pipe", 0)
        return report.Sample(round(time.monotonic() - self.generation.begin, 1),
                             self.relay.rss_kib(), sockets, pipes, sum(kinds.values()))
