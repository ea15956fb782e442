# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Connections that a rule observes: they go direct, and the relay logs how each of them ended."""

import contextlib
import datetime
import errno
import json
import mmap
import os
import re
import signal
import socket
import struct
import time
from functools import partial

import pytest

import host
import host6
import interest
import maps
import wire
from harness import BLACKHOLE, CLIENT, NOBODY, SERVER
from host6 import SERVER6
from maps import bpftool
from test_entries import ACTIVE_ESTABLISHED_CB
from test_log import config, json_lines, path, reader, reload  # noqa: F401 (fixtures)
from tproxyctl import binary, ctl  # noqa: F401 (fixtures)

SENT = 1  # TPROXY_OBSERVED_SENT
SLOTS, SLOT_SIZE = 16384, 128  # TPROXY_OBSERVED_SLOTS, of tproxy_observed_slot
BUSY = 1 << 63  # TPROXY_OBSERVED_BUSY
KEPT = (1 << 20) // 160  # events in the ring
BPF_ENABLE_STATS = 32
IPPROTO_MPTCP = 262
UNROUTABLE = ("192.0.2.1", 80)
TCP_SYNCNT, TCP_USER_TIMEOUT = 7, 18


def set_rules(bed, *rules):
    """Loads these rules, which begin in line 2."""
    file = bed.directory / "rules"
    file.write_text("\n".join(["# of the test", *rules, ""]))
    bed.load("--rules", file)


@pytest.fixture
def observing(loaded):
    """All connections of the scope are observed, and no relay runs yet."""
    host6.give_addresses(loaded)
    set_rules(loaded, "observe name build")
    return loaded


@pytest.fixture
def logging(observing):
    observing.start_relay("--connection-log", "json")
    return observing


def lines(bed, count=1, relay=None):
    """Waits for this number of lines, and checks that there are no more."""
    relay = relay or bed.relay
    host.wait_until(lambda: len(observed(relay)) >= count, f"{count} lines")
    found = observed(relay)
    assert len(found) == count, found
    return found


def observed(relay):
    return [line for line in json_lines(relay) if line.get("observed")]


@contextlib.contextmanager
def slots_of(bed):
    """map_observed_slots, as memory."""
    with bed.pins.open("map_observed_slots") as entries:
        assert (entries.max_entries, entries.value_size) == (SLOTS, SLOT_SIZE)
        with mmap.mmap(entries.fd, SLOTS * SLOT_SIZE) as slots:
            yield slots


def count_slots(bed):
    with slots_of(bed) as slots:
        return sum(cookie != 0 for cookie, in struct.iter_unpack(f"=Q{SLOT_SIZE - 8}x", slots))


def count_entries(bed):
    return count_slots(bed) + bed.pins.count("map_observed")


def at_rest(bed):
    return count_entries(bed) == 0


def assert_at_rest(bed):
    host.wait_until(lambda: at_rest(bed), "no entry is left")
    assert bed.pins.at_rest()


def text_of(name):
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"


# --- the line


