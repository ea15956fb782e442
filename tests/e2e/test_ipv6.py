# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""IPv6: what is redirected, IPv4-mapped addresses, hosts without IPv6, and programs that use it."""

import errno
import os
import socket
import struct

import pytest

import host
import host6
import wire
from harness import CLIENT, SERVER
from host6 import CLIENT6, LINK_LOCAL_SERVER, SERVER6, SERVER6_2, mapped, plain

FAIL_OPEN = pytest.param([], id="fail-open")
FAIL_CLOSED = pytest.param(["--fail-closed"], id="fail-closed")
SO_ORIGINAL_DST = 80


@pytest.fixture
def bed4(bed):
    """Without IPv6 addresses."""
    return bed


@pytest.fixture
def bed6(bed):
    host6.give_addresses(bed)
    return bed


@pytest.fixture
def loaded6(bed6):
    bed6.load()
    return bed6


@pytest.fixture
def proxied6(loaded6):
    loaded6.start_relay()
    return loaded6


# --- what is redirected


def test_redirected(proxied6):
    """To see it fail: leave connect6 out of common/objects.c, or getpeername6."""
    listener = host6.listen(proxied6)
    visit = host6.visit(proxied6, listener)
    assert visit.relayed and proxied6.stats()["redirected"] == 1
    assert visit.client.getpeername() == listener.getsockname()
    assert proxied6.relay.connections_to((f"[{SERVER6}]", listener.getsockname()[1])) == []
    visit.client.close()
    visit.server.close()
    host.wait_until(proxied6.pins.at_rest, "nothing is left")
    host.wait_until(lambda: f"-> [{SERVER6}]:{listener.getsockname()[1]}" in proxied6.relay.text(),
                    "the relay names the destination")


def test_maps_during_a_connection(proxied6):
    """To see it fail: swap two words in load_words() or store_words()."""
    listener = host6.listen(proxied6)
    client = host6.visit(proxied6, listener).client

    def endpoint(value):
        return socket.inet_ntop(socket.AF_INET6, bytes(value["addr"])), value["port"]

    (sock,) = (entry["value"] for entry in proxied6.pins.dump("map_socks"))
    assert endpoint(sock["dst"]) == plain(listener.getsockname())
    assert endpoint(sock["src"]) == plain(client.getsockname())
    (port,) = (entry["key"] for entry in proxied6.pins.dump("map_ports"))
    assert endpoint(port["src"]) == plain(client.getsockname())
    (config,) = (entry["value"] for entry in proxied6.pins.dump("map_config"))
    listen = config["listen"][1]
    assert endpoint({**listen, "port": listen["ports"][0]}) == host6.relay_address(proxied6.relay)
    assert port["dst"]["port"] in listen["ports"][:listen["n_ports"]]


def test_destinations_are_not_mixed_up(proxied6):
    """Both families at once, with the same ports at each address: every connection gets its own
    destination."""
    v6 = [host6.listen(proxied6, address) for address in (SERVER6, SERVER6_2)]
    v4 = [proxied6.listen(SERVER, listener.getsockname()[1]) for listener in v6]
    listeners = v6 + v4

    def connect_all():
        targets = [listener.getsockname() for listener in v6] + [
            mapped(listener.getsockname()) for listener in v4]
        return [host6.connect(target) for _ in range(8) for target in targets]

    clients = [proxied6.keep(client) for client in proxied6.run_in(connect_all)]
    for number, client in enumerate(clients):
        client.sendall(struct.pack("=I", number))
    for index, listener in enumerate(listeners):
        numbers = []
        for _ in range(8):
            server, _ = proxied6.accept(listener)
            numbers += struct.unpack("=I", wire.read_exactly(server, 4))
        assert sorted(numbers) == list(range(index, len(clients), len(listeners)))


def test_out_of_scope_is_direct(proxied6):
    before = proxied6.stats()
    listener = host6.listen(proxied6)
    assert not host6.visit(proxied6, listener, place=proxied6.bystander).relayed
    assert proxied6.stats() == before


