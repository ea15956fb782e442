# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""tproxyctl block, unblock and allow: entries, lists, their ends, --confirm, and what protects a
user from locking himself out. test_block_packets.py has the packets of all kinds."""

import collections
import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import time
from functools import partial

import pytest

import clients
import host
import host6
import programs
import wire
from harness import CLIENT, SERVER, SERVER2
from ruling import DIRECT, RELAYED, Servers, serve_peers
from tproxyctl import binary, doctor  # fixtures



@pytest.fixture
def ctl(bed, binary):
    """Runs a command on the pins of the bed, in the namespace of the clients: the default gateway
    of the host may be any."""
    def call(command, *options, **program):
        return programs.call(binary, command, "--pin-dir", bed.pins.path, *options,
                             place=bed.bystander, **program)
    return call


def shown(ctl):
    """The entries of --list by CIDR, of both kinds."""
    answer = json.loads(ctl("block", "--list", "--json").succeeded().out)
    return {(entry["action"], entry["cidr"]): entry for entry in answer["entries"]}


def blocked(ctl):
    return sorted(cidr for action, cidr in shown(ctl) if action == "block")


def stats(ctl):
    return json.loads(ctl("block", "--stats", "--json").succeeded().out)


def place(ctl, name):
    (found,) = [place for place in stats(ctl)["places"] if place["place"] == name]
    return found


def write_list(bed, *lines, name="test.netset"):
    path = bed.directory / name
    path.write_text("".join(line + "\n" for line in lines))
    return path


def is_attached(bed):
    pins = [name for name in bed.pins.names() if name.startswith("link_block_")]
    assert len(pins) in (0, 4), pins
    return bool(pins)


# --- connect


def test_connect_is_refused(loaded, ctl):
    servers = Servers(loaded)
    assert not is_attached(loaded)
    out = ctl("block", f"{SERVER}/32", "--comment", "a test").succeeded().out
    assert "blocked 1 entry; the list blocks 1" in out
    assert is_attached(loaded)
    assert servers.outcomes() == ["EACCES", "EACCES", DIRECT, DIRECT]
    assert servers.try_at(place=loaded.bystander) == DIRECT
    entry = shown(ctl)["block", SERVER]
    assert entry["packets"] == 2 and entry["comment"] == "a test" and not entry["by_file"]
    assert entry["last_hit_ms_ago"] < 60000 and "ends_in_ms" not in entry
    assert place(ctl, "connect")["dropped"] == 2
    assert SERVER in ctl("block", "--list").succeeded().out
    ctl("unblock", SERVER).succeeded()
    assert servers.outcomes() == [DIRECT] * 4
    assert not is_attached(loaded) and shown(ctl) == {}


def test_redirected_clients_too(proxied, ctl):
    """The list decides before the relay is asked."""
    servers = Servers(proxied)
    ctl("block", "198.51.100.0/24", "--error", "EHOSTUNREACH").succeeded()
    assert servers.outcomes() == ["EHOSTUNREACH"] * 4
    ctl("allow", SERVER2).succeeded()
    assert servers.outcomes() == ["EHOSTUNREACH"] * 2 + [RELAYED] * 2
    assert proxied.stats()["blocked"] == 6


def test_errno_stays_until_clear(loaded, ctl):
    """Also if the list is empty when it is cleared."""
    ctl("block", SERVER, "--error", "EHOSTUNREACH").succeeded()
    ctl("unblock", SERVER).succeeded()
    ctl("block", SERVER2).succeeded()
    assert stats(ctl)["errno"] == "EHOSTUNREACH"
    ctl("unblock", SERVER2).succeeded()
    ctl("block", "--clear").succeeded()
    assert stats(ctl)["errno"] == "EACCES"


def test_ipv6(loaded, ctl):
    host6.give_addresses(loaded)
    with loaded.server_net.inside():
        listener = loaded.keep(host6.listener((host6.SERVER6, 0)))
        loaded.keep(listener)
    address = listener.getsockname()[:2]
    loaded.task(serve_peers, listener, place=loaded.server)

    def attempt():
        try:
            return loaded.run_in(partial(host6.connect, address)).close() or DIRECT
        except OSError as error:
            return errno.errorcode[error.errno]

    assert attempt() == DIRECT
    ctl("block", "fd00:7470::/32", "--force").succeeded()
    assert attempt() == "EACCES"
    ctl("allow", f"{host6.SERVER6}/96").succeeded()
    assert attempt() == DIRECT
    # ::/0 is not about IPv4.
    servers = Servers(loaded)
    assert ctl("unblock", f"{host6.SERVER6}/96").status == 1  # still blocked
    ctl("block", "::/0", "--force").succeeded()
    assert attempt() == "EACCES"
    assert servers.outcomes() == [DIRECT] * 4


def test_longest_prefix_and_allow(loaded, ctl):
    """An allow entry wins over a block entry, whatever their lengths."""
    servers = Servers(loaded)
    ctl("block", f"{SERVER}/32").succeeded()
    ctl("allow", "198.51.100.0/24").succeeded()
    assert servers.outcomes() == [DIRECT] * 4
    assert "allowed" in ctl("block", f"{SERVER}/32").succeeded().err
    ctl("unblock", "198.51.100.0/24").succeeded()
    ctl("block", "198.51.100.0/24").succeeded()
    assert servers.outcomes() == ["EACCES"] * 4
    # The longest prefix counts.
    entries = shown(ctl)
    assert entries["block", SERVER]["packets"] == 2
    assert entries["block", "198.51.100.0/24"]["packets"] == 2


# --- packets: both directions, over veth


def exchange_udp(bed, port):
    """Sends a datagram to the server and waits for the answer. Returns what became of it."""
    def run():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(1)
            try:
                sock.sendto(b"ping", (SERVER, port))
                return sock.recv(100)
            except OSError as error:
                return errno.errorcode[error.errno] if error.errno else "timeout"
    return bed.run_in(run)


def echo_datagrams(sock):
    while True:
        data, peer = sock.recvfrom(100)
        sock.sendto(data, peer)


def test_datagrams_both_ways(loaded, ctl):
    with loaded.server_net.inside():
        sock = loaded.keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sock.bind((SERVER, 0))
    loaded.task(echo_datagrams, sock, place=loaded.server)
    port = sock.getsockname()[1]
    assert exchange_udp(loaded, port) == b"ping"
    ctl("block", SERVER).succeeded()
    assert exchange_udp(loaded, port) == "EPERM"
    assert place(ctl, "egress")["dropped"] == 1
    # Ingress: what comes from the blocked address without being asked for.
    with loaded.client_net.inside():
        client = loaded.keep(loaded.run_in(partial(bound_datagrams, (CLIENT, 0))))
    with loaded.server_net.inside():
        sock.sendto(b"unasked", client.getsockname())
    host.wait_until(lambda: place(ctl, "ingress")["dropped"] == 1, "it was dropped")
    entry = shown(ctl)["block", SERVER]
    assert entry["packets"] == 2 and entry["bytes"] == 20 + 8 + 4 + 20 + 8 + 7, entry
    ctl("unblock", SERVER).succeeded()
    assert exchange_udp(loaded, port) == b"ping"


def connect_and_send(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(address)
        with pytest.raises(PermissionError):
            sock.send(b"x")


def test_udp_sockets_connect(loaded, ctl):
    """Only their datagrams are refused: getaddrinfo() sorts by the outcome of connect()."""
    ctl("block", SERVER).succeeded()
    loaded.run_in(partial(connect_and_send, (SERVER, 9)))
    assert place(ctl, "connect")["dropped"] == 0
    assert place(ctl, "egress")["dropped"] == 1


def bound_datagrams(address):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(address)
    return sock


# --- ends


def test_an_entry_ends_by_itself(loaded, ctl):
    """To see it fail: let the kernel half ignore ends_ns."""
    servers = Servers(loaded)
    begun = time.monotonic()
    ctl("block", "198.51.100.0/24", "--for", "3s").succeeded()
    assert servers.try_at() == "EACCES"
    host.wait_until(lambda: servers.try_at() == DIRECT, "it has ended", timeout=20)
    assert 3 < time.monotonic() - begun
    assert shown(ctl) == {}
    # The next command removes it.
    ctl("allow", "192.0.2.1").succeeded()
    assert stats(ctl)["blocked"] == 0 and not is_attached(loaded)


def test_a_wider_entry_goes_on(loaded, ctl):
    """When the longest entry has ended, the next one decides."""
    servers = Servers(loaded)
    ctl("block", "198.51.100.0/24").succeeded()
    for length in range(25, 33):
        ctl("block", f"{SERVER}/{length}", "--for", "1ms").succeeded()
    assert servers.try_at() == "EACCES"


def test_a_nest_that_is_too_deep(loaded, ctl):
    for length in range(8, 16):
        ctl("block", f"192.0.2.1/{length}", "--for", "1h").succeeded()
    assert "more than 8 entries" in ctl("block", "192.0.2.1", "--for", "1h").err
    ctl("block", "192.0.2.1").succeeded()
    # From below.
    assert ctl("block", "192.0.0.0/6", "--for", "1h", "--force").status == 1
    lines = [f"192.0.2.1/{length} for 1h" for length in range(8, 17)]
    assert "more than 8 entries" in ctl("block", "--apply", write_list(loaded, *lines)).err


@pytest.mark.plain_build
@pytest.mark.parametrize("mib", [20, 60])
def test_apply_without_memory(loaded, ctl, binary, mib):
    """One line, and the list stays. To see it fail: log in read_files() too that memory is short.
    """
    path = write_list(loaded, *(f"{1 + (i >> 16)}.{i >> 8 & 255}.{i & 255}.1"
                                for i in range(300_000)))
    result = loaded.run("prlimit", f"--as={mib << 20}", binary, "block", "--pin-dir",
                        loaded.pins.path, "--apply", path, place=loaded.bystander, timeout=30)
    assert result.status == 1 and result.err.count("\n") == 1, result.err
    assert "memory" in result.err
    assert blocked(ctl) == []


@pytest.mark.parametrize("cidr", ["0.0.0.0/0", "::/0"])
def test_all_addresses_cannot_be_allowed(loaded, ctl, cidr):
    assert "would allow all" in ctl("allow", cidr).err
    path = write_list(loaded, f"allow {cidr}", "192.0.2.0/24")
    assert "would allow all" in ctl("block", "--apply", path).err
    assert not shown(ctl)


def test_renewal_keeps_the_counts(loaded, ctl):
    servers = Servers(loaded)
    ctl("block", SERVER, "--for", "1h", "--comment", "first").succeeded()
    assert servers.try_at() == "EACCES"
    assert "1 of them renewed" in ctl("block", SERVER).succeeded().out
    entry = shown(ctl)["block", SERVER]
    assert entry["packets"] == 1 and entry["comment"] == "first" and "ends_in_ms" not in entry


# --- command lines


def test_bad_input_changes_nothing(loaded, ctl):
    for argument in ("192.0.2.1/33", "192.0.2.1/08", "example.org", "2001:db8::/129",
                     "192.0.2.9-192.0.2.1", "127.0.0.1", "::1"):
        result = ctl("block", "192.0.2.7", argument)
        assert result.status == 2 and argument in result.err and result.err.count("\n") == 1
    assert shown(ctl) == {}
    assert "control" in ctl("block", "192.0.2.7", "--comment", "a\tb").err and shown(ctl) == {}
    path = write_list(loaded, "192.0.2.1", "192.0.2.2 during 1h", "allow", "192.0.2.3 for 8d")
    result = ctl("block", "--apply", path)
    assert result.status == 1 and shown(ctl) == {}
    for line in (2, 3, 4):
        assert f"{path.name}:{line}:" in result.err
    result = ctl("block", "192.0.2.77/24").succeeded()
    assert "taken as 192.0.2.0/24" in result.err and blocked(ctl) == ["192.0.2.0/24"]


def test_unblock_says_what_still_blocks(loaded, ctl):
    ctl("block", "192.0.2.0/24", "192.0.2.1").succeeded()
    result = ctl("unblock", "192.0.2.1")
    assert result.status == 1 and "still blocked, by 192.0.2.0/24" in result.err
    assert "tproxyctl allow 192.0.2.1" in result.err and blocked(ctl) == ["192.0.2.0/24"]
    ctl("allow", "192.0.2.1").succeeded()
    assert ctl("unblock", "192.0.2.9").status == 1
    result = ctl("unblock", "203.0.113.9")
    assert result.status == 1 and "not in the list" in result.err


def test_unblock_removes_all_or_nothing(loaded, ctl):
    """To see it fail: do not call check_there()."""
    ctl("block", "192.0.2.1", "192.0.2.2").succeeded()
    ctl("allow", "198.51.100.3").succeeded()
    entries = ["192.0.2.1", "192.0.2.2", "198.51.100.3"]
    for absent in ("192.0.2.0/30", "203.0.113.9"):
        result = ctl("unblock", *entries, absent, "--json")
        assert result.status == 1 and result.out == "", result
        assert result.err.count("\n") == 1 and f"{absent} is not in the list" in result.err, result
        assert len(shown(ctl)) == 3
    ctl("unblock", *entries).succeeded()
    assert shown(ctl) == {}


# --- whole lists


def test_apply(loaded, ctl):
    """Files replace what files brought. What the command line brought stays."""
    servers = Servers(loaded)
    ctl("block", SERVER2, "--comment", "by hand").succeeded()
    first = write_list(loaded, "# a list", "", f"{SERVER} ; why", "192.0.2.0-192.0.2.2",
                       "127.0.0.0/8", "10.1.2.3/8", name="first.netset")
    result = ctl("block", "--apply", first).succeeded()
    assert "blocks 5 and allows 0: 4 new, 1 kept, 0 removed" in result.out, result
    assert "loopback" in result.err and "bits beyond" in result.err
    assert servers.outcomes() == ["EACCES"] * 4
    assert shown(ctl)["block", SERVER]["comment"] == "first.netset"
    second = write_list(loaded, f"block {SERVER} for 1h", "allow 198.51.100.3", name="second.txt")
    assert "1 new, 2 kept, 3 removed" in ctl("block", "--apply", second).succeeded().out
    assert servers.outcomes() == ["EACCES", "EACCES", DIRECT, DIRECT]
    entries = shown(ctl)
    assert entries["block", SERVER]["packets"] == 4
    assert entries["block", SERVER2]["comment"] == "by hand"
    assert 3500000 < entries["block", SERVER]["ends_in_ms"] <= 3600000
    assert "comes back" in ctl("unblock", SERVER).succeeded().err
    out = ctl("block", "--apply", first, second).succeeded().out
    assert "generation 3" in out and servers.try_at() == "EACCES"
    loaded.load()
    assert servers.try_at() == "EACCES" and is_attached(loaded)
    assert "removed 6 entries" in ctl("block", "--clear").succeeded().out
    assert servers.outcomes() == [DIRECT] * 4 and not is_attached(loaded)


def test_input_without_an_entry(loaded, ctl):
    """As of `curl ... | tproxyctl block --apply -`, where curl fails. To see it fail: leave out
    check_files()."""
    ctl("block", "--apply", "-", data="192.0.2.1\n").succeeded()
    for data in ("", "# nothing\n", "127.0.0.0/8\n"):
        result = ctl("block", "--apply", "-", data=data)
        assert result.status == 1 and "--force" in result.err and "--clear" in result.err, result
        assert result.err.count("\n") == (2 if "127" in data else 1)
    assert blocked(ctl) == ["192.0.2.1"]
    ctl("block", "--apply", "-", "--force", data="").succeeded()
    assert blocked(ctl) == []


def test_counts_in_words(loaded, ctl):
    result = ctl("block", "--apply", "-", data="10.1.2.3/8\n127.0.0.1\n").succeeded()
    assert "1 entry has bits beyond its length" in result.err
    assert "1 entry of loopback addresses was left out" in result.err
    assert "removed 1 entry:" in ctl("block", "--clear").succeeded().out
    ctl("block", "192.0.2.1").succeeded()
    answer = json.loads(ctl("block", "--clear", "--json").succeeded().out)
    assert (answer["removed"], answer["blocked"], answer["allowed"]) == (1, 0, 0)


def test_stats_count_entries_that_have_not_ended(loaded, ctl):
    ctl("block", "192.0.2.1", "192.0.2.2", "--for", "50ms").succeeded()
    ctl("block", "192.0.2.3", "--for", "1h").succeeded()
    host.wait_until(lambda: blocked(ctl) == ["192.0.2.3"], "two have ended", 10)
    assert stats(ctl)["blocked"] == 1
    assert "the list blocks 1 " in ctl("block", "--stats").succeeded().out


def test_apply_from_stdin(loaded, ctl):
    ctl("block", "--apply", "-", "--comment", "piped", data="192.0.2.1\n").succeeded()
    assert shown(ctl)["block", "192.0.2.1"]["comment"] == "piped"


# Y is a network, because connect() looks up an address that has passed only after the list's next
# change.
BOTH, X, Y = "198.18.0.0/15", "198.18.0.1", "198.19.0.0/16"


def connect_until_told(told, threads):
    """Connects to X and to addresses of Y in turn. Each thread of each process has other ones of Y.
    Returns what connect() said, and how often."""
    seen = collections.Counter()

    def connect(thread, enough):
        subnet = (threads * os.getpid() + thread) % 256
        own = collections.Counter()
        number = 0
        while not enough.is_set():
            number += 1
            target = X if number % 2 else Y
            address = X if number % 2 else f"198.19.{subnet}.{number // 2 % 256}"
            with socket.socket() as sock:
                sock.setblocking(False)
                own[target, errno.errorcode[sock.connect_ex((address, 80))]] += 1
            time.sleep(0.004)  # leaves time for what is under test
        seen.update(own)

    clients.run_until_told(told, connect, threads)
    return seen


@pytest.fixture
def lists(loaded):
    """Two lists of 100,000 entries. The first blocks the network of X and Y, and allows Y; the
    other blocks X. So an attempt that meets the blocks of the first with the allows of the other
    sees Y blocked."""
    many = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(100000)]
    return [write_list(loaded, BOTH, f"allow {Y}", *many, name="first"),
            write_list(loaded, X, "203.0.113.0/24", *many, name="second")]


@pytest.mark.deadline(120)
def test_each_connect_is_decided_by_one_list(loaded, ctl, lists):
    """X is blocked by both lists, Y by none. To see it fail: let block_store_replace() put the new
    tries into the slot in use too, or clear ALLOWS before put_tries()."""
    ctl("block", "--apply", lists[1]).succeeded()

    def swap():
        for number in range(4):
            ctl("block", "--apply", lists[number % 2]).succeeded()

    seen = clients.count_during(loaded, swap, 8, connect_until_told, 8)
    assert set(seen) == {(X, "EACCES"), (Y, "ENETUNREACH")}, seen
    assert sum(seen.values()) > 1000
    assert shown(ctl)["block", X]["packets"] > 0


@pytest.mark.deadline(60)
def test_a_list_that_is_changed_in_place_shows_a_gap(loaded, ctl):
    """The negative control of the test above."""
    ctl("block", X).succeeded()

    def change():
        for _ in range(8):
            ctl("unblock", X).succeeded()
            ctl("block", X).succeeded()

    seen = clients.count_during(loaded, change, 8, connect_until_told, 8)
    assert seen[X, "EACCES"] and seen[X, "ENETUNREACH"], seen


# --- --confirm


class Waiting:
    """An --apply that waits for confirmation."""

    def __init__(self, bed, binary, path, seconds, *options):
        self._log = bed.directory / "confirm.log"
        self._out = bed.directory / "confirm.out"
        with self._log.open("wb") as log, self._out.open("wb") as out:
            self.process = subprocess.Popen(
                [binary, "block", "--apply", path, "--confirm", f"{seconds}s", "--pin-dir",
                 bed.pins.path, *options], stdin=subprocess.DEVNULL, stdout=out, stderr=log)
        host.wait_until(lambda: "to keep it" in self._log.read_text(), "it has asked", 10)

    def output(self):
        return self._log.read_text()

    def answer(self):
        """With --json."""
        return json.loads(self._out.read_text())


@pytest.fixture
def before(loaded, ctl):
    """A list is in force, and was hit."""
    ctl("block", SERVER).succeeded()
    servers = Servers(loaded)
    assert servers.outcomes() == OLD
    return servers


OLD = ["EACCES", "EACCES", DIRECT, DIRECT]
NEW = ["EACCES"] * 4


def check_taken_back(ctl, servers):
    host.wait_until(lambda: not stats(ctl)["unconfirmed"], "it was taken back", 10)
    assert servers.outcomes() == OLD
    assert blocked(ctl) == [SERVER] and shown(ctl)["block", SERVER]["packets"] >= 4


def test_confirm_takes_back_after_the_time(loaded, ctl, binary, before):
    began = time.monotonic()
    waiting = Waiting(loaded, binary, write_list(loaded, SERVER2), 1, "--json")
    assert waiting.process.wait(20) == 1
    assert "not confirmed: the previous list is in force again" in waiting.output()
    # Without the time of the wait.
    assert waiting.answer()["duration_ms"] <= (time.monotonic() - began - 1) * 1000
    check_taken_back(ctl, before)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL])
def test_confirm_takes_back_when_it_is_ended(loaded, ctl, binary, before, number):
    """To see it fail: start no guard."""
    waiting = Waiting(loaded, binary, write_list(loaded, SERVER2), 60)
    assert before.outcomes() == NEW
    os.kill(waiting.process.pid, number)
    assert waiting.process.wait(20) == (1 if number == signal.SIGHUP else -number)
    check_taken_back(ctl, before)


def full_pipe():
    """Returns its ends. A write to it blocks."""
    read_end, write_end = os.pipe()
    os.write(write_end, bytes(fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)))
    return read_end, write_end


def stop_when_held(bed, process):
    """Stops the command when the list is in force. It waits for RCU then, and has the lock of the
    pins."""
    held = 1 << 5
    with bed.pins.open("map_block") as block:
        end = time.monotonic() + 10 * host.patience
        while not block.lookup(bytes(4))[0] & held and time.monotonic() < end:
            pass
    process.send_signal(signal.SIGSTOP)


def test_confirm_while_the_commands_hang(loaded, ctl, binary, before):
    """Second processes take back rules of a command whose output nobody reads, and a list whose
    command is stopped, both 5 s after the time. The stopped command has the lock, which both need,
    and is killed. To see it fail: print before confirm_unlocked(), or let see_generation() or
    end_command() do nothing."""
    rules = write_list(loaded, "refuse EPERM to 203.0.113.0/24", name="test.rules")
    log = loaded.directory / "rules.log"
    read_end, write_end = full_pipe()

    def waits(what):
        return json.loads(ctl(*what, "--json").succeeded().out)["unconfirmed"]

    def start(*args, **streams):
        return subprocess.Popen([binary, *args, "--confirm", "1s", "--pin-dir", loaded.pins.path],
                                stdin=subprocess.DEVNULL, **streams)

    with log.open("wb") as err:
        of_rules = start("rules", "load", rules, stdout=write_end, stderr=err)
    os.close(write_end)
    of_list = None
    try:
        host.wait_until(lambda: waits(["rules", "show"]), "the rules wait")
        of_list = start("block", "--apply", write_list(loaded, SERVER2), stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL)
        stop_when_held(loaded, of_list)
        assert before.outcomes() == NEW and of_list.poll() is None
        for what in (["block", "--stats"], ["rules", "show"]):
            host.wait_until(lambda what=what: not waits(what), f"{what}: it was taken back", 20)
        assert before.outcomes() == OLD and of_rules.poll() is None
    finally:
        os.close(read_end)
        if of_list:
            of_list.kill()
            of_list.wait(20)
        if of_rules.poll() is None:
            of_rules.send_signal(signal.SIGTERM)
    assert of_rules.wait(20) == 1
    assert "the rules that waited are no longer in force" in log.read_text()


def test_confirm_by_command(loaded, ctl, binary, before):
    """During the wait the list cannot be changed."""
    waiting = Waiting(loaded, binary, write_list(loaded, SERVER2), 60)
    for options in (["192.0.2.1"], ["--clear"]):
        refused = ctl("block", *options)
        assert refused.status == 1 and "block --keep" in refused.err, options
    ctl("block", "--keep").succeeded()
    assert waiting.process.wait(20) == 0
    assert before.outcomes() == NEW and blocked(ctl) == [SERVER, SERVER2]
    assert ctl("block", "--revert").status == 1
    waiting = Waiting(loaded, binary, write_list(loaded, "203.0.113.77"), 60)
    ctl("block", "--revert").succeeded()
    assert waiting.process.wait(20) == 1
    assert "the list that waited is no longer in force" in waiting.output()
    assert blocked(ctl) == [SERVER, SERVER2]


def test_when_both_processes_are_killed(loaded, ctl, binary, before, doctor):
    """Nobody takes the list back. Doctor says so, and the next command does it."""
    waiting = Waiting(loaded, binary, write_list(loaded, SERVER2), 60)
    pid = waiting.process.pid
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
        guard = int(children.read())
    for victim in (guard, pid):
        os.kill(victim, signal.SIGKILL)
    waiting.process.wait()
    host.wait_until(lambda: doctor().about("block", "warning"), "doctor sees it")
    assert ctl("block", "--list").out.startswith("the list waits for confirmation\n")
    assert "taken back first" in ctl("block", SERVER).succeeded().err
    check_taken_back(ctl, before)


def test_doctor(loaded, ctl, binary):
    """In the namespace of the clients, whose gateway is known."""
    def finding():
        answer = json.loads(ctl("doctor", "--json").out)
        return {found["check"]: found for found in answer["findings"]
                if found["check"] == "block" or "block_in" in found["what"]}

    assert "block" not in finding()
    ctl("block", SERVER).succeeded()
    assert finding()["block"]["what"] == "the list blocks 1 and allows 0"
    loaded.client_net.ip(f"route add default via {SERVER}")
    assert f"default gateway {SERVER}, by {SERVER}" in finding()["block"]["what"]
    assert finding()["block"]["fix"] == f"tproxyctl allow {SERVER} -p '{loaded.pins.path}'"
    for cgroup in (loaded.scope, loaded.relay_cgroup):
        loaded.pins.remove_link("block_in", cgroup)
    assert "is missing at" in finding()["links"]["what"]


# --- never out


def test_the_default_gateway_wants_force(loaded, ctl):
    host6.give_addresses(loaded)
    loaded.client_net.ip(f"route add default via {SERVER} table 77",
                         f"route add ::/0 via {host6.SERVER6}")
    for cidr, gateway in (("198.51.100.0/25", SERVER), (SERVER, SERVER),
                          ("fd00:7470::/32", host6.SERVER6)):
        result = ctl("block", cidr)
        assert result.status == 1 and f"default gateway {gateway}" in result.err, result
        assert "--force" in result.err and shown(ctl) == {}
    result = ctl("block", "--apply", write_list(loaded, f"{SERVER}/24"))
    assert result.status == 1 and shown(ctl) == {}
    ctl("allow", SERVER).succeeded()
    ctl("block", f"{SERVER}/24").succeeded()
    ctl("block", host6.SERVER6, "--force").succeeded()


def test_an_allow_entry_that_protects_the_gateway(loaded, ctl):
    """It does not go, and gets no end, without --force. To see it fail: do not call
    block_guard_lost()."""
    loaded.client_net.ip(f"route add default via {SERVER} table 77")
    ctl("allow", SERVER, "--for", "1h").succeeded()
    assert "default gateway" in ctl("block", f"{SERVER}/24").err
    ctl("allow", SERVER, SERVER2).succeeded()
    ctl("block", f"{SERVER}/24", "192.0.2.1").succeeded()
    held = shown(ctl)
    for command in (("unblock", SERVER), ("unblock", "192.0.2.1", SERVER),
                    ("allow", SERVER, "--for", "1h")):
        result = ctl(*command)
        assert result.status == 1 and f"default gateway {SERVER}" in result.err, result
        assert "--force" in result.err and result.err.count("\n") == 1 and shown(ctl) == held
    ctl("unblock", "192.0.2.1").succeeded()
    ctl("allow", f"{SERVER}/30").succeeded()
    assert ctl("allow", SERVER, "--for", "1h").succeeded()
    assert ctl("unblock", f"{SERVER}/30").status == 1 and ("allow", SERVER) in shown(ctl)
    ctl("unblock", f"{SERVER}/30", "--force")
    ctl("allow", SERVER).succeeded()
    ctl("unblock", SERVER, f"{SERVER}/24").succeeded()
    assert shown(ctl).keys() == {("allow", SERVER2)}


def test_a_file_without_the_allow_entry_of_the_gateway(loaded, ctl):
    loaded.client_net.ip(f"route add default via {SERVER} table 77")
    ctl("block", "--apply", "-", data=f"allow {SERVER}\n192.0.2.1\n").succeeded()
    ctl("block", f"{SERVER}/24").succeeded()
    for data in ("192.0.2.1\n", f"allow {SERVER} for 1h\n"):
        result = ctl("block", "--apply", "-", data=data)
        assert result.status == 1 and "default gateway" in result.err, result
    assert ("allow", SERVER) in shown(ctl)


@pytest.mark.parametrize("cidrs", [("0.0.0.0/0",), ("::/0",), ("0.0.0.0/1", "128.0.0.0/1"),
                                   ("2000::/3",)])
def test_all_addresses_want_force(loaded, ctl, cidrs):
    for cidr in cidrs[:-1]:
        ctl("block", cidr, "--no-safety").succeeded()
    result = ctl("block", cidrs[-1], "--no-safety")
    assert result.status == 1 and "would block all" in result.err, result
    assert cidrs[-1] not in blocked(ctl)
    ctl("block", cidrs[-1], "--no-safety", "--force").succeeded()


@pytest.mark.parametrize("how", ["own", "ancestor"])
def test_the_peer_of_the_ssh_session_passes(loaded, ctl, binary, how):
    """To see it fail: do not call block_guard() in check_blocks() and make_next(); in allow_peer(),
    warn if the peer is connected."""
    servers = Servers(loaded)
    variable = f"SSH_CONNECTION={SERVER2} 50022 {CLIENT} 22"
    argv = ["env", variable]
    if how == "ancestor":  # as sudo does
        argv += ["sh", "-c", 'env -u SSH_CONNECTION "$@"; exit $?', "sh"]
    argv += [binary, "block", "--pin-dir", loaded.pins.path]

    def run(*options):
        return loaded.run(*argv, *options, place=loaded.bystander)

    result = run("198.51.100.0/24").succeeded()
    assert SERVER2 in result.err and "stays allowed" in result.err, result
    assert f"no connection from {SERVER2} is open now" in result.err
    assert servers.outcomes() == OLD
    assert ("allow", SERVER2) in shown(ctl)
    result = run("198.51.100.0/24", "192.0.2.0/24").succeeded()
    assert "stays allowed" not in result.err
    result = loaded.run("env", variable, binary, "unblock", "--pin-dir", loaded.pins.path, SERVER2,
                        place=loaded.bystander)
    assert result.status == 1 and "--no-safety" in result.err, result
    assert ("allow", SERVER2) in shown(ctl)
    ctl("allow", SERVER2, "--for", "1h").succeeded()
    loaded.keep(loaded.run_in(partial(wire.connect, source=(SERVER2, 50022)),
                              loaded.listen(CLIENT, netns=loaded.client_net).getsockname(),
                              place=loaded.server))
    # One with an end does not protect.
    result = run("198.51.100.0/24").succeeded()
    assert "stays allowed" in result.err and "no connection" not in result.err, result
    assert "ends_in_ms" not in shown(ctl)["allow", SERVER2]
    ctl("unblock", SERVER2)
    run("--apply", write_list(loaded, "198.51.100.0/25")).succeeded()
    assert servers.outcomes() == OLD
    ctl("block", "--clear").succeeded()
    run("198.51.100.0/24", "--no-safety").succeeded()
    assert servers.outcomes() == NEW