@pytest.mark.parametrize("form", ["ipv4", "ipv6", "mapped"])
def test_line(logging, form):
    """Direct, with process, addresses, exact numbers of bytes, and the rule.

    To see it fail: do not subtract a FIN in event_count_bytes().
    """
    listener = host6.listen(logging) if form == "ipv6" else logging.listen()
    address = listener.getsockname()[:2]
    asked = host6.mapped(address) if form == "mapped" else address
    connect = wire.connect if form == "ipv4" else host6.connect
    client = logging.keep(logging.run_in(partial(connect, asked)))
    server, peer = logging.accept(listener)
    assert host6.plain(peer) == host6.plain(client.getsockname()), "not direct"
    up, down = wire.Stream("up", 3_000_001), wire.Stream("down", 2_000_003)
    task = logging.task(wire.swap_streams, server, down, place=logging.server)
    assert wire.swap_streams(client, up) == (down.size, down.sha256())
    assert task.result() == (up.size, up.sha256())
    connection = wire.connection_id(client)
    server.close()
    client.close()
    line, = lines(logging)
    assert (line["bytes_up"], line["bytes_down"]) == (up.size, down.size)
    assert line["reason"] == "closed" and "errno" not in line
    assert line["client"] == line["from"] == text_of(host6.plain(peer))
    assert line["destination"] == text_of(address)
    assert (line["rule"], line["rule_line"]) == ("build", 2)
    assert line["command"] == "python3" and line["pid"] > 1 and line["uid"] == os.getuid()
    assert line["cgroup_id"] == logging.scope.path.stat().st_ino
    assert line["id"] == connection
    assert line["retransmits"] >= 0 and 0 < line["rtt_min_us"] <= line["rtt_us"] < 10_000_000
    assert line["duration_ms"] < 60000
    ended = datetime.datetime.fromisoformat(line["time"].replace("Z", "+00:00"))
    assert abs(datetime.datetime.now(datetime.timezone.utc) - ended).total_seconds() < 10
    assert_at_rest(logging)


def test_text(observing):
    relay = observing.start_relay()
    visit = observing.visit(observing.listen())
    visit.client.close()
    visit.server.close()
    assert not visit.relayed
    assert relay.says("rule build")
    assert re.search(r"observed 198\.51\.100\.1:\d+ -> 198\.51\.100\.2:\d+: up 6 B, down 6 B, "
                     r"[0-9.]+ s, closed; pid \d+ \(python3\), uid 0, cgroup \d+, id [0-9a-f]+, "
                     r"rtt [0-9.]+ ms, retransmits 0, rule build\n", relay.text())


# --- how a connection ends


def client_closes(client, server):
    client.close()
    assert wire.read_to_end(server)[1] == wire.EOF
    server.close()


def server_closes(client, server):
    server.close()
    assert wire.read_to_end(client)[1] == wire.EOF
    client.close()


def half_closed(client, server):
    client.shutdown(socket.SHUT_WR)
    assert wire.read_to_end(server)[1] == wire.EOF
    server.sendall(b"more")
    server.close()
    assert wire.read_to_end(client) == (b"more", wire.EOF)
    client.close()


def client_resets(client, server):
    wire.reset(client)
    assert wire.read_to_end(server)[1] == wire.RESET


def client_closes_with_data_unread(client, server):
    server.sendall(b"unread")
    host.wait_until(lambda: client.recv(6, socket.MSG_PEEK) == b"unread", "it has come")
    client.close()


def half_closed_with_data_unread(client, server):
    client.shutdown(socket.SHUT_WR)
    assert wire.read_to_end(server)[1] == wire.EOF
    client_closes_with_data_unread(client, server)


def server_resets(client, server):
    wire.reset(server)
    assert wire.read_to_end(client)[1] == wire.RESET
    client.close()


def server_resets_after_its_end(client, server):
    """The client has sent nothing since: it learns of the reset by its next segment."""
    server.shutdown(socket.SHUT_WR)
    assert wire.read_to_end(client)[1] == wire.EOF
    wire.reset(server)
    with pytest.raises(BrokenPipeError):
        while True:
            client.sendall(b"x")
    client.close()


def client_aborts_by_unspec(client, server):
    wire.disconnect(client)
    wire.read_to_end(server)
    client.close()


@pytest.mark.parametrize("end, reason, down", [
    (client_closes, "closed", 6), (server_closes, "closed", 6), (half_closed, "closed", 10),
    (client_resets, "reset by client", 6),
    (client_closes_with_data_unread, "reset by client", 12),
    (half_closed_with_data_unread, "reset by client", 12),
    (server_resets, "reset by server", 6), (server_resets_after_its_end, "reset by server", 6),
    (client_aborts_by_unspec, "reset by client", 6)])
