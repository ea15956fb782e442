# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Rules about UDP: what is refused, how, and that nothing else is disturbed."""

import errno
import json
import os
import signal
import socket
import struct
import threading
from functools import partial
from pathlib import Path

import pytest

import host
import host6
import wire
from harness import SERVER, SERVER2
from host6 import SERVER6, mapped
from maps import Layout, bpftool, load_loopback_filter, load_sendmsg4_denial
from test_load import SCOPE_HOOKS, UDP_HOOKS, links
from tproxyctl import binary, ctl, doctor  # fixtures too

UDP_CORK = 1
GUARDED_HOOKS = sorted([*SCOPE_HOOKS, *UDP_HOOKS])
QUIC = "refuse udp port 443\n"
NAME = "both.example"


@pytest.fixture
def guard(bed, ctl):
    """guard(text) puts these rules in force."""
    file = bed.directory / "rules"

    def load(text):
        file.write_text(text)
        ctl("rules", "load", file).succeeded()

    return load


@pytest.fixture
def guarded(bed, guard):
    """A bed without a relay, in whose scope QUIC is refused."""
    host6.give_addresses(bed)
    bed.load()
    guard(QUIC)
    return bed


class Server:
    """A UDP socket that counts what reaches it."""

    def __init__(self, bed, address, port):
        self.bed = bed
        with bed.server_net.inside():
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            self.socket = bed.keep(socket.socket(family, socket.SOCK_DGRAM))
            self.socket.bind((address, port))
        self.socket.settimeout(wire.TIMEOUT)

    @property
    def address(self):
        return self.socket.getsockname()[:2]

    def receives(self, data):
        """Asserts that this datagram comes next: those sent before it were refused."""
        assert self.socket.recv(100) == data
        return True


def _outcome(send):
    try:
        send()
    except OSError as error:
        return error.errno
    return None


def _socket(address):
    return socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET,
                         socket.SOCK_DGRAM)


def send_to(address, data=b"unconnected"):
    """Returns the errno, or None."""
    with _socket(address) as sock:
        return _outcome(lambda: sock.sendto(data, address))


def send_connected(address, data=b"connected"):
    """connect() succeeds in any case. Returns the errno of send(), or None."""
    with _socket(address) as sock:
        sock.connect(address)
        return _outcome(lambda: sock.send(data))


def send_with_cmsg(address, data=b"cmsg"):
    """As QUIC libraries do for ECN. The kernel then runs sendmsg's hook for a connected socket,
    without an address."""
    level, name = ((socket.IPPROTO_IPV6, socket.IPV6_TCLASS) if ":" in address[0]
                   else (socket.IPPROTO_IP, socket.IP_TOS))
    with _socket(address) as sock:
        sock.connect(address)
        return _outcome(lambda: sock.sendmsg([data], [(level, name, struct.pack("=i", 2))]))


SENDS = {"unconnected": (send_to, errno.ECONNREFUSED), "connected": (send_connected, errno.EPERM),
         "cmsg": (send_with_cmsg, errno.EPERM)}


# --- what is refused


@pytest.mark.parametrize("how", SENDS)
@pytest.mark.parametrize("family", ["ipv4", "ipv6", "mapped"])
def test_refused(guarded, how, family):
    """To see it fail for connected sockets: let udp_egress() pass everything."""
    send, code = SENDS[how]
    if family == "mapped":
        code = errno.ECONNREFUSED  # the kernel passes the peer to sendmsg4's hook
    server = Server(guarded, SERVER6 if family == "ipv6" else SERVER, 443)
    other = Server(guarded, server.address[0], 4433)
    form = mapped if family == "mapped" else lambda address: address
    assert guarded.run_in(send, form(server.address)) == code
    assert guarded.stats()["rule_udp"] == 1
    assert guarded.run_in(send, form(other.address)) is None, "another port"
    assert guarded.run_in(partial(send, data=b"out of scope"), form(server.address),
                          place=guarded.bystander) is None
    assert server.receives(b"out of scope")
    assert guarded.stats()["rule_udp"] == 1


def test_tcp_is_untouched(guarded):
    listener = guarded.listen(port=443)
    assert not guarded.visit(listener).relayed
    assert guarded.stats()["rule_udp"] == 0


