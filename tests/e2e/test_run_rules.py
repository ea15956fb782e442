# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""tproxyctl run with rules of the command's own, its log, and rules that it learns."""

import hashlib
import json
import os
import re
import signal
import socket
import sys
import tarfile
from pathlib import Path

import pytest

import host
import programs
from harness import NOBODY, SERVER, SERVER2
from host import wait_until
from maps import attached
from test_explain import documents_of
from test_run import (CONNECT, INHERITED, USER, Visitor, nothing_is_left, own_cgroups, run,
                      terminal)
from tproxyctl import binary  # fixtures

# Connects to each ADDRESS PORT of argv, and prints the errno's name, or "done".
ATTEMPT = """
import errno, socket, sys
for address, port in zip(sys.argv[1::2], sys.argv[2::2]):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as sock:
        sock.settimeout(20)
        code = sock.connect_ex((address, int(port)))
        print(errno.errorcode[code] if code else "done", flush=True)
"""


def of_rules(bed, binary, options, *words):
    return [binary, "run", "--pin-dir", bed.pins.path, *options, "--", *words]


@pytest.fixture
def attempt(bed, binary):
    """Connects by a command with these rules, and returns the outcome of each connect()."""
    def call(rules, *addresses, options=(), place=None, **program):
        if rules is not None:
            path = bed.directory / "rules"
            path.write_text(rules)
            options = ["--rules", path, *options]
        words = [word for address in addresses for word in address]
        result = bed.run(*of_rules(bed, binary, options, sys.executable, "-c", ATTEMPT, *words),
                         place=place or bed.bystander, **program)
        return result.succeeded().out.split()
    return call


def relayed(listener, visitor):
    sock, peer = listener.accept()
    sock.close()
    return peer != visitor.address


# --- rules

ONLY = "direct to {} port {}\ndefault refuse EACCES\n"


def test_without_a_load(bed, attempt):
    """The rules of a command need neither a load nor a relay. To see it fail: let write_rules()
    write nothing."""
    allowed, other = (bed.listen().getsockname() for _ in range(2))
    rules = ONLY.format(*allowed)
    assert attempt(rules, allowed, other, (SERVER2, allowed[1])) == ["done", "EACCES", "EACCES"]
    nothing_is_left(bed)
    assert attached(bed.outside) == []


def test_loopback_that_is_named(bed, attempt):
    """Fails if make_policy() leaves TPROXY_RULES_LOOPBACK out."""
    rules = "refuse EACCES to 127.0.0.1\nrefuse EPERM\n"
    assert attempt(rules, ("127.0.0.1", 9), ("127.0.0.2", 9)) == ["EACCES", "ECONNREFUSED"]


def test_children_and_survivors(bed, binary, run):
    """The rules hold as long as a process of the command is there, whatever has ended before."""
    allowed = bed.listen().getsockname()
    rules = bed.directory / "rules"
    rules.write_text(ONLY.format(*allowed))
    fifo, log = bed.directory / "go", bed.directory / "log"
    os.mkfifo(fifo)
    script = 'setsid sh -c \'read l < "$1"; shift; "$@"\' daemon "$@" > $0 2>&1 &'
    bed.run(*of_rules(bed, binary, ["--rules", rules], "sh", "-c", script, log, fifo,
                      sys.executable, "-c", ATTEMPT, *allowed, *NOBODY),
            place=bed.bystander).succeeded()
    fifo.write_text("\n")
    wait_until(lambda: log.read_text().split() == ["done", "EACCES"], "the daemon has connected")
    nothing_is_left(bed)


def test_all_is_decided_by_the_rules(proxied, binary):
    """Out of scope of any load, the relay serves the connections that the command's rules redirect,
    and no others."""
    rules = proxied.directory / "rules"
    for action in ("redirect", "direct", "observe"):
        listener = proxied.listen()
        rules.write_text("{} to {} port {}\ndefault refuse\n".format(
            action, *listener.getsockname()))
        result = proxied.run(*of_rules(proxied, binary, ["--rules", rules], sys.executable, "-c",
                                       CONNECT, *listener.getsockname()),
                             place=proxied.bystander)
        visitor = Visitor(result.succeeded().out)
        assert relayed(listener, visitor) == (action == "redirect")
    nothing_is_left(proxied)
    wait_until(lambda: proxied.pins.dump("map_socks") == [], "the records are deleted")