def test_ends(logging, end, reason, down):
    """To see it fail: swap the reasons of observed_end(), or take bytes_received as it is."""
    listener = logging.listen()
    visit = logging.visit(listener)
    assert not visit.relayed
    end(visit.client, visit.server)
    line, = lines(logging)
    assert (line["reason"], line["bytes_down"]) == (reason, down)
    assert line["bytes_up"] == 6 or end is server_resets_after_its_end
    assert_at_rest(logging)


def failed_connect(address, *options, family=socket.AF_INET):
    with socket.socket(family) as sock:
        for option in options:
            sock.setsockopt(*option)
        sock.settimeout(wire.TIMEOUT)
        return sock.connect_ex(address)


def given_up(address):
    with socket.socket() as sock:
        sock.setblocking(False)
        assert sock.connect_ex(address) == errno.EINPROGRESS


def test_refused(logging):
    assert logging.run_in(failed_connect, NOBODY) == errno.ECONNREFUSED
    line, = lines(logging)
    assert line["reason"] == "destination failed" and line["error"] == "ECONNREFUSED"
    assert (line["bytes_up"], line["bytes_down"]) == (0, 0)
    assert line["destination"] == text_of(NOBODY) and line["client"].startswith(CLIENT)
    assert_at_rest(logging)


def test_connect_times_out(logging):
    option = (socket.SOL_TCP, TCP_SYNCNT, 1)
    assert logging.run_in(failed_connect, BLACKHOLE, option) == errno.ETIMEDOUT
    line, = lines(logging)
    assert line["reason"] == "destination failed" and line["error"] == "ETIMEDOUT"
    assert line["retransmits"] > 0 and line["duration_ms"] > 1000
    assert_at_rest(logging)


def test_server_vanishes(logging):
    visit = logging.visit(logging.listen())
    visit.client.setsockopt(socket.SOL_TCP, TCP_USER_TIMEOUT, 500)
    logging.server_net.ip("link set tproxy0 down")
    visit.client.sendall(b"is anybody there")
    line, = lines(logging)
    assert line["reason"] == "timed out" and line["error"] in ("ETIMEDOUT", "EHOSTUNREACH")
    assert line["bytes_up"] in (6, 6 + 16), "the last bytes may not have left this host"
    assert_at_rest(logging)


def test_given_up(logging):
    logging.run_in(given_up, BLACKHOLE)
    line, = lines(logging)
    assert line["reason"] == "given up" and line["destination"] == text_of(BLACKHOLE)
    assert_at_rest(logging)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
def test_fails_before_its_syn(logging, family):
    """sock_release reports a connect() that failed before its SYN; sockops does not see it. To see
    it fail: leave out observe_released()."""
    address = UNROUTABLE if family == socket.AF_INET else ("2001:db9::1", 80)
    code = logging.run_in(partial(failed_connect, address, family=family))
    assert code == errno.ENETUNREACH
    line, = lines(logging)
    assert line["reason"] == "not sent" and line["destination"] == text_of(address)
    assert line["client"] is None and "bytes_up" not in line
    assert_at_rest(logging)


def connect_to_each(*addresses):
    sock = socket.socket()
    codes = [sock.connect_ex(address) for address in addresses]
    sock.settimeout(wire.TIMEOUT)
    return codes, sock


def test_next_attempt_of_the_same_socket(logging):
    """Each attempt has its line. Fails if connect_run() does not call observe_again()."""
    listener = logging.listen()
    codes, client = logging.run_in(connect_to_each, UNROUTABLE, listener.getsockname())
    assert codes == [errno.ENETUNREACH, 0]
    client.close()
    first, second = lines(logging, 2)
    assert (first["reason"], first["destination"]) == ("not sent", text_of(UNROUTABLE))
    assert second["destination"] == text_of(listener.getsockname())
    codes, client = logging.run_in(connect_to_each, NOBODY, listener.getsockname())
    assert codes == [errno.ECONNREFUSED, 0]
    client.close()
    assert [line["reason"] for line in lines(logging, 4)[2:]] == ["destination failed", "closed"]
    assert_at_rest(logging)