@pytest.mark.parametrize("name, code", [("EACCES", errno.EACCES), ("EPERM", errno.EPERM),
                                        ("ENETUNREACH", errno.ENETUNREACH)])
def test_errno_of_the_rule(bed, guard, name, code):
    bed.load()
    guard(f"refuse {name} udp port 53\n")
    assert bed.run_in(send_to, (SERVER, 53)) == code
    assert bed.run_in(send_connected, (SERVER, 53)) == errno.EPERM


def test_loopback_only_if_it_is_named(bed, guard):
    """systemd-resolved listens on 127.0.0.53."""
    bed.load()
    resolver = ("127.0.0.53", 53)
    guard("refuse udp port 53\n")
    assert bed.run_in(send_to, (SERVER, 53)) == errno.ECONNREFUSED
    assert bed.run_in(send_to, resolver) is None
    assert bed.run_in(send_connected, resolver) is None
    guard("refuse udp to 127.0.0.53 port 53\n")
    assert bed.run_in(send_to, resolver) == errno.ECONNREFUSED
    assert bed.run_in(send_connected, resolver) == errno.EPERM


def test_exceptions_and_sets(bed, guard):
    bed.load()
    guard(f"set resolvers = {SERVER2}\nrefuse udp port 53 unless to @resolvers\n")
    for send, code in SENDS.values():
        assert bed.run_in(send, (SERVER, 53)) == code
        assert bed.run_in(send, (SERVER2, 53)) is None


# --- whose datagrams


def _as(change, send, address):
    change()
    return send(address)


def _become(uid=0, gid=0):
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def _rename(name):
    Path("/proc/self/comm").write_text(name)


@pytest.mark.parametrize("condition, change, other", [
    pytest.param("uid 47001", partial(_become, uid=47001), partial(_become, uid=47002), id="uid"),
    pytest.param("gid 47001", partial(_become, gid=47001), partial(_become, gid=47002), id="gid"),
    pytest.param("command chatter", partial(_rename, "chatter"), partial(_rename, "other"),
                 id="command"),
])
@pytest.mark.parametrize("how", SENDS)
def test_of_some_processes(bed, guard, how, condition, change, other):
    """To see it fail for connected sockets: leave out udp_connect()."""
    send, code = SENDS[how]
    bed.load()
    guard(f"refuse udp port 443 {condition}\n")
    assert bed.run_in(_as, change, send, (SERVER, 443)) == code
    assert bed.run_in(_as, other, send, (SERVER, 443)) is None


@pytest.mark.parametrize("how", SENDS)
@pytest.mark.parametrize("form", ["path", "name"])
def test_of_a_cgroup(bed, guard, how, form):
    send, code = SENDS[how]
    inner = bed.scope.child("chatter.service")
    bed.load()
    guard(f"refuse udp port 443 cgroup {inner if form == 'path' else 'name:chatter*'}\n")
    assert bed.run_in(_as, inner.join, send, (SERVER, 443)) == code
    assert bed.run_in(send, (SERVER, 443)) is None


def test_relays_are_exempt(bed, guard):
    bed.load(scopes=[bed.top])
    guard(QUIC)
    for send, code in SENDS.values():
        assert bed.run_in(send, (SERVER, 443)) == code
        assert bed.run_in(send, (SERVER, 443), place=bed.relay_place) is None


def test_refused_by_another_program(guarded):
    """A datagram that a foreign program has refused keeps its error, and no rule counts it. Fails
    if udp_sendmsg() does not ask for the return value."""
    inner = guarded.scope.child("inner")
    place = host.Place(inner, guarded.client_net)
    pin = guarded.directory / "bpf" / "foreign"
    load_sendmsg4_denial(pin)
    bpftool("cgroup", "attach", inner, "cgroup_udp4_sendmsg", "pinned", pin, "multi")
    assert guarded.run_in(send_to, (SERVER, 443), place=place) == errno.EPERM
    assert guarded.stats()["rule_udp"] == 0
    bpftool("cgroup", "detach", inner, "cgroup_udp4_sendmsg", "pinned", pin)
    assert guarded.run_in(send_to, (SERVER, 443), place=place) == errno.ECONNREFUSED
    inner.path.rmdir()


# --- connected sockets


def _connected(address):
    sock = _socket(address)
    sock.connect(address)
    return sock


