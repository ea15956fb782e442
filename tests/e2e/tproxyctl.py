# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""tproxyctl in tests: fixtures, and the findings of doctor."""

import contextlib
import json
import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

import programs
from maps import bpftool, load_connect4

CTL = Path(os.environ.get("TPROXY_CTL", programs.LOAD.parent / "tproxyctl")).absolute()


@pytest.fixture(scope="session")
def binary(run_directory):
    """A copy: the checkout may be accessible to root only."""
    return shutil.copy(CTL, run_directory / CTL.name)


@pytest.fixture
def ctl(bed, binary):
    """Runs a command on the pins of the bed."""
    def call(command, *options, pin_dir=None, **program):
        result = programs.call(binary, command, "--pin-dir", pin_dir or bed.pins.path, *options,
                               **program)
        assert "Sanitizer" not in result.err, result
        return result
    return call


class Diagnosis:
    """The output of doctor --json."""

    def __init__(self, result):
        self.result = result
        assert result.status in (0, 1) and result.err == "", result
        self.answer = json.loads(result.out)
        self.findings = self.answer["findings"]
        assert self.answer["errors"] == len(self.of("error"))
        assert self.answer["warnings"] == len(self.of("warning"))
        assert result.status == (1 if self.answer["errors"] else 0), result

    def of(self, level):
        return [finding for finding in self.findings if finding["level"] == level]

    def about(self, check, level):
        return [finding for finding in self.of(level) if finding["check"] == check]

    def only(self, level, check, *needles):
        """Asserts that there is one finding of this level, with all of @needles. Returns its
        fix."""
        assert len(self.of(level)) == 1, self.of(level)
        (finding,) = self.about(check, level)
        for needle in needles:
            assert str(needle) in finding["what"], f"no {str(needle)!r} in {finding}"
        return finding.get("fix")

    def fine(self):
        assert not self.of("error") and not self.of("warning"), self.findings
        return self


@pytest.fixture
def doctor(ctl):
    return lambda *options, **program: Diagnosis(ctl("doctor", "--json", *options, **program))


@pytest.fixture
def foreign(bed):
    """foreign(cgroup, *flags) attaches a foreign program to cgroup/connect4. @load makes another
    program than the one that allows everything."""
    pins = []

    def attach(cgroup, *flags, load=load_connect4, arguments=(1,)):
        pin = bed.directory / "bpf" / f"foreign{len(pins)}"
        load(pin, *arguments)
        pins.append((cgroup, pin))
        bpftool("cgroup", "attach", cgroup, "cgroup_inet4_connect", "pinned", pin, *flags)
        return bpftool("prog", "show", "pinned", pin)["id"]

    yield attach
    for cgroup, pin in pins:
        bpftool("cgroup", "detach", cgroup, "cgroup_inet4_connect", "pinned", pin)


def apply_fix(command):
    """Runs the command that doctor proposes."""
    subprocess.run(command, shell=True, check=True, capture_output=True)


@contextlib.contextmanager
def other_abi_version(bed):
    with bed.pins.open("map_policy") as policy:
        (entry,) = bpftool("map", "dump", "pinned", bed.pins.path / "map_policy")
        value = bytes(int(byte, 16) for byte in entry["value"])
        policy.update(bytes(4), struct.pack("=I", 99) + value[4:])
        yield
        policy.update(bytes(4), value)
