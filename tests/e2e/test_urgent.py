# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Urgent data (MSG_OOB): the bytes around it, the byte itself and its mark arrive, with small
messages and in a spliced bulk flow, which stops at each mark.

If a second urgent byte follows before the first was read, the first becomes an ordinary byte,
with a relay or without. So tests of several bytes wait for each mark before they send the next.
"""

import fcntl
import select
import socket
import struct
import termios
import threading

import pytest

import host
import wire

SIOCATMARK = 0x8905
BULK = 1 << 20


@pytest.fixture(params=["client", "server"])
def ends(request, proxied):
    """Sender and receiver of a relayed connection."""
    client, server = proxied.pair()
    return (client, server) if request.param == "client" else (server, client)


def read_inline(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)


def at_mark(sock):
    return struct.unpack("i", fcntl.ioctl(sock, SIOCATMARK, bytes(4)))[0] == 1


def queued(sock):
    return struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, bytes(4)))[0]


def send_around(sock, urgent=b"!", before=b"before", after=b"after"):
    sock.sendall(before)
    sock.send(urgent, socket.MSG_OOB)
    sock.sendall(after)


def test_receiver_that_reads_it_inline(ends):
    """Fails if the relay's sockets have no SO_OOBINLINE, or if it sends without MSG_OOB."""
    one, other = ends
    read_inline(other)
    send_around(one)
    assert wire.read_exactly(other, 6) == b"before"
    host.wait_until(lambda: queued(other) == 6, "the rest is here")
    assert at_mark(other)
    assert wire.read_exactly(other, 6) == b"!after"
    one.shutdown(socket.SHUT_WR)
    assert wire.ended_by(other) == wire.EOF


def test_receiver_that_reads_it_apart(ends):
    """Fails if the relay sends it without MSG_OOB: it is in the stream then."""
    one, other = ends
    send_around(one)
    poll = select.poll()
    poll.register(other, select.POLLPRI)
    assert poll.poll(wire.TIMEOUT * 1000), "no urgent byte"
    assert other.recv(1, socket.MSG_OOB) == b"!"
    one.shutdown(socket.SHUT_WR)
    assert wire.read_to_end(other) == (b"beforeafter", wire.EOF)


def test_nothing_but_urgent_bytes(ends):
    """Each arrives although nothing follows it. Fails if server_fd has no SO_OOBINLINE."""
    one, other = ends
    read_inline(other)
    for byte in (b"1", b"2", b"3", b"4"):
        one.send(byte, socket.MSG_OOB)
        host.wait_until(lambda: queued(other) == 1, "the byte is here")
        assert at_mark(other)
        assert other.recv(2) == byte
    wire.exchange(other, one)


@pytest.mark.parametrize("last", [b"", b"after"], ids=["", "more-behind-it"])
@pytest.mark.parametrize("how", [wire.EOF, wire.RESET])
def test_end_behind_it(ends, how, last):
    one, other = ends
    read_inline(other)
    send_around(one, after=last)
    if how == wire.EOF:
        one.close()
        assert wire.read_to_end(other) == (b"before!" + last, wire.EOF)
    else:
        host.wait_until(lambda: queued(other) == 7 + len(last), "it is here")
        wire.reset(one)
        assert wire.read_to_end(other)[1] == wire.RESET


def queue_at_relay(bed, one, pieces):
    """Sends the pieces to a stopped relay, so that they are all in its queue when it continues."""
    with bed.relay.stopped():
        for piece, flags in pieces:
            assert one.send(piece, flags) == len(piece)


@pytest.mark.parametrize("options", [(), ("--pipe-size", "0")], ids=["spliced", "copied"])
@pytest.mark.parametrize("sender", ["client", "server"])
@pytest.mark.parametrize("fin", [False, True], ids=["open", "fin"])
def test_in_bulk(loaded, options, sender, fin):
    """Fails if splice_some() takes 0 for EOF (fin: up to a MiB is lost), or waits at EAGAIN (open:
    bytes after the mark never come, and the relay spins)."""
    relay = loaded.start_relay("--workers", 1, "--buffer-size", "4K", *options)
    ends = loaded.pair()
    one, other = ends if sender == "client" else ends[::-1]
    read_inline(other)
    got, end = bytearray(), []

    def read():
        while len(got) < BULK + 16_001 and (chunk := other.recv(1 << 16)):
            got.extend(chunk)
        end.append(wire.ended_by(other) if fin else None)

    reader = threading.Thread(target=read)
    reader.start()
    one.sendall(b"a" * BULK)
    host.wait_until(lambda: len(got) == BULK, "there is room at the relay")
    queue_at_relay(loaded, one, [(b"b" * 8_000, 0), (b"!", socket.MSG_OOB), (b"c" * 8_000, 0)])
    if fin:
        one.shutdown(socket.SHUT_WR)
    reader.join()
    assert got == b"a" * BULK + b"b" * 8_000 + b"!" + b"c" * 8_000
    assert end == [wire.EOF if fin else None]
    if not fin:
        wire.exchange(other, one)
    used = host.settled(lambda: round(relay.cpu_seconds(), 2), "it comes to rest")
    # A spin takes all of a CPU, or half of one that is shared. An emulated one is slow at rest too.
    host.stays_true(lambda: relay.cpu_seconds() - used < 0.15, "the relay is quiet", 0.3)


def test_many_in_bulk(proxied):
    """In both directions at once, with each mark in another place: no byte is lost, and each urgent
    byte is in its place. Fails as test_in_bulk."""
    ends = proxied.pair()
    got = [bytearray(), bytearray()]
    pieces = [bytes([65 + n % 26]) * (1 + n * 7919 % 70_000) for n in range(60)]

    def send(sock):
        for piece in pieces:
            sock.sendall(piece)
            sock.send(b"!", socket.MSG_OOB)
        sock.shutdown(socket.SHUT_WR)

    def read(sock, to):
        while chunk := sock.recv(1 << 16):
            to += chunk

    threads = []
    for number, sock in enumerate(ends):
        read_inline(sock)
        threads += [threading.Thread(target=send, args=(sock,)),
                    threading.Thread(target=read, args=(sock, got[number]))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [bytearray(b"!".join(pieces) + b"!")] * 2