def test_cgroup_outside_of_the_command(bed, binary):
    """A rule about a cgroup where no process of the command is would refuse nothing."""
    rules, mark = bed.directory / "rules", bed.directory / "mark"
    argv = of_rules(bed, binary, ["--rules", rules], "touch", mark)
    rules.write_text(f"refuse cgroup {bed.servers}\n")
    result = bed.run(*argv, place=bed.bystander)
    assert (result.status, mark.exists()) == (125, False), result
    assert "rules:1:15: cgroup" in result.err and "apply to no process" in result.err, result
    for line in (f"refuse cgroup {bed.outside}", f"refuse unless cgroup {bed.servers}"):
        rules.write_text(line)
        bed.run(*argv, place=bed.bystander).succeeded()
    nothing_is_left(bed)


HOSTS = "refuse EPERM to {} port {}\n"


def test_rules_narrow_those_of_the_host(bed, attempt):
    """In scope of a load each connection must pass both. What the command's rules refuse is not
    counted by the host's. To see it fail: leave out bpf_get_retval() in connect_run()."""
    a, b, c = (bed.listen().getsockname() for _ in range(3))
    rules = bed.directory / "hosts"
    rules.write_text(HOSTS.format(*a))
    bed.load("--rules", rules)
    bed.start_relay()
    own = "direct to {} port {}\nredirect to {} port {}\nrefuse EACCES\n".format(*a, *b)
    assert attempt(own, a, b, c, place=bed.client) == ["EPERM", "done", "EACCES"]
    counters = bed.stats()
    assert counters["redirected"] == 1 and counters["rule_refused"] == 1
    nothing_is_left(bed)


def test_run_in_a_run(bed, binary, attempt):
    """In a run inside a run, the rules of both hold."""
    a, b, c = (bed.listen().getsockname() for _ in range(3))
    outer, inner = bed.directory / "outer", bed.directory / "inner"
    outer.write_text("direct to {} port {},{}\nrefuse EACCES\n".format(*a, b[1]))
    inner.write_text("direct to {} port {},{}\nrefuse EPERM\n".format(*a, c[1]))
    words = of_rules(bed, binary, ["--rules", inner], sys.executable, "-c", ATTEMPT, *a, *b, *c)
    result = bed.run(*of_rules(bed, binary, ["--rules", outer], *words), place=bed.bystander)
    assert result.succeeded().out.split() == ["done", "EPERM", "EACCES"]
    nothing_is_left(bed)


def test_fail_closed(proxied, attempt):
    """With --fail-closed and without a relay, only connections with the action direct go direct."""
    a, b = (proxied.listen().getsockname() for _ in range(2))
    closed = ["--fail-closed"]
    assert attempt(None, a, options=closed) == ["done"]
    proxied.relay.kill()
    assert attempt(None, a, options=closed) == ["ECONNREFUSED"]
    rules = "direct to {} port {}\n".format(*b)
    assert attempt(rules, a, b, options=closed) == ["ECONNREFUSED", "done"]
    assert attempt(None, a, options=closed, place=proxied.bystander) == ["ECONNREFUSED"]


def test_fail_closed_in_the_scope_of_a_load(loaded, binary, attempt):
    """--fail-closed is refused in scope of a load that is not fail-closed, because the load decides
    last."""
    words = of_rules(loaded, binary, ["--fail-closed"], "true")
    loaded.run(*words).refused("not fail-closed", "--fail-closed", status=125)
    nothing_is_left(loaded)
    loaded.load("--fail-closed")
    assert attempt(None, NOBODY, options=["--fail-closed"], place=loaded.client) == [
        "ECONNREFUSED"]


