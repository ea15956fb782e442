# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""tproxyctl: command line, status and connections."""

import ctypes
import datetime
import json
import os
import re
import socket
import struct
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest

import host
import programs
import wire
from harness import SERVER
from maps import BPFTOOL
from tproxyctl import binary, ctl, other_abi_version  # fixtures too

COMMANDS = ["status", "connections", "doctor", "register", "explain"]
PR_SET_NAME = 15

# Arguments, and what the one line of output must contain.
USAGE_ERRORS = [
    ([], "command"),
    (["bogus"], "'bogus'"),
    (["--bogus"], "'--bogus'"),
    (["--help", "stray"], "'stray'"),
    (["status", "--bogus"], "'--bogus'"),
    (["status", "-Zp"], "'-Z'"),
    (["status", "stray"], "'stray'"),
    (["status", "--cgroup", "/x"], "--cgroup"),
    (["status", "-c", "/x"], "'-c'"),
    (["connections", "--pin-dir"], "--pin-dir"),
    (["connections", "--pin-dir", ""], "--pin-dir"),
    (["connections", "--json=yes"], "--json=yes"),
    (["doctor", "--cgroup", ""], "--cgroup"),
    (["doctor", "stray"], "'stray'"),
    (["doctor", "--pid", "1"], "--pid"),
    (["register"], "--pid is missing"),
    (["register", "--pid", "0"], "'0'"),
    (["register", "--pid", "-1"], "'-1'"),
    (["register", "--pid", "4194305"], "'4194305'"),
    (["register", "--pid", "1", "--port", "0"], "'0'"),
    (["register", "--pid", "1", "--port", "65536"], "'65536'"),
    (["register", "--pid", "1", "--port"], "--port"),
    (["register", "--pid", "1", "--cgroup", "/x"], "--cgroup"),
    (["register", "--pid", "1", "--port", "1", "--remove"], "--remove"),
    (["register", "--pid", "1", "stray"], "'stray'"),
    (["explain"], "ADDR:PORT"),
    (["explain", "192.0.2.1"], "'192.0.2.1'"),
    (["explain", "[::1]:x"], "'[::1]:x'"),
    (["explain", "--uid", "root", "192.0.2.1:80"], "'root'"),
    (["explain", "--command", "longer-than-15-b", "192.0.2.1:80"], "'longer-than-15-b'"),
    (["explain", "--pid", "1", "--gid", "1", "192.0.2.1:80"], "--pid"),
    (["explain", "--comm", "x", "192.0.2.1:80"], "--command"),
]


# --- command line


@pytest.mark.parametrize("args, named", USAGE_ERRORS, ids=lambda value: "_".join(value)
                         if isinstance(value, list) else None)
def test_usage_error(binary, args, named):
    programs.call(binary, *args).refused(named, status=2)


def test_help_and_version(binary):
    result = programs.call(binary, "--help").succeeded()
    assert result.out.startswith("Usage: tproxyctl") and result.err == ""
    assert all(command in result.out for command in COMMANDS)
    result = programs.call(binary, "--version").succeeded()
    assert re.fullmatch(r"tproxyctl \d+\.\d+\.\d+(\+g[0-9a-f]+(\.dirty)?)?, ABI version \d+\n",
                        result.out)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(binary, command):
    result = programs.call(binary, command, "--help").succeeded()
    assert result.out.startswith(f"Usage: tproxyctl {command} ") and result.err == ""
    assert "--pin-dir" in result.out
    assert ("--cgroup" in result.out) == (command in ("connections", "doctor", "explain"))


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["status", "--help"], ["status"],
                                  ["status", "--json"], ["connections"], ["connections", "--json"],
                                  ["doctor"], ["doctor", "--json"], ["explain", "192.0.2.1:80"]],
                         ids="_".join)
@pytest.mark.parametrize("output", ["full", "closed"])
def test_answer_that_cannot_be_written(proxied, binary, args, output):
    """A full disk or a closed standard output must not look like a short answer."""
    if not args[0].startswith("-"):
        args = [*args, "--pin-dir", proxied.pins.path]
    with open("/dev/full", "w", encoding="ascii") as full:
        result = subprocess.run([binary, *args], stdout=full, stderr=subprocess.PIPE, text=True,
                                preexec_fn=partial(os.close, 1) if output == "closed" else None,
                                check=False)
    assert result.returncode == 1, result
    assert result.stderr.count("\n") == 1 and "cannot write the answer" in result.stderr, result
    if output == "full":
        assert "No space left" in result.stderr


