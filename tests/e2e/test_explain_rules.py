# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""tproxyctl explain with rules: three implementations agree on each decision.

    a model in this file, which reads the rules as tproxy-rules(5) describes them
    explain, which builds the kernel half's code and reads the maps
    the kernel half, by real connect() calls
"""

import contextlib
import ctypes
import dataclasses
import errno
import ipaddress
import json
import os
import random
import socket
import struct
import threading

import pytest

import host
import programs
from test_explain import endpoint, explain
from tproxyctl import binary, ctl  # fixtures

SEED = int(os.environ.get("TPROXY_SEED", "20261128"))
RULE_SETS = int(os.environ.get("TPROXY_RULE_SETS", "24"))  # a guest under emulation runs fewer
CALLERS, DESTINATIONS = 5, 340

ERRORS = ["ECONNREFUSED", "EACCES", "EPERM", "ENETUNREACH", "EHOSTUNREACH", "ETIMEDOUT",
          "ECONNRESET", "ENETDOWN", "EADDRNOTAVAIL"]
UIDS, GIDS, PORTS = [0, 1, 1000, 1001, 65534], [0, 5, 100, 1000], [1, 80, 443, 5432, 65535]
COMMANDS = ["a", "git", "two words", "exactly15bytes!"]
NETWORKS = [ipaddress.ip_network(text) for text in (
    "0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3/32", "10.1.2.4/31",
    "127.0.0.0/8", "127.0.0.1/32", "127.128.0.0/9", "0.0.0.0/32", "0.0.0.0/8", "128.0.0.0/1",
    "255.0.0.0/8", "::/0", "::/64", "::1/128", "::/128", "2001:db8::/32", "2001:db8:1::/48",
    "2001:db8:1::1/128", "fe80::/10", "fd00::/8", "8000::/1")]
ADDRESSES = ["10.0.0.1", "10.1.0.1", "10.1.2.1", "10.1.2.3", "10.1.2.4", "10.1.2.5", "10.1.2.6",
             "10.255.255.255", "11.0.0.0", "127.0.0.1", "127.0.0.2", "127.200.0.1", "0.0.0.0",
             "0.0.0.1", "126.255.255.255", "128.0.0.1", "198.51.100.7", "224.0.0.1",
             "255.255.255.255", "254.0.0.1", "::1", "::", "::2", "2001:db8::1", "2001:db8:1::1",
             "2001:db8:1::2", "2001:db9::1", "fd00::1", "fe80::1", "ff02::1", "fc00::1",
             "::ffff:10.1.2.3", "::ffff:127.0.0.1", "::ffff:198.51.100.7"]

PATTERN_LEN, CGROUP_TESTS_MAX = 96, 64  # TPROXY_CGROUP_...
STAT = struct.Struct("=QQ")  # struct tproxy_rule_stat


# --- a rule set: its text, and what it means


@dataclasses.dataclass
class Conditions:
    """One member for each condition. None: not given. Values are ranges (first, last), networks,
    names or (kind, text)."""

    to: list = None
    port: list = None
    uid: list = None
    gid: list = None
    command: list = None
    cgroup: list = None

    def hold(self, caller, address, port):
        def in_range(ranges, number):
            return ranges is None or any(first <= number <= last for first, last in ranges)

        return (in_range(self.port, port) and in_range(self.uid, caller.uid)
                and in_range(self.gid, caller.gid)
                and (self.to is None or any(names(network, address) for network in self.to))
                and (self.command is None or caller.command in self.command)
                and (self.cgroup is None or any(caller.is_in(*test) for test in self.cgroup)))


@dataclasses.dataclass
class Rule:
    line: int
    action: str
    error: str
    conditions: Conditions
    exceptions: list


@dataclasses.dataclass(frozen=True)
class Caller:
    cgroup: host.Cgroup
    uid: int
    gid: int
    command: str
    thread: str  # the name of the thread that connects

    def is_in(self, kind, text):
        path = self.cgroup.path.relative_to(host.cgroup2_root())
        if kind == "path":
            return f"/{path}/".startswith(f"{text}/")
        head, star, tail = text.partition("*")
        return any(name.startswith(head) and name.endswith(tail) and len(name) >= len(head + tail)
                   if star else name == text for name in ["", *path.parts[:31]])


def is_loopback(address):
    return address.is_loopback or address.is_unspecified


def names(network, address):
    """True if a rule with this network is about this address. A wider network than loopback's own
    does not name a loopback address."""
    if address.version != network.version or address not in network:
        return False
    return not is_loopback(address) or is_loopback(network[0]) and is_loopback(network[-1])


def random_ranges(rng, values):
    ranges = []
    for _ in range(rng.choice([1, 1, 2])):
        first, last = sorted(rng.choices(values, k=2))
        ranges.append((first, first if rng.random() < 0.6 else last))
    return ranges


def random_pattern(rng, name):
    head, tail = name[:rng.randrange(len(name) + 1)], name[rng.randrange(len(name) + 1):]
    text = rng.choice([name, f"{head}*", f"*{tail}", f"{name[:3]}*{name[-2:]}", "nowhere*"])
    return text if len(text) <= PATTERN_LEN else "*"


def random_cgroups(rng, cgroups):
    """Paths of all but the last cgroup, which is too deep for a rule, and patterns of all names."""
    tests = []
    for _ in range(rng.choice([1, 1, 2])):
        path, any_path = (rng.choice(some).path.relative_to(host.cgroup2_root())
                          for some in (cgroups[:-1], cgroups))
        name = "name", random_pattern(rng, rng.choice(any_path.parts))
        tests.append(rng.choice([("path", f"/{path}"), ("path", f"/{path.parent}"), name, name]))
    return tests


def random_conditions(rng, cgroups, sets, most):
    """Returns conditions, and their text."""
    conditions, words = Conditions(), []
    for kind in rng.sample(["to", "to", "to", "port", "uid", "gid", "command", "cgroup"],
                           rng.randint(1, most)):
        if getattr(conditions, kind) is not None:
            continue
        if kind == "to":
            named = rng.sample(sorted(sets), rng.choice([0, 0, 1]))
            plain = rng.sample(NETWORKS, rng.randint(0 if named else 1, 2))
            values = plain + [network for name in named for network in sets[name]]
            text = ",".join([f"@{name}" for name in named] + [str(network) for network in plain])
        elif kind == "command":
            values = rng.sample(COMMANDS, rng.choice([1, 1, 2]))
            text = ", ".join(f'"{value}"' for value in values)
        elif kind == "cgroup":
            values = random_cgroups(rng, cgroups)
            text = ",".join(f'"{"name:" if what == "name" else ""}{value}"'
                            for what, value in values)
        else:
            values = random_ranges(rng, {"port": PORTS, "uid": UIDS, "gid": GIDS}[kind])
            text = ",".join(str(first) if first == last else f"{first}-{last}"
                            for first, last in values)
        setattr(conditions, kind, values)
        words += [kind, text]
    return conditions, " ".join(words)


class RuleSet:
    def __init__(self, rng, cgroups):
        self.cgroup_tests = set()
        self.rules, lines = [], []
        sets = {f"s{number}": rng.sample(NETWORKS, rng.randint(1, 5)) for number in range(3)}
        for name, networks in sets.items():
            lines.append(f"set {name} = " + ", ".join(map(str, networks)))
        for _ in range(rng.choice([0, 1, 3, 8, 15])):
            if len(self.cgroup_tests) < CGROUP_TESTS_MAX - 6:
                self._add(rng, cgroups, sets, lines)
        self.default = rng.choice(["redirect", "redirect", "direct", "observe", "refuse EACCES"])
        self.default_line = len(lines) + 1
        lines.append(f"default {self.default}")
        self.text = "\n".join(lines) + "\n"

    def _add(self, rng, cgroups, sets, lines):
        if rng.random() < 0.1:
            lines.append("refuse udp port 443")  # about no TCP connection
        action = rng.choice(["redirect", "direct", "observe", "refuse", "refuse"])
        error = rng.choice(ERRORS) if action == "refuse" else ""
        conditions, text = random_conditions(rng, cgroups, sets, 3)
        exceptions = [random_conditions(rng, cgroups, sets, 2)
                      for _ in range(rng.choice([0, 0, 0, 1, 2]))]
        self.rules.append(Rule(len(lines) + 1, action, error, conditions,
                               [exception for exception, _ in exceptions]))
        for each in [conditions, *(exception for exception, _ in exceptions)]:
            self.cgroup_tests.update(each.cgroup or ())
        lines.append(" ".join([action, error, text]
                              + [f"unless {text}" for _, text in exceptions]
                              + [f"name r{len(lines)}"]))

    def decide(self, caller, address, port, include_loopback):
        """Returns (action, error, line); line 0: no rule, and not the default either."""
        named_only = is_loopback(address) and not include_loopback
        for rule in self.rules:
            if named_only and rule.conditions.to is None:
                continue
            if (rule.conditions.hold(caller, address, port)
                    and not any(each.hold(caller, address, port) for each in rule.exceptions)):
                return rule.action, rule.error, rule.line
        if named_only:
            return "direct", "", 0
        action, _, error = self.default.partition(" ")
        return action, error, self.default_line


def expected(rules, caller, destination, include_loopback):
    """Returns the reason, the line of the rule (0: none), and the errno of a refusal."""
    address, port = ipaddress.ip_address(destination[0]), destination[1]
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_multicast or str(address) == "255.255.255.255":
        return "bypass_multicast", 0, ""
    if port == 0:
        is_left = is_loopback(address) and not include_loopback
        return None if is_left else "bypass_port0", 0, ""
    action, error, line = rules.decide(caller, address, port, include_loopback)
    if line == 0:
        return "bypass_loopback", 0, ""
    if action == "redirect":
        return "link_local" if address.is_link_local and address.version == 6 else "no_relay", \
            line, ""
    return {"direct": "rule_direct", "observe": "rule_observe",
            "refuse": "rule_refused"}[action], line, error


# --- the client, in one process


def set_name(name):
    ctypes.CDLL(None).prctl(15, os.fsencode(name), 0, 0, 0)  # PR_SET_NAME


def connect_all(destinations):
    codes = []
    for address, port in destinations:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
            codes.append(sock.connect_ex((address, port)))
    return codes


def serve(channel):
    """Becomes the caller that each request names, and connects to all its destinations. Its
    effective user stays root. A thread connects, whose name is not the process's."""
    os.setgroups([])
    requests = channel.makefile()
    channel.sendall(b"ready\n")

    def work(request):
        set_name(request["thread"])
        channel.sendall(json.dumps(connect_all(request["destinations"])).encode() + b"\n")

    for line in requests:
        request = json.loads(line)
        os.setresuid(0, 0, 0)
        with open(f"{request['cgroup']}/cgroup.procs", "w", encoding="ascii") as procs:
            procs.write("0")
        set_name(request["command"])
        os.setresgid(request["gid"], 0, 0)
        os.setresuid(request["uid"], 0, 0)
        thread = threading.Thread(target=work, args=[request])
        thread.start()
        thread.join()


