# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Rules while they are replaced: each connection sees one generation (I13), a loader that is killed
leaves one, --confirm takes back, and how long a million CIDRs take."""

import collections
import errno
import json
import os
import pty
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import clients
import host
import programs
import wire
from harness import SERVER, SERVER2
from maps import bpftool, pack_address
from ruling import (  # fixtures too
    DIRECT, RELAYED, Servers, attempt, binary, ctl, hits, load_rules, show, write_rules)
from tproxyctl import doctor  # fixture

TASKS, THREADS = 8, 8
# In the set of one of the generations only.
X, Y = "192.0.2.1", "192.0.2.2"


def generation(other):
    """Rules of two kinds. The set and the errors change from one to the other, so that the rules of
    one with the set of the other give an error that neither gives for that address."""
    member, of_set, rest = (Y, "EHOSTUNREACH", "EPERM") if other else (X, "EACCES", "ENETUNREACH")
    return [f"set s = {member}", f"direct to {SERVER} port 1-65535 unless to {SERVER2}",
            f"refuse {of_set} to @s", f"default refuse {rest}"]


ALLOWED = {X: {"EACCES", "EPERM"}, Y: {"ENETUNREACH", "EHOSTUNREACH"}, SERVER: {"connected"}}


def connect_until_told(told, address, threads):
    """Connects to X, Y and, now and then, to a server. Returns how often each outcome was seen."""
    lock, seen = threading.Lock(), collections.Counter()

    def outcome(target):
        with socket.socket() as sock:
            sock.settimeout(wire.TIMEOUT)
            code = sock.connect_ex(target)
            if code == 0:
                wire.reset(sock)
        return errno.errorcode[code] if code else "connected"

    def connect(_, enough):
        own = collections.Counter()
        for number in range(1 << 62):
            if enough.is_set():
                break
            target = address if number % 64 == 0 else (X if number % 2 else Y, 80)
            own[target[0], outcome(target)] += 1
        with lock:
            seen.update(own)

    clients.run_until_told(told, connect, threads)
    return seen


def outcomes_during(bed, act):
    """What 64 clients see while act() runs."""
    (address,) = bed.echo_server()
    return clients.count_during(bed, act, TASKS, connect_until_told, address, THREADS)


def mixtures(seen):
    return {key: count for key, count in seen.items() if key[1] not in ALLOWED[key[0]]}


@pytest.mark.deadline(180)
def test_each_connection_sees_one_generation(proxied, ctl):
    """I13. Each connection succeeds or fails as one of the two generations decides. To see it fail:
    put the new trie into the slot in use, in rules_store_replace()."""
    paths = [write_rules(proxied, *generation(other), name=f"{other}.rules")
             for other in (False, True)]
    ctl("rules", "load", paths[1]).succeeded()

    def swap():
        for number in range(100):
            ctl("rules", "load", paths[number % 2]).succeeded()

    seen = outcomes_during(proxied, swap)
    assert not mixtures(seen), seen
    assert {outcome for _, outcome in seen} == {*ALLOWED[X], *ALLOWED[Y], "connected"}, seen
    assert show(ctl)["generation"] == 101
    check_pins(proxied)


def prefix(address):
    return struct.pack("=I16s", 128, pack_address(address))


@pytest.mark.deadline(60)
def test_a_set_that_is_changed_in_place_shows_mixtures(proxied, ctl):
    """The negative control of the test above."""
    load_rules(proxied, ctl, *generation(False))

    def change():
        with proxied.pins.open("map_sets_active") as sets:
            bits = sets.lookup(prefix(X))
            for _ in range(200):
                sets.update(prefix(Y), bits)
                sets.delete(prefix(X))
                time.sleep(0.002)  # the time between two steps is under test
                sets.update(prefix(X), bits)
                sets.delete(prefix(Y))

    assert mixtures(outcomes_during(proxied, change))


# --- a loader that dies


def inner_maps(bed, name):
    """The ids of the maps in a map of maps."""
    entries = bpftool("map", "dump", "pinned", bed.pins.path / name)
    return [int.from_bytes(bytes(int(byte, 16) for byte in entry["value"]), sys.byteorder)
            for entry in entries if isinstance(entry["value"], list)]


def check_pins(bed):
    """What a run that ends leaves: the pins of what is in force, and nothing else."""
    assert not [name for name in bed.pins.names() if name.endswith(("_new", "_previous"))]
    for name in ("map_rules", "map_sets"):
        pinned = bpftool("map", "show", "pinned", bed.pins.path / f"{name}_active")["id"]
        assert inner_maps(bed, name) == [pinned]


@pytest.mark.deadline(120)
def test_killed_at_any_moment(proxied, ctl, binary):
    """I7. Before the next run, the connections see one of the two generations; that run works, and
    leaves nothing behind. To see it fail: rename the pins before map_rules is updated, and do not
    repair them in slot_pins_open_used()."""
    servers = Servers(proxied)
    rules = {"EACCES": [f"set s = {SERVER}", "refuse EACCES to @s"],
             "EPERM": [f"set s = {SERVER2}", "refuse ETIMEDOUT to @s", "default refuse EPERM"]}
    wanted = {"EACCES": ["EACCES", "EACCES", RELAYED, RELAYED],
              "EPERM": ["EPERM", "EPERM", "ETIMEDOUT", "ETIMEDOUT"]}
    paths = {name: write_rules(proxied, *lines, name=name) for name, lines in rules.items()}
    ctl("rules", "load", paths["EPERM"]).succeeded()
    begun = time.monotonic()
    ctl("rules", "load", paths["EACCES"]).succeeded()
    duration = time.monotonic() - begun
    steps, seen = 16, set()
    for step in range(steps):
        name = ("EPERM", "EACCES")[step % 2]
        process = subprocess.Popen([binary, "rules", "load", "--pin-dir", proxied.pins.path,
                                    paths[name]], stdout=subprocess.DEVNULL)
        time.sleep(duration * step / steps)  # the moment is under test
        process.kill()
        process.wait()
        outcome = servers.outcomes()
        assert outcome in wanted.values()
        seen.add(outcome == wanted[name])
        if step % 4 == 0:
            proxied.load()
            assert servers.outcomes() == outcome
            check_pins(proxied)
        ctl("rules", "load", paths[name]).succeeded()
        assert servers.outcomes() == wanted[name]
        check_pins(proxied)
    assert seen == {True, False}
    # Without a killed one in between, the texts are those of what is in force.
    assert [rule["text"] for rule in show(ctl)["rules"]] == ["refuse EACCES to @s"]


def test_pins_that_lag_behind_are_repaired(proxied, ctl, doctor):
    """As after a process that died between the update of map_rules and the renaming, and then lost
    the second names. To see it fail: trust the pins in rules_store_open()."""
    load_rules(proxied, ctl, "refuse EACCES", f"direct to {SERVER2}")
    old = {}
    for name in ("map_rules_active", "map_sets_active"):
        old[name] = proxied.directory / "bpf" / name
        bpftool("map", "pin", "pinned", proxied.pins.path / name, old[name])
    load_rules(proxied, ctl, "refuse EPERM")
    for name, path in old.items():
        (proxied.pins.path / name).unlink()
        bpftool("map", "pin", "pinned", path, proxied.pins.path / name)
        (proxied.pins.path / name).chmod(0o640)
        os.chown(proxied.pins.path / name, 0, programs.RELAY_GID)
        path.unlink()
    assert show(ctl)["rules"][0]["text"] == "refuse EPERM"
    doctor().only("warning", "rules", "did not finish")
    proxied.load()
    check_pins(proxied)
    doctor().fine()
    assert Servers(proxied).try_at() == "EPERM"


def test_missing_pins_are_made_again(proxied, ctl):
    """Each map of rules alone; the rules in force stay, or the load makes all as if new."""
    servers = Servers(proxied)
    for name in ("map_rules", "map_sets", "map_rules_active", "map_sets_active", "map_rule_texts",
                 "map_set_texts", "map_rule_stats", "map_cgroup_bits"):
        load_rules(proxied, ctl, f"set s = {SERVER}", "refuse EACCES to @s")
        (proxied.pins.path / name).unlink()
        proxied.load()
        assert servers.outcomes() == ["EACCES", "EACCES", RELAYED, RELAYED], name
        load_rules(proxied, ctl, f"set s = {SERVER2}", "refuse EPERM to @s")
        assert servers.outcomes() == [RELAYED, RELAYED, "EPERM", "EPERM"], name
        check_pins(proxied)


def test_loads_at_once(proxied, ctl, binary):
    """Loads at the same time wait for each other, and the rules of one of them are in force at the
    end."""
    texts = [f"refuse EACCES to {SERVER} name number-{number}" for number in range(6)]
    paths = [write_rules(proxied, text, name=f"{number}.rules")
             for number, text in enumerate(texts)]
    loads = [subprocess.Popen([binary, "rules", "load", "--pin-dir", proxied.pins.path, path],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
             for path in paths]
    assert [load.wait(60) for load in loads] == [0] * len(loads)
    shown = show(ctl)
    assert shown["generation"] == len(loads) and shown["rules"][0]["text"] in texts
    check_pins(proxied)


def test_cgroups_are_tested_again(loaded, ctl):
    """The tests of a cgroup are those of the rules in force, not those of earlier ones. Fails
    if rules_cgroup_bits() leaves the generation out of its key."""
    servers = Servers(loaded)
    for name, expected in [("scope", "EACCES"), ("none", DIRECT)] * 2 + [("none", DIRECT)] * 2 + [
            ("scope", "EACCES")] * 2:
        load_rules(loaded, ctl, f"refuse EACCES cgroup name:{name}", "default direct")
        assert servers.try_at() == expected


# --- --confirm


class Waiting:
    """A load that waits for confirmation, at a terminal or without one."""

    def __init__(self, bed, binary, path, seconds, terminal=False):
        self.master = None
        argv = [binary, "rules", "load", "--pin-dir", bed.pins.path, path, "--confirm",
                f"{seconds}s"]
        argv = [str(arg) for arg in argv]
        self._log = bed.directory / f"confirm-{random.randrange(1 << 30)}.log"
        if terminal:
            self.pid, self.master = pty.fork()
            if self.pid == 0:
                os.execv(argv[0], argv)
            self._process = None
        else:
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log,
                                                 stderr=log)
            self.pid = self._process.pid
        host.wait_until(lambda: (bed.pins.path / "map_rules_previous").exists(), "it waits")

    def wait_prompt(self):
        host.wait_until(lambda: "to keep them" in self._log.read_text(), "it has asked")

    def wait(self):
        """Returns the exit status, or the negative number of the signal."""
        if self._process:
            return self._process.wait(20)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def before(proxied, ctl):
    """Rules are loaded, and were hit."""
    servers = Servers(proxied)
    load_rules(proxied, ctl, f"set old = {SERVER}", "refuse EACCES to @old")
    assert servers.outcomes() == OLD
    return servers


OLD = ["EACCES", "EACCES", RELAYED, RELAYED]
NEW = ["EPERM"] * 4


def new_rules(bed):
    return write_rules(bed, "refuse EPERM", "refuse to 127.0.0.1", name="new.rules")


def wait_in_force(ctl):
    """The pin for which Waiting() waits is there a moment before the new rules are in force."""
    host.wait_until(lambda: show(ctl)["generation"] == 2, "they are in force")


def policy_flags(bed):
    (policy,) = bed.pins.dump("map_policy")
    return policy["value"]["flags"]


def check_taken_back(bed, ctl, servers):
    assert servers.outcomes() == OLD
    check_pins(bed)
    # The rules before have kept their counts.
    assert hits(ctl)["refuse EACCES to @old"] == 4
    assert show(ctl)["sets"] == [{"name": "old", "prefixes": 1}]
    assert not show(ctl)["unconfirmed"]
    assert policy_flags(bed) == 0


def test_confirm_takes_back_after_the_time(proxied, ctl, binary, before):
    """To see it fail: leave the second process away, and kill the first one; or do not set
    TPROXY_RULES_LOOPBACK in publish()."""
    waiting = Waiting(proxied, binary, new_rules(proxied), 3)
    wait_in_force(ctl)
    assert policy_flags(proxied) == 4
    assert before.outcomes() == NEW
    assert show(ctl)["unconfirmed"]
    assert waiting.wait() == 1
    check_taken_back(proxied, ctl, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_confirm_takes_back_when_it_is_ended(proxied, ctl, binary, before, number):
    waiting = Waiting(proxied, binary, new_rules(proxied), 60)
    wait_in_force(ctl)
    os.kill(waiting.pid, number)
    assert waiting.wait() == (-number if number == signal.SIGKILL else 1)
    host.wait_until(lambda: not show(ctl)["unconfirmed"], "they were taken back", 10)
    check_taken_back(proxied, ctl, before)


def test_confirm_takes_back_when_it_is_killed_at_any_moment(proxied, ctl, binary, before):
    """To see it fail: start the guard after the replacement."""
    path, begun = new_rules(proxied), time.monotonic()
    ctl("rules", "load", path).succeeded()
    duration = time.monotonic() - begun
    load_rules(proxied, ctl, "set old = 198.51.100.2", "refuse EACCES to @old")
    for step in range(24):
        process = subprocess.Popen([binary, "rules", "load", "--pin-dir", proxied.pins.path, path,
                                    "--confirm", "60s"], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        time.sleep(duration * step / 20)  # the moment is under test
        process.kill()
        process.wait()
        host.wait_until(lambda: not show(ctl)["unconfirmed"], "they were taken back", 10)
        assert before.outcomes() == OLD
    proxied.load()
    check_pins(proxied)


def children_of(pid):
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("then", ["rules load", "tproxy-load", "follow", "revert"])
def test_confirm_when_both_processes_are_killed(proxied, ctl, binary, before, doctor, then):
    """Nobody takes the rules back. This is said, and the next load does it first, or --follow; the
    capabilities of their units suffice. To see it fail: let wait_lock_is_held() return true;
    or do not open PINNED_PREVIOUS_SETS."""
    waiting = Waiting(proxied, binary, new_rules(proxied), 60)
    waiting.wait_prompt()
    assert not show(ctl)["abandoned"]
    (guard,) = children_of(waiting.pid)
    for pid in (guard, waiting.pid):
        os.kill(pid, signal.SIGKILL)
    assert waiting.wait() == -signal.SIGKILL
    host.wait_until(lambda: show(ctl)["abandoned"], "the lock is released")
    assert before.outcomes() == NEW
    assert "no process waits" in ctl("rules", "show").succeeded().out
    doctor().only("warning", "rules", "no process takes it back")
    if then == "rules load":
        again = Waiting(proxied, binary, write_rules(proxied, "refuse ETIMEDOUT", name="third"), 60)
        again.wait_prompt()
        assert before.outcomes() == ["ETIMEDOUT"] * 4 and not show(ctl)["abandoned"]
        os.kill(again.pid, signal.SIGTERM)
        assert again.wait() == 1
    elif then == "tproxy-load":
        result = programs.call(
            *programs.with_capabilities_of("tproxy-load"), programs.LOAD, "--pin-dir",
            proxied.pins.path, "--cgroup", proxied.scope, "--relay-cgroup", proxied.relay_cgroup,
            "--relay-group", programs.RELAY_GID).succeeded()
        assert result.err.count("\n") == 1 and "they are taken back" in result.err
    elif then == "follow":
        proxied.start(*programs.with_capabilities_of("tproxy-follow"), programs.LOAD, "--pin-dir",
                      proxied.pins.path, "--follow")
        host.wait_until(lambda: not show(ctl)["unconfirmed"], "they were taken back", 10)
    else:
        ctl("rules", "revert").succeeded()
    check_taken_back(proxied, ctl, before)


def test_confirm_takes_back_when_the_terminal_ends(proxied, ctl, binary, before):
    waiting = Waiting(proxied, binary, new_rules(proxied), 60, terminal=True)
    os.close(waiting.master)
    waiting.wait()
    host.wait_until(lambda: not show(ctl)["unconfirmed"], "they were taken back", 10)
    check_taken_back(proxied, ctl, before)


@pytest.mark.parametrize("key, status, outcomes",
                         [(b"\n", 0, NEW), (b"\4", 1, OLD), (b"\3", 1, OLD),
                          (b"no\n\4", 1, OLD), (b"no\4\4", 1, OLD), (b"what\n\n", 0, NEW)],
                         ids=["enter", "end", "interrupt", "text", "text-end", "text-enter"])
def test_confirm_at_a_terminal(proxied, ctl, binary, before, key, status, outcomes):
    waiting = Waiting(proxied, binary, new_rules(proxied), 60, terminal=True)
    text = b""
    while b"press Enter" not in text:
        text += os.read(waiting.master, 4096)
    os.write(waiting.master, key)
    assert waiting.wait() == status
    os.close(waiting.master)
    assert before.outcomes() == outcomes
    check_pins(proxied)


def test_confirm_by_command(proxied, ctl, binary, before):
    """During the wait no other rules are loaded, and the wait leaves no pin."""
    waiting = Waiting(proxied, binary, new_rules(proxied), 60)
    wait_in_force(ctl)
    refused = ctl("rules", "load", new_rules(proxied))
    assert refused.status == 1 and "rules confirm" in refused.err, refused
    ctl("rules", "confirm").succeeded()
    assert waiting.wait() == 0
    assert before.outcomes() == NEW
    check_pins(proxied)
    for command in ("confirm", "revert"):
        ctl("rules", command).refused("no rules wait")


def test_revert_by_command(proxied, ctl, binary, before):
    waiting = Waiting(proxied, binary, new_rules(proxied), 60)
    wait_in_force(ctl)
    ctl("rules", "revert").succeeded()
    assert waiting.wait() == 1
    check_taken_back(proxied, ctl, before)


def test_lines_are_taken_back(proxied, ctl, binary, before):
    """Those of rules that are in both files, too. Fails if mark() keeps the lines of the newer
    file."""
    assert show(ctl)["rules"][0]["line"] == 2
    newer = write_rules(proxied, "direct port 1", "", f"set old = {SERVER}",
                        "refuse EACCES to @old", name="newer.rules")
    waiting = Waiting(proxied, binary, newer, 60)
    waiting.wait_prompt()
    assert [rule["line"] for rule in show(ctl)["rules"]] == [1, 4]
    ctl("rules", "revert").succeeded()
    assert waiting.wait() == 1
    assert [rule["line"] for rule in show(ctl)["rules"]] == [2]


def test_the_loader_ends_the_wait(proxied, ctl, binary, before):
    """tproxy-load without --rules leaves the wait; with --rules it ends it and replaces the
    rules."""
    waiting = Waiting(proxied, binary, new_rules(proxied), 60)
    wait_in_force(ctl)
    proxied.load()
    assert show(ctl)["unconfirmed"] and before.outcomes() == NEW
    proxied.load("--rules", write_rules(proxied, f"direct to {SERVER}", "default refuse"))
    assert waiting.wait() == 1
    assert before.outcomes() == [DIRECT, DIRECT, "ECONNREFUSED", "ECONNREFUSED"]
    check_pins(proxied)


def test_json_of_rules_that_were_taken_back(proxied, ctl):
    result = ctl("rules", "load", new_rules(proxied), "--confirm", "1s", "--json")
    assert result.status == 1 and not json.loads(result.out)["in_force"]


def test_generation_of_rules_that_were_taken_back(proxied, ctl, binary):
    """No number is used twice, because results are cached under it. To see it fail: let
    rules_store_restore() keep the number of the previous rules."""
    servers, cgroup = Servers(proxied), proxied.scope.child("first")
    first = host.Place(cgroup, proxied.client_net)
    rules = ["refuse EACCES cgroup name:first", "direct cgroup name:second"]
    load_rules(proxied, ctl, *rules)
    waiting = Waiting(proxied, binary, write_rules(proxied, *reversed(rules), name="reversed"), 60)
    waiting.wait_prompt()
    assert servers.try_at(place=first) == "EACCES"
    ctl("rules", "revert").succeeded()
    assert waiting.wait() == 1
    load_rules(proxied, ctl, "refuse EPERM cgroup name:first")
    assert servers.try_at(place=first) == "EPERM"


def test_stale_pin_of_previous_rules(proxied, ctl, before):
    """As after a process that died before it had replaced the rules, or after it had taken them
    back. To see it fail: do not compare the slots in open_previous()."""
    bpftool("map", "pin", "pinned", proxied.pins.path / "map_rules_active",
            proxied.pins.path / "map_rules_previous")
    ctl("rules", "confirm").refused("no rules wait")
    check_pins(proxied)
    assert before.outcomes() == OLD


def test_rules_of_another_load_are_not_taken_back(proxied, ctl, binary, before):
    """A load whose wait was ended takes nothing back, also while the next one waits. To see it
    fail: let is_ours() return true."""
    first = Waiting(proxied, binary, new_rules(proxied), 60)
    first.wait_prompt()
    os.kill(first.pid, signal.SIGSTOP)
    host.wait_until(lambda: host.thread_states(first.pid) == {"T"}, "it is stopped")
    proxied.load("--rules", write_rules(proxied, "refuse EACCES", name="host.rules"))
    second = Waiting(proxied, binary, write_rules(proxied, "refuse ETIMEDOUT", name="second"), 60)
    second.wait_prompt()
    for number in (signal.SIGTERM, signal.SIGCONT):
        os.kill(first.pid, number)
    assert first.wait() == 1
    assert before.outcomes() == ["ETIMEDOUT"] * 4 and not show(ctl)["abandoned"]
    os.kill(second.pid, signal.SIGTERM)
    assert second.wait() == 1
    assert before.outcomes() == ["EACCES"] * 4


def test_first_rules_are_taken_back(proxied, ctl, binary):
    """If the first rules are taken back, no rules are in force."""
    servers = Servers(proxied)
    assert Waiting(proxied, binary, new_rules(proxied), 1).wait() == 1
    assert servers.outcomes() == [RELAYED] * 4
    assert show(ctl)["generation"] == 0
    load_rules(proxied, ctl, "refuse EACCES")
    assert servers.outcomes() == ["EACCES"] * 4


# --- size


@pytest.mark.deadline(180)
@pytest.mark.plain_build
def test_a_million_cidrs(proxied, ctl, binary, capsys):
    """States the time and the memory. Each address and each gap beside it is found as listed."""
    chosen = random.Random(1)
    numbers = sorted({chosen.randrange(1 << 24, 126 << 24) & ~1 for _ in range(1_010_000)})
    numbers = numbers[:: max(1, len(numbers) // 1_000_000)][:1_000_000]
    listed = proxied.directory / "big.netset"
    with listed.open("w", encoding="ascii") as out:
        out.writelines(f"{socket.inet_ntoa(struct.pack('>I', number))}\n" for number in numbers)
    path = write_rules(proxied, "set big file big.netset", "refuse EACCES to @big",
                       "default refuse EPERM")
    begun = time.monotonic()
    process = subprocess.Popen([binary, "rules", "load", "--pin-dir", proxied.pins.path, path],
                               stdout=subprocess.PIPE)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    took = time.monotonic() - begun
    process.stdout.close()
    assert process.returncode == 0
    sets = bpftool("map", "show", "pinned", proxied.pins.path / "map_sets_active")
    with capsys.disabled():
        print(f"\n{len(numbers)} CIDRs: {took:.2f} s, {usage.ru_maxrss // 1024} MiB in the command,"
              f" {sets['bytes_memlock'] >> 20} MiB in the kernel")
    assert show(ctl)["sets"] == [{"name": "big", "prefixes": len(numbers)}]
    for number in random.Random(2).sample(numbers, 20):
        for address, outcome in ((number, "EACCES"), (number + 1, "EPERM")):
            text = socket.inet_ntoa(struct.pack(">I", address))
            assert proxied.run_in(attempt, (text, 80)) == outcome
    begun = time.monotonic()
    ctl("rules", "unload").succeeded()
    with capsys.disabled():
        print(f"unloaded in {time.monotonic() - begun:.2f} s")