def explained(bed, binary, options, *addresses, pid=None, place=None):
    """What explain says about each connect() of a command with these options of run, or, without
    options, of a process."""
    explain = [binary, "explain", "--pin-dir", bed.pins.path, "--json",
               *("{}:{}".format(*address) for address in addresses)]
    explain += ["--pid", pid] if pid else []
    words = of_rules(bed, binary, options, *explain) if options else explain
    result = bed.run(*words, place=place or bed.bystander).succeeded()
    assert result.err == ""
    return documents_of(result.out)


def verdicts(explanations):
    return [(each["verdict"], each.get("errno"), each.get("other_instance", False),
             each.get("rule", {}).get("number")) for each in explanations]


def test_explain_out_of_scope_of_a_load(proxied, binary, attempt):
    """The rules of a command decide alone. To see it fail: let read_others() return at once."""
    a, b, c, d = (proxied.listen().getsockname() for _ in range(4))
    rules = ("direct to {} port {}\nset none = 192.0.2.1\nredirect to {} port {}\n"
             "observe to {} port {}\nrefuse EPERM unless to @none\n".format(*a, *b, *c))
    path = proxied.directory / "rules"
    path.write_text(rules)
    assert verdicts(explained(proxied, binary, ["--rules", path], a, b, c, d)) == [
        ("direct", None, True, 1), ("redirect", None, True, 2), ("observe", None, True, 3),
        ("refuse", "EPERM", True, 4)]
    assert attempt(rules, a, b, c, d) == ["done", "done", "done", "EPERM"]
    with programs.Program(*of_rules(proxied, binary, ["--rules", path], "sleep", 1000),
                          place=proxied.bystander, log=proxied.directory / "log") as program:
        comm = Path(f"/proc/{program.pid}/comm")
        wait_until(lambda: comm.read_text() == "sleep\n", "it is the command")
        [by_pid] = explained(proxied, binary, [], d, pid=program.pid)
        assert verdicts([by_pid]) == [("refuse", "EPERM", True, 4)]
    [outside] = explained(proxied, binary, [], a)
    assert outside["reason"] == "out_of_scope" and "other_instances" not in outside["facts"]


def test_explain_in_scope_of_a_load(bed, binary, attempt):
    """What the rules of a command let pass, those of the host decide. To see it fail: let
    decide_by_all() return the first decision."""
    a, b, c = (bed.listen().getsockname() for _ in range(3))
    rules, own = bed.directory / "hosts", bed.directory / "own"
    rules.write_text(HOSTS.format(*a))
    bed.load("--rules", rules)
    bed.start_relay()
    text = "direct to {} port {}\nredirect to {} port {}\nrefuse EACCES\n".format(*a, *b)
    own.write_text(text)
    found = explained(bed, binary, ["--rules", own], a, b, c, place=bed.client)
    assert verdicts(found) == [("refuse", "EPERM", False, 1), ("redirect", None, False, None),
                               ("refuse", "EACCES", True, 3)]
    assert [each["facts"]["other_instances"] for each in found] == [1, 1, 1]
    assert attempt(text, a, b, c, place=bed.client) == ["EPERM", "done", "EACCES"]


def test_explain_in_a_run_in_a_run(loaded, binary):
    """The rules of both count, the inner ones first. To see it fail: let read_others() reverse the
    order of the programs."""
    a, b, c = ((SERVER, port) for port in (1, 2, 3))
    outer, inner = loaded.directory / "outer", loaded.directory / "inner"
    outer.write_text("direct port 1,2\nrefuse EACCES\n")
    inner.write_text("direct port 1\nrefuse EPERM port 2\nrefuse EHOSTUNREACH\n")
    nested = ["--rules", outer, "--", binary, "run", "--pin-dir", loaded.pins.path, "--rules",
              inner]
    found = explained(loaded, binary, nested, a, b, c)
    assert verdicts(found) == [("direct", None, True, 1), ("refuse", "EPERM", True, 2),
                               ("refuse", "EHOSTUNREACH", True, 3)]
    [first, _, _] = found
    assert first["facts"]["other_instances"] == 2 and "text" not in first["rule"]


