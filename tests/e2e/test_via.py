# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The upstream that a rule names: what the relay learns of it, and what the tools show. The relay
is the test's own, which reads the record of each connection that it accepts."""

import errno
import json
import os
import signal
import socket
import struct
import sys

import pytest

import host
import programs
from harness import SERVER
from maps import Layout
from ruling import load_rules, show
from test_abi import TPROXY_SO_CONN, relay  # fixture
from test_explain import documents_of
from test_run_rules import ATTEMPT, explained, of_rules
from test_top import DELAY
from test_watch import watch  # fixture
from tproxyctl import binary, ctl  # fixtures

FAILED_KEY = struct.Struct("=8s10x2s4sHHI")
FAILED = struct.Struct("=QII")


def upstream_id(name):
    """FNV-1a of 32 bits."""
    value = 0x811c9dc5
    for byte in name.encode():
        value = (value ^ byte) * 0x01000193 & 0xffffffff
    return value


class Relay:
    """Accepts connections, and tells the upstream of each."""

    def __init__(self, bed, listener):
        self._bed, self._listener = bed, listener
        self._conn = Layout(bed.pins.path / "map_socks")

    def accept(self):
        """Returns port of the destination, and id of the upstream."""
        sock = self._bed.accept(self._listener)[0]
        answer = sock.getsockopt(socket.SOL_IP, TPROXY_SO_CONN, self._conn.size)
        [dst] = self._conn.unpack(answer, "dst", "20s")
        return struct.unpack_from("=H", dst, 16)[0], self._conn.unpack(answer, "upstream", "=I")[0]

    def serve(self, n):
        return dict(self.accept() for _ in range(n))


@pytest.fixture
def asked(loaded, relay):
    return Relay(loaded, relay)


RULES = ("redirect via squid to {0} port 1", "redirect to {0} port 2",
         "redirect via direct to {0} port 3 unless uid 65533")


def test_rules(loaded, ctl, asked):
    """The relay learns the upstream of the rule or of the default. To see it fail: let set_rule()
    in bpf/attempt.bpf.h take no upstream."""
    load_rules(loaded, ctl, *(rule.format(SERVER) for rule in RULES),
               "default redirect via corp-2_b")
    for port in (1, 2, 3, 4):
        loaded.connect((SERVER, port))
    assert asked.serve(4) == {1: upstream_id("squid"), 2: 0, 3: upstream_id("direct"),
                              4: upstream_id("corp-2_b")}
    shown = show(ctl)
    assert [rule.get("upstream") for rule in [*shown["rules"], shown["default"]]] == [
        "squid", None, "direct", "corp-2_b"]
    load_rules(loaded, ctl, "default redirect")
    loaded.connect((SERVER, 5))
    assert asked.accept() == (5, 0)


def test_explain(loaded, ctl, asked):
    """explain tells the upstream that the relay learns."""
    load_rules(loaded, ctl, *(rule.format(SERVER) for rule in RULES), "default redirect via corp")
    targets = [f"{SERVER}:{port}" for port in (1, 2, 3, 4)]
    found = documents_of(ctl("explain", "--json", *targets, place=loaded.client).succeeded().out)
    assert [each.get("upstream") for each in found] == ["squid", None, "direct", "corp"]
    text = ctl("explain", *targets[:2], place=loaded.client).succeeded().out
    assert f"{SERVER}:1: redirect to 127.0.0.1:" in text and " via squid\n" in text
    assert text.count(" via ") == 2  # once more in the rule


@pytest.mark.parametrize("place", ["bystander", "client"], ids=["outside", "in scope"])
def test_run(loaded, binary, ctl, asked, place):
    """--via is for what is redirected and names no upstream, and goes before the rules of the
    host. To see it fail: let gather_caller() in bpf/attempt.bpf.h ignore VIA (in scope), or
    redirect_via() leave out the default."""
    place = getattr(loaded, place)
    load_rules(loaded, ctl, "default redirect via corp")
    rules = loaded.directory / "own"
    rules.write_text("redirect via squid port 1\nredirect port 2\nrefuse EACCES port 3\n")

    def run(options, *ports):
        words = [word for port in ports for word in (SERVER, port)]
        return loaded.run(*of_rules(loaded, binary, options, sys.executable, "-c", ATTEMPT,
                                    *words), place=place).succeeded().out.split()

    assert run(["--via", "tor"], 1, 2) == ["done", "done"]
    assert asked.serve(2) == {1: upstream_id("tor"), 2: upstream_id("tor")}
    assert run(["--via", "tor", "--rules", rules], 1, 2, 3, 4) == ["done", "done", "EACCES", "done"]
    assert asked.serve(3) == {1: upstream_id("squid"), 2: upstream_id("tor"),
                              4: upstream_id("tor")}
    # Without --via, what the rules of the command do not name is the host's in its scope.
    assert run(["--rules", rules], 1, 2) == ["done", "done"]
    assert asked.serve(2) == {1: upstream_id("squid"),
                              2: upstream_id("corp") if place is loaded.client else 0}
    options = ["--via", "tor", "--rules", rules]
    found = explained(loaded, binary, options, *((SERVER, port) for port in (1, 2, 4)),
                      place=place)
    assert [each.get("upstream") for each in found] == ["squid", "tor", "tor"]


