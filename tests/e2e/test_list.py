# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The pinned list of live connections: `cat PIN_DIR/connections`, and the tools that read it.

The file lists the connections of the network namespace of the process that opens it, so most tests
read it among the clients.
"""

import ctypes
import json
import os
import re
import socket
import stat
import threading
from functools import partial
from pathlib import Path

import pytest

import host
import host6
import programs
import wire
from harness import BLACKHOLE, SERVER
from host6 import SERVER6
from maps import BPFTOOL
from test_observe import set_rules
from tproxyctl import binary, ctl, doctor  # noqa: F401 (fixtures)

HEADER = ("ID PID UID CGROUP_ID NETNS VERDICT STATE SOURCE DESTINATION TX RX RTT_US AGE_MS RELAY "
          "RULE CGROUP COMMAND")
PR_SET_NAME = 15
GROUP = (programs.RELAY_UID, programs.RELAY_GID)
STRANGER = (programs.RELAY_UID, programs.RELAY_GID + 1)


def cat(path, size=1 << 20, user=None):
    """Reads the file to its end, with reads of @size bytes, as this user and group and without any
    capability."""
    if user:
        os.setgroups([])
        os.setresgid(user[1], user[1], user[1])
        os.setresuid(user[0], user[0], user[0])
    with open(path, "rb", buffering=0) as file:
        return b"".join(iter(lambda: file.read(size), b"")).decode("ascii")


def rows(text):
    heading, *lines = text.splitlines()
    assert heading == HEADER and text.endswith("\n")
    found = []
    for line in lines:
        if not line.startswith("#"):
            columns = line.split(" ")
            assert len(columns) == len(HEADER.split()), line
            found.append(dict(zip(HEADER.split(), columns)))
    return found


def listed(bed, place=None, **options):
    return rows(bed.run_in(partial(cat, str(bed.pins.path / "connections"), **options),
                           place=place))


def only(bed, **options):
    (one,) = listed(bed, **options)
    return one


def becomes(bed, column, value):
    """Waits until the only connection has this value, and returns its row."""
    host.wait_until(lambda: only(bed)[column] == value, f"{column} {value}")
    return only(bed)


def endpoint(address):
    """As the list prints it: all digits of an IPv6 address."""
    if ":" not in address[0]:
        return "{}:{}".format(*address)
    digits = socket.inet_pton(socket.AF_INET6, address[0]).hex()
    return "[{}]:{}".format(":".join(digits[i:i + 4] for i in range(0, 32, 4)), address[1])


def connect_named(name, address):
    ctypes.CDLL(None).prctl(PR_SET_NAME, name)
    os.setresuid(12345, 12345, 12345)
    return os.getpid(), wire.connect(address)


def test_redirected(proxied):
    """Every column beside what the client knows. To see it fail: print another field."""
    listener = proxied.listen()
    pid, client = proxied.run_in(connect_named, b"fetch", listener.getsockname())
    proxied.keep(client)
    server, _ = proxied.accept(listener)
    client.sendall(b"x" * 5000)
    wire.read_exactly(server, 5000)
    server.sendall(b"y" * 700)
    wire.read_exactly(client, 700)
    row = becomes(proxied, "TX", "5000")
    assert int(row.pop("RTT_US")) > 0 and 0 <= int(row.pop("AGE_MS")) < 60_000
    assert int(row.pop("NETNS")) > 0
    assert row == {
        "ID": wire.connection_id(client), "PID": str(pid), "UID": "12345",
        "CGROUP_ID": str(proxied.scope.path.stat().st_ino), "VERDICT": "redirected",
        "STATE": "established", "SOURCE": endpoint(client.getsockname()),
        "DESTINATION": endpoint(listener.getsockname()), "TX": "5000", "RX": "700",
        "RELAY": str(proxied.relay.pid), "RULE": "-", "CGROUP": proxied.scope.path.name,
        "COMMAND": "fetch",
    }
    client.close()
    host.wait_until(lambda: listed(proxied) == [], "it goes with the client's socket")


def test_observed(loaded):
    """Until TCP ends it: the FINs are not counted as data. To see it fail: count sequence numbers
    as bytes."""
    set_rules(loaded, "observe name build")
    listener = loaded.listen()
    pid, client = loaded.run_in(connect_named, b"fetch", listener.getsockname())
    loaded.keep(client)
    server, _ = loaded.accept(listener)
    wire.exchange(client, server)
    server.sendall(b"z" * 100)
    wire.read_exactly(client, 100)
    row = only(loaded)
    assert (row["VERDICT"], row["RULE"], row["RELAY"]) == ("observed", "build", "-")
    assert (row["PID"], row["COMMAND"]) == (str(pid), "fetch")
    assert row["ID"] == wire.connection_id(client)
    sent, received = int(row["TX"]), int(row["RX"])
    assert received == sent + 100 > 100
    client.shutdown(socket.SHUT_WR)
    row = becomes(loaded, "STATE", "fin-wait-2")
    assert (int(row["TX"]), int(row["RX"])) == (sent, received)
    server.shutdown(socket.SHUT_WR)
    host.wait_until(lambda: listed(loaded) == [], "it ends with TCP")


def test_rules_are_named(proxied):
    """By name, by line, or as the default. To see it fail: print the index of its counter."""
    first, second, third = (proxied.listen() for _ in range(3))
    set_rules(proxied, f"redirect to {SERVER} port {first.getsockname()[1]} name web-1",
              f"observe to {SERVER} port {second.getsockname()[1]}", "default redirect")
    for listener in (first, second, third):
        proxied.connect(listener)
    assert {row["DESTINATION"]: row["RULE"] for row in listed(proxied)} == {
        endpoint(first.getsockname()): "web-1", endpoint(second.getsockname()): "line:3",
        endpoint(third.getsockname()): "default"}


def test_ipv6(loaded):
    """IPv6, and IPv4 that an AF_INET6 socket uses: this is printed as IPv4."""
    host6.give_addresses(loaded)
    set_rules(loaded, f"observe to {SERVER6}", "default redirect")
    loaded.start_relay()
    listener, listener4 = host6.listen(loaded), loaded.listen()
    mapped = ("::ffff:" + SERVER, listener4.getsockname()[1])
    for address in (listener.getsockname()[:2], mapped):
        loaded.keep(loaded.run_in(host6.connect, address))
    assert {row["DESTINATION"]: row["VERDICT"] for row in listed(loaded)} == {
        endpoint(listener.getsockname()): "observed",
        endpoint(listener4.getsockname()): "redirected"}


def test_pending(loaded):
    """A SYN that nobody answers."""
    set_rules(loaded, "observe name any")
    task = loaded.task(wire.connect, BLACKHOLE)
    host.wait_until(lambda: len(listed(loaded)) == 1, "the SYN is sent")
    row = only(loaded)
    assert (row["STATE"], row["TX"], row["RX"], row["RTT_US"]) == ("syn-sent", "0", "0", "-")
    task.stop()


def test_half_closed(proxied):
    """The server has sent its FIN, and the client goes on. To see it fail: leave out CLOSE_WAIT in
    list_states."""
    client, server = proxied.pair()
    server.shutdown(socket.SHUT_WR)
    assert wire.read_to_end(client) == (b"", wire.EOF)
    row = only(proxied)
    assert (row["STATE"], row["RX"]) == ("close-wait", "0")
    client.sendall(b"x")
    becomes(proxied, "TX", "1")


@pytest.mark.parametrize("name", [b"a b\n\x1b[2J\\\xff", b"", b"-", b"tmux: server", b"%s%n"],
                         ids=["wild", "empty", "dash", "blank", "format"])
def test_commands_are_escaped(proxied, ctl, name):  # noqa: F811
    """A program chooses its name. To see it fail: print it as it is."""
    proxied.keep(proxied.run_in(connect_named, name, proxied.listen().getsockname())[1])
    text = only(proxied)["COMMAND"]
    assert re.fullmatch(r"[!-\[\]-~]*(\\x[0-9a-f]{2}[!-\[\]-~]*)*", text)
    assert re.sub(rb"\\x(..)", lambda found: bytes([int(found[1], 16)]), text.encode()) == (
        name or b"\0")
    (one,) = json.loads(ctl("connections", "--json").succeeded().out)["connections"]
    shown = one["command"].encode()
    assert shown == b"".join(bytes([c]) if 32 <= c < 127 else b"\\x%02x" % c for c in name)


def test_long_and_hostile_cgroup(proxied):
    """Its name is cut after 63 bytes, and never in an escape."""
    cgroup = host.Cgroup(proxied.scope.path / ("\u202e b" + 80 * "c"))
    cgroup.path.mkdir()
    proxied.keep(proxied.run_in(wire.connect, proxied.listen().getsockname(),
                                place=host.Place(cgroup, proxied.client_net)))
    assert only(proxied)["CGROUP"] == r"\xe2\x80\xae\x20b" + 58 * "c"


def test_readers(proxied):
    """The relays' group reads it without any right to use BPF. Others may not."""
    pin = proxied.pins.path / "connections"
    status = pin.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (
        0o440, 0, programs.RELAY_GID)
    proxied.connect(proxied.listen())
    assert len(listed(proxied, user=GROUP)) == 1
    with pytest.raises(PermissionError):
        listed(proxied, user=STRANGER)