@pytest.mark.parametrize("policy", [FAIL_OPEN, FAIL_CLOSED])
@pytest.mark.parametrize("state", ["no_relay", "no_listener"])
def test_without_a_relay(bed6, policy, state):
    """I2 for IPv6. To see it fail: skip is_our_listener() unless the address is mapped."""
    bed6.load(*policy)
    if state == "no_listener":
        bed6.start_relay().kill()
    listener = host6.listen(bed6)
    before = bed6.stats()
    if policy:
        assert bed6.run_in(host6.errno_of, listener.getsockname()) == errno.ECONNREFUSED
    else:
        assert not host6.visit(bed6, listener).relayed
    after = bed6.stats()
    assert after[state] == before[state] + 1
    assert after["refused"] == before["refused"] + bool(policy)


def test_full_map_is_not_redirected(proxied6):
    """I1. To see it fail: ignore the result of record()."""
    listener = host6.listen(proxied6)
    with proxied6.pins.open("map_socks") as socks:
        socks.fill()
        assert not host6.visit(proxied6, listener).relayed
        socks.empty()
    assert proxied6.stats()["map_full"] == 1
    assert host6.visit(proxied6, listener).relayed


# --- IPv4-mapped addresses on an IPv6 socket


def test_mapped_is_relayed_over_ipv4(proxied6):
    """As Java, Go and dual-stack Python connect: the server sees IPv4, the program the peer
    that it asked for.

    To see it fail: choose the IPv6 listener for every connect6, or answer getpeername6 with the
    address of the relay.
    """
    listener = proxied6.listen()
    visit = host6.visit(proxied6, listener, mapped(listener.getsockname()))
    assert visit.relayed
    assert visit.client.getpeername()[:2] == mapped(listener.getsockname())
    assert visit.client.getsockname()[0].startswith("::ffff:127.")
    assert len(visit.server.getpeername()) == 2, "IPv4 at the server"
    visit.client.close()
    visit.server.close()
    host.wait_until(proxied6.pins.at_rest, "nothing is left")
    host.wait_until(lambda: proxied6.relay.connections_to(listener.getsockname()), "logged")


def test_mapped_without_ipv6_routes(bed4):
    """On a host without IPv6 mapped addresses work as IPv4."""
    bed4.load()
    bed4.start_relay()
    listener = bed4.listen()
    visit = host6.visit(bed4, listener, mapped(listener.getsockname()))
    assert visit.relayed and visit.client.getpeername()[:2] == mapped(listener.getsockname())


def test_mapped_loopback(proxied6):
    listener = proxied6.listen("127.0.0.1", netns=proxied6.client_net)
    address = mapped(listener.getsockname())
    assert not host6.visit(proxied6, listener, address).relayed
    assert proxied6.stats()["bypass_loopback"] == 1
    proxied6.load("--include-loopback")
    assert host6.visit(proxied6, listener, address).relayed


def test_mapped_on_a_socket_for_ipv6_only(proxied6):
    """The kernel's own errno, and the record is deleted."""
    address = mapped(proxied6.listen().getsockname())
    codes = [proxied6.run_in(host6.errno_of, address, True, place=place)
             for place in (proxied6.client, proxied6.bystander)]
    assert codes[0] == codes[1] != 0
    assert proxied6.pins.at_rest()


# --- addresses of another family, and of another length


def raw_codes(family, address6, address4):
    """The errno of connect(2) with sockaddrs that do not fit the socket."""
    sin = struct.pack("=H2s4s8x", socket.AF_INET, address4[1].to_bytes(2, "big"),
                      socket.inet_aton(address4[0]))
    sin6 = struct.pack("=H2sI16sI", socket.AF_INET6, address6[1].to_bytes(2, "big"), 0,
                       socket.inet_pton(socket.AF_INET6, address6[0]), 0)
    codes = {}
    for name, data in {
            "sin": sin, "long sin": sin.ljust(28, b"\0"), "sin6": sin6,
            "sin6 of RFC 2133": sin6[:24], "short": sin6[:20], "family only": sin6[:2],
            "sin with the bytes of a sin6": sin[:2] + sin6[2:],
            "sin6 with the bytes of a sin": sin6[:2] + sin[2:]}.items():
        with socket.socket(family) as sock:
            sock.settimeout(wire.TIMEOUT)
            codes[name] = wire.raw_connect(sock, data)
    return codes


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["inet", "inet6"])
def test_wrong_family(proxied6, family):
    """The same errno as without tproxy, and nothing stays recorded."""
    address6 = host6.listen(proxied6).getsockname()
    address4 = proxied6.listen().getsockname()
    answers = [proxied6.run_in(raw_codes, family, address6, address4, place=place)
               for place in (proxied6.client, proxied6.bystander)]
    assert answers[0] == answers[1]
    assert errno.EAFNOSUPPORT in answers[1].values() and errno.EINVAL in answers[1].values()
    host.wait_until(proxied6.pins.at_rest, "nothing is left")