SEND = """
import errno, socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    for port in sys.argv[2:]:
        try:
            sock.sendto(b"x", (sys.argv[1], int(port)))
            print("done")
        except OSError as error:
            print(errno.errorcode[error.errno])
"""


def test_udp(bed, binary):
    rules = bed.directory / "rules"
    rules.write_text("refuse EACCES udp port 53\n")
    words = [sys.executable, "-c", SEND, SERVER, 53, 54]
    result = bed.run(*of_rules(bed, binary, ["--rules", rules], *words), place=bed.bystander)
    assert result.succeeded().out.split() == ["EACCES", "done"]
    assert bed.run(*words, place=bed.bystander).succeeded().out.split() == ["done", "done"]
    nothing_is_left(bed)


@pytest.mark.parametrize("text, needle", [("direct too 192.0.2.1\n", ":1:8:"), (None, "No such")])
def test_rules_that_cannot_be_read(bed, binary, text, needle):
    """If the rules cannot be read, the command is not run and no cgroup is made."""
    rules, mark = bed.directory / "rules", bed.directory / "mark"
    if text:
        rules.write_text(text)
    result = bed.run(*of_rules(bed, binary, ["--rules", rules], "touch", mark))
    assert result.status == 125 and needle in result.err and not mark.exists()
    assert own_cgroups(bed) == []


@pytest.mark.parametrize("options", [["--rules", "/dev/null"], ["--observe"], ["--fail-closed"]])
def test_user_has_no_rules_of_his_own(loaded, binary, options):
    loaded.run(*of_rules(loaded, binary, options, "true"), user=USER).refused(
        options[0], "for root", "name:tproxy-run-*", status=125)


def test_rules_of_the_host_for_runs(bed, run):
    """An ordinary user gets what the host's rules say of such cgroups, and writes no map."""
    allowed, other = (bed.listen().getsockname() for _ in range(2))
    rules = bed.directory / "hosts"
    rules.write_text("direct cgroup name:tproxy-run-* to {} port {}\n"
                     "refuse EACCES cgroup name:tproxy-run-*\ndefault direct\n".format(*allowed))
    bed.load("--rules", rules)
    place = host.Place(bed.scope.child("user"), bed.client_net)
    for path in (place.cgroup.path, place.cgroup.path / "cgroup.procs"):
        os.chown(path, *USER)
    words = [sys.executable, "-c", ATTEMPT, *allowed, *other]
    assert run(*words, place=place, user=USER).succeeded().out.split() == ["done", "EACCES"]
    assert bed.run(*words, place=place, user=USER).succeeded().out.split() == ["done", "done"]


def test_same_as_without(bed, binary):
    """With rules and a log too, the command runs as without tproxyctl."""
    rules = bed.directory / "rules"
    rules.write_text("default observe\n")
    script = [sys.executable, "-c", INHERITED, "", "-x"]
    options = ["--rules", rules]
    seen, expected = (json.loads(bed.run(*words, place=bed.bystander).succeeded().out)
                      for words in (of_rules(bed, binary, options, *script), script))
    assert seen == expected


# --- observe


def observed(result):
    return re.findall(r"^tproxyctl: observed (\S+): (.*)$", result.err, re.MULTILINE)


@pytest.mark.parametrize("place", ["client", "bystander"])
def test_observe(proxied, binary, place):
    """One line for each connection, with the destination that the command asked for, also if a
    load above redirects it. Otherwise they are direct."""
    listener = proxied.listen()
    address = listener.getsockname()
    result = proxied.run(*of_rules(proxied, binary, ["--observe"], sys.executable, "-c", CONNECT,
                                   *address), place=getattr(proxied, place))
    visitor = Visitor(result.succeeded().out)
    assert relayed(listener, visitor) == (place == "client")
    ((destination, text),) = observed(result)
    assert destination == "{}:{}".format(*address)
    assert re.fullmatch(r"up 0 B, down 0 B, \d+\.\d+ s, closed; "
                        r"pid \d+ \(python3[\d.]*\), uid 0, id [0-9a-f]+", text)