@pytest.mark.parametrize("condition, refused", [("", True), ("uid 0", True), ("uid 47001", False),
                                                ("gid 0", False), ("command python3", False)])
def test_connected_before_the_rules(bed, guard, condition, refused):
    """The kernel half did not see the connect(), so it knows only the socket's user."""
    bed.load()
    sock = bed.keep(bed.run_in(_connected, (SERVER, 443)))
    guard(f"refuse udp port 443 {condition}\n")
    assert _outcome(lambda: sock.send(b"x")) == (errno.EPERM if refused else None)


def test_rules_change_under_a_connected_socket(guarded, guard):
    server = Server(guarded, SERVER, 443)
    sock = guarded.keep(guarded.run_in(_connected, server.address))
    assert _outcome(lambda: sock.send(b"x")) == errno.EPERM
    guard("refuse udp port 53\n")
    assert _outcome(lambda: sock.send(b"x")) is None
    guard(QUIC)
    assert _outcome(lambda: sock.send(b"x")) == errno.EPERM
    guard("direct to any\n")
    assert _outcome(lambda: sock.send(b"x")) is None


def _connect_again(first, second):
    with _socket(first) as sock:
        sock.connect(first)
        before = _outcome(lambda: sock.send(b"before"))
        sock.connect(second)
        return before, _outcome(lambda: sock.send(b"after"))


def test_connected_again(guarded):
    refused, other = (Server(guarded, SERVER, port).address for port in (443, 4433))
    assert guarded.run_in(_connect_again, refused, other) == (errno.EPERM, None)
    assert guarded.run_in(_connect_again, other, refused) == (None, errno.EPERM)


def test_control_messages_of_a_connected_socket(bed, guard):
    """The hook of sendmsg() gets no address then, and leaves the decision to egress. To see it
    fail: do not ask for the port in udp_sendmsg()."""
    bed.load("--include-loopback")  # 0.0.0.0, which the hook gets, is a loopback address
    guard(f"refuse EACCES udp unless to {SERVER2}\n")
    assert bed.run_in(send_with_cmsg, (SERVER2, 443)) is None
    assert bed.run_in(send_with_cmsg, (SERVER, 443)) == errno.EPERM


def _send_elsewhere(peer, address):
    with _socket(peer) as sock:
        sock.connect(peer)
        return _outcome(lambda: sock.sendto(b"x", address))


def test_connected_socket_sends_elsewhere(guarded):
    assert guarded.run_in(_send_elsewhere, (SERVER, 4433), (SERVER, 443)) == errno.ECONNREFUSED
    assert guarded.run_in(_send_elsewhere, (SERVER, 4433), (SERVER2, 4433)) is None


def _send_while_another_connects(peer, other, sends):
    """Another process connects the same socket to the peer and to @other in turn."""
    with _socket(peer) as sock:
        child = os.fork()
        while child == 0:
            sock.connect(peer)
            sock.connect(other)
        for _ in range(sends):
            _outcome(lambda: sock.send(b"x"))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.parametrize("address", [SERVER, SERVER6])
def test_connected_elsewhere_while_sending(guarded, address):
    """A datagram belongs to the peer at the time of send(), and egress may run after the socket was
    connected elsewhere. To see it fail: leave out udp_read_packet()."""
    server, other = (Server(guarded, address, port) for port in (443, 4433))
    guarded.run_in(_send_while_another_connects, server.address, other.address, 10000)
    guarded.run_in(partial(send_to, data=b"out of scope"), server.address,
                   place=guarded.bystander)
    assert server.receives(b"out of scope")


def _hold_back(peer, leave):
    """Sends what was held back for a peer, after the socket has left it."""
    with _socket(peer) as sock:
        sock.connect(peer)
        sock.setsockopt(socket.IPPROTO_UDP, UDP_CORK, 1)
        sock.send(b"held back")
        leave(sock)
        sock.setsockopt(socket.IPPROTO_UDP, UDP_CORK, 0)