# --- status


def test_status_of_nothing(bed, ctl):
    result = ctl("status")
    assert result.status == 1 and result.err == "" and "not loaded" in result.out
    result = ctl("status", "--json")
    assert result.status == 1
    assert json.loads(result.out) == {"version": 1, "loaded": False,
                                      "pin_dir": str(bed.pins.path)}


@pytest.mark.parametrize("command", ["status", "connections", "doctor"])
def test_documents_say_what_they_are(bed, ctl, command):
    """A program that reads the documents finds the same first members, loaded or not."""
    def head():
        return json.loads(ctl(command, "--json").out, object_pairs_hook=list)

    before = head()
    bed.load()
    after = head()
    for document, loaded in (before, False), (after, True):
        assert document[0] == ("version", 1)
        assert dict(document)["loaded"] is loaded
        assert dict(document)["pin_dir"] == str(bed.pins.path)


@pytest.mark.parametrize("command", ["status", "connections", "doctor", "register"])
def test_pin_directory_of_any_bytes(bed, ctl, command):
    """The output is valid JSON, and a terminal gets no control characters. To see it fail: let
    json_add_string() not escape."""
    name = b"/nowhere/\xff\x1b[2J\"\\"
    options = ["--json"] if command != "register" else ["--pid", "1"]
    result = ctl(command, *options, pin_dir=os.fsdecode(name))
    shown = r"""/nowhere/\xff\x1b[2J"\ """[:-1]
    if command != "register":
        assert json.loads(result.out)["pin_dir"] == shown
    assert re.fullmatch(r"[ -~\n]*", result.out), result


def test_status_sums_up_the_counters(proxied, ctl):
    for _ in range(3):
        assert proxied.visit(proxied.listen()).relayed
    with pytest.raises(ConnectionRefusedError):
        proxied.connect(("127.0.0.1", 9))
    proxied.relay.kill()
    for _ in range(2):
        assert not proxied.visit(proxied.listen()).relayed
    status = json.loads(ctl("status", "--json").succeeded().out)
    assert status["sums"] == {"redirected": 3, "reset": 0, "honest": 0, "accepted_first": 0,
                              "bypassed": 1, "not_redirected": 2, "refused": 0, "failed": 0,
                              "rules": 0, "blocked": 0, "datagrams": 0, "not_reported": 0,
                              "syns": 0}
    assert status.pop("sums") and status == proxied.tproxy_load.status()
    # Each counter is in one of the sums, and in the text.
    text = ctl("status").succeeded().out
    assert re.search(r"^redirected to a relay +3$", text, re.MULTILINE)
    assert re.search(r"^bypassed, direct +1$", text, re.MULTILINE)
    assert re.search(r"^  bypass_loopback +1$", text, re.MULTILINE)
    assert re.search(r"^could not be redirected +2$", text, re.MULTILINE)
    assert re.search(r"^  no_listener +2$", text, re.MULTILINE)
    assert all(re.search(rf"^  {name} +\d+$", text, re.MULTILINE) for name in status["counters"]
               if name not in ("redirected", "publish_failed", "refused", "negative_cache",
                               "rule_refused", "rule_udp", "blocked", "honest_pending"))


def test_status_says_since_when_it_counts(bed, ctl):
    """A second load keeps counters and date. To see it fail: write loaded_ns at each load."""
    def since():
        text = json.loads(ctl("status", "--json").succeeded().out)["counters_since"]
        assert f"counting since {text}\n" in ctl("status").succeeded().out
        return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z").timestamp()

    before = time.time()
    bed.load()
    first = since()
    assert before - 2 < first < time.time() + 2
    host.wait_until(lambda: time.time() > before + 2.5, "time passes")
    bed.load("--fail-closed")
    assert abs(since() - first) <= 1
    bed.unload()
    bed.load()
    assert since() - first >= 1


# What reads the pins, with what it needs of the command line.
READERS = [("status",), ("connections",), ("explain", "192.0.2.1:80"), ("register", "--pid", 1)]