def test_deferred_connect(logging):
    """Fast Open: the SYN goes with the first data, some time after connect()."""
    listener = logging.listen()
    client = logging.keep(logging.run_in(wire.connect_deferred, listener.getsockname()))
    client.sendall(b"hello")
    server, _ = logging.accept(listener)
    assert wire.read_exactly(server, 5) == b"hello"
    client_closes(client, server)
    line, = lines(logging)
    assert (line["reason"], line["bytes_up"], line["bytes_down"]) == ("closed", 5, 0)
    assert_at_rest(logging)


def mptcp_visit(address):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP) as sock:
        sock.settimeout(wire.TIMEOUT)
        sock.connect(address)
        sock.sendall(b"hi")
        return wire.read_exactly(sock, 2)


def test_mptcp(logging):
    """The connection is a socket of the kernel, for which sock_release does not run."""
    address, = logging.echo_server()
    assert logging.run_in(mptcp_visit, address) == b"hi"
    line, = lines(logging)
    assert line["reason"] == "closed" and line["destination"] == text_of(address)
    assert_at_rest(logging)


@pytest.mark.parametrize("op, reason", [(maps.TCP_CONNECT_CB, "closed"),
                                        (ACTIVE_ESTABLISHED_CB, "end not seen")])
def test_callback_flags_of_others(bed, op, reason):
    """Another sockops program clears tproxy's flags. After the SYN they are set again; after that
    the sweep finds the entry. To see it fail: leave out observe_established(), or
    sweep_observed()."""
    bed.load()
    pin = bed.directory / "bpf" / "foreign"
    maps.load_sockops(pin, op, 0)
    bpftool("cgroup", "attach", bed.scope, "sock_ops", "pinned", pin, "multi")
    try:
        set_rules(bed, "observe")
        bed.start_relay("--connection-log", "json")
        visit = bed.visit(bed.listen())
        client_closes(visit.client, visit.server)
        line, = lines(bed)
        assert line["reason"] == reason
        assert ("bytes_up" in line) == (reason == "closed")
        assert_at_rest(bed)
    finally:
        bpftool("cgroup", "detach", bed.scope, "sock_ops", "pinned", pin)


# --- entries without a socket


def add_entry(bed, cookie, age_s, flags, netns=None, ends=((SERVER, 80), (SERVER, 80)),
              in_slot=False):
    layout = maps.Layout(bed.pins.path / "map_observed")
    with bed.client_net.inside(), socket.socket() as sock:
        netns = netns or sock.getsockopt(socket.SOL_SOCKET, 71, 8)  # SO_NETNS_COOKIE
    started = time.clock_gettime_ns(time.CLOCK_MONOTONIC) - age_s * 1_000_000_000
    src, dst = (struct.pack("=16sHH", maps.pack_address(address), port, 0)
                for address, port in ends)
    value = layout.pack(started_ns=struct.pack("=Q", started), netns_cookie=netns, src=src,
                        dst=dst, flags=struct.pack("=I", flags))
    if in_slot:
        with bed.pins.open("map_observed_slots") as entries:
            entries.update(struct.pack("=I", cookie % SLOTS),
                           struct.pack("=Q16x", cookie) + value)
    else:
        with bed.pins.open("map_observed") as entries:
            entries.update(struct.pack("=Q", cookie), value)
    if not last_observed(bed):
        set_last_observed(bed, 0)


def last_observed(bed):
    """In seconds, plus 1; 0: nothing is observed."""
    return interest.Interest(bed.pins).observed_s


def set_last_observed(bed, age_s):
    interest.change(bed.pins, observed_s=int(time.monotonic()) + 1 - age_s)