# --- loopback, link-local, multicast


@pytest.mark.parametrize("address", ["::1", "::"])
def test_loopback_is_bypassed(proxied6, address):
    """To see it fail: let endpoint_class() return ENDPOINT_ORDINARY for ::1."""
    listener = host6.listen(proxied6, "::1", netns=proxied6.client_net)
    port = listener.getsockname()[1]
    assert not host6.visit(proxied6, listener, (address, port)).relayed
    assert proxied6.stats()["bypass_loopback"] == 1


@pytest.mark.parametrize("address", ["::1", "::"])
def test_loopback_is_included_on_request(bed6, address):
    bed6.load("--include-loopback")
    bed6.start_relay()
    listener = host6.listen(bed6, "::1", netns=bed6.client_net)
    visit = host6.visit(bed6, listener, (address, listener.getsockname()[1]))
    assert visit.relayed
    assert visit.client.getpeername()[:2] == (address, listener.getsockname()[1])


def test_address_of_this_host_is_redirected(proxied6):
    assert host6.visit(proxied6, host6.listen(proxied6, CLIENT6, netns=proxied6.client_net)).relayed


@pytest.mark.parametrize("policy", [FAIL_OPEN, FAIL_CLOSED])
def test_link_local(bed6, policy):
    """Only the client's socket knows its scope: direct or refused, and counted.

    To see it fail: let endpoint_class() return ENDPOINT_ORDINARY for fe80::/10.
    """
    bed6.load(*policy)
    bed6.start_relay()
    with bed6.server_net.inside():
        scope = socket.if_nametoindex(host6.DEVICE)
        listener = bed6.keep(host6.listener((LINK_LOCAL_SERVER, 0, 0, scope)))
    with bed6.client_net.inside():
        scope = socket.if_nametoindex(host6.DEVICE)
    address = (LINK_LOCAL_SERVER, listener.getsockname()[1], 0, scope)
    if policy:
        assert bed6.run_in(host6.errno_of, address) == errno.ECONNREFUSED
    else:
        assert not host6.visit(bed6, listener, address).relayed
    stats = bed6.stats()
    assert stats["link_local"] == 1 and stats["redirected"] == 0


def test_multicast_keeps_its_errno(proxied6):
    """To see it fail: let endpoint_class() return ENDPOINT_ORDINARY for ff00::/8."""
    for count, address in enumerate(("ff02::1", "ff05::1:3", "ff0e::1"), 1):
        codes = [proxied6.run_in(host6.errno_of, (address, 9), place=place)
                 for place in (proxied6.bystander, proxied6.client)]
        assert codes[0] == codes[1] != 0
        assert proxied6.stats()["bypass_multicast"] == count
    assert proxied6.stats()["redirected"] == 0


# --- hosts without IPv6 routes


def test_without_ipv6_routes_connect_fails_at_once(bed4):
    """Programs that try one address after the other fall back to IPv4. Once there are routes,
    the relay offers IPv6 within 2 s.

    To see it fail: let ipv6_is_routed() return true at once, so that a connection to an IPv6
    address seems to succeed. Or do not call it again in registration_check().
    """
    bed4.load()
    bed4.start_relay()
    listener = bed4.listen()
    port = listener.getsockname()[1]

    def first_that_works():
        failures = []
        for family, address in ((socket.AF_INET6, SERVER6), (socket.AF_INET, SERVER)):
            with socket.socket(family) as sock:
                code = sock.connect_ex((address, port))
                if not code:
                    return failures, sock.getpeername()
                failures.append(code)
        return failures, None

    assert bed4.run_in(first_that_works) == ([errno.ENETUNREACH], (SERVER, port))
    stats = bed4.stats()
    assert stats["redirected"] == 1 and stats["no_relay"] == 1

    host6.give_addresses(bed4)
    listener = host6.listen(bed4)
    host.wait_until(lambda: host6.visit(bed4, listener).relayed, "IPv6 is offered")

    bed4.client_net.ip("route del 2001:db8::/32", f"route del {host6.NET6} dev {host6.DEVICE}")
    host.wait_until(
        lambda: bed4.run_in(host6.errno_of, listener.getsockname()) == errno.ENETUNREACH,
        "IPv6 is offered no more")


