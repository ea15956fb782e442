# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Rules, policy and relay are replaced, all of them and again and again, while clients connect
without pause: no connection fails, and none reaches another destination."""

import collections
import errno
import signal
import socket
import threading

import pytest

import clients
import host
import wire
from harness import SERVER, SERVER2
from registering import haproxy, register, registered  # fixtures too
from ruling import binary, ctl, show, write_rules  # fixtures too

TASKS, THREADS = 8, 8
ROUNDS = 12
RIGHT, WRONG = "right", "wrong"
# Both let all connections pass, in different ways.
RULES = [[f"direct to {SERVER2}", "refuse EACCES to 192.0.2.0/24", "default redirect"],
         [f"redirect to {SERVER2} port 1-65535", f"direct to {SERVER} command nobody"]]


def serve_names(*listeners):
    """Tells each client which listener it has reached."""
    wire.serve_each(lambda sock: sock.sendall("{} {}".format(*sock.getsockname()).encode()),
                    *listeners)


def outcome(address):
    with socket.socket() as sock:
        sock.settimeout(wire.TIMEOUT)
        try:
            sock.connect(address)
            told = b"".join(iter(lambda: sock.recv(100), b"")).decode()
        except OSError as error:
            return errno.errorcode.get(error.errno, str(error))
    return RIGHT if told == "{} {}".format(*address) else WRONG


def connect_until_told(told, addresses):
    lock, seen = threading.Lock(), collections.Counter()

    def connect(number, enough):
        while not enough.is_set():
            number += 1
            result = outcome(addresses[number % len(addresses)])
            with lock:
                seen[result] += 1

    clients.run_until_told(told, connect, THREADS)
    return seen


def start_servers(bed):
    """Returns their addresses."""
    listeners = [bed.listen(address) for address in (SERVER, SERVER2, SERVER)]
    bed.task(serve_names, *listeners, place=bed.server)
    return [listener.getsockname() for listener in listeners]


@pytest.mark.deadline(180)
def test_everything_is_replaced_under_load(proxied, ctl):
    """To see it fail: call relay_stop_workers() instead of worker_drain(), in drain()."""
    paths = [write_rules(proxied, *lines, name=f"{number}.rules")
             for number, lines in enumerate(RULES)]
    addresses = start_servers(proxied)

    def replace():
        for number in range(ROUNDS):
            ctl("rules", "load", paths[number % 2]).succeeded()
            proxied.load(*(["--fail-closed"] if number % 2 else []))
            if number % 3 == 0:
                older, newer = proxied.relay, proxied.start_relay()
                assert newer.running()
                older.signal(signal.SIGTERM)

    seen = clients.count_during(proxied, replace, TASKS, connect_until_told, addresses)
    assert set(seen) == {RIGHT} and seen[RIGHT] > 1000, seen
    stats = proxied.stats()
    assert stats["redirected"] > 100 and stats["rule_direct"] > 100, stats
    assert show(ctl)["generation"] == ROUNDS


@pytest.mark.needs("haproxy")
@pytest.mark.deadline(180)
def test_proxies_come_and_go_under_load(proxied, ctl, haproxy, register):
    """HAProxy takes the connections of a relay and gives them back, each time between two loads of
    rules.

    To see it fail: call unmark() in `register --remove` before the entry is deleted.
    """
    paths = [write_rules(proxied, *lines, name=f"{number}.rules")
             for number, lines in enumerate(RULES)]
    addresses = start_servers(proxied)
    proxy = haproxy()

    def pids():
        return [entry["pid"] for entry in registered(proxied)]

    def exchange():
        for number in range(4):
            register("--pid", proxy.pid).succeeded()
            ctl("rules", "load", paths[number % 2]).succeeded()
            assert pids() == [proxy.pid]
            register("--remove", "--pid", proxy.pid).succeeded()
            ctl("rules", "load", paths[(number + 1) % 2]).succeeded()
            host.wait_until(lambda: pids() == [proxied.relay.pid], "the relay registers again", 10)

    seen = clients.count_during(proxied, exchange, TASKS, connect_until_told, addresses)
    assert set(seen) == {RIGHT} and seen[RIGHT] > 300, seen
    stats = proxied.stats()
    assert stats["redirected"] > 100 and stats["no_listener"] == 0, stats