class Client:
    def __init__(self, place):
        self._channel, theirs = socket.socketpair()
        self._task = host.Task(place, serve, theirs)
        theirs.close()
        self.pid = self._task.pid
        self._channel.settimeout(30 * host.patience)
        self._answers = self._channel.makefile()
        assert self._answers.readline() == "ready\n"

    def connect(self, caller, destinations):
        """Returns the errno of each connect()."""
        self._channel.sendall(json.dumps(
            {"cgroup": str(caller.cgroup), "uid": caller.uid, "gid": caller.gid,
             "command": caller.command, "thread": caller.thread,
             "destinations": destinations}).encode() + b"\n")
        return json.loads(self._answers.readline())

    def stop(self):
        self._task.stop()
        self._answers.close()
        self._channel.close()


# --- the comparison


class Counters:
    """Hits of rules, and outcomes, of the kernel half."""

    def __init__(self, bed, stack):
        self._stats = stack.enter_context(bed.pins.open("map_stats"))
        self._hits = stack.enter_context(bed.pins.open("map_rule_stats"))
        self._names = list(bed.stats())

    def _hits_of(self, counter):
        return sum(hits for hits, _ in STAT.iter_unpack(
            self._hits.lookup_per_cpu(struct.pack("=I", counter))))

    def read(self, counters):
        outcomes = {name: self._stats.total(struct.pack("=I", number))
                    for number, name in enumerate(self._names)}
        return {("rule", counter): self._hits_of(counter) for counter in counters} | outcomes


