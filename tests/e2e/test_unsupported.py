# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Sockets that cannot be redirected, or whose meaning would change: direct, as without tproxy, or
the policy's answer. Never a hang, and never a relayed connection in place of an authenticated
one."""

import errno
import socket
import struct
from functools import partial

import pytest

import host
import host6
import wire
from harness import CLIENT

POLICIES = pytest.mark.parametrize("policy", [[], ["--fail-closed"]], ids=["open", "closed"])
TCP_MD5SIG, TCP_REPAIR, TCP_AO_ADD_KEY = 14, 19, 38
TCP_FASTOPEN_CONNECT, TCP_FASTOPEN_NO_COOKIE = 30, 34
IP_TRANSPARENT, IP_OPTIONS = 19, 4
FOREIGN = "192.0.2.99"


def sign(sock, address):
    """RFC 2385: segments to and from that address are signed."""
    peer = struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(address)).ljust(128, b"\0")
    sock.setsockopt(socket.SOL_TCP, TCP_MD5SIG,
                    peer + struct.pack("=BBHi80s", 0, 0, 6, 0, b"secret"))


def sign_ao(sock, address):
    """RFC 5925. Returns false if the kernel is built without it."""
    peer = struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(address)).ljust(128, b"\0")
    key = struct.pack("=128s64siIHBBBBBB80s", peer, b"hmac(sha1)", 0, 0, 0, 32, 100, 100, 0, 0, 6,
                      b"secret")
    try:
        sock.setsockopt(socket.SOL_TCP, TCP_AO_ADD_KEY, key)
    except OSError as error:
        assert error.errno == errno.ENOPROTOOPT, error
        return False
    return True


def connect_prepared(address, prepare, family=socket.AF_INET):
    sock = socket.socket(family)
    sock.settimeout(wire.TIMEOUT)
    prepare(sock)
    sock.connect(address)
    return sock


def assert_policy(bed, policy, listener, prepare, family=socket.AF_INET):
    """Direct or refused, and counted."""
    connect = partial(connect_prepared, listener.getsockname(), prepare, family)
    if policy:
        with pytest.raises(ConnectionRefusedError):
            bed.run_in(connect)
    else:
        client = bed.keep(bed.run_in(connect))
        server, peer = bed.accept(listener)
        assert peer == client.getsockname()
        wire.exchange(client, server)
    assert bed.stats()["unsupported"] == 1 and bed.pins.at_rest()


@POLICIES
def test_md5_signatures(bed, policy):
    """As used by BGP. Fails if is_unsupported() ignores md5sig_info."""
    bed.load(*policy)
    bed.start_relay()
    listener = bed.listen()
    sign(listener, CLIENT)
    address = listener.getsockname()[0]
    assert_policy(bed, policy, listener, lambda sock: sign(sock, address))


def test_md5_key_that_comes_later(proxied):
    """After connect(), and before the first data send the SYN. Fails if client_publish() does not
    call has_keys(): the server gets the data through the relay, unsigned."""
    listener = proxied.listen()
    address = listener.getsockname()

    def prepare():
        sock = socket.socket()
        sock.settimeout(2)
        sock.setsockopt(socket.SOL_TCP, TCP_FASTOPEN_CONNECT, 1)
        sock.setsockopt(socket.SOL_TCP, TCP_FASTOPEN_NO_COOKIE, 1)
        sock.connect(address)
        sign(sock, address[0])
        return sock

    client = proxied.keep(proxied.run_in(prepare))
    with pytest.raises(OSError):
        client.sendall(b"unsigned")
    assert proxied.stats()["aborted"] == 1
    listener.settimeout(0.2)
    with pytest.raises(TimeoutError):
        listener.accept()


@POLICIES
def test_tcp_ao(bed, policy):
    """The successor of MD5 signatures. A kernel without CONFIG_TCP_AO has no such socket: the test
    sees ENOPROTOOPT, and that a connection without a key is redirected. Fails if is_unsupported()
    ignores ao_info; without CONFIG_TCP_AO, if it takes the missing field for a key."""
    bed.load(*policy)
    bed.start_relay()
    listener = bed.listen()
    address = listener.getsockname()[0]
    if sign_ao(listener, CLIENT):
        assert_policy(bed, policy, listener, lambda sock: sign_ao(sock, address))
    else:
        print("this kernel has no TCP-AO: setsockopt(TCP_AO_ADD_KEY) gives ENOPROTOOPT")
        assert bed.visit(listener).relayed and bed.stats()["unsupported"] == 0


@POLICIES
def test_source_of_another_host(bed, policy):
    """IP_TRANSPARENT: answers come from the network. Fails if is_unsupported() ignores
    inet_flags."""
    bed.client_net.ip(f"route add local {FOREIGN}/32 dev lo table 100",
                      "rule add iif tproxy0 table 100")
    bed.server_net.ip(f"route add {FOREIGN}/32 via {CLIENT}")
    bed.load(*policy)
    bed.start_relay()

    def bind_foreign(sock):
        sock.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
        sock.bind((FOREIGN, 0))

    assert_policy(bed, policy, bed.listen(), bind_foreign)


def test_source_route(bed):
    """Fails if is_unsupported() ignores srr: then the SYN is stopped, and counted as aborted."""
    bed.load("--fail-closed")
    bed.start_relay()
    hops = struct.pack("=BBB4s4sB", 131, 11, 4, socket.inet_aton("198.51.100.2"),
                       socket.inet_aton("198.51.100.2"), 0)
    assert_policy(bed, True, bed.listen(),
                  lambda sock: sock.setsockopt(socket.SOL_IP, IP_OPTIONS, hops))


IPV6_MINHOPCOUNT, IP_MINTTL = 73, 21


@POLICIES
@pytest.mark.parametrize("level, name", [(socket.SOL_IP, IP_MINTTL),
                                         (socket.IPPROTO_IPV6, IPV6_MINHOPCOUNT)],
                         ids=["ipv4", "ipv6"])
def test_peer_that_has_to_be_near(bed, policy, level, name):
    """RFC 5082, as used by BGP: segments from further away are dropped, and the relay's have the
    usual TTL. Fails if is_unsupported() ignores min_ttl and min_hopcount."""
    v6 = level == socket.IPPROTO_IPV6
    if v6:
        host6.give_addresses(bed)
    for setting in ("ipv4/ip_default_ttl", "ipv6/conf/all/hop_limit"):
        bed.server_net.sysctl(setting, 255)
    bed.server_net.sysctl("ipv6/conf/tproxy0/hop_limit", 255)
    bed.load(*policy)
    bed.start_relay()
    listener = host6.listen(bed) if v6 else bed.listen()
    assert_policy(bed, policy, listener, lambda sock: sock.setsockopt(level, name, 255),
                  socket.AF_INET6 if v6 else socket.AF_INET)


@POLICIES
def test_port_0(bed, policy):
    """As without tproxy. Fails if decide_caller() does not check for port 0."""
    bed.load(*policy)
    bed.start_relay()
    (address,) = [sock.getsockname()[0] for sock in [bed.listen()]]
    codes = [bed.run_in(lambda: socket.socket().connect_ex((address, 0)), place=place)
             for place in (bed.client, bed.bystander)]
    assert codes == [errno.ECONNREFUSED] * 2
    assert bed.stats()["bypass_port0"] == 1 and bed.stats()["redirected"] == 0


@POLICIES
def test_repair(bed, policy):
    """A connection that is restored from a checkpoint sends no SYN. Fails if decide_socket()
    ignores repair."""
    bed.load(*policy)
    bed.start_relay()
    listener = bed.listen()

    def restore():
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_TCP, TCP_REPAIR, 1)
            code = sock.connect_ex(listener.getsockname())
            return code, sock.getsockname()[0], sock.getpeername() == listener.getsockname()

    assert bed.run_in(restore) == (0, CLIENT, True)
    assert bed.stats()["bypass_repair"] == 1 and bed.stats()["redirected"] == 0
    host.wait_until(bed.pins.at_rest, "nothing is left")