@pytest.mark.parametrize("command", READERS, ids=lambda command: command[0])
def test_pins_without_policy(loaded, ctl, command):
    """The programs are still attached, so the directory does not count as empty. Both proposals
    work. To see it fail: take a missing map_policy for an empty pin directory."""
    for repair in (loaded.load, partial(loaded.tproxy_load, "--unload")):
        (loaded.pins.path / "map_policy").unlink()
        said = ctl(*command).refused("map_policy' is missing", "load again",
                                     f"tproxy-load --unload -p '{loaded.pins.path}'")
        assert "nothing" not in said.err
        repair()
    assert "map_policy" not in ctl(*command).err


@pytest.mark.parametrize("command, name", [(READERS[0], "map_config"), (READERS[1], "map_socks"),
                                           (READERS[2], "map_config"), (READERS[3], "map_marks")])
def test_pins_that_cannot_be_read(loaded, ctl, command, name):
    """The message says what to do. To see it fail: leave it at strerror()."""
    command = [*command, "--cgroup", loaded.scope.path] if command[0] == "explain" else command
    pin = loaded.pins.path / name
    pin.unlink()
    ctl(*command).refused(name, "No such file or directory; load again with the same options")
    programs.call(BPFTOOL, "map", "create", pin, "type", "hash", "key", 3, "value", 3, "entries", 1,
                  "name", "other").succeeded()
    ctl(*command).refused(name, "not created by", "tproxyctl doctor", loaded.pins.path)
    pin.unlink()
    pin.symlink_to("/etc/passwd")
    said = ctl(*command).refused(name, "not created by", "tproxyctl doctor").err
    assert "as root" not in said
    pin.unlink()
    loaded.load()


def test_status_of_another_abi_version(loaded, ctl):
    for command in ("status", "connections"):
        with other_abi_version(loaded):
            ctl(command).refused("99", f"version {programs.ABI_VERSION}")


# --- connections


def connections(ctl, **program):
    return json.loads(ctl("connections", "--json", **program).succeeded().out)["connections"]


def test_connections_of_nothing(bed, ctl):
    ctl("connections").refused("tproxy-load", bed.pins.path)
    result = ctl("connections", "--json")
    assert result.status == 1 and result.err == ""
    assert json.loads(result.out) == {"version": 1, "loaded": False,
                                      "pin_dir": str(bed.pins.path), "connections": []}


def test_no_connections(proxied, ctl):
    assert connections(ctl) == []
    assert ctl("connections").succeeded().out.count("\n") == 1


def test_connections(proxied, ctl):
    def connect(address):
        os.setresuid(12345, 12345, 12345)
        return os.getpid(), wire.connect(address)

    listener = proxied.listen()
    pid, client = proxied.run_in(connect, listener.getsockname())
    proxied.keep(client)
    (one,) = connections(ctl)
    source, destination = client.getsockname(), listener.getsockname()
    age = one.pop("age_ms")
    assert 0 <= age < 30_000
    assert one.pop("cookie") > 0 and one.pop("netns_cookie") > 0
    assert one.pop("rtt_us") > 0
    assert one == {
        "id": wire.connection_id(client), "verdict": "redirected", "rule": None,
        "state": "established", "tx_bytes": 0, "rx_bytes": 0, "relay_pid": proxied.relay.pid,
        "pid": pid, "command": Path("/proc/self/comm").read_text().rstrip("\n"),
        "uid": 12345, "user": "12345", "cgroup": str(proxied.scope),
        "cgroup_id": proxied.scope.path.stat().st_ino,
        "source": {"address": source[0], "port": source[1]},
        "destination": {"address": destination[0], "port": destination[1]},
    }
    heading, line = ctl("connections").succeeded().out.splitlines()
    assert heading.split() == ["AGE", "PID", "COMMAND", "USER", "VERDICT", "STATE", "SOURCE",
                               "DESTINATION", "SENT", "RECEIVED", "RTT", "RULE", "CGROUP"]
    for value in (f" {pid} ", " 12345 ", "{}:{}".format(*source), "{}:{}".format(*destination),
                  f" {proxied.scope}"):
        assert value in line + " "
    host.wait_until(lambda: connections(ctl)[0]["age_ms"] > age, "the connection grows older")
    client.close()
    host.wait_until(lambda: connections(ctl) == [], "it goes with the client's socket")