def difference(before, after):
    return {key: after[key] - before[key] for key in after if after[key] != before[key]}


def check_group(client, counters, all_counters, caller, documents, destinations):
    """Connects to destinations that explain gave the same rule and reason. Returns what is wrong,
    or None."""
    said = documents[0]
    before = counters.read(all_counters)
    codes = client.connect(caller, destinations)
    counted = difference(before, counters.read(all_counters))
    counted.pop("events_lost", None)  # nothing reads the ends of observed connections
    should = {said["reason"]: len(destinations)}
    if "rule" in said:
        should["rule", said["rule"]["counter"]] = len(destinations)
    if counted != should:
        return f"counted {counted} in place of {should}"
    if said["verdict"] == "refuse" and set(codes) != {getattr(errno, said["errno"])}:
        return f"errno {set(codes)} in place of {said['errno']}"
    return None


def check_caller(world, ctl, rules, caller, by_pid):
    """Compares all three for random destinations. Returns the disagreements."""
    destinations = [(world.rng.choice(ADDRESSES), world.rng.choice([*PORTS * 8, 0]))
                    for _ in range(DESTINATIONS)]
    options = ["--cgroup", caller.cgroup.path, "--uid", caller.uid, "--gid", caller.gid,
               "--command", caller.command]
    if by_pid:
        world.client.connect(caller, [])
        options = ["--pid", world.client.pid]
    documents = explain(ctl, *options, "--batch", place=world.place,
                        data="".join(endpoint(*each) + "\n" for each in destinations))
    assert len(documents) == len(destinations)
    wrong, groups = [], {}
    for destination, said in zip(destinations, documents, strict=True):
        reason, line, error = expected(rules, caller, destination, world.include_loopback)
        rule = said.get("rule", {})
        if (reason and said["reason"] != reason or rule.get("line", 0) != line
                or error and said.get("errno") != error):
            wrong.append(("model", (reason, line, error), said, caller, rules.text))
        group = groups.setdefault((said["reason"], rule.get("counter"), rule.get("line")), [])
        group.append((said, destination))
        world.seen[said["reason"]] = world.seen.get(said["reason"], 0) + 1
        world.by_rule += rule.get("default") is False
    all_counters = {counter for _, counter, _ in groups if counter is not None}
    for group in groups.values():
        problem = check_group(world.client, world.counters, all_counters, caller, *zip(*group))
        if problem:
            wrong.append(("kernel", problem, group[0][0], caller, rules.text))
    return wrong


