# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The programs that the tests run: tproxy-load, tproxy-relay, and real clients and servers."""

import contextlib
import dataclasses
import json
import os
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

import host
from host import wait_until

REPOSITORY = Path(__file__).parents[2]
ABI_VERSION = int(re.search(r"TPROXY_ABI_VERSION (\d+)",
                            (REPOSITORY / "common/tproxy_abi.h").read_text())[1])
LOAD = Path(os.environ.get("TPROXY_LOAD", REPOSITORY / "build/loader/tproxy-load")).absolute()
# For the load and the unload of each test's bed, which are the same in all builds: the plain one,
# which takes less time, if scripts/test.sh has built it.
BED_LOAD = Path(os.environ.get("TPROXY_BED_LOAD", LOAD)).absolute()
RELAY = Path(os.environ.get("TPROXY_RELAY", REPOSITORY / "build/proxy/tproxy-relay")).absolute()

# For this process only: the kernel limits pipe buffers by user, and suites may run in parallel.
RELAY_UID = 60000 + 2 * (os.getpid() % 2000)
RELAY_GID = 47113

_CODE = RELAY.read_bytes() if RELAY.exists() else b""

# A relay built with TSan has at least two workers, because its threads are under test.
THREAD_SANITIZED = b"__tsan_init" in _CODE
# With TSan or ASan, freed memory is not returned at once and a start takes longer.
SANITIZED = THREAD_SANITIZED or b"__asan_init" in _CODE

# Deadlines are for events that never come, so they are long: the machine may have other work.
# Sanitizers make everything slower, above all the exit, where leaks are looked for. scripts/test.sh
# runs the fuzz targets at the same time.
host.patience = 8 if SANITIZED else 3

# Put before the relay's command line: `valgrind …`, `strace -D …` or another tool that keeps
# its PID.
RELAY_WRAPPER = shlex.split(os.environ.get("TPROXY_RELAY_WRAPPER", ""))

ENVIRONMENT = {
    **{name: value for name, value in os.environ.items()
       if name not in ("JOURNAL_STREAM", "NOTIFY_SOCKET")},
    "LC_ALL": "C.UTF-8",
    "ASAN_OPTIONS": "quarantine_size_mb=1:" + os.environ.get("ASAN_OPTIONS", ""),
    "UBSAN_OPTIONS": "print_stacktrace=1:" + os.environ.get("UBSAN_OPTIONS", ""),
}

# For the load and the unload of each test's bed: LeakSanitizer takes 0.1 s at the end of each.
NO_LEAK_CHECK = {"ASAN_OPTIONS": "detect_leaks=0:" + ENVIRONMENT["ASAN_OPTIONS"]}

# The option of setpriv that lets a program die with its parent.
_TIED = "--pdeathsig=KILL"

_SANITIZER = re.compile(r"^.*((ERROR|WARNING): \w+Sanitizer|runtime error:).*$", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Result:
    """Exit status and output of a program."""

    argv: list
    status: int
    out: str
    err: str

    def succeeded(self):
        assert self.status == 0, self
        return self

    def refused(self, *needles, status=1):
        """Asserts this exit status and nothing but one line on stderr, which has all of
        @needles."""
        assert self.status == status, self
        assert self.out == "", self
        assert self.err.count("\n") == 1 and self.err.endswith("\n"), self
        assert self.err.startswith(Path(self.argv[0]).name + ": "), self
        for needle in needles:
            assert str(needle) in self.err, f"no {str(needle)!r} in {self}"
        return self


def call(*argv, place=None, user=None, data=None, timeout=30, env=None):
    """Runs a program to its end. @data is its input, bytes or text."""
    timeout *= host.patience
    argv = [str(arg) for arg in argv]
    wrapped = (unprivileged(*user) if user else []) + argv
    data = data.encode() if isinstance(data, str) else data or b""
    with host.starting_at(place) as prepare:
        process = subprocess.Popen(wrapped, preexec_fn=prepare, stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   env={**ENVIRONMENT, **(env or {})})
    with process:
        try:
            out, err = process.communicate(data, timeout)
        except BaseException:
            process.kill()
            raise
    return Result(argv, process.returncode, out.decode(errors="replace"),
                  err.decode(errors="replace"))


def unprivileged(uid, gid):
    """The start of a command line that runs a program as this user, without capabilities or a way
    to get one."""
    return ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--bounding-set=-all",
            "--inh-caps=-all", "--no-new-privs", _TIED]


def with_capabilities_of(name):
    """The start of a command line that runs a program with what this unit of the loader grants."""
    unit = (REPOSITORY / f"loader/{name}.service.in").read_text()
    granted = re.search(r"^CapabilityBoundingSet=(.+)$", unit, re.MULTILINE)[1].lower().split()
    return ["setpriv", "--bounding-set=-all," + ",".join(
        capability.replace("cap_", "+") for capability in granted)]