def test_without_ipv6_routes_and_fail_closed(bed4):
    bed4.load("--fail-closed")
    bed4.start_relay()
    assert bed4.run_in(host6.errno_of, (SERVER6, 80)) == errno.ECONNREFUSED
    assert bed4.stats()["refused"] == 1


def test_relay_where_ipv6_is_off(bed4):
    """net.ipv6.conf.all.disable_ipv6=1, which many hosts set: IPv4 is served."""
    for what in ("all", "default", "lo"):
        bed4.client_net.sysctl(f"ipv6/conf/{what}/disable_ipv6", 1)
    bed4.load()
    bed4.start_relay()
    assert bed4.visit(bed4.listen()).relayed
    listener = bed4.listen()
    assert host6.visit(bed4, listener, mapped(listener.getsockname())).relayed


# --- bytes, ends of file, resets (I6)


@pytest.mark.parametrize("kind", ["inet6", "mapped"])
def test_half_close_bulk_and_reset(proxied6, kind):
    """To see it fail: close the whole session at the first EOF."""
    listener = host6.listen(proxied6) if kind == "inet6" else proxied6.listen()
    address = listener.getsockname()
    if kind == "mapped":
        address = mapped(address)

    def ends():
        visit = host6.visit(proxied6, listener, address)
        assert visit.relayed
        return visit.client, visit.server

    client, server = ends()
    question, answer = wire.Stream("question", 8_000_000), wire.Stream("answer", 8_000_000)

    def serve():
        received = wire.receive_stream(server)
        wire.send_stream(server, answer)
        server.close()
        return received

    task = proxied6.task(serve, place=proxied6.server)
    server.close()
    wire.send_stream(client, question)
    assert wire.receive_stream(client) == (answer.size, answer.sha256())
    assert task.result() == (question.size, question.sha256())

    for one, other in (ends(), ends()[::-1]):
        wire.reset(one)
        assert wire.ended_by(other) == wire.RESET


# --- a source of one's own


def test_bound_to_a_source_address(proxied6):
    visit = host6.visit(proxied6, host6.listen(proxied6), source=(CLIENT6, 0))
    assert visit.relayed and visit.client.getsockname()[0] == CLIENT6


def test_bound_to_a_source_port(proxied6):
    visit = host6.visit(proxied6, host6.listen(proxied6), source=("::", 23456))
    assert visit.relayed and visit.client.getsockname()[1] == 23456


def test_mapped_bound_to_a_source(proxied6):
    listener = proxied6.listen()
    visit = host6.visit(proxied6, listener, mapped(listener.getsockname()),
                        source=mapped((CLIENT, 23456)))
    assert visit.relayed and plain(visit.client.getsockname()) == (CLIENT, 23456)


# --- who may ask for the destination


def test_own_original_destination_is_as_before(proxied6):
    """At SOL_IPV6 too, only the relay's sockets have one."""
    address = host6.listen(proxied6).getsockname()

    def ask():
        with host6.connect(address) as sock:
            return [wire.getsockopt(sock, level, SO_ORIGINAL_DST, bytes(28))
                    for level in (socket.SOL_IP, socket.IPPROTO_IPV6)]

    assert proxied6.run_in(ask) == proxied6.run_in(ask, place=proxied6.bystander)


# --- programs


def serve_http(*listeners):
    """Serves one page forever, which ends with the address of the server."""
    def answer(sock):
        sock.recv(1 << 16)
        body = sock.getsockname()[0].encode() + b"\n"
        sock.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    wire.serve_each(answer, *listeners)


@pytest.fixture
def website(proxied6):
    """A page at SERVER6 and SERVER, at one port."""
    v6 = host6.listen(proxied6)
    port = v6.getsockname()[1]
    v4 = proxied6.listen(SERVER, port)
    proxied6.task(serve_http, v6, v4, place=proxied6.server)
    return port