def test_run_in_a_run(loaded, binary, ctl, asked):
    """Outer rules that name an upstream decide which one the relay uses; where only they redirect,
    an inner one is refused. To see it fail: let advise() in bpf/attempt.bpf.h return if the mark
    has TPROXY_MARK_VIA, or leave out find_advised()."""
    load_rules(loaded, ctl, "default redirect via corp")

    def run(outer, inner, place):
        words = of_rules(loaded, binary, inner, sys.executable, "-c", ATTEMPT, SERVER, 1)
        return loaded.run(*of_rules(loaded, binary, outer, *words), place=place)

    def learned(outer, inner, place=loaded.client):
        assert run(outer, inner, place).succeeded().out.split() == ["done"]
        return asked.accept()[1]

    assert learned(["--via", "tor"], ["--via", "squid"]) == upstream_id("tor")
    assert learned(["--via", "tor"], []) == upstream_id("tor")
    assert learned([], ["--via", "squid"]) == upstream_id("squid")
    # Without rules the outer run attaches the programs of the load.
    assert learned([], ["--via", "squid"], loaded.bystander) == upstream_id("squid")
    assert learned(["--via", "tor"], [], loaded.bystander) == upstream_id("tor")
    # Outer rules that name no upstream, and those that name one for other connections only.
    rules = loaded.directory / "outer"
    rules.write_text("redirect\n")
    assert learned(["--rules", rules], ["--via", "squid"]) == upstream_id("squid")
    rules.write_text("redirect via tor port 2\n")
    assert learned(["--rules", rules], ["--via", "squid"]) == upstream_id("corp")
    result = run(["--via", "tor"], ["--via", "squid"], loaded.bystander)
    assert result.status == 125 and "would not learn the upstream" in result.err


# AF_UNSPEC ends the connection, and the socket can connect again.
AGAIN = """
import ctypes, socket, sys
sock = socket.socket()
for address, port in zip(sys.argv[1::2], sys.argv[2::2]):
    sock.connect((address, int(port)))
    assert ctypes.CDLL(None).connect(sock.fileno(), bytes(16), 16) == 0
"""


def test_run_with_a_socket_that_connects_again(loaded, binary, ctl, asked):
    """What an earlier connect() asked for is taken back. To see it fail: let advise() in
    bpf/attempt.bpf.h return if the rule names no upstream."""
    load_rules(loaded, ctl, "default redirect via corp")
    rules = loaded.directory / "own"
    rules.write_text("redirect via squid port 1\n")
    words = [word for port in (1, 2, 1) for word in (SERVER, port)]
    loaded.run(*of_rules(loaded, binary, ["--rules", rules], sys.executable, "-c", AGAIN, *words),
               place=loaded.client).succeeded()
    assert [asked.accept() for _ in range(3)] == [
        (1, upstream_id("squid")), (2, upstream_id("corp")), (1, upstream_id("squid"))]


def test_run_to_loopback(loaded, binary, ctl, asked):
    """The command's rules apply to a loopback address only if they name it. If it is the host's
    that are redirected, they have the host's upstream, and no trace of an earlier connect().

    To see it fail: let advise() in bpf/attempt.bpf.h ignore named_only, or make_policy() in
    loader/load/instance.c leave out advised_dir.
    """
    load_rules(loaded, ctl, "redirect via corp to 127.0.0.1", "default redirect")
    rules = loaded.directory / "own"
    rules.write_text("redirect via squid to 127.0.0.1 port 1\n")
    own, local = ["--via", "tor", "--rules", rules], "127.0.0.1"
    expected = [((local, 1), "squid"), ((local, 2), "corp"), ((SERVER, 3), "tor")]

    def run(options, script, *addresses):
        words = [word for address in addresses for word in address]
        loaded.run(*of_rules(loaded, binary, options, sys.executable, "-c", script, *words),
                   place=loaded.client).succeeded()
        return [asked.accept() for _ in addresses]

    addresses = [address for address, _ in expected]
    assert run(own, ATTEMPT, *addresses) == [
        (port, upstream_id(name)) for (_, port), name in expected]
    found = explained(loaded, binary, own, *addresses, place=loaded.client)
    assert [each.get("upstream") for each in found] == [name for _, name in expected]
    assert run(["--via", "tor"], AGAIN, (SERVER, 4), (local, 5)) == [
        (4, upstream_id("tor")), (5, upstream_id("corp"))]