class World:
    """A namespace where every address is local and nothing listens, a tree of cgroups, a client."""

    def __init__(self, bed, stack):
        self.rng = random.Random(SEED)
        netns = stack.enter_context(host.NetNs())
        netns.ip("route add local default dev lo", "route add local ::/0 dev lo")
        app = bed.scope.child("app.slice")
        deep = app.child("run-r12345.scope")
        self.cgroups = [bed.scope, app, deep, app.child("web.service"),
                        app.child("a-very-long-name-" + 9 * "0123456789" + ".service")]
        for number in range(32):
            deep = deep.child(f"d{number}")
        self.cgroups.append(deep)
        self.place = host.Place(bed.outside, netns)
        self.client = Client(host.Place(bed.scope, netns))
        stack.callback(self.client.stop)
        self.counters = Counters(bed, stack)
        self.seen, self.by_rule, self.include_loopback = {}, 0, False

    def random_caller(self):
        return Caller(self.rng.choice(self.cgroups), self.rng.choice(UIDS), self.rng.choice(GIDS),
                      self.rng.choice(COMMANDS), self.rng.choice(COMMANDS))


@pytest.mark.deadline(240)
def test_rules_agree(bed, ctl):
    """40,800 decisions by random rules. To see it fail: leave out a condition of rule_matches(), a
    fact in loader/ctl/rule_facts.c or in bpf/rulefacts.bpf.h, such as that the name of the thread's
    process counts, or the order of exceptions in loader/rules/rows.c."""
    print(f"repeat with TPROXY_SEED={SEED}")
    wrong = []
    with contextlib.ExitStack() as stack:
        world = None
        for number in range(RULE_SETS):
            if number % 20 == 0:
                include = ["--include-loopback"] if number % 40 == 20 else []
                bed.load(*include)
                world = world or World(bed, stack)
                world.include_loopback = bool(include)
            rules = RuleSet(world.rng, world.cgroups)
            path = bed.directory / "random.rules"
            path.write_text(rules.text, encoding="utf-8")
            ctl("rules", "load", path).succeeded()
            for each in range(CALLERS):
                wrong += check_caller(world, ctl, rules, world.random_caller(), by_pid=each % 2)
            assert not wrong, f"{len(wrong)}, TPROXY_SEED={SEED}: {wrong[:2]}"
    total = sum(world.seen.values())
    print(total, world.by_rule, sorted(world.seen.items()))
    assert total == RULE_SETS * CALLERS * DESTINATIONS
    if "TPROXY_SEED" not in os.environ and RULE_SETS >= 24:
        assert total >= 40_000 and world.by_rule > total / 10
        for reason in ("rule_direct", "rule_observe", "rule_refused", "no_relay", "link_local",
                       "bypass_loopback", "bypass_multicast", "bypass_port0"):
            assert world.seen.get(reason), f"no case of {reason}: {world.seen}"