@pytest.mark.needs("curl")
def test_curl(proxied6, website):
    result = proxied6.run("curl", "-6", "-sS", "--max-time", 10, "-w", "%{remote_ip}",
                          f"http://[{SERVER6}]:{website}/")
    assert result.succeeded().out == f"{SERVER6}\n{SERVER6}"
    assert proxied6.stats()["redirected"] == 1


JAVA = """
import java.io.*;
import java.net.*;
import java.nio.ByteBuffer;
import java.nio.channels.SocketChannel;

public class Client {
    public static void main(String[] args) throws Exception {
        for (String host : new String[] { args[0], args[1] }) {
            InetSocketAddress server = new InetSocketAddress(host, Integer.parseInt(args[2]));
            try (Socket socket = new Socket()) {
                socket.connect(server, 5000);
                socket.getOutputStream().write("x".getBytes());
                System.out.println((char) socket.getInputStream().read()
                    + socket.getInetAddress().getHostAddress());
            }
            try (SocketChannel channel = SocketChannel.open(server)) {
                ByteBuffer data = ByteBuffer.wrap("y".getBytes());
                channel.write(data);
                channel.shutdownOutput();
                data.clear();
                channel.read(data);
                InetSocketAddress peer = (InetSocketAddress) channel.getRemoteAddress();
                System.out.println((char) data.get(0) + peer.getAddress().getHostAddress());
            }
        }
    }
}
"""


def echo_servers(bed):
    """One port at SERVER and SERVER6."""
    v6 = host6.listen(bed)
    port = v6.getsockname()[1]
    bed.task(wire.serve_echo, v6, bed.listen(SERVER, port), place=bed.server)
    return port


@pytest.mark.needs("java", "javac")
def test_java(proxied6):
    """Java uses IPv6 sockets: it connects to 198.51.100.2 as ::ffff:198.51.100.2."""
    port = echo_servers(proxied6)
    source = proxied6.directory / "Client.java"
    source.write_text(JAVA)
    result = proxied6.run("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", source, SERVER,
                          SERVER6, port).succeeded()
    assert result.out.split() == [f"x{SERVER}", f"y{SERVER}", f"x{SERVER6}", f"y{SERVER6}"]
    assert proxied6.stats()["redirected"] == 4
    host.wait_until(lambda: len(proxied6.relay.connections()) == 4, "all were relayed")
    assert len(proxied6.relay.connections_to((SERVER, port))) == 2


GO = """
package main

import (
    "fmt"
    "io"
    "net"
    "os"
)

func main() {
    dual := &net.TCPAddr{IP: net.IPv6zero}
    for _, try := range []struct {
        local *net.TCPAddr
        host  string
    }{{nil, os.Args[1]}, {dual, os.Args[1]}, {nil, os.Args[2]}} {
        server, err := net.ResolveTCPAddr("tcp", net.JoinHostPort(try.host, os.Args[3]))
        if err != nil {
            panic(err)
        }
        conn, err := net.DialTCP("tcp", try.local, server)
        if err != nil {
            panic(err)
        }
        conn.Write([]byte("x"))
        conn.CloseWrite()
        data, err := io.ReadAll(conn)
        fmt.Println(string(data), err, conn.RemoteAddr())
        conn.Close()
    }
}
"""


@pytest.mark.needs("go")
@pytest.mark.deadline(90)
def test_go(proxied6):
    """A static program that calls getpeername(); once with an IPv6 socket for an IPv4 address."""
    port = echo_servers(proxied6)
    source, binary = proxied6.directory / "client.go", proxied6.directory / "client"
    source.write_text(GO)
    proxied6.run("go", "build", "-o", binary, source, place=proxied6.bystander, timeout=80,
                 env={"GOCACHE": str(proxied6.directory / "cache"), "GO111MODULE": "off",
                      "GOFLAGS": "", "HOME": os.environ.get("HOME", "/root")}).succeeded()
    result = proxied6.run(binary, SERVER, SERVER6, port).succeeded()
    assert result.out.splitlines() == [f"x <nil> {SERVER}:{port}", f"x <nil> {SERVER}:{port}",
                                       f"x <nil> [{SERVER6}]:{port}"]
    assert proxied6.stats()["redirected"] == 3