@pytest.mark.parametrize("address", [SERVER, SERVER6])
@pytest.mark.parametrize("leave", ["disconnect", "reconnect"])
def test_held_back_data(guarded, address, leave):
    """To see it fail: leave out udp_read_corked(). An IPv4 socket takes such data along to its new
    peer."""
    server, other = (Server(guarded, address, port) for port in (443, 4433))
    go = wire.disconnect if leave == "disconnect" else lambda sock: sock.connect(other.address)
    guarded.run_in(_hold_back, server.address, go)
    if (address, leave) == (SERVER, "reconnect"):
        assert other.receives(b"held back")
    else:
        assert guarded.stats()["rule_udp"] == 1
    guarded.run_in(partial(send_to, data=b"out of scope"), server.address,
                   place=guarded.bystander)
    assert server.receives(b"out of scope")


# --- what must not be disturbed


def _hosts(bed, *lines):
    file = bed.directory / "hosts"
    file.write_text("\n".join(lines) + "\n")
    return file


def in_mounts(bed, mounts, *argv):
    """Runs a program that sees other files at these paths."""
    binds = "".join(f"mount --bind {source} {target} && " for target, source in mounts.items())
    return bed.run("unshare", "--mount", "sh", "-c", binds + 'exec "$@"', "sh", *argv)


_ORDER = """import socket, sys
for port in 443, 80:
    print([a[4][0] for a in socket.getaddrinfo(sys.argv[1], port, type=socket.SOCK_DGRAM)])
"""


def test_getaddrinfo_keeps_its_order(bed, guard):
    """glibc connects a UDP socket to each address, and sorts by what it learns. To see it fail:
    refuse in udp_connect()."""
    bed.load()
    hosts = _hosts(bed, f"{SERVER} {NAME}", f"2001:db8::1 {NAME}")  # no route to the second one

    def order():
        return in_mounts(bed, {"/etc/hosts": hosts}, "/usr/bin/python3", "-c", _ORDER,
                         NAME).succeeded().out.splitlines()

    before = order()
    assert before == [f"['{SERVER}', '2001:db8::1']"] * 2
    guard(QUIC)
    assert order() == before
    assert bed.stats()["rule_udp"] == 0


def _answer(query):
    """A DNS response: one address."""
    return (query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + query[12:].split(b"\0\0\1\0\1")[0] +
            b"\0\0\1\0\1" + b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton("192.0.2.7"))


def _serve_dns(address):
    listener = socket.create_server(address)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(address)

    def serve_udp():
        while True:
            query, peer = udp.recvfrom(512)
            udp.sendto(_answer(query), peer)

    threading.Thread(target=serve_udp, daemon=True).start()
    while True:
        conn, _ = listener.accept()
        with conn:
            size, = struct.unpack("!H", wire.read_exactly(conn, 2))
            answer = _answer(wire.read_exactly(conn, size))
            conn.sendall(struct.pack("!H", len(answer)) + answer)


@pytest.mark.needs("getent")
def test_resolver_of_libc(bed, guard):
    """A real program: by UDP it gets no answer, and by TCP it does."""
    bed.load()
    bed.task(_serve_dns, (SERVER, 53), place=bed.server)
    switch = bed.directory / "nsswitch.conf"
    switch.write_text("hosts: dns\n")
    resolv = bed.directory / "resolv.conf"

    def look_up(options=""):
        resolv.write_text(f"nameserver {SERVER}\noptions timeout:1 attempts:1 {options}\n")
        return in_mounts(bed, {"/etc/resolv.conf": resolv, "/etc/nsswitch.conf": switch},
                         "getent", "ahostsv4", "name.example").out

    assert "192.0.2.7" in look_up()
    guard("refuse udp port 53\n")
    assert look_up() == ""
    assert bed.stats()["rule_udp"] > 0
    assert "192.0.2.7" in look_up("use-vc")


# --- the links


def test_attached_only_while_a_rule_is_about_udp(bed, guard):
    """To see it fail: let on_demand_needs() return ~0."""
    bed.load(scopes=[bed.scope])
    assert links(bed.pins, bed.scope) == SCOPE_HOOKS
    guard("refuse to 192.0.2.1\n")
    assert links(bed.pins, bed.scope) == SCOPE_HOOKS
    guard(QUIC)
    assert links(bed.pins, bed.scope) == GUARDED_HOOKS
    bed.load(scopes=[bed.scope, bed.outside])
    assert links(bed.pins, bed.scope) == links(bed.pins, bed.outside) == GUARDED_HOOKS
    assert bed.run_in(send_to, (SERVER, 443), place=bed.bystander) == errno.ECONNREFUSED
    bed.load(scopes=[bed.outside])
    assert links(bed.pins, bed.scope) == [] and links(bed.pins, bed.outside) == GUARDED_HOOKS
    guard("refuse to 192.0.2.1\n")
    assert links(bed.pins, bed.outside) == SCOPE_HOOKS
    bed.load(scopes=[bed.scope])
    assert links(bed.pins, bed.scope) == SCOPE_HOOKS