@pytest.mark.parametrize("in_slot", [False, True])
def test_entries_without_a_socket(logging, in_slot):
    """I4: the sweep finds them within seconds, also one whose addresses another socket uses by now.
    To see it fail: leave out sweep_slot() or sweep_hashed(), or the cookie in
    has_observed_socket()."""
    visit = logging.visit(logging.listen())
    # In the slots that are the farthest from the connection's.
    far = (SLOTS // 2 + int(wire.connection_id(visit.client), 16)) % SLOTS
    add_entry(logging, 1 << 40 | far, 20, 0, in_slot=in_slot)
    add_entry(logging, 1 << 41 | far + 1, 20, SENT, in_slot=in_slot)
    add_entry(logging, 1 << 42 | far + 2, 20, SENT,
              ends=(visit.client.getsockname(), visit.client.getpeername()), in_slot=in_slot)
    found = lines(logging, 3)
    assert sorted(line["reason"] for line in found) == ["end not seen"] * 2 + ["not sent"]
    assert logging.stats()["stale"] == 3
    client_closes(visit.client, visit.server)
    assert lines(logging, 4)[3]["reason"] == "closed", "a live one stays"
    assert_at_rest(logging)


def test_live_connections_are_not_swept(logging):
    """The sweep keeps live connections, also those bound to a device, which it cannot look up."""
    def connect_bound(address):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"tproxy0\0")
        sock.settimeout(wire.TIMEOUT)
        sock.connect(address)
        return sock

    listener = logging.listen()
    clients = [logging.keep(logging.run_in(connect, listener.getsockname()))
               for connect in (wire.connect, connect_bound)]
    servers = [logging.accept(listener)[0] for _ in clients]
    host.stays_true(lambda: count_entries(logging) == 2, "they stay", 5)
    for client, server in zip(clients, servers, strict=True):
        client_closes(client, server)
    assert [line["reason"] for line in lines(logging, 2)] == ["closed"] * 2
    assert_at_rest(logging)


def test_end_of_observing(logging):
    """A minute after the last connection the hooks stop looking, not before it has ended. To see
    it fail: call observing_ends() for any number of entries, or never."""
    visit = logging.visit(logging.listen())
    set_last_observed(logging, 61)
    time_before = last_observed(logging)
    host.stays_true(lambda: last_observed(logging) == time_before, "it is open", 3)
    client_closes(visit.client, visit.server)
    lines(logging)
    host.wait_until(lambda: last_observed(logging) == 0, "the sweep has seen an empty map")
    visit = logging.visit(logging.listen())
    client_closes(visit.client, visit.server)
    lines(logging, 2)
    assert last_observed(logging)


# --- who reads


def use(address, count):
    for _ in range(count):
        with wire.connect(address) as sock:
            sock.sendall(b"hi")
            wire.read_exactly(sock, 2)


def test_no_relay(observing):
    """Connections need no relay, and the next relay logs those that have ended before."""
    address, = observing.echo_server()
    observing.run_in(use, address, 3)
    host.wait_until(lambda: at_rest(observing), "they have ended")
    time.sleep(0.4)
    observing.start_relay("--connection-log", "json")
    found = lines(observing, 3)
    ended = datetime.datetime.fromisoformat(found[0]["time"].replace("Z", "+00:00"))
    assert (datetime.datetime.now(datetime.timezone.utc) - ended).total_seconds() > 0.4
    assert observing.stats()["events_lost"] == 0


def refused_often(count):
    for _ in range(count):
        with socket.socket() as sock:
            assert sock.connect_ex(NOBODY) == errno.ECONNREFUSED


@pytest.mark.deadline(60)
def test_full_ring(observing):
    """Events that do not fit are counted. The next reader logs their number, and the one after it
    does not. Fails if event_lose() does not count, or without begin_lost()."""
    count = KEPT + 500
    observing.run_in(refused_often, count, timeout=40)
    host.wait_until(lambda: at_rest(observing), "they have ended")
    lost = observing.stats()["events_lost"]
    assert 500 <= lost < 600
    relay = observing.start_relay("--connection-log", "json")
    assert relay.says(f"{lost} observed connections were not reported")
    lines(observing, count - lost)
    observing.run_in(failed_connect, NOBODY)
    lines(observing, count - lost + 1)
    relay.signal(signal.SIGTERM)
    relay.wait()
    second = observing.start_relay("--connection-log", "json")
    for number in (1, 2):
        observing.run_in(failed_connect, NOBODY)
        lines(observing, number, second)
    assert "not reported" not in second.text()