class Program:
    """A program that runs until it is stopped. Its output goes to a log file, or to @out and
    @err."""

    def __init__(self, *argv, place, log, files=None, env=None, out=None, err=None):
        self.log = Path(log)
        self.argv = [str(arg) for arg in argv]
        limit = ["prlimit", f"--nofile={files}:{files}"] if files else []
        with self.log.open("wb") as output, host.starting_at(place) as prepare:
            # The enter() of a place does this itself.
            tied = [] if prepare or _TIED in self.argv else ["setpriv", _TIED]
            self.process = subprocess.Popen(limit + tied + self.argv, stdin=subprocess.DEVNULL,
                                            stdout=out or output, stderr=err or output,
                                            preexec_fn=prepare,
                                            env={**ENVIRONMENT, **(env or {})})
        self.pid = self.process.pid
        host.wait_until(self._is_itself, "it is the program")

    def _is_itself(self):
        """prlimit and setpriv start others: their names and files are not the program's."""
        comm = Path(f"/proc/{self.pid}/comm").read_bytes()
        return comm not in (b"prlimit\n", b"setpriv\n") or not self.running()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.running():
            self.signal(signal.SIGTERM)
        self.wait()

    def running(self):
        return self.process.poll() is None

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self):
        """Sends SIGSTOP, which may take effect after kill(2) returns, and waits until each thread
        is stopped."""
        self.signal(signal.SIGSTOP)
        host.wait_until(lambda: host.thread_states(self.pid) == {"T"}, "every thread stands")

    @contextlib.contextmanager
    def stopped(self):
        """The program is stopped while the block runs."""
        try:
            self.stop()
            yield
        finally:
            self.signal(signal.SIGCONT)

    def kill(self):
        self.signal(signal.SIGKILL)
        self.process.wait()

    def wait(self, timeout=10):
        """Returns the exit status. A program that does not end in time is killed, and the test
        fails."""
        timeout *= host.patience
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.argv} did not end within {timeout} s") from None

    def text(self):
        return self.log.read_text(errors="replace")

    def complete_lines(self):
        """The log without a last line that is being written."""
        return self.text().rpartition("\n")[0].splitlines()

    def says(self, text, times=1):
        """Waits for a line. The log is written by a thread, so a line may come after its event."""
        return host.wait_until(lambda: self.text().count(text) >= times, f"it says {text!r}", 10)

    def _status(self, field):
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(rf"^{field}:\s*(\d+)", text, re.MULTILINE)[1])

    def wait_traced(self):
        """Waits until strace -f -p has attached to all threads, one after the other."""
        def is_traced():
            return not any("TracerPid:\t0" in status.read_text()
                           for status in Path(f"/proc/{self.pid}/task").glob("*/status"))

        host.wait_until(is_traced, "strace has attached to every thread")

    def rss_kib(self):
        return self._status("VmRSS")

    def peak_kib(self):
        return self._status("VmHWM")

    def reset_peak(self):
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def descriptors_at_rest(self):
        """The number of descriptors, without those that are open for a moment to read a pin."""
        return host.settled(self.descriptors, f"descriptors of {self.pid}")

    def cpu_seconds(self):
        """The CPU clock of the program, which is exact (clock_getcpuclockid(3)). /proc has
        hundredths."""
        return time.clock_gettime(~self.pid << 3 | 2)


class Relay(Program):
    """tproxy-relay as an unprivileged user: that of its place, or otherwise set by a wrapper. At
    the end of the block the relay must exit with status 0."""

    _REGISTERED = re.compile(r"registered pid (\d+), listening on ([0-9.]+):(\d+)"
                             r"(?: and \S+)?, workers (\d+)")

    def __init__(self, binary, pin_dir, *options, wrapper=None, verbose=True, **program):
        if wrapper is None:
            wrapper = unprivileged(RELAY_UID, RELAY_GID)
        # A configuration file may set the number; the command line takes precedence.
        workers = ["--workers", 2] if THREAD_SANITIZED and "--config" not in options else []
        super().__init__(*wrapper, *RELAY_WRAPPER, binary, "--pin-dir", pin_dir,
                         *(["-v"] if verbose else []), "--drain-timeout", "1s", *workers,
                         *options, **program)
        self.killed = False

    def __exit__(self, *_):
        super().__exit__()
        reports = _SANITIZER.findall(self.text())
        assert not reports and "Sanitizer" not in self.text(), self.text()
        assert self.killed or self.process.returncode == 0, (
            f"relay ended with {self.process.returncode}: {self.text()}")

    def kill(self):
        self.killed = True
        super().kill()

    def registrations(self):
        return self._REGISTERED.findall("\n".join(self.complete_lines()))

    def wait_registered(self, times=1):
        wait_until(lambda: len(self.registrations()) >= times or not self.running(),
                   f"relay registered {times} times", 20 if RELAY_WRAPPER else 10)
        assert self.running(), f"relay ended with {self.process.returncode}: {self.text()}"
        pid, address, port, _ = self.registrations()[-1]
        assert int(pid) == self.pid, "the relay names its PID as the host sees it"
        self.address = (address, int(port))
        return self

    def ports(self):
        """The number of ports for IPv4, which is that for IPv6 too."""
        return int(re.search(r"registered pid .*, ports (\d+)", self.text())[1])

    def connections(self):
        """The log lines of finished connections."""
        return re.findall(r"connection .*", "\n".join(self.complete_lines()))

    def connections_to(self, address):
        return [line for line in self.connections() if "-> {}:{}:".format(*address) in line]


class Loader:
    """tproxy-load with one pin directory."""

    def __init__(self, binary, pin_dir):
        self.binary = binary
        self.pin_dir = pin_dir

    def __call__(self, *options, pin_dir=None, **program):
        result = call(self.binary, "--pin-dir", pin_dir or self.pin_dir, *options, **program)
        assert "Sanitizer" not in result.err, result
        return result

    def start(self, *options, place, log):
        return Program(self.binary, "--pin-dir", self.pin_dir, *options, place=place, log=log)

    def unload(self, **program):
        return self("--unload", **program).succeeded()

    def status(self):
        return json.loads(self("--status", "--json").succeeded().out)
