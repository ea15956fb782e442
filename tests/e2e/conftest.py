# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Fixtures and rules of the end to end tests.

The run needs root, cgroup2 and the programs. Without one of them all tests are skipped and the exit
status is 77. With TPROXY_MUST_RUN=1 every skip is a failure. Each test has a deadline
(@pytest.mark.deadline(seconds)); those that took more than half of it are named at the end. The
logs of a test are shown if it fails.

With `-n auto` of pytest-xdist tests run in parallel. Tests that measure what others would disturb
(@pytest.mark.alone) come last, one at a time. Each worker has its own cgroup and directory, named
after the worker and the process that started the run.
"""

import contextlib
import fcntl
import os
import re
import resource
import shutil
import signal
import threading
from pathlib import Path

import pytest

import builds
import host
import programs
from harness import Bed

SKIPPED = 77
MUST_RUN = os.environ.get("TPROXY_MUST_RUN") == "1"
_deselected = []
DEADLINE = 30
DESCRIPTORS = 20_000
WORKERS_PER_CPU = 3

WORKER = os.environ.get("PYTEST_XDIST_WORKER")
SESSION = f"{host.PREFIX}-{os.getppid() if WORKER else os.getpid()}"
RUN = f"{SESSION}-{WORKER}" if WORKER else SESSION

# The lock that a worker holds while it runs a test: a directory of the process that started the
# workers, which no private mount namespace contains.
COMMON = Path("/tmp", SESSION)
_common_fd = None


class DeadlineExceeded(Exception):
    pass


def missing():
    """Returns why the tests cannot run, or None."""
    if os.geteuid() != 0:
        return "not root"
    if not host.cgroup2_root():
        return "no cgroup2 is mounted"
    for binary in (programs.LOAD, programs.RELAY):
        if not os.access(binary, os.X_OK):
            return f"{binary} is not built"
    return None


def pytest_addoption(parser):
    parser.addoption("--part", choices=builds.PARTS, default="all",
                     help="run what this build runs in scripts/test.sh (builds.py)")


def pytest_configure(config):
    config.addinivalue_line("markers", "deadline(seconds): how long the test may take")
    config.addinivalue_line("markers", "needs(program, ...): skipped if one is not installed")
    config.addinivalue_line("markers", "alone: what it measures, tests beside it would disturb")
    config.addinivalue_line("markers", "plain_build: not for a build with a sanitizer")


def _starts_workers(config):
    return not WORKER and bool(config.getoption("tx", None))


def pytest_sessionstart(session):
    global _common_fd
    reason = missing()
    if reason:
        pytest.exit(f"{'FAIL' if MUST_RUN else 'SKIP'}: {reason}", 1 if MUST_RUN else SKIPPED)

    # TSan of gcc 12 ends with "unexpected memory mapping" if vm.mmap_rnd_bits is over 28.
    if programs.THREAD_SANITIZED:
        host.stop_address_randomization()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, DESCRIPTORS), most))
    if WORKER:
        # execnet before 2.1 may run a worker in another thread if the main one is still busy. No
        # signal handler can be set there, so every test would fail. xdist replaces the worker.
        if threading.current_thread() is not threading.main_thread():
            os._exit(1)
        host.die_with_parent()
        _common_fd = os.open(COMMON, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return
    host.sweep()
    if _starts_workers(session.config):
        COMMON.mkdir()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """Tests mostly wait: for an answer, for a process to start, for time to pass."""
    return WORKERS_PER_CPU * len(os.sched_getaffinity(0))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    """Reports deselected tests once: all workers collect the same tests."""
    if not _deselected:
        _deselected.extend(getattr(node, "workeroutput", {}).get("deselected", []))
        node.config.hook.pytest_deselected(items=_deselected)


def pytest_sessionfinish(session, exitstatus):
    if WORKER:
        session.config.workeroutput["deselected"] = _deselected
    elif _starts_workers(session.config):
        with contextlib.suppress(FileNotFoundError):
            COMMON.rmdir()
        host.sweep(SESSION)  # the leftovers of workers that died
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        session.exitstatus = 1 if MUST_RUN else SKIPPED


def pytest_collection_modifyitems(config, items):
    """Leaves the tests of another build to that one. Tests of memory limits, and one without /proc,
    run with the plain build only. A sanitizer has its own allocator, ends a process that has no
    memory, and needs /proc. pytest counts these tests as deselected, and the summary names
    them."""
    part = config.getoption("part")
    items[:] = [item for item in items if builds.belongs(item, part)]
    items.sort(key=lambda item: item.get_closest_marker("alone") is not None)
    if not programs.SANITIZED:
        return
    plain = [item for item in items if item.get_closest_marker("plain_build")]
    config.hook.pytest_deselected(items=plain)
    items[:] = [item for item in items if item not in plain]
    _deselected.extend(item.nodeid for item in plain)


def _slow(reports):
    """Names those that took more than half of their deadline: a slower machine may exceed it."""
    for report in reports:
        if report.duration > getattr(report, "deadline", report.duration) / 2:
            yield (f"SLOW {report.nodeid}, {report.when}: {report.duration:.0f} s "
                   f"of {report.deadline} s")


def pytest_terminal_summary(terminalreporter):
    for reports in terminalreporter.stats.values():
        for line in _slow(report for report in reports if hasattr(report, "duration")):
            terminalreporter.write_line(line)
    for name in _deselected:
        terminalreporter.write_line(
            f"DESELECTED {name} - not with a sanitizer: it has its own allocator, and needs /proc")


# --- beside others, or alone


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    """A test that runs alone waits here until no other test runs, and others wait for it. The
    deadline starts after that."""
    if _common_fd is None:
        yield
        return
    alone = item.get_closest_marker("alone")
    fcntl.flock(_common_fd, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
    try:
        yield
    finally:
        fcntl.flock(_common_fd, fcntl.LOCK_UN)


# --- deadlines


def _deadline_of(item):
    marker = item.get_closest_marker("deadline")
    return (marker.args[0] if marker else DEADLINE) * host.patience


def _under_deadline(item):
    seconds = _deadline_of(item)

    def expired(*_):
        raise DeadlineExceeded(f"{item.name} took more than {seconds} s")

    signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_setup(item):
    yield from _under_deadline(item)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    yield from _under_deadline(item)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_teardown(item):
    yield from _under_deadline(item)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.skipped and MUST_RUN and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
    report.deadline = _deadline_of(item)
    if report.failed and "bed" in getattr(item, "funcargs", {}):
        for name, text in item.funcargs["bed"].logs().items():
            # A worker cannot send a name of any bytes.
            report.sections.append((os.fsencode(name).decode(errors="backslashreplace"), text))


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report(collector):
    """A module that skips itself counts as a skip too."""
    report = (yield).get_result()
    if report.skipped and MUST_RUN:
        report.outcome = "failed"


# --- fixtures


@pytest.fixture(autouse=True)
def _needed_programs(request):
    for marker in request.node.iter_markers("needs"):
        for program in marker.args:
            if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
                pytest.skip(f"{program} is not installed")


@pytest.fixture(scope="session")
def run_directory():
    """A file system of this run that unprivileged programs may enter."""
    host.private_mounts()
    directory = Path("/tmp", RUN)
    top = host.Cgroup(host.cgroup2_root() / RUN)
    with host.mounted("tmpfs", directory, "mode=755"), top:
        yield directory


@pytest.fixture(scope="session")
def binaries(run_directory):
    """Copies of the programs under test. The checkout may be accessible to root only."""
    directory = run_directory / "bin"
    directory.mkdir()
    for binary in (programs.LOAD, programs.RELAY):
        shutil.copy(binary, directory)
    (directory / "bed").mkdir()
    shutil.copy(programs.BED_LOAD, directory / "bed")
    return directory


@pytest.fixture
def bed(request, run_directory, binaries):
    """Namespaces, cgroups and a bpffs. Nothing is loaded."""
    name = re.sub(r"[^\w.-]+", "-", request.node.name)
    with Bed(name, run_directory / name, binaries) as made:
        yield made


@pytest.fixture
def loaded(bed):
    """tproxy-load has run. There is no relay."""
    bed.prepare()
    return bed


@pytest.fixture
def proxied(loaded):
    """A relay serves the client namespace."""
    loaded.start_relay()
    return loaded
