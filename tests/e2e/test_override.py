# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Foreign programs above a scope that stop running where tproxy's begin (I5):
BPF_F_ALLOW_OVERRIDE."""

import contextlib
import json
import os
import subprocess

import pytest

import host
import programs
from maps import (HOOKS, attached, bpftool, effective, load_connect4, load_getsockopt,
                  load_harmless)
from registering import binary, ctl, doctor  # fixtures
from tproxyctl import apply_fix

DENY, ALLOW = 0, 1


@pytest.fixture
def policy(bed):
    """policy(cgroup, flags, verdict) attaches a foreign program to connect4 and returns its id."""
    with contextlib.ExitStack() as stack:
        count = iter(range(9))

        def attach(cgroup, flags, verdict=DENY):
            pin = bed.directory / "bpf" / f"policy{next(count)}"
            load_connect4(pin, verdict)
            bpftool("cgroup", "attach", cgroup, "cgroup_inet4_connect", "pinned", pin,
                    *flags.split())
            stack.callback(bpftool, "cgroup", "detach", cgroup, "cgroup_inet4_connect", "pinned",
                           pin)
            return bpftool("prog", "show", "pinned", pin)["id"]

        yield attach


def outcome(bed, place=None):
    try:
        return "relayed" if bed.visit(bed.listen(), place=place).relayed else "direct"
    except PermissionError:
        return "denied"


def options(bed, *more):
    return ["--cgroup", bed.scope, "--relay-cgroup", bed.relay_cgroup, "--relay-group",
            programs.RELAY_GID, *more]


def test_policy_above_is_not_cancelled(bed, doctor, policy):
    """The load is refused before anything changes. The message names the program, its cgroup
    and the command after which both run.

    To see it fail: do not search above the scope before attaching.
    """
    theirs = policy(bed.top, "override")
    assert outcome(bed) == "denied"
    result = bed.tproxy_load(*options(bed)).refused(
        f"program {theirs}, 'foreign', on connect4 at '{bed.top}'", bed.scope, "--force")
    assert not bed.pins.path.exists() and attached(bed.scope) == []
    assert outcome(bed) == "denied"
    (finding,) = doctor("--cgroup", bed.scope).about("foreign", "error")
    assert f"program {theirs}," in finding["what"] and finding["fix"] in result.err
    # The same program at the same place, now beside tproxy's.
    pin = f"/sys/fs/bpf/prog_{theirs}"
    command = finding["fix"].replace(pin, str(bed.directory / "bpf" / "kept"))
    assert command.count("bpftool") == 3 and pin in finding["fix"]
    apply_fix(command)
    bed.load()
    bed.start_relay()
    assert outcome(bed) == "denied"
    assert not doctor().of("error")


HOSTILE = ["a';touch pwned;'", "a$(touch pwned)", "a;touch pwned",
           "\x1b[31m'\\';touch pwned;'\u202e"]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_in_commands_are_words(bed, doctor, policy, name, tmp_path):
    """A cgroup with a shell command as its name: the proposed commands quote it, and nothing of
    it runs.

    Fails if foreign_fix() or doctor puts a name between quotes as it is.
    """
    where = bed.scope.child(name)
    theirs = policy(where, "override")
    inner = where.child("in")
    result = bed.tproxy_load("--cgroup", inner).refused(f"program {theirs},")
    (finding,) = doctor("--cgroup", inner).about("foreign", "error")
    assert finding["fix"] in result.err
    words = subprocess.run(
        ["bash", "-c", f"bpftool() {{ printf '%s\\0' \"$@\"; }}; {finding['fix']}"], cwd=tmp_path,
        capture_output=True, check=True).stdout.split(b"\0")
    assert words.count(os.fsencode(where.path)) == 2
    assert not list(tmp_path.iterdir())
    inner.remove()


@pytest.mark.parametrize("name", HOSTILE)
def test_pin_directories_in_commands_are_words(bed, ctl, name, tmp_path):
    """The same for the pin directory in doctor's commands. Fails if the path in the chmod command
    is not quoted."""
    pins = bed.pins.path.parent / name
    bed.tproxy_load("--cgroup", bed.scope, pin_dir=pins).succeeded()
    try:
        (pins / "map_policy").chmod(0o666)
        findings = json.loads(ctl("doctor", "--json", pin_dir=pins).out)["findings"]
        (command,) = [each["fix"] for each in findings
                      if each["check"] == "pins" and "0666" in each["what"]]
        subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
        assert (pins / "map_policy").stat().st_mode & 0o777 == 0o640
    finally:
        bed.tproxy_load("--unload", pin_dir=pins).succeeded()
    assert not list(tmp_path.iterdir())


def test_force(bed, doctor, policy):
    """The load reports the consequence, and doctor reports it from then on. Loading again needs no
    new --force."""
    theirs = policy(bed.top, "override")
    result = bed.tproxy_load(*options(bed, "--force")).succeeded()
    assert f"program {theirs}," in result.err and "would stop running" in result.err
    assert outcome(bed) == "direct"
    (finding,) = doctor().about("foreign", "error")
    assert f"program {theirs}," in finding["what"] and "does not run" in finding["what"]
    result = bed.tproxy_load(*options(bed)).succeeded()
    assert "does not run" in result.err


def test_policy_that_came_later(loaded, doctor, policy):
    """It never ran for the scope: a warning of the load, and a finding of doctor."""
    theirs = policy(loaded.top, "override")
    assert f"program {theirs}," in loaded.load().err
    assert f"program {theirs}," in doctor().about("foreign", "error")[0]["what"]


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook(bed, doctor, hook):
    """Of the scope and of the relay's cgroup. After the command that the refusal names, both
    programs run. To see it fail: let foreign_check() examine one hook only."""
    pin, kept = bed.directory / "bpf" / "foreign", bed.directory / "bpf" / "kept"
    load_harmless(pin, hook)
    theirs = bpftool("prog", "show", "pinned", pin)["id"]
    args = [bed.top, HOOKS[hook][2], "pinned", pin]
    bpftool("cgroup", "attach", *args, "override")
    try:
        result = bed.tproxy_load(*options(bed)).refused(
            f"program {theirs}, 'foreign', on {hook} at '{bed.top}'", "--force")
        assert attached(bed.scope) == attached(bed.relay_cgroup) == []
        _, _, command = result.err.strip().rpartition("run this first: ")
        assert command.count("bpftool") == 3
        apply_fix(command.replace(f"/sys/fs/bpf/prog_{theirs}", str(kept)))
        bed.load()
        bed.start_relay()
        assert outcome(bed) == "relayed"
        assert theirs in effective(bed.relay_cgroup if hook in ("sockopt", "sweep") else bed.scope)
        assert not doctor().of("error")
    finally:
        bpftool("cgroup", "detach", *args)


def test_at_the_relays_cgroup(bed):
    """tproxy's sockops and getsockopt programs are there, too."""
    pin = bed.directory / "bpf" / "sockopt"
    load_getsockopt(pin, 64)
    args = [bed.top, "cgroup_getsockopt", "pinned", pin]
    bpftool("cgroup", "attach", *args, "override")
    try:
        bed.tproxy_load(*options(bed)).refused("on sockopt at", f"for '{bed.relay_cgroup}'")
    finally:
        bpftool("cgroup", "detach", *args)


@pytest.mark.parametrize("above", [
    [("top", "multi")],                       # runs beside tproxy's
    [("top", "multi"), ("run", "override")],  # did not run for the scope before either
    [("scope", "multi"), ("top", "override")]], ids=lambda above: "-".join(
        ":".join(item) for item in above))
def test_what_is_not_lost(bed, policy, above):
    """To see it fail: refuse for any program above."""
    bed.run = host.Cgroup(bed.top.path.parent)
    for where, flags in above:
        policy(getattr(bed, where), flags, ALLOW)
    bed.load()
    bed.start_relay()
    assert outcome(bed) == "relayed"


@pytest.mark.parametrize("flags", ["override", "multi", ""])
@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_programs_below_do_not_hide_ours(bed, policy, flags, first):
    """A program at a cgroup in the scope, however it is attached, lets no connection escape
    there."""
    below = bed.scope.child("below")
    if first:
        policy(below, flags, ALLOW)
    bed.load()
    bed.start_relay()
    if not first:
        policy(below, flags, ALLOW)
    assert outcome(bed, host.Place(below, bed.client_net)) == "relayed"