def test_small_reads(proxied):
    """One byte at a time, two readers at a time: each gets the whole list."""
    listener = proxied.listen()
    ids = {wire.connection_id(proxied.connect(listener)) for _ in range(60)}
    path = str(proxied.pins.path / "connections")
    tasks = [proxied.task(cat, path, size) for size in (1, 7, 4096)]
    for task in tasks:
        assert {row["ID"] for row in rows(task.result())} == ids


def test_while_connections_come_and_go(proxied):
    """Those that stay are in each reading, once. To see it fail: print lines of sockets that have
    ended, or let a reading end at one."""
    address, = proxied.echo_server()
    stay = {wire.connection_id(proxied.connect(address)) for _ in range(60)}

    def churn():
        while True:
            wire.connect(address).close()

    proxied.task(churn)
    for _ in range(10):
        ids = [row["ID"] for row in listed(proxied, size=2000)]
        assert stay <= set(ids) and len(ids) == len(set(ids))


def test_other_namespaces(proxied, ctl):  # noqa: F811
    """The file tells how many there are. Root's tproxyctl lists them with their numbers."""
    client = proxied.connect(proxied.listen())
    path = str(proxied.pins.path / "connections")
    heading, comment = cat(path).splitlines()
    assert heading == HEADER
    assert comment == "# total in all network namespaces: 1"
    client.sendall(b"12345")
    host.wait_until(lambda: only(proxied)["TX"] == "5", "5 bytes are sent")

    answer = json.loads(ctl("connections", "--json").succeeded().out)
    (one,) = answer["connections"]
    assert answer["live"] and (one["state"], one["tx_bytes"]) == ("established", 5)
    assert one["id"] == wire.connection_id(client) and one["relay_pid"] == proxied.relay.pid
    # A member of the group can enter no other namespace.
    (one,) = json.loads(ctl("connections", "--json", user=GROUP).succeeded().out)["connections"]
    assert (one["state"], one["tx_bytes"], one["verdict"]) == (None, None, "redirected")


