# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Upstreams: real proxies that the relay goes through, groups of them, and the death of one.

Destinations are at SERVER2 and SERVER6_2. The address that a connection comes from shows whether it
came through a proxy: proxies.py.
"""

import contextlib
import errno
import mmap
import os
import signal
import socket
import subprocess
import threading
import time
from functools import partial

import pytest

import host
import host6
import proxies
import wire
from harness import CLIENT, SERVER, SERVER2
from host6 import CLIENT6, SERVER6_2
from proxies import BLOCKED, USER
from ruling import binary, ctl, load_rules  # noqa: F401 - fixtures
from programs import RELAY_GID, RELAY_UID
from test_programs import separation_directory  # noqa: F401 - a fixture
from test_secrets import serve_connect

CLIENTS = 64
REFUSED = (SERVER2, 9)
NO_ROUTE = ("203.0.113.9", 80)


@pytest.fixture
def bed(bed):
    host6.give_addresses(bed)
    bed.load()
    return bed


def section(bed, name, proxy=None, address=None, **keys):
    """The section of one upstream. A key's underscores stand for hyphens."""
    if proxy:
        keys = {"type": proxy.type, **keys}
        address = address or proxy.inet
        if proxy.password is not None:
            keys = {"user": USER, "password_file": password_file(bed, proxy.password), **keys}
    if address:
        keys = {"address": address, **keys}
    return "\n".join([f"[upstream {name}]", *(f"{key.replace('_', '-')} = {value}"
                                              for key, value in keys.items()), ""])


def password_file(bed, password):
    path = bed.directory / f"password-{len(list(bed.directory.glob('password-*')))}"
    path.write_text(password + "\n")
    path.chmod(0o400)
    os.chown(path, RELAY_UID, RELAY_GID)
    return path


def group(bed, name, *members, **keys):
    return section(bed, name, type="group", members=", ".join(members), **keys)


def use(bed, *sections, default="one", options=()):
    """Makes these the upstreams of the relay, and starts it if there is none."""
    path = bed.directory / "relay.conf"
    path.write_text("\n".join(["[relay]", f"default-upstream = {default}", "", *sections]))
    if not bed.relay:
        return bed.start_relay("--config", path, "--error-memory", "1m", *options)
    text = "read the configuration again"
    times = bed.relay.text().count(text)
    bed.relay.signal(signal.SIGHUP)
    bed.relay.says(text, times + 1)
    return bed.relay


def listen(bed, family=socket.AF_INET):
    if family == socket.AF_INET6:
        return host6.listen(bed, SERVER6_2)
    return bed.listen(SERVER2)


@host.needs_no_process
def connect(address):
    return (host6.connect if ":" in address[0] else wire.connect)(address)


def came_from(bed, listener, place=None):
    """Connects, verifies that both directions work, and returns the address that the destination
    sees."""
    address = listener.getsockname()[:2]
    with contextlib.closing(bed.run_in(partial(connect, address), place=place)) as client:
        assert client.getpeername()[:2] == address
        server, peer = listener.accept()
        with server:
            wire.exchange(client, server)
    return peer[0]


def through_proxy(bed, families=(socket.AF_INET, socket.AF_INET6)):
    for family in families:
        source = came_from(bed, listen(bed, family))
        assert source not in (CLIENT, CLIENT6)


@host.needs_no_process
def errno_of(address):
    with socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET) as sock:
        sock.settimeout(wire.TIMEOUT)
        return sock.connect_ex(address)


def learned(bed, address):
    """The errno of connect() after a client has been reset."""
    assert bed.run_in(wire.fate, address) == wire.RESET
    return errno.errorcode[bed.run_in(errno_of, address)]


# --- one proxy


@pytest.mark.needs("danted", "microsocks", "squid", "tinyproxy")
@pytest.mark.parametrize("start", [proxies.dante, proxies.microsocks, proxies.squid,
                                   proxies.tinyproxy])
def test_proxy(bed, start):
    """Over IPv4 and IPv6, to destinations of both, without and with a password.

    To see it fail: leave out port or address type in the handshake, or the password.
    """
    for port, login in ((1080, False), (1081, True)):
        proxy = start(bed, port, login=login)
        for address in (proxy.inet, proxy.inet6):
            use(bed, section(bed, "one", proxy, address))
            through_proxy(bed)


@pytest.mark.needs("ssh", "ssh-keygen")
def test_ssh(bed, separation_directory):  # noqa: F811
    """ssh -D."""
    proxy = proxies.ssh(bed)
    for address in (proxy.inet, proxy.inet6):
        use(bed, section(bed, "one", proxy, address))
        through_proxy(bed)