def test_observe_with_rules(bed, binary, attempt):
    """Connections that do not go direct are not logged."""
    address = bed.listen().getsockname()
    rules = bed.directory / "rules"
    rules.write_text(ONLY.format(*address))
    result = bed.run(*of_rules(bed, binary, ["--rules", rules, "--observe"], sys.executable, "-c",
                               ATTEMPT, *address, *NOBODY), place=bed.bystander)
    assert result.succeeded().out.split() == ["done", "EACCES"]
    assert [destination for destination, _ in observed(result)] == ["{}:{}".format(*address)]


# --- learn


class Learning:
    """Runs commands that are learned, and commands with the rules that were written."""

    def __init__(self, bed, binary, place):
        self.bed, self.binary, self.place = bed, binary, place
        self.rules = bed.directory / "learned"

    def learn(self, *words, **program):
        return self.bed.run(*of_rules(self.bed, self.binary, [
            "--observe", "--write-rules", self.rules], *words), place=self.place, **program)

    def run(self, *words, **program):
        return self.bed.run(*of_rules(self.bed, self.binary, ["--rules", self.rules], *words),
                            place=self.place, **program)

    def lines(self):
        return [line for line in self.rules.read_text().splitlines() if not line.startswith("#")]


@pytest.fixture(params=["alone", "redirected"])
def learning(request, bed, binary):
    """Where nothing is loaded, and in scope of a load with a relay."""
    if request.param == "alone":
        return Learning(bed, binary, bed.bystander)
    bed.load()
    bed.start_relay()
    return Learning(bed, binary, bed.client)


def test_learn(learning, bed):
    """The smallest rules: each destination once, with process and count. They allow the same
    again, and nothing else."""
    a, b = (bed.listen().getsockname() for _ in range(2))
    words = [sys.executable, "-c", ATTEMPT, *a, *a, *b]
    seen = learning.learn(*words, *NOBODY).succeeded().out.split()
    assert seen[:3] == ["done"] * 3
    name = Path(sys.executable).name[:15]
    assert sorted(learning.lines()) == sorted([
        f"direct to {a[0]} port {a[1]}  # {name}: 2 connections",
        f"direct to {b[0]} port {b[1]}  # {name}: 1 connection",
        f"direct to {NOBODY[0]} port {NOBODY[1]}  # {name}: 1 connection", "default refuse"])
    assert learning.lines()[0] == "default refuse"
    other = bed.listen().getsockname()
    words += other
    assert learning.run(*words).succeeded().out.split() == [*seen[:3], "ECONNREFUSED"]
    nothing_is_left(bed)


@pytest.mark.parametrize("script", ['rm "$0"', 'rm "$0" && mkdir -p x', ': > "$0"'])
def test_command_that_removes_the_file(bed, binary, script):
    """Fails if the file is opened before the command runs."""
    learning = Learning(bed, binary, bed.bystander)
    learning.rules.write_text("direct\n")
    learning.rules.chmod(0o640)
    learning.learn("sh", "-c", script, learning.rules).succeeded()
    assert learning.lines() == ["default refuse"]
    assert not list(bed.directory.glob("learned.*"))


WRITE = """mount -t tmpfs -o size=8k,mode=755 tmpfs "$0" && cd "$0" && {} && shift 0 &&
"$@" -- true; status=$?; cat learned; exit $status"""


@pytest.mark.parametrize("before, status, text", [
    ("echo direct > learned && head -c 8000 /dev/zero > rest; true", 125, "direct\n"),
    ("touch ../other && echo direct > learned && mount --bind ../other learned", 0,
     "default refuse"),
    ("echo direct > learned && mount --bind learned learned && mount -o remount,bind,ro .", 0,
     "default refuse"),
    ("echo direct > real && ln -s real learned", 0, "default refuse"),
], ids=["full-disk", "mount-point", "read-only", "link"])
def test_file_on_odd_disks(bed, binary, before, status, text):
    """A full disk leaves the old rules. A file that cannot be replaced is written. To see it fail:
    call write_in_place() always, or never."""
    disk = bed.directory / "disk"
    disk.mkdir()
    words = of_rules(bed, binary, ["--observe", "--write-rules", "learned"])[:-1]
    result = bed.run("unshare", "--mount", "sh", "-c", WRITE.format(before), disk, *words,
                     place=bed.bystander)
    assert result.status == status and result.out.startswith(text), result
    assert ("No space left" in result.err) == (status == 125)