def test_log_that_nobody_reads(observing, reader):  # noqa: F811
    """Lines wait until the log has room. To see it fail: let connlog_has_room() return true."""
    reader.stop()
    relay = observing.start_relay("--connection-log", "json", out=reader.end)
    observing.run_in(refused_often, 100)
    host.wait_until(reader.is_full, "no more room")
    reader.start()
    lines(observing, 100)
    assert "dropped" not in relay.text()


@contextlib.contextmanager
def full_slots(bed):
    """No connection gets a slot. The sweep leaves slots alone that are being filled in."""
    with slots_of(bed) as slots:
        slots[:] = struct.pack(f"=Q{SLOT_SIZE - 8}x", BUSY | 1) * SLOTS
        try:
            yield
        finally:
            slots[:] = bytes(SLOTS * SLOT_SIZE)


def test_taken_slot(logging, ctl):  # noqa: F811
    """A connection whose slot another one has is observed all the same. To see it fail: leave out
    the last line of observed_find()."""
    listener = logging.listen()
    with full_slots(logging):
        visit = logging.visit(listener)
        assert logging.pins.count("map_observed") == 1
        (one,) = json.loads(ctl("connections", "--json").succeeded().out)["connections"]
        assert one["id"] == wire.connection_id(visit.client)
        client_closes(visit.client, visit.server)
        line, = lines(logging)
        assert line["reason"] == "closed"
    assert_at_rest(logging)


def test_full_map(logging):
    """Connections go direct, and are counted. Fails if observe_begin() does not count."""
    address, = logging.echo_server()
    with full_slots(logging), logging.pins.open("map_observed") as entries:
        value = struct.pack("=Q", time.clock_gettime_ns(time.CLOCK_MONOTONIC)).ljust(
            entries.value_size, b"\0")
        for number in range(entries.max_entries):
            entries.update(struct.pack("=Q", 1 << 63 | number), value)
        logging.run_in(use, address, 3)
        assert logging.stats()["observe_full"] == 3
        # In one line or more: the relay looks once a second.
        host.wait_until(lambda: sum(map(int, re.findall(
            r"(\d+) observed connections were not reported", logging.relay.text()))) == 3,
            "all are reported as missing")
        entries.empty()
    logging.run_in(use, address, 1)
    lines(logging, 1)


def test_one_relay_reads(logging):
    """Each connection has one line, although relays of two network namespaces serve. The second
    one says so, and replaces a killed reader. Fails without the lock in events_open()."""
    address, = logging.echo_server()
    first = logging.relay
    second = logging.start_relay("--connection-log", "json",
                                 place=host.Place(logging.relay_cgroup, logging.server_net))
    for _ in range(10):
        logging.run_in(use, address, 10)
    lines(logging, 100, first)
    assert second.says("another process logs the observed connections")
    assert not observed(second)
    first.kill()
    host.wait_until(lambda: at_rest(logging), "they have ended")
    logging.run_in(use, address, 20)
    lines(logging, 20, second)


def test_restarted_relay(logging):
    """A draining relay releases the ring, and its end loses no event."""
    address, = logging.echo_server()
    logging.run_in(use, address, 5)
    lines(logging, 5)
    held = logging.visit(logging.listen())
    first = logging.relay
    first.signal(signal.SIGTERM)
    first.wait()
    logging.run_in(use, address, 5)
    second = logging.start_relay("--connection-log", "json")
    client_closes(held.client, held.server)
    lines(logging, 6, second)
    assert len(observed(first)) == 5


def test_loaded_again_and_new(logging):
    """A load keeps the maps and their reader. After --unload the relay reads the new maps."""
    address, = logging.echo_server()
    logging.load()
    logging.run_in(use, address, 1)
    lines(logging, 1)
    logging.unload()
    logging.load()
    set_rules(logging, "observe")
    logging.relay.wait_registered(times=2)
    logging.run_in(use, address, 1)
    lines(logging, 2)