def test_without_the_list(proxied, ctl):  # noqa: F811
    """The maps agree with it in all that they know, and the tool tells what is missing. A load pins
    the list again. The order is the same. To see it fail: read no map, or sort by age_ms."""
    set_rules(proxied, "observe to 198.51.100.3 name build", "default redirect")
    listener, observed = proxied.listen(), proxied.listen("198.51.100.3")
    for target in (listener, observed, listener):
        proxied.connect(target)

    def answer():
        answer = json.loads(ctl("connections", "--json").succeeded().out)
        for one in answer["connections"]:
            assert one.pop("age_ms") < 60_000
            one.pop("relay_pid", None)
        return answer

    live = answer()
    assert live["live"] is True and len(live["connections"]) == 3
    pin = proxied.pins.path / "connections"
    pin.unlink()
    maps = answer()
    assert maps["live"] is False
    for one, other in zip(live["connections"], maps["connections"]):
        for member in ("state", "tx_bytes", "rx_bytes", "rtt_us"):
            assert other[member] is None
            other[member] = one[member]
    assert live["connections"] == maps["connections"]
    assert not proxied.tproxy_load.status()["list"]
    assert "NO LIST" in ctl("status").succeeded().out
    result = ctl("connections").succeeded()
    assert "state and bytes are unknown" in result.err and result.out.count("\n") == 4
    proxied.load()
    assert answer() == live and pin.exists() and proxied.tproxy_load.status()["list"]
    assert "NO LIST" not in ctl("status").succeeded().out


def test_loads_again_in_place(proxied):
    """The pin is there at every moment, and a reader of the earlier one goes on. Connections stay
    in the list."""
    proxied.connect(proxied.listen())
    pin = proxied.pins.path / "connections"
    before = only(proxied)["ID"]
    stop, missing = threading.Event(), []

    def look():
        while not stop.is_set():
            if not pin.exists():
                missing.append(1)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        with open(pin, "rb", buffering=0) as file:
            number = file.fileno()
            assert os.read(number, 10)
            proxied.load()
            assert os.read(number, 10)
    finally:
        stop.set()
        thread.join()
    assert not missing and only(proxied)["ID"] == before


def test_doctor(proxied, doctor):  # noqa: F811
    """Its mode, a foreign pin of its name, and a missing one."""
    pin = proxied.pins.path / "connections"
    pin.chmod(0o444)
    fix = doctor().about("pins", "error")
    assert any("0444" in finding["what"] for finding in fix)
    pin.chmod(0o440)
    pin.unlink()
    assert any("connections" in finding["what"]
               for finding in doctor().about("pins", "warning"))


def test_a_foreign_pin_of_its_name(loaded):
    """The loader does not replace it. To see it fail: know the list by its name."""
    pin = loaded.pins.path / "connections"
    pin.unlink()
    programs.call(BPFTOOL, "map", "create", pin, "type", "hash", "key", 4, "value", 4, "entries", 1,
                  "name", "other").succeeded()
    loaded.tproxy_load("--cgroup", loaded.scope).refused("connections")
    pin.unlink()


def test_filters(proxied, ctl):  # noqa: F811
    """`tproxyctl connections` takes the filter of watch and top."""
    set_rules(proxied, "observe to 198.51.100.3", "default redirect")
    observed, redirected = proxied.listen("198.51.100.3"), proxied.listen()
    for listener in (observed, redirected):
        proxied.connect(listener)

    def ports(*options):
        answer = json.loads(ctl("connections", "--json", *options).succeeded().out)
        return [one["destination"]["port"] for one in answer["connections"]]

    both = [observed.getsockname()[1], redirected.getsockname()[1]]
    assert ports("--cgroup", proxied.scope) == both and ports("--cgroup", proxied.outside) == []
    assert ports("--verdict", "observed") == ports("--to", "198.51.100.3/32") == both[:1]
    assert ports("--port", both[1]) == both[1:] and ports("--uid", 4242) == []