@pytest.mark.needs("danted")
@pytest.mark.parametrize("login", [False, True], ids=["open", "login"])
def test_pipeline(bed, login):
    """Dante takes a request that comes with the greeting, or with the password.

    To see it fail: send the request again after the answer, whatever socks5::asked says.
    """
    use(bed, section(bed, "one", proxies.dante(bed, login=login), pipeline="yes"))
    through_proxy(bed)


@pytest.mark.needs("haproxy", "nginx")
@pytest.mark.parametrize("start", [proxies.haproxy, proxies.nginx])
def test_proxy_protocol(bed, start):
    """These learn the destination from the PROXY header, over TCP and over a UNIX socket.

    To see it fail: swap source and destination in the header.
    """
    proxy = start(bed)
    for version in ("v1", "v2"):
        for address in (proxy.inet, proxy.inet6, proxy.unix):
            use(bed, section(bed, "one", proxy, address, proxy_protocol=version))
            through_proxy(bed)


@pytest.mark.needs("haproxy")
def test_chain_of_haproxies(bed):
    """The first one passes the header on, and the second one connects."""
    last = proxies.haproxy(bed, 9001)
    first = proxies.haproxy(bed, 9000, server=f"{last.inet} send-proxy-v2")
    use(bed, section(bed, "one", first, proxy_protocol="v2"))
    through_proxy(bed)


@pytest.mark.needs("danted", "squid", "haproxy")
def test_unix_socket(bed):
    """HAProxy listens there, and is in front of the proxy.

    To see it fail: bind() such a socket to the client's address, or mark it.
    """
    for port, start in ((9001, proxies.dante), (9002, proxies.squid)):
        proxy = start(bed, login=True)
        front = proxies.haproxy(bed, port, server=proxy.inet, options="")
        use(bed, section(bed, "one", proxy, front.unix))
        through_proxy(bed)


def test_full_backlog(bed):
    """A server that accepts nothing is never down, so each client waits: the log says why.

    To see it fail: leave attempt_log_failure() out of expire_attempt().
    """
    path = bed.directory / "full.socket"
    server = bed.keep(socket.socket(socket.AF_UNIX))
    server.bind(os.fspath(path))
    path.chmod(0o666)
    server.listen(0)
    for _ in range(2):
        client = bed.keep(socket.socket(socket.AF_UNIX))
        client.setblocking(False)
        client.connect_ex(os.fspath(path))
    use(bed, section(bed, "one", type="socks5", address=path),
        options=("--connect-timeout", "1s"))
    assert bed.run_in(wire.fate, listen(bed).getsockname()) == wire.RESET
    bed.relay.says(f"upstream 'one' at {path}: its backlog is full")