def test_load_detaches_udp_while_connections_run(proxied, guard):
    """Other links of a dropped scope serve its connections, and stay."""
    guard(QUIC)
    proxied.pair()
    proxied.load(scopes=[proxied.outside])
    assert not set(UDP_HOOKS) & set(links(proxied.pins, proxied.scope))
    assert "sockops" in links(proxied.pins, proxied.scope)


def test_doctor_knows_them(proxied, guard, doctor):
    guard(QUIC)
    doctor().fine()
    proxied.pins.remove_link("egress", proxied.scope)
    doctor().only("error", "links", "egress", proxied.scope)
    proxied.load()
    doctor().fine()


def test_doctor_finds_needless_links(guarded, doctor):
    """doctor finds the links that a process left because it died before it had detached them."""
    mask = Layout(guarded.pins.path / "map_rules_active").pack(needs=b"\xff" * 4)
    with guarded.pins.open("map_rules_active") as active:
        value = active.lookup(bytes(4))
        active.update(bytes(4), bytes(0 if masked else byte for byte, masked
                                      in zip(value, mask, strict=True)))
    findings = doctor().about("links", "warning")
    assert sorted(finding["what"].split()[0] for finding in findings) == UDP_HOOKS
    guarded.load()
    assert not doctor().about("links", "warning")
    assert links(guarded.pins, guarded.scope) == SCOPE_HOOKS


def test_rules_that_would_stop_a_foreign_program(bed, guard, ctl):
    """Attached above, without BPF_F_ALLOW_MULTI. Fails if on_demand.c does not look for it."""
    bed.load()
    pin = bed.directory / "bpf" / "foreign"
    load_loopback_filter(pin, "egress", passes=False)
    bpftool("cgroup", "attach", bed.top, "cgroup_inet_egress", "pinned", pin, "override")
    file = bed.directory / "rules"
    try:
        file.write_text(QUIC)
        result = ctl("rules", "load", file)
        assert result.status == 1 and "egress" in result.err and "run this first" in result.err
        assert links(bed.pins, bed.scope) == SCOPE_HOOKS
        assert bed.run_in(send_to, (SERVER, 443)) is None
    finally:
        bpftool("cgroup", "detach", bed.top, "cgroup_inet_egress", "pinned", pin)
    guard(QUIC)


def test_load_with_rules(bed):
    """tproxy-load --rules: enforced as soon as it is loaded, also where it was not before."""
    file = bed.directory / "rules"
    file.write_text(QUIC)
    bed.load("--rules", file)
    assert links(bed.pins, bed.scope) == GUARDED_HOOKS
    for send, code in SENDS.values():
        assert bed.run_in(send, (SERVER, 443)) == code
    file.write_text("direct to any\n")
    bed.load("--rules", file)
    assert links(bed.pins, bed.scope) == SCOPE_HOOKS


def test_rules_taken_back(bed, guard, ctl):
    """The links go and return with the rules."""
    bed.load()
    guard(QUIC)
    other = bed.directory / "other"
    other.write_text("direct to any\n")
    assert ctl("rules", "load", other, "--confirm", "1s").status == 1
    assert links(bed.pins, bed.scope) == GUARDED_HOOKS
    assert bed.run_in(send_to, (SERVER, 443)) == errno.ECONNREFUSED
    ctl("rules", "unload").succeeded()
    assert links(bed.pins, bed.scope) == SCOPE_HOOKS
    assert bed.run_in(send_to, (SERVER, 443)) is None


def test_rule_counts_datagrams(guarded, ctl):
    for send, _ in SENDS.values():
        guarded.run_in(send, (SERVER, 443))
    stats = json.loads(ctl("rules", "stats", "--json").succeeded().out)
    assert [rule["hits"] for rule in stats["rules"]] == [3]
    assert guarded.stats()["rule_udp"] == 3
    assert "UDP datagrams refused by a rule" in ctl("status").succeeded().out