def test_connections_over_ipv6(loaded, ctl):
    loaded.client_net.ip("addr add 2001:db8::1/64 dev tproxy0 nodad")
    loaded.server_net.ip("addr add 2001:db8::2/64 dev tproxy0 nodad")
    loaded.start_relay()

    def connect(family, address):
        sock = socket.socket(family)
        sock.settimeout(wire.TIMEOUT)
        sock.connect(address)
        return sock

    with loaded.server_net.inside():
        listener = loaded.keep(socket.create_server(("2001:db8::2", 0), family=socket.AF_INET6))
    port = listener.getsockname()[1]
    loaded.keep(loaded.run_in(connect, socket.AF_INET6, ("2001:db8::2", port)))
    mapped = loaded.listen().getsockname()
    loaded.keep(loaded.run_in(connect, socket.AF_INET6, (f"::ffff:{SERVER}", mapped[1])))
    destinations = [entry["destination"] for entry in connections(ctl)]
    assert destinations == [{"address": "2001:db8::2", "port": port},
                            {"address": SERVER, "port": mapped[1]}]
    text = ctl("connections").succeeded().out
    assert f" [2001:db8::2]:{port} " in text and f" {SERVER}:{mapped[1]} " in text


def test_hostile_names(proxied, ctl):
    """A program chooses its command name, and a cgroup's path may contain any byte."""
    evil = b"\x1b[2J\n\r\xff\xe2\x80\xae\"\\"
    cgroup = host.Cgroup(proxied.scope.path / "tpr\u202eoxy\x1b[31m")
    cgroup.path.mkdir()

    def connect(address):
        ctypes.CDLL(None).prctl(PR_SET_NAME, evil)
        return wire.connect(address)

    proxied.keep(proxied.run_in(connect, proxied.listen().getsockname(),
                                place=host.Place(cgroup, proxied.client_net)))
    (one,) = connections(ctl)
    assert one["command"] == r"""\x1b[2J\x0a\x0d\xff\xe2\x80\xae"\ """[:-1]
    assert one["cgroup"] == rf"{proxied.scope}/tpr\xe2\x80\xaeoxy\x1b[31m"
    text = ctl("connections").succeeded().out
    assert text.count("\n") == 2 and re.fullmatch(r"[ -~\n]*", text)


def test_removed_cgroup(proxied, ctl):
    cgroup = host.Cgroup(proxied.scope.path / "short-lived")
    cgroup.path.mkdir()
    proxied.keep(proxied.run_in(wire.connect, proxied.listen().getsockname(),
                                place=host.Place(cgroup, proxied.client_net)))
    cgroup.remove()
    (one,) = connections(ctl)
    assert one["cgroup"] == f"(id {one['cgroup_id']}, removed)"


def churn(pins):
    """Deletes and adds entries without a socket, forever."""
    with pins.open("map_socks") as socks:
        value = bytes(socks.value_size)
        keys = [struct.pack("=Q", 1 << 63 | number) for number in range(2000)]
        for key in keys:
            socks.update(key, value)
        while True:
            for key in keys:
                socks.delete(key)
                socks.update(key, value)


def test_connections_while_they_come_and_go(proxied, ctl):
    """To see it fail: walk with get_next_key, which starts again when its key was deleted."""
    listener = proxied.listen()
    ports = {proxied.connect(listener).getsockname()[1] for _ in range(60)}
    proxied.task(churn, proxied.pins)
    host.wait_until(lambda: len(connections(ctl)) > 2000, "entries come and go")
    for _ in range(20):
        shown = connections(ctl)
        cookies = [entry["cookie"] for entry in shown]
        assert len(set(cookies)) == len(cookies)
        assert {entry["source"]["port"] for entry in shown if entry["source"]} == ports


def test_connections_of_a_full_map(proxied, ctl):
    with proxied.pins.open("map_socks") as socks:
        socks.fill()
        shown = connections(ctl)
        assert len(shown) == len({entry["cookie"] for entry in shown}) == socks.max_entries
        assert ctl("connections").succeeded().out.count("\n") == socks.max_entries + 1
        socks.empty()
    assert shown[0]["source"] is None and shown[0]["command"] == ""


def test_group_of_relays_may_list_connections(proxied, ctl):
    proxied.keep(proxied.connect(proxied.listen()))
    (one,) = connections(ctl, user=(programs.RELAY_UID, programs.RELAY_GID))
    assert one["destination"]["address"] == SERVER
    ctl("connections", user=(programs.RELAY_UID, programs.RELAY_GID + 1)).refused("root")