def test_relay_that_does_not_log(observing, path):  # noqa: F811
    """A relay that does not log is not the reader, so another one can be. SIGHUP can change
    that."""
    config(path, "connection-log = none")
    relay = observing.start_relay("--config", path, verbose=False)
    address, = observing.echo_server()
    observing.run_in(use, address, 2)
    host.stays_true(lambda: not json_lines(relay), "no line", 1.5)
    config(path, "connection-log = json")
    reload(relay, "read the configuration again")
    lines(observing, 2)


# --- others


@contextlib.contextmanager
def counted_runs(bed):
    """The number of runs of each program within the block."""
    fd = maps._bpf(BPF_ENABLE_STATS, struct.pack("=I", 0))
    names = [name for name in bed.pins.names() if name.startswith("prog_")]

    def runs():
        return {name: bpftool("prog", "show", "pinned", bed.pins.path / name).get("run_cnt", 0)
                for name in names}

    result = {}
    before = runs()
    try:
        yield result
        result.update({name: count - before[name] for name, count in runs().items()
                       if count != before[name]})
    finally:
        os.close(fd)


def test_bystanders(loaded):
    """A connection that no rule observes runs the same programs as often, also beside observed
    ones, and leaves nothing. Outside of the scope nothing runs. To see it fail: request the STATE
    callback for each socket in observe_sent()."""
    watched, other = loaded.echo_server(2)
    set_rules(loaded, f"observe port {watched[1]}", "default direct")
    with counted_runs(loaded) as alone:
        loaded.run_in(use, other, 20)
    held = loaded.connect(watched)
    assert count_entries(loaded) == 1
    with counted_runs(loaded) as beside:
        loaded.run_in(use, other, 20)
    with counted_runs(loaded) as as_observed:
        loaded.run_in(use, watched, 20)
    assert alone == beside and alone["prog_connect4"] == 20
    assert as_observed["prog_sockops"] > alone["prog_sockops"], "no STATE callback"
    with counted_runs(loaded) as outside:
        loaded.run_in(use, other, 20, place=loaded.bystander)
    assert outside == {}
    held.close()
    assert_at_rest(loaded)
    assert loaded.stats()["rule_observe"] == 21


def test_rule_that_is_gone(observing):
    """A connection that lives longer than its rule's counter has a line without a rule. To see it
    fail: do not compare the times in events_rule()."""
    observing.start_relay("--connection-log", "json")
    visit = observing.visit(observing.listen())
    for load in range(6):
        set_rules(observing, *(f"direct to 192.0.2.{load} port {port}" for port in range(1, 251)))
    client_closes(visit.client, visit.server)
    line, = lines(observing)
    assert not {"rule", "rule_line"} & set(line)


def test_program_that_runs_twice(logging):
    """As while a loader replaces a cgroup by one above it: the second run finds the entry of the
    first one. To see it fail: leave out observed_find() in observe_begin()."""
    inner = logging.scope.child("inner")
    place = host.Place(inner, logging.client_net)
    address, = logging.echo_server()
    bpftool("cgroup", "attach", inner, "connect4", "pinned", logging.pins.path / "prog_connect4",
            "multi")
    logging.run_in(use, address, 1, place=place)
    line, = lines(logging)
    assert line["reason"] == "closed"
    stats = logging.stats()
    assert (stats["rule_observe"], stats["observe_full"]) == (2, 0)
    assert_at_rest(logging)
    inner.remove()


def test_rule_without_a_name(logging):
    """A rule without a name is given by its line."""
    set_rules(logging, "refuse port 1", "observe uid root")
    address = host6.listen(logging).getsockname()[:2]
    assert address[0] == SERVER6
    logging.run_in(partial(host6.connect, address)).close()
    line, = lines(logging)
    assert (line["rule"], line["rule_line"]) == (None, 3)