# Fills the ring while its reader is stopped.
TOO_MANY = """
import os, signal, socket, sys
os.kill(os.getppid(), signal.SIGSTOP)
for _ in range(7000):
    with socket.socket() as sock:
        sock.connect_ex((sys.argv[1], int(sys.argv[2])))
os.kill(os.getppid(), signal.SIGCONT)
"""


@pytest.mark.deadline(60)
def test_connections_that_were_missed(bed, binary):
    """The rules would refuse them, so none are written. To see it fail: do not look at the losses
    in write_learned()."""
    learning = Learning(bed, binary, bed.bystander)
    learning.rules.write_text("direct\n")
    learning.learn(sys.executable, "-c", TOO_MANY, *NOBODY, timeout=40).refused(
        "was not written", "connections were not seen", status=125)
    assert learning.rules.read_text() == "direct\n"


def test_learn_from_a_connection_that_goes_on(bed, binary):
    """The rules are written when the command has ended, whatever its children do."""
    learning = Learning(bed, binary, bed.bystander)
    address = bed.listen().getsockname()
    script = ("import signal, socket, sys; s = socket.create_connection((sys.argv[1], "
              "int(sys.argv[2]))); print('connected', flush=True); signal.pause()")
    log = bed.directory / "log"
    learning.learn("sh", "-c", '"$@" > $0 2>&1 & until [ -s $0 ]; do sleep 0.1; done', log,
                   sys.executable, "-c", script, *address).succeeded()
    assert log.read_text() == "connected\n"
    assert "direct to {} port {} ".format(*address) in learning.rules.read_text()
    bed.outside.remove()
    bed.outside.path.mkdir()


@pytest.mark.parametrize("status", [0, 7])
def test_status_of_a_learned_command(bed, binary, status):
    learning = Learning(bed, binary, bed.bystander)
    assert learning.learn("sh", "-c", f"exit {status}").status == status
    assert learning.learn("sh", "-c", "kill -TERM $$").status == -signal.SIGTERM
    assert learning.lines() == ["default refuse"]


def test_command_that_cannot_be_learned(bed, binary):
    """If the command cannot be executed, the file stays as it was. The error is the command's, and
    the exit status is tproxyctl's."""
    learning = Learning(bed, binary, bed.bystander)
    learning.rules.write_text("direct\n")
    learning.learn("no-such-command").refused("no-such-command", status=125)
    assert learning.rules.read_text() == "direct\n"
    learning.rules = bed.directory / "new"
    learning.learn("no-such-command").refused("no-such-command", status=125)
    assert not learning.rules.exists(), "empty rules refuse nothing"
    learning.rules = bed.directory / "missing" / "learned"
    learning.learn("true").refused("cannot write", learning.rules, status=125)


@pytest.mark.parametrize("kind", ["fifo", "device"])
def test_rules_are_written_to_a_regular_file(bed, binary, kind):
    """The command is not run. To see it fail: leave out O_NONBLOCK, or S_ISREG()."""
    learning = Learning(bed, binary, bed.bystander)
    mark = bed.directory / "mark"
    learning.rules = bed.directory / "fifo" if kind == "fifo" else Path("/dev/null")
    if kind == "fifo":
        os.mkfifo(learning.rules)
    learning.learn("touch", mark, timeout=10).refused("not a regular file", status=125)
    assert not mark.exists()


