# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""tproxy-load over a running installation: upgraded, changed, killed, run twice at once (I7).

By default a run is not killed at every step, but at every other one of these: the first and last of
each kind, and some between. With TPROXY_EVERY_STEP=1 it is killed at every step.
"""

import collections
import contextlib
import fcntl
import os
import re
import signal

import pytest

from clients import connecting
import host
import wire
from maps import attached, bpftool
from test_load import HOOKS, MAPS, PINNED_ONLY, RELAY_HOOKS, RINGS, SCOPE_HOOKS, links

ALL_PINS = [*MAPS, *HOOKS, *PINNED_ONLY, *SCOPE_HOOKS, *RELAY_HOOKS, *RINGS,
            "connections"]
CLIENTS = 64
LOADS = 5
EVERY_STEP = os.environ.get("TPROXY_EVERY_STEP") == "1"
BETWEEN = 32  # of the steps between first and last of a kind, every 32nd: of 60 pins, one

# System calls by which a loader changes something. Of bpf(2), all but these commands.
CHANGING = ("bpf", "mkdir", "mkdirat", "unlink", "unlinkat", "rmdir", "rename", "renameat",
            "renameat2", "chmod", "fchmod", "fchmodat", "chown", "fchown", "fchownat", "mount")
READING = {"MAP_LOOKUP_ELEM", "MAP_GET_NEXT_KEY", "OBJ_GET", "OBJ_GET_INFO_BY_FD", "BTF_LOAD",
           "PROG_LOAD", "MAP_CREATE", "LINK_GET_FD_BY_ID", "PROG_GET_FD_BY_ID",
           "BTF_GET_FD_BY_ID", "PROG_GET_NEXT_ID", "LINK_GET_NEXT_ID", "MAP_FREEZE"}


def program_ids(pins):
    return {hook: pins.program_id(f"prog_{hook}") for hook in HOOKS}


def registrations(bed):
    return [(entry["key"], entry["value"]["pid"], entry["value"]["registered_ns"])
            for entry in bed.pins.dump("map_config")]


def assert_whole(bed):
    """Everything is pinned and attached once, and nothing else is."""
    assert links(bed.pins, bed.scope) == SCOPE_HOOKS
    assert links(bed.pins, bed.relay_cgroup) == RELAY_HOOKS
    assert len(bed.pins.names()) == len(ALL_PINS)
    assert len(attached(bed.scope)) == len(SCOPE_HOOKS)
    assert len(attached(bed.relay_cgroup)) == len(RELAY_HOOKS)
    assert all(link["attached"] for link in bed.tproxy_load.status()["links"])


# --- upgraded in place


def test_upgrade_under_load(proxied):
    """64 clients connect while tproxy-load runs five times. No connection fails or bypasses the
    relay, registrations and maps stay, and all programs are new and attached.

    To see it fail: detach and attach in place of bpf_link_update(), or make new maps.
    """
    before = registrations(proxied)
    maps = [bpftool("map", "show", "pinned", proxied.pins.path / name)["id"] for name in MAPS]
    with connecting(proxied, CLIENTS) as outcome:
        for load in range(LOADS):
            host.wait_until(lambda: proxied.stats()["redirected"] > 100 * (load + 1), "redirected")
            old = program_ids(proxied.pins)
            proxied.load()
            new = program_ids(proxied.pins)
            assert not set(old.values()) & set(new.values())
            assert set(attached(proxied.scope)) == {new[hook] for hook in SCOPE_HOOKS}
            assert set(attached(proxied.relay_cgroup)) == {new[hook] for hook in RELAY_HOOKS}
            assert registrations(proxied) == before
    assert outcome.failed == [] and outcome.good > 100 * LOADS
    assert proxied.stats()["redirected"] == outcome.good
    assert maps == [bpftool("map", "show", "pinned", proxied.pins.path / name)["id"]
                    for name in MAPS]
    host.wait_until(proxied.pins.at_rest, "nothing is left")


def test_old_programs_go(bed):
    """I4. To see it fail: keep a second pin of each program."""
    bed.load()
    old = program_ids(bed.pins)
    bed.load()

    def gone():
        return not set(old.values()) & {program["id"] for program in bpftool("prog", "show")}

    host.wait_until(gone, "programs of before are freed")


# --- other scopes


def test_scopes_change_under_load(proxied):
    """Scopes are added and removed, below and above each other, while the cgroup of the clients
    stays covered: every connection is redirected exactly once.

    To see it fail: detach unwanted cgroups before new ones are attached.
    """
    inner = proxied.scope.child("inner")
    with connecting(proxied, 32, place=host.Place(inner, proxied.client_net)) as outcome:
        for _ in range(2):
            for scopes in ([proxied.scope], [inner], [proxied.scope, proxied.outside],
                           [inner, proxied.outside]):
                count = proxied.stats()["redirected"]
                host.wait_until(lambda: proxied.stats()["redirected"] > count + 50, "redirected")
                proxied.load(scopes=scopes)
        proxied.load(scopes=[proxied.scope])
    assert outcome.failed == [] and outcome.good > 400
    stats = proxied.stats()
    assert stats["redirected"] == outcome.good
    host.wait_until(proxied.pins.at_rest, "nothing is left")
    proxied.load()
    assert_whole(proxied)


def test_scope_that_leaves_under_load(proxied):
    """Its established connections continue, new ones are direct, and no connection fails."""
    listener = proxied.listen()
    client, server = proxied.pair(listener)
    with connecting(proxied, 32) as outcome:
        host.wait_until(lambda: proxied.stats()["redirected"] > 300, "redirected")
        proxied.load(scopes=[proxied.outside])
        assert not proxied.visit(listener).relayed
        assert proxied.visit(listener, place=proxied.bystander).relayed
        proxied.load(scopes=[proxied.scope, proxied.outside])
        assert proxied.visit(listener).relayed
    assert outcome.failed == []
    wire.exchange(client, server)
    assert client.getpeername() == listener.getsockname()


# --- two at once


def test_loader_waits_for_another(loaded):
    """Another loader holds the lock. To see it fail: do not lock the pin directory."""
    directory = os.open(loaded.pins.path, os.O_RDONLY)
    args = ["--cgroup", loaded.scope, "--relay-cgroup", loaded.relay_cgroup]
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        runs = [loaded.tproxy_load.start(*options, place=loaded.bystander,
                                         log=loaded.directory / f"load{number}.log")
                for number, options in enumerate((args, ["--unload"]))]
        host.stays_true(lambda: all(run.running() for run in runs), "they wait", 0.3)
        assert_whole(loaded)
    finally:
        os.close(directory)
    assert [run.wait() for run in runs] == [0, 0]


def test_loads_and_unloads_at_once(proxied):
    """In any order: none fails, clients connect all the time, and the next run has a whole
    installation."""
    args = ["--cgroup", proxied.scope, "--relay-cgroup", proxied.relay_cgroup, "--relay-group",
            "47113"]
    with connecting(proxied, 16) as outcome:
        for turn in range(4):
            runs = [proxied.tproxy_load.start(
                *(args if number % 2 else ["--unload"]), place=proxied.bystander,
                log=proxied.directory / f"run{turn}.{number}.log") for number in range(4)]
            endings = [(run.wait(), run.text()) for run in runs]
            assert [status for status, _ in endings] == [0] * len(runs), endings
    assert outcome.failed == []
    proxied.load()
    assert_whole(proxied)
    listener = proxied.listen()
    host.wait_until(lambda: proxied.visit(listener).relayed, "the relay has registered again")


# --- killed at each step


def tproxy_load_by_strace(bed, strace, options):
    return bed.run("strace", "-qq", "-e", "trace=" + ",".join(f"?{name}" for name in CHANGING),
                   "-o", bed.directory / "trace", *strace, bed.tproxy_load.binary, "--pin-dir",
                   bed.pins.path, *options, place=bed.bystander,
                   env={"ASAN_OPTIONS": "detect_leaks=0"})  # not under ptrace(2)


def steps_of(bed, options, start=0):
    """The system calls by which a run changes something, as (name, how many of that name precede
    it): all, or every other one from @start."""
    tproxy_load_by_strace(bed, [], options).succeeded()
    counts, kinds = collections.Counter(), collections.defaultdict(list)
    for line in (bed.directory / "trace").read_text().splitlines():
        name, _, args = line.partition("(")
        counts[name] += 1
        command = re.match(r"BPF_(\w+)|(0x\w+)", args) if name == "bpf" else None
        if not command or command[1] not in READING:
            # The rings are made in a loop: its first and last steps do.
            ring = "/ring_" in args or args.startswith('"ring_')
            kinds[name, command and command[0], ring].append((name, counts[name]))
    assert len(kinds) > 2 and sum(map(len, kinds.values())) > 20
    # The mode of the bpffs's root has a test of its own.
    kinds.pop(("chmod", None, False), None)
    if EVERY_STEP:
        return [step for steps in kinds.values() for step in steps]
    return [step for (*_, ring), steps in kinds.items()
            for index, step in enumerate(steps)
            if index == 0 or index == len(steps) - 1 or (index % BETWEEN == 0 and not ring)
            ][start::2]


def kill_at(bed, step, options):
    """Kills the run before it makes this system call. Returns False if the run ended before: an
    unload makes some calls for each relay that is registered and while handshakes are pending."""
    name, number = step
    result = tproxy_load_by_strace(
        bed, ["-e", f"inject={name}:signal=KILL:when={number}"], options)
    assert result.status in (0, -signal.SIGKILL, 128 + signal.SIGKILL), (step, result)
    return result.status != 0


@pytest.fixture
def load_options(bed):
    return ["--cgroup", bed.scope, "--relay-cgroup", bed.relay_cgroup, "--relay-group", "47113"]


@contextlib.contextmanager
def clients_meanwhile(bed):
    """Some in each state, while the loader has most of the time of a CPU."""
    with connecting(bed, 4, pause=0.02) as outcome:
        yield
    assert outcome.failed == [] and outcome.good > 50


@pytest.mark.needs("strace")
@pytest.mark.deadline(600 if EVERY_STEP else 90)
def test_load_killed_at_each_step(bed, load_options):
    """The next run loads, and clients connect all the time. To see it fail: refuse pins without a
    policy, or the second pin of a program."""
    steps = steps_of(bed, load_options)
    bed.unload()
    with clients_meanwhile(bed):
        for step in steps:
            assert kill_at(bed, step, load_options)
            bed.load()
            assert_whole(bed)
            bed.unload()
    bed.load()
    bed.start_relay()
    assert bed.visit(bed.listen()).relayed


@pytest.mark.needs("strace")
@pytest.mark.deadline(600 if EVERY_STEP else 90)
def test_load_killed_at_each_step_is_unloaded(bed, load_options):
    """--unload works from any state. To see it fail: unload nothing if there is no policy."""
    steps = steps_of(bed, load_options, start=1)
    bed.unload()
    for step in steps:
        assert kill_at(bed, step, load_options)
        bed.unload()
        assert attached(bed.scope) == attached(bed.relay_cgroup) == []


@pytest.mark.needs("strace")
@pytest.mark.deadline(600 if EVERY_STEP else 90)
def test_upgrade_killed_at_each_step(proxied, load_options):
    """Half of the programs may be new. Clients are redirected all the time, the registration
    stays, and after the next run all programs are new.

    To see it fail: unpin a program before the new one is pinned.
    """
    steps = steps_of(proxied, load_options)
    before = registrations(proxied)
    with clients_meanwhile(proxied):
        for step in steps:
            assert kill_at(proxied, step, load_options)
            assert_only_staged_pins(proxied)
            old = program_ids(proxied.pins)
            proxied.load()
            assert_whole(proxied)
            assert not set(old.values()) & set(program_ids(proxied.pins).values())
            assert registrations(proxied) == before
    stats = proxied.stats()
    assert stats["redirected"] > 50 and not stats["no_relay"] and not stats["no_listener"]
    assert proxied.visit(proxied.listen()).relayed


def assert_only_staged_pins(bed):
    """All pins of before exist, and at most a second pin of one program."""
    names = bed.pins.names()
    extra = [name for name in names if name.endswith("_new")]
    assert len(extra) <= 1
    assert len(names) - len(extra) == len(ALL_PINS)
    assert len(attached(bed.scope)) == len(SCOPE_HOOKS)


@pytest.mark.needs("strace")
@pytest.mark.deadline(600 if EVERY_STEP else 90)
@pytest.mark.parametrize("then", ["load", "unload"])
def test_unload_killed_at_each_step(bed, load_options, then):
    """The next run, load or unload, continues from there. Clients connect all the time.

    To see it fail: remove maps before links, or stop at a missing pin.
    """
    bed.load()
    bed.start_relay()
    steps, killed = steps_of(bed, ["--unload"]), []
    with clients_meanwhile(bed):
        for step in steps:
            bed.load()
            killed.append(kill_at(bed, step, ["--unload"]))
            if then == "unload":
                bed.unload()
            bed.load()
            assert_whole(bed)
    assert sum(killed) > 0.7 * len(steps), killed
    listener = bed.listen()
    host.wait_until(lambda: bed.visit(listener).relayed, "the relay has registered again")


@pytest.mark.needs("strace")
@pytest.mark.parametrize("options, step", [
    pytest.param("load", ("renameat", 1), id="load"),
    pytest.param("unload", ("chmod", 1), id="unload"),
    pytest.param("unload", ("rmdir", 1), id="unload-at-its-end")])
def test_bpffs_is_closed_again_after_a_killed_run(bed, load_options, options, step):
    """I7: a bpffs with systemd's mode has it again after the next runs.

    To see it fail: write the policy after opening the bpffs, or remove it before closing the
    bpffs.
    """
    root = bed.directory / "bpf"
    if options == "unload":
        bed.load()
    assert (root.stat().st_mode & 0o7777 == 0o1701) == (options == "unload")
    assert kill_at(bed, step, load_options if options == "load" else ["--unload"])
    bed.load()
    bed.unload()
    assert root.stat().st_mode & 0o7777 == 0o1700