# --- one by one


def load_rules(bed, ctl, text):
    path = bed.directory / "test.rules"
    path.write_text(text, encoding="utf-8")
    ctl("rules", "load", path).succeeded()


def test_rule_and_sets_are_shown(bed, ctl):
    """The rule and the sets are in JSON and in the text. To see it fail: name the rule after the
    number of its row."""
    bed.load()
    load_rules(bed, ctl, "set corp = 10.0.0.0/8\nset wide = 0.0.0.0/0\n\n"
                         "refuse EACCES uid 1,2,3 port 1,2,3\n"
                         "direct to @corp port 5432 name databases\ndefault observe\n")
    arguments = ["--cgroup", bed.scope.path, "10.1.2.3:5432", "10.1.2.3:80"]
    rule, default = explain(ctl, *arguments)
    assert (rule["verdict"], rule["reason"]) == ("direct", "rule_direct")
    assert rule["rule"] == {"default": False, "action": "direct", "number": 2, "name": "databases",
                            "line": 5, "counter": rule["rule"]["counter"],
                            "text": "direct to @corp port 5432 name databases"}
    assert (default["verdict"], default["reason"]) == ("observe", "rule_observe")
    assert default["rule"]["default"] is True and default["rule"]["line"] == 6
    assert "corp" in rule["facts"]["sets"] and rule["facts"]["rules_generation"] == 1
    text = ctl("explain", *arguments).succeeded().out
    assert text.startswith(
        "10.1.2.3:5432: direct\nrule_direct: the rules say direct\n"
        "rule 2 (databases), line 5: direct to @corp port 5432 name databases\n\n")
    assert "no rule applies; default, line 6: default observe\n" in text