def test_many_destinations(bed, binary):
    """There are more destinations than rules: the destinations of a port share rules."""
    learning = Learning(bed, binary, bed.bystander)
    addresses = [(f"198.51.100.{last}", port) for last in range(10, 250) for port in (9, 11)]
    script = """
import socket, sys
for last in range(10, 250):
    for port in (9, 11):
        with socket.socket() as sock:
            sock.setblocking(False)
            sock.connect_ex((f"198.51.100.{last}", port))
"""
    learning.learn(sys.executable, "-c", script).succeeded()
    lines = learning.lines()
    assert len(lines) < 20 and lines[0] == "default refuse"
    for address, port in addresses:
        assert any(re.search(rf"\b{re.escape(address)}[, ].*port {port} ", line) for line in lines)
    assert learning.run("true").status == 0


def test_signals_while_learning(bed, binary):
    """tproxyctl waits for the command, and forwards signals to it."""
    learned = bed.directory / "learned"
    script = "trap 'echo got it; exit 9' TERM; echo ready; while :; do sleep 0.1; done"
    argv = of_rules(bed, binary, ["--observe", "--write-rules", learned], "bash", "-c", script)
    with programs.Program(*argv, place=bed.bystander, log=bed.directory / "log") as program:
        program.says("ready")
        program.signal(signal.SIGTERM)
        assert program.wait() == 9
        assert "got it" in program.text()
    nothing_is_left(bed)


def test_killed_while_learning(bed, binary):
    """The command goes on, and takes its cgroup with it. No file is made."""
    learned = bed.directory / "learned"
    argv = of_rules(bed, binary, ["--observe", "--write-rules", learned], "sleep", 1000)
    with programs.Program(*argv, place=bed.bystander, log=bed.directory / "log") as program:
        (cgroup,) = wait_until(lambda: own_cgroups(bed), "it is started")
        pid = wait_until((cgroup / "cgroup.procs").read_text, "the command is there")
        program.kill()
        os.kill(int(pid), signal.SIGKILL)
    nothing_is_left(bed)
    assert not learned.exists()


def test_keys_of_the_terminal_while_learning(loaded, binary, terminal):
    """Stopped, continued and interrupted, the caller's shell sees what it sees of the command."""
    learned = loaded.directory / "learned"
    options = ["--observe", "--write-rules", learned]
    terminal.type(" ".join(map(str, of_rules(loaded, binary, options, "sleep", 1000))) + "\n")
    (cgroup,) = wait_until(lambda: own_cgroups(loaded), "it is started")
    pid = wait_until((cgroup / "cgroup.procs").read_text, "the command is there").strip()
    wait_until(lambda: terminal.foreground() != terminal.pid, "it has the terminal")
    terminal.type("\x1a")
    terminal.expect("Stopped")
    terminal.expect(terminal.PROMPT)
    assert host.thread_states(pid) == {"T"}
    terminal.type("fg\n")
    wait_until(lambda: host.thread_states(pid) == {"S"}, "it goes on")
    terminal.type("\x03")
    terminal.expect(terminal.PROMPT)
    assert terminal.run("echo $?") == "130\n"
    assert learned.read_text().startswith("default refuse\n")
    nothing_is_left(loaded)


# --- learning from programs that people run


def listens(bed, port):
    def connects():
        with socket.socket() as sock:
            return sock.connect_ex((SERVER, port)) == 0
    return bed.run_in(connects, place=bed.server)


def serve(bed, port, *argv):
    bed.start(*argv)
    wait_until(lambda: listens(bed, port), f"{argv[0]} listens")


def serve_files(bed, directory, port):
    """At all addresses of the server."""
    serve(bed, port, sys.executable, "-m", "http.server", port, "--directory", directory)


def allows_only(learning, bed, port):
    """The rules name this port of the server and nothing else, so the other address of the same
    host is refused."""
    assert len(learning.lines()) == 2
    assert learning.lines()[1].startswith(f"direct to {SERVER} port {port}  # ")
    result = learning.run(sys.executable, "-c", ATTEMPT, SERVER, port, SERVER2, port)
    assert result.succeeded().out.split() == ["done", "ECONNREFUSED"]