@contextlib.contextmanager
def hosts(bed, text):
    """These are the lines of /etc/hosts for this process and those that it starts."""
    path = bed.directory / "hosts"
    path.write_text(text)
    path.chmod(0o644)
    subprocess.run(["mount", "--bind", path, "/etc/hosts"], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", "/etc/hosts"], check=True)


@pytest.mark.needs("microsocks")
def test_name(bed):
    """A name of each family, one with many addresses of which the last one has a proxy, and one
    with an address that no server can have: connect() to it would lead to the client's own host.

    To see it fail: try the first 4 addresses only; let why_no_server() return NULL.
    """
    proxy = proxies.microsocks(bed)
    own = bed.listen("127.0.0.1", proxy.port, netns=bed.client_net)
    dead = "".join(f"192.0.2.{number} many.example\n" for number in range(1, 10))
    with hosts(bed, f"{SERVER} four.example\n{host6.SERVER6} six.example\n"
                    f"{dead}{SERVER} many.example\n"
                    f"0.0.0.0 zero.example\n{SERVER} zero.example\n"):
        for name in ("four.example", "six.example", "many.example", "zero.example"):
            use(bed, section(bed, "one", proxy, f"{name}:{proxy.port}"))
            through_proxy(bed)
    own.setblocking(False)
    with pytest.raises(BlockingIOError):
        own.accept()


def test_name_and_clients_at_once(bed):
    """Nothing answers at the first address. While one connection finds that the second one does,
    others are still at the first.

    To see it fail: pass upstream_good_address() in place of p->first_address in addresses() of
    place.c.
    """
    silent, proxy = bed.listen(SERVER2, 3128), bed.listen(SERVER, 3128)
    proxy.settimeout(None)
    bed.task(serve_connect, proxy, place=bed.server)

    def through(address):
        with wire.connect(address) as sock:
            sock.sendall(b"tproxy")
            return wire.read_exactly(sock, 6)

    with hosts(bed, f"{SERVER2} two.example\n{SERVER} two.example\n"):
        use(bed, section(bed, "one", type="http", address="two.example:3128"),
            options=("--connect-timeout", "10s"))
        tasks = [bed.task(through, (SERVER2, 7)) for _ in range(4)]
        assert [task.result() for task in tasks] == [b"tproxy"] * 4
    silent.close()


@pytest.mark.needs("danted")
def test_streams(bed):
    """Both directions at once through SOCKS5 with a password, and each ends on its own.

    To see it fail: drop what the proxy sent together with the reply.
    """
    use(bed, section(bed, "one", proxies.dante(bed, login=True)))
    listener = listen(bed)
    there, back = wire.Stream("there", 3_000_001), wire.Stream("back", 2_000_003)

    def client():
        with wire.connect(listener.getsockname()) as sock:
            return wire.swap_streams(sock, there)

    task = bed.task(client)
    server, peer = bed.accept(listener)
    assert peer[0] != CLIENT
    assert wire.swap_streams(server, back) == (there.size, there.sha256())
    assert task.result() == (back.size, back.sha256())


@pytest.mark.needs("danted", "squid")
def test_by_rule(bed, ctl):  # noqa: F811
    """The rule's upstream takes precedence over the default.

    To see it fail: leave the upstream out of what the kernel half records.
    """
    one, two = listen(bed), listen(bed)
    dead = section(bed, "one", type="socks5", address=f"{SERVER}:9")
    use(bed, dead, section(bed, "two", proxies.squid(bed)))
    load_rules(bed, ctl, f"redirect port {two.getsockname()[1]} via two",
               f"redirect port {one.getsockname()[1]} via direct")
    assert came_from(bed, two) != CLIENT
    assert came_from(bed, one) == CLIENT
    assert learned(bed, listen(bed).getsockname()) == "ECONNREFUSED"


# --- what a proxy refuses


@pytest.mark.needs("danted", "microsocks", "squid", "tinyproxy")
@pytest.mark.parametrize("start, refused, no_route, blocked", [
    (proxies.dante, "ECONNREFUSED", "EHOSTUNREACH", "EACCES"),
    (proxies.microsocks, "ECONNREFUSED", "EHOSTUNREACH", None),
    (proxies.squid, "ECONNREFUSED", "EHOSTUNREACH", "EACCES"),
    (proxies.tinyproxy, "EHOSTUNREACH", "EHOSTUNREACH", None),
], ids=lambda value: getattr(value, "__name__", ""))
def test_errno(bed, start, refused, no_route, blocked):
    """What the proxy says about a destination is the errno of the next connect(). The proxy stays
    in use.

    To see it fail: take each refusal as ECONNREFUSED.
    """
    bed.server_net.ip("route add unreachable 203.0.113.0/24")
    relay = use(bed, section(bed, "one", start(bed)))
    assert learned(bed, REFUSED) == refused
    assert learned(bed, NO_ROUTE) == no_route
    if blocked:
        assert learned(bed, (SERVER2, BLOCKED)) == blocked
    through_proxy(bed)
    assert relay.says("upstream 'one'") and relay.says("{}:{}".format(*REFUSED))


@pytest.mark.needs("ssh", "ssh-keygen")
def test_ssh_refuses(bed, separation_directory):  # noqa: F811
    """ssh -D ends the connection without a reply, whatever the reason. It stays in use.

    To see it fail: count each broken handshake as a failure of the upstream.
    """
    use(bed, section(bed, "one", proxies.ssh(bed)))
    for port in range(10, 16):
        assert learned(bed, (SERVER2, port)) == "ECONNREFUSED"
    through_proxy(bed)


@pytest.mark.needs("danted", "microsocks", "squid", "tinyproxy")
def test_wrong_password(bed):
    """Is the proxy's failure, so the next one is used. The log says why, and not the password.

    To see it fail: take 407 or a refused password for a refused destination.
    """
    wrong = "not the password"
    last = section(bed, "two", proxies.microsocks(bed, 1081))
    for start in (proxies.dante, proxies.squid, proxies.tinyproxy):
        proxy = start(bed, login=True)
        name = start.__name__
        use(bed, group(bed, "both", name, "two"),
            section(bed, name, proxy, password_file=password_file(bed, wrong)), last,
            default="both")

        def is_named(name=name):
            """squid starts its helper first, so the other member may be faster at first."""
            through_proxy(bed)
            return f"upstream '{name}'" in bed.relay.text()

        host.wait_until(is_named, f"the relay names {name}", 10)
        assert proxy.password not in bed.relay.text()
    assert wrong not in bed.relay.text()


# --- groups


@pytest.fixture
def two(bed):
    """Two proxies, the sections of both, and the addresses that they connect from."""
    pair = [proxies.microsocks(bed, port, source=source)
            for port, source in ((1081, SERVER), (1082, SERVER2))]
    sections = [section(bed, name, proxy) for name, proxy in zip(("one", "two"), pair)]
    return pair, sections


def sources(bed, count, listener=None):
    listener = listener or listen(bed)
    return [came_from(bed, listener) for _ in range(count)]


@pytest.mark.needs("microsocks")
def test_failover(bed, two):
    """The first member serves. On a busy machine it may take 250 ms, and then the second one does.
    To see it fail: go to the members in turn."""
    (first, _), sections = two
    use(bed, group(bed, "both", "one", "two"), *sections, default="both")
    assert sources(bed, 10).count(SERVER) >= 7
    first.program.kill()
    assert set(sources(bed, 10)) == {SERVER2}
    bed.relay.says("upstream 'one'")


@pytest.mark.needs("microsocks")
def test_weighted(bed, two):
    """To see it fail: ignore the weights."""
    use(bed, group(bed, "both", "one 1", "two 4", order="weighted"), *two[1], default="both")
    seen = sources(bed, 60)
    assert seen.count(SERVER2) > seen.count(SERVER) > 0


def assert_each_has_one(seen):
    """On a busy machine a proxy may need 250 ms, and then the other one is used. A proxy for each
    connection would give half of them two."""
    assert sum(len(sources) > 1 for sources in seen) <= len(seen) // 8, seen
    assert set.union(*seen) == {SERVER, SERVER2}


@pytest.mark.needs("microsocks")
def test_hash(bed, two):
    """One destination has one proxy, and so has one cgroup of clients.

    To see it fail: put the client's port into the hash.
    """
    both = partial(group, bed, "both", "one", "two")
    use(bed, both(order="hash-destination"), *two[1], default="both")
    addresses = [f"198.51.100.{number}" for number in range(101, 125)]
    bed.server_net.ip(*(f"addr add {address}/24 dev tproxy0" for address in addresses))
    destinations = [bed.listen(address) for address in addresses]
    seen = [set(sources(bed, 2, listener)) for listener in destinations]
    assert_each_has_one(seen)

    places = [host.Place(bed.scope.child(f"service{number}"), bed.client_net)
              for number in range(24)]
    use(bed, both(order="hash-client"), *two[1], default="both")
    seen = [{came_from(bed, listener, place=place) for listener in destinations[:2]}
            for place in places]
    assert_each_has_one(seen)


@pytest.mark.needs("microsocks")
def test_all_down(bed, two):
    """To see it fail: connect directly whatever the policy says."""
    pair, sections = two
    for proxy in pair:
        proxy.program.kill()
    for policy, outcome in (({}, "ECONNREFUSED"), ({"when_down": "refuse"}, "ECONNREFUSED"),
                            ({"when_down": "refuse EACCES"}, "EACCES")):
        use(bed, group(bed, "both", "one", "two", **policy), *sections, default="both")
        assert learned(bed, listen(bed).getsockname()) == outcome
    use(bed, group(bed, "both", "one", "two", when_down="direct"), *sections, default="both")
    assert sources(bed, 5) == [CLIENT] * 5


@pytest.mark.needs("microsocks")
def test_wait(bed):
    """A client waits for a proxy that starts later.

    To see it fail: do not try again before the end of the wait.
    """
    proxy = proxies.microsocks(bed)
    proxy.program.kill()
    use(bed, section(bed, "one", proxy, when_down="wait 20s"))
    listener = listen(bed)
    client = bed.connect(listener)
    client.sendall(b"early")
    host.wait_until(lambda: "upstream 'one'" in bed.relay.text(), "an attempt has failed")
    proxies.microsocks(bed)
    server, peer = bed.accept(listener)
    assert peer[0] != CLIENT and wire.read_exactly(server, 5) == b"early"
    wire.exchange(client, server)


# --- the death of an upstream under load


class Load:
    """CLIENTS clients that connect, exchange and close until they are told to stop."""

    def __init__(self, bed, address):
        self._stop = mmap.mmap(-1, 1)
        self._task = bed.task(self._run, address)

    def finish(self):
        """Returns (start, error or None) of each connection."""
        self._stop[0] = 1
        return self._task.result(20)

    def _run(self, address):
        outcomes = []
        threads = [threading.Thread(target=self._client, args=(address, outcomes))
                   for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return outcomes

    def _client(self, address, outcomes):
        while not self._stop[0]:
            started = time.monotonic()
            try:
                with wire.connect(address) as sock:
                    sock.sendall(b"tproxy")
                    assert wire.read_exactly(sock, 6) == b"tproxy"
                outcomes.append((started, None))
            except (OSError, AssertionError) as error:
                outcomes.append((started, repr(error)))


@pytest.mark.needs("microsocks")
def test_killed_under_load(bed, two):
    """No connection that begins after the death of the upstream in use fails. Those that it had
    bytes of are reset, at most one for each client.

    To see it fail: do not go on to the next upstream.
    """
    (first, _), sections = two
    use(bed, group(bed, "both", "one", "two"), *sections, default="both")
    listener = listen(bed)
    bed.task(wire.serve_echo, listener, place=bed.server)

    def connections():
        return bed.stats()["redirected"]

    load = Load(bed, listener.getsockname())
    host.wait_until(lambda: connections() > 300, "there are connections")
    first.program.kill()
    killed = time.monotonic()
    after = connections()
    host.wait_until(lambda: connections() > after + 1000, "they go on", 20)
    outcomes = load.finish()
    failed = [(started - killed, error) for started, error in outcomes if error]
    assert not [late for late, _ in failed if late > 0], failed
    assert len(failed) <= CLIENTS and len(outcomes) > 1000


@pytest.mark.needs("microsocks")
def test_dies_during_handshakes(bed, two):
    """It accepts connections and is silent, then it is killed, while no byte of a client has gone
    to it: none of CLIENTS connections fails.

    To see it fail: reset the client when a handshake breaks.
    """
    (first, _), sections = two
    use(bed, group(bed, "both", "one", "two"), *sections, default="both")
    listener = listen(bed)
    bed.task(wire.serve_echo, listener, place=bed.server)

    def ask(address):
        with wire.connect(address) as sock:
            sock.sendall(b"tproxy")
            return wire.read_exactly(sock, 6)

    before = bed.stats()["redirected"]
    first.program.stop()
    tasks = [bed.task(ask, listener.getsockname()) for _ in range(CLIENTS)]
    host.wait_until(lambda: bed.stats()["redirected"] - before == CLIENTS, "all have connected")
    first.program.kill()
    assert [task.result() for task in tasks] == [b"tproxy"] * CLIENTS


@pytest.mark.needs("microsocks")
def test_silent(bed, two):
    """An upstream that accepts and is silent delays a connection by 250 ms, because then the
    relay connects to the next one as well.

    To see it fail: wait for the end of the connect timeout.
    """
    (first, _), sections = two
    use(bed, group(bed, "both", "one", "two"), *sections, default="both")
    listener = listen(bed)
    with first.program.stopped():
        started = time.monotonic()
        assert came_from(bed, listener) == SERVER2
        assert 0.24 <= time.monotonic() - started < 5 * host.patience


@pytest.mark.needs("microsocks")
@pytest.mark.parametrize("type", ["socks5", "http"])
def test_silent_addresses(bed, two, type):
    """The next member is tried although a name has more addresses: nothing answers there (socks5),
    or servers accept and are silent (http). That takes 0.5 s and 0.25 s.

    To see it fail: let next_place() of walk.c take the first place that is not exhausted.
    """
    if type == "http":
        addresses, port = (SERVER, SERVER2), 3128
        for address in addresses:
            bed.listen(address, port)
    else:
        addresses, port = [f"203.0.113.{number}" for number in range(1, 17)], 1080
    with hosts(bed, "".join(f"{address} silent.example\n" for address in addresses)):
        use(bed, group(bed, "both", "first", "two"), two[1][1],
            section(bed, "first", type=type, address=f"silent.example:{port}"), default="both")
        started = time.monotonic()
        assert came_from(bed, listen(bed)) == SERVER2
        assert time.monotonic() - started < 5 * host.patience


@pytest.mark.needs("microsocks")
def test_silent_first_address(bed, two):
    """One silent address, as where IPv6 is broken, does not make a member lose its connections.

    To see it fail: let is_connecting() of walk.c return false.
    """
    (first, _), sections = two
    with hosts(bed, f"203.0.113.1 half.example\n{SERVER} half.example\n"):
        use(bed, group(bed, "both", "half", "two"), sections[1],
            section(bed, "half", first, f"half.example:{first.port}"), default="both")
        assert sources(bed, 5) == [SERVER] * 5