def test_run_refused(bed, binary):
    """--via needs a relay that can learn the upstream, and something that is redirected."""
    def refused(options, *needles, status=125, place=bed.bystander, **program):
        bed.run(*of_rules(bed, binary, options, "true"), place=place, **program).refused(
            *needles, status=status)

    refused(["--via", "tor"], "nothing is loaded")
    bed.load()
    refused(["--via", "a.b"], "'a.b' is not the name of an upstream", status=2)
    refused(["--via", "a", "--observe"], "--observe", status=2)
    rules = bed.directory / "own"
    rules.write_text("direct port 1\ndefault refuse\n")
    refused(["--via", "tor", "--rules", rules], "redirect nothing")
    refused(["--via", "tor", "--pin-dir", bed.pins.path / "none"], "--pin-dir", place=bed.client)


def test_negative_cache(loaded, binary, ctl, asked):
    """What one upstream cannot reach, another one may. explain looks where connect() does, also for
    the upstream of a command. To see it fail: leave the upstream out of failed_key in
    bpf/attempt.bpf.h, or in gather_history() of loader/ctl/gather.c; let gather_rules() of the
    latter ignore what is advised."""
    load_rules(loaded, ctl, f"redirect via squid to {SERVER} port 1 uid 1", "default redirect")
    cookie = loaded.run_in(netns_cookie)
    with loaded.pins.open("map_failed") as failed:
        failed.update(FAILED_KEY.pack(cookie, b"\xff\xff", socket.inet_aton(SERVER), 1, 0,
                                      upstream_id("squid")),
                      FAILED.pack(2**63, errno.ETIMEDOUT, 0))

    def connect(uid):
        os.setresuid(uid, uid, uid)
        with socket.socket() as sock:
            return sock.connect_ex((SERVER, 1))
    assert loaded.run_in(connect, 0) == 0
    assert loaded.run_in(connect, 1) == errno.ETIMEDOUT
    assert asked.accept() == (1, 0)

    def verdicts(via):
        return [(each["verdict"], each.get("errno")) for each in explained(
            loaded, binary, ["--via", via], (SERVER, 1), place=loaded.client)]
    assert verdicts("squid") == [("refuse", "ETIMEDOUT")]
    assert verdicts("tor") == [("redirect", None)]


def netns_cookie():
    with socket.socket() as sock:
        return sock.getsockopt(socket.SOL_SOCKET, 71, 8)


KEPT = """
import signal, socket, sys
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))
signal.pause()
"""


def test_connections(loaded, binary, ctl, asked):
    """connections and top show the upstream, also one that a command asks for. To see it fail:
    let add_connection() of top_source.c not call upstream_names_set()."""
    load_rules(loaded, ctl, f"redirect via squid to {SERVER} port 1 name web",
               f"redirect to {SERVER} port 2")
    for port in (1, 2):
        loaded.connect((SERVER, port))
    assert asked.serve(2) == {1: upstream_id("squid"), 2: 0}
    shown = json.loads(ctl("connections", "--json").succeeded().out)["connections"]
    assert [(each["destination"]["port"], each.get("upstream")) for each in shown] == [
        (1, "squid"), (2, None)]
    [line] = ctl("connections", "--port", 1).succeeded().out.splitlines()[1:]
    assert " web via squid " in line
    words = [sys.executable, "-c", KEPT, SERVER, 3]
    with programs.Program(*of_rules(loaded, binary, ["--via", "tor"], *words), place=loaded.client,
                          log=loaded.directory / "log") as program:
        assert asked.accept() == (3, upstream_id("tor"))
        [line] = ctl("connections", "--port", 3).succeeded().out.splitlines()[1:]
        assert f" default via #{upstream_id('tor'):08x} " in line
        shown = json.loads(ctl("top", *DELAY, "--once", "--json").succeeded().out)["lines"]
        assert {each["destination"]["port"]: each.get("upstream") for each in shown} == {
            1: "squid", 2: None, 3: f"#{upstream_id('tor'):08x}"}
        program.signal(signal.SIGKILL)


def test_watch(loaded, ctl, asked, watch):
    """To see it fail: let on_started() in loader/ctl/watch.c not call upstream_names_set()."""
    load_rules(loaded, ctl, f"redirect via squid to {SERVER} port 1 name web")
    objects, text = watch(), watch(form=())
    loaded.connect((SERVER, 1))
    asked.accept()
    [found] = objects.wait("connect")
    assert (found["verdict"], found["rule"], found["upstream"]) == ("redirected", "web", "squid")
    host.wait_until(lambda: len(list(text.complete_lines())) > 1, "the connection is printed", 10)
    assert f"{SERVER}:1: redirected via squid, rule web; id " in list(text.complete_lines())[1]