@pytest.mark.needs("git")
@pytest.mark.deadline(60)
def test_learn_git_clone(learning, bed):
    repository = bed.directory / "repositories" / "a.git"
    programs.call("git", "init", "--bare", repository).succeeded()
    serve(bed, 9418, "git", "daemon", "--reuseaddr", "--export-all",
          f"--base-path={repository.parent}", repository.parent)
    url = f"git://{SERVER}/a.git"
    learning.learn("git", "clone", url, bed.directory / "first").succeeded()
    assert re.fullmatch(r"direct .*  # git: 1 connection", learning.lines()[1])
    learning.run("git", "clone", url, bed.directory / "second").succeeded()
    result = learning.run("git", "clone", f"git://{SERVER2}/a.git", bed.directory / "third")
    assert result.status == 128 and "refused" in result.err
    allows_only(learning, bed, 9418)


@pytest.mark.needs("apt-get")
@pytest.mark.deadline(60)
def test_learn_apt_get_update(learning, bed):
    repository, state = bed.directory / "repository", bed.directory / "state"
    for directory in (repository, state / "lists" / "partial", state / "cache" / "partial"):
        directory.mkdir(parents=True)
    (repository / "Packages").write_text(
        "Package: nothing\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: none\n"
        f"Filename: ./nothing.deb\nSize: 1\nSHA256: {hashlib.sha256(b'x').hexdigest()}\n")
    sources = bed.directory / "sources.list"
    sources.write_text(f"deb [trusted=yes] http://{SERVER}:8080 ./\n")
    serve_files(bed, repository, 8080)
    update = ["apt-get", "update", "-q", *(word for option in (
        f"Dir::Etc::SourceList={sources}", "Dir::Etc::SourceParts=-", f"Dir::State={state}",
        f"Dir::State::Lists={state}/lists", f"Dir::Cache={state}/cache", "APT::Sandbox::User=root",
        "Acquire::Retries=0", "APT::Update::Error-Mode=any", "Acquire::http::Proxy=false",
        "Dir::Etc::Parts=-", "Dir::Etc::Main=-")
        for word in ("-o", option))]
    learning.learn(*update).succeeded()
    assert "# http: " in learning.lines()[1]
    learning.run(*update).succeeded()
    sources.write_text(f"deb [trusted=yes] http://{SERVER2}:8080 ./\n")
    assert learning.run(*update).status == 100
    allows_only(learning, bed, 8080)


@pytest.mark.needs("npm")
@pytest.mark.deadline(120)
def test_learn_npm_install(learning, bed):
    registry = bed.directory / "registry"
    registry.mkdir()
    package = bed.directory / "package"
    package.mkdir()
    (package / "package.json").write_text(json.dumps({"name": "nothing", "version": "1.0.0"}))
    with tarfile.open(registry / "nothing-1.0.0.tgz", "w:gz") as tar:
        tar.add(package, "package")
    digest = hashlib.sha1((registry / "nothing-1.0.0.tgz").read_bytes()).hexdigest()
    (registry / "nothing").write_text(json.dumps({
        "name": "nothing", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": {
            "name": "nothing", "version": "1.0.0", "dist": {
                "tarball": f"http://{SERVER}:4873/nothing-1.0.0.tgz", "shasum": digest}}}}))
    serve_files(bed, registry, 4873)

    def install(name, server=SERVER):
        directory = bed.directory / name
        directory.mkdir()
        return ["npm", "install", "--registry", f"http://{server}:4873/", "--prefix", directory,
                "--cache", directory / "cache", "--no-audit", "--no-fund", "--fetch-retries=0",
                "--no-update-notifier", "nothing"]

    environment = {"HOME": str(bed.directory), "NO_UPDATE_NOTIFIER": "1"}
    learning.learn(*install("first"), env=environment, timeout=60).succeeded()
    learning.run(*install("second"), env=environment, timeout=60).succeeded()
    assert (bed.directory / "second/node_modules/nothing/package.json").exists()
    result = learning.run(*install("third", SERVER2), env=environment, timeout=60)
    assert result.status != 0 and "ECONNREFUSED" in result.err
    allows_only(learning, bed, 4873)