def test_no_rules_no_rule(bed, ctl):
    """explain names no rule before the first load, nor where the rules do not decide."""
    bed.load()
    arguments = ["--cgroup", bed.scope.path, "192.0.2.1:80", "127.0.0.1:80", "192.0.2.1:0"]
    for document in explain(ctl, *arguments):
        assert "rule" not in document and "rules_generation" not in document["facts"]
    load_rules(bed, ctl, "refuse to 127.0.0.2\ndefault direct\n")
    first, *others = explain(ctl, *arguments)
    assert first["rule"]["default"] and [each["reason"] for each in others] == [
        "bypass_loopback", "bypass_port0"]
    assert all("rule" not in each for each in others)


def test_redirect_by_rule(proxied, ctl):
    load_rules(proxied, ctl, f"redirect to {proxied.listen().getsockname()[0]}\ndefault direct\n")
    listener = proxied.listen()
    said, other = explain(ctl, endpoint(*listener.getsockname()), "192.0.2.1:80",
                          place=proxied.client)
    assert (said["verdict"], said["reason"], said["rule"]["line"]) == ("redirect", "redirected", 1)
    assert other["reason"] == "rule_direct"
    assert proxied.visit(listener).relayed


def wait_in_thread(channel, name):
    set_name("the process")

    def work():
        set_name(name)
        channel.sendall(struct.pack("=i", threading.get_native_id()))
        channel.recv(1)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_command_of_a_thread(bed, ctl):
    """--pid may name a thread; the command is that of its process. To see it fail: read
    /proc/TID/comm."""
    bed.load()
    load_rules(bed, ctl, 'direct command "the process"\nrefuse command thread\n')
    ours, theirs = socket.socketpair()
    with ours, theirs:
        bed.task(wait_in_thread, theirs, "thread")
        tid, = struct.unpack("=i", ours.recv(4))
        said, = explain(ctl, "--pid", tid, "192.0.2.1:80")
    assert said["rule"]["line"] == 1 and said["facts"]["command"] == "the process"


def test_batch(bed, ctl):
    """Destinations on stdin follow those of the command line. Empty lines are skipped."""
    bed.load()
    said = explain(ctl, "--cgroup", bed.scope.path, "--batch", "192.0.2.1:1",
                   data="192.0.2.2:2\n\n[2001:db8::3]:3")
    assert [each["destination"] for each in said] == ["192.0.2.1:1", "192.0.2.2:2",
                                                      "[2001:db8::3]:3"]
    assert ctl("explain", "--batch", data="").succeeded().out == ""
    result = ctl("explain", "--batch", data="192.0.2.2:2\nnonsense\n192.0.2.3:3\n")
    assert result.status == 1 and result.out.startswith("192.0.2.2:2: direct\n")
    assert "line 2 " in result.err and "ADDR:PORT" in result.err and "192.0.2.3" not in result.out
    ctl("explain", "--batch", data="192.0.2.2:2\0:3\n").refused("line 1")


def test_group_reads_the_rules(bed, ctl):
    """A member of the relay's group learns what a rule decides."""
    bed.load()
    load_rules(bed, ctl, "refuse EPERM to 192.0.2.0/24\n")
    result = ctl("explain", "--json", "--cgroup", bed.scope.path, "127.0.0.1:80",
                 user=(programs.RELAY_UID, programs.RELAY_GID))
    said = json.loads(result.succeeded().out)
    assert said["reason"] == "bypass_loopback" and said["facts"]["rules_generation"] == 1
