# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""An upstream that is reached over TLS: HAProxy terminates it. Its type is `tcp`, so that
the test has both ends of the stream, unless a proxy's protocol is part of what is tested."""

import os
import select
import signal
import socket
import ssl
import time
from functools import partial

import pytest

import host
import host6
import programs
import proxies
import wire
from harness import SERVER
from terminator import NAME, Authority, accepts
from terminator import authority, certificate, relay_via, terminator  # fixtures
from wire import EOF, RESET, Stream

pytestmark = pytest.mark.needs("haproxy", "openssl")

# Where clients connect: nobody listens there.
ELSEWHERE = (SERVER, 7)


def lines(address, authority, name=NAME, kind="tcp"):
    return [f"type = {kind}", f"address = {address[0]}:{address[1]}", "tls = yes",
            f"tls-name = {name}", f"tls-ca = {authority.certificate}"]


@pytest.fixture
def through(loaded, authority, terminator, relay_via):
    """A relay that sends everything over TLS to a listener of the test. Returns the listener and
    the HAProxy between."""
    listener = loaded.listen()
    proxy = terminator(listener.getsockname())
    relay_via(*lines(proxy.address, authority))
    return listener, proxy


def microsocks(bed):
    bed.start("/usr/bin/microsocks", "-i", SERVER, "-p", "1080")
    host.wait_until(lambda: accepts(bed, (SERVER, 1080)), "microsocks listens")


def pair(bed, listener):
    client = bed.connect(ELSEWHERE)
    client.sendall(b"first")
    server, _ = bed.accept(listener)
    assert wire.read_exactly(server, 5) == b"first"
    return client, server


def test_half_close(loaded, through):
    """Both directions work, and each ends on its own. To see it fail: in move_down() of tls_flow.c,
    do not shut the pair down at close_notify; in session_destroy(), close the bridge with a reset.
    """
    listener, _ = through
    client, server = pair(loaded, listener)
    wire.exchange(client, server)
    client.shutdown(socket.SHUT_WR)
    assert wire.read_to_end(server) == (b"", EOF)
    server.sendall(b"late")
    server.close()
    assert wire.read_to_end(client) == (b"late", EOF)


def test_server_ends_first(loaded, through):
    listener, _ = through
    client, server = pair(loaded, listener)
    server.shutdown(socket.SHUT_WR)
    assert wire.read_to_end(client) == (b"", EOF)
    client.sendall(b"late")
    client.close()
    assert wire.read_to_end(server) == (b"late", EOF)


def test_cut_off(loaded, through):
    """The proxy is killed: its kernel ends the stream with a FIN, without close_notify. The client
    sees a reset, not an end. To see it fail: take every end of a TLS stream for close_notify."""
    listener, proxy = through
    client, server = pair(loaded, listener)
    server.sendall(b"half of it")
    assert wire.read_exactly(client, 10) == b"half of it"
    proxy.kill()
    assert wire.ended_by(client) == RESET
    host.wait_until(lambda: "without close_notify" in loaded.relay.text(), "the log says why")


def answer_and_cut(raw, certificate, answer, cut):
    """The only answer of a proxy over TLS, which ends without close_notify."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock = context.wrap_socket(raw, server_side=True)
    request = b""
    while b"\r\n\r\n" not in request:
        request += sock.recv(1024)
    sock.sendall(answer)
    cut(socket.socket(fileno=sock.detach()))


@pytest.mark.parametrize("cut", [socket.socket.close, wire.reset], ids=["fin", "reset"])
def test_answer_and_cut(loaded, authority, certificate, relay_via, cut):
    """What a proxy has answered counts, and its end after that does not. To see it fail: let
    tls_lost() of attempt.c make no handshakes; in tls_bridge_set_owner(), report nothing."""
    listener = loaded.listen()
    relay = relay_via(*lines(listener.getsockname(), authority, kind="http"))
    for number in range(3):
        client = loaded.connect((SERVER, 10 + number))
        answer_and_cut(loaded.accept(listener)[0], certificate,
                       b"HTTP/1.1 403 Forbidden\r\n\r\n", cut)
        assert wire.read_to_end(client) == (b"", RESET)
        client.close()
    host.wait_until(lambda: relay.text().count(": HTTP 403 Forbidden)") == 3, "all are logged")
    assert "down after" not in relay.text()
    client = loaded.connect(ELSEWHERE)
    answer_and_cut(loaded.accept(listener)[0], certificate,
                   b"HTTP/1.1 200 OK\r\n\r\nbanner", cut)
    assert wire.read_to_end(client) == (b"banner", RESET)


def test_client_resets(loaded, through):
    """A client's reset reaches the proxy, and through it the server."""
    listener, _ = through
    client, server = pair(loaded, listener)
    wire.reset(client)
    assert wire.read_to_end(server)[0] == b""


@pytest.mark.deadline(60)
def test_bulk(loaded, through):
    """64 MiB each way at the same time, every byte checked, to a reader that pauses."""
    listener, _ = through
    up, down = Stream("up", 64 << 20), Stream("down", 64 << 20)
    client = loaded.connect(ELSEWHERE)
    server, _ = loaded.accept(listener)
    task = loaded.task(wire.swap_streams, server, down, up, place=loaded.server)
    received = wire.swap_streams(client, up, down, pause_every=16 << 20,
                                 pause=partial(time.sleep, 0.05))
    assert received == (down.size, down.sha256())
    assert task.result(timeout=30) == (up.size, up.sha256())


def test_many(loaded, through):
    """Connections one after the other, which resume TLS sessions, and beside each other."""
    listener, _ = through
    pairs = [pair(loaded, listener) for _ in range(20)]
    for client, server in pairs:
        wire.exchange(client, server)
        client.close()
        assert wire.read_to_end(server) == (b"", EOF)
        server.close()
    client, server = pair(loaded, listener)
    wire.exchange(client, server)
    assert ", resumed" in loaded.relay.text()


def test_authority_changes(loaded, authority, terminator, relay_via):
    """SIGHUP reads the trusted certificates again; connections that exist go on. A file that is
    gone is a mistake, as at the start: nothing is applied. To see it fail: let
    tls_context_is_stale() return false, or return false after stat()."""
    listener = loaded.listen()
    proxy = terminator(listener.getsockname())
    trusted = loaded.directory / "trusted.pem"
    trusted.write_text(authority.certificate.read_text())
    relay = relay_via("type = tcp", f"address = {proxy.address[0]}:{proxy.address[1]}",
                      "tls = yes", f"tls-name = {NAME}", f"tls-ca = {trusted}")
    before = pair(loaded, listener)
    trusted.unlink()
    relay.signal(signal.SIGHUP)
    host.wait_until(lambda: "going on with the configuration before" in relay.text(), "it refuses")
    assert f"cannot read '{trusted}': No such file or directory" in relay.text()
    wire.exchange(*pair(loaded, listener))
    trusted.write_text(Authority(loaded.directory, "other").certificate.read_text())
    relay.signal(signal.SIGHUP)
    host.wait_until(lambda: "read the configuration again" in relay.text(), "it reloads")
    refused(loaded, listener, "certificate refused: unable to get local issuer certificate")
    wire.exchange(*before)


def test_descriptors(loaded, authority, terminator, relay_via):
    """With few descriptors clients wait and none is reset: a bridge needs two more. They are served
    in any order, so each one that has its answer closes at once. To see it fail: count two for each
    session in capacity_sessions()."""
    proxy = terminator(loaded.echo_server()[0])
    relay_via(*lines(proxy.address, authority), files=256)
    clients = {loaded.connect(ELSEWHERE) for _ in range(80)}
    host.wait_until(lambda: "limit of connections" in loaded.relay.text(), "some wait")
    for client in clients:
        client.sendall(b"first")
    while clients:
        answered = select.select(clients, [], [], wire.TIMEOUT * host.patience)[0]
        assert answered, f"{len(clients)} clients wait"
        for client in answered:
            assert wire.read_exactly(client, 5) == b"first"
            client.close()
            clients.remove(client)


def refused(bed, listener, why):
    assert wire.RESET == bed.run_in(wire.fate, ELSEWHERE, b"secret")
    host.wait_until(lambda: why in bed.relay.text(), f"the log has {why!r}")
    listener.settimeout(0)
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_wrong_authority(loaded, authority, terminator, relay_via):
    """To see this and the next two fail: do not verify."""
    listener = loaded.listen()
    proxy = terminator(listener.getsockname())
    relay_via(*lines(proxy.address, Authority(loaded.directory, "other")))
    refused(loaded, listener, "certificate refused: unable to get local issuer certificate")


def test_wrong_name(loaded, authority, terminator, relay_via):
    listener = loaded.listen()
    proxy = terminator(listener.getsockname())
    relay_via(*lines(proxy.address, authority, name="other.example.test"))
    refused(loaded, listener, "ostname mismatch")


def test_system_certificates(loaded, authority, terminator, relay_via):
    """Without tls-ca the file of SSL_CERT_FILE counts. A pipe there is one line of the log, at the
    start, with --check, and at a reload, which goes on with what was read before. To see it fail:
    let trust_load_system() load nothing; leave O_NONBLOCK out of open_file() in trust.c."""
    trusted = loaded.directory / "trusted.pem"
    trusted.write_text(authority.certificate.read_text())
    listener = loaded.listen()
    proxy = terminator(listener.getsockname())
    environment = {"SSL_CERT_FILE": str(trusted), "SSL_CERT_DIR": ""}
    relay = relay_via(*lines(proxy.address, authority)[:-1], env=environment)
    wire.exchange(*pair(loaded, listener))
    trusted.unlink()
    os.mkfifo(trusted)
    says = f"SSL_CERT_FILE: cannot read '{trusted}': it is not a regular file"
    config = loaded.directory / "upstreams.conf"
    loaded.run_relay("--config", config, "--check", env=environment).refused(says, status=1)
    loaded.run_relay("--config", config, env=environment).refused(says, status=1)
    relay.signal(signal.SIGHUP)
    host.wait_until(lambda: says in relay.text(), "the log has the line")
    wire.exchange(*pair(loaded, listener))


def test_expired(loaded, authority, terminator, relay_via):
    listener = loaded.listen()
    proxy = terminator(listener.getsockname(), authority.issue(days=-1))
    relay_via(*lines(proxy.address, authority))
    refused(loaded, listener, "certificate refused: certificate has expired")


def test_not_verified(loaded, authority, terminator, relay_via):
    """tls-verify = no takes what is refused above."""
    listener = loaded.listen()
    proxy = terminator(listener.getsockname(), authority.issue(days=-1))
    relay_via("type = tcp", f"address = {proxy.address[0]}:{proxy.address[1]}", "tls = yes",
              "tls-verify = no")
    wire.exchange(*pair(loaded, listener))


@pytest.mark.needs("microsocks")
def test_socks5(loaded, authority, terminator, relay_via):
    """A SOCKS5 proxy behind TLS: connections reach their destination through it."""
    microsocks(loaded)
    relay_via(*lines(terminator((SERVER, 1080)).address, authority, kind="socks5"))
    listener = loaded.listen()
    client = loaded.connect(listener)
    server, peer = loaded.accept(listener)
    assert peer[0] == SERVER, "not through the proxy"
    wire.exchange(client, server)


@pytest.mark.needs("squid")
def test_http(loaded, authority, terminator, relay_via):
    """CONNECT behind TLS, with a password: connections reach their destination through Squid. It
    is asked for nothing while the certificate has another name. To see it fail: let
    set_verification() set no name; let nth_handshake() leave out http_connect if there is TLS."""
    host6.give_addresses(loaded)
    squid = proxies.squid(loaded, login=True)
    password = loaded.directory / "password"
    password.write_text(squid.password)
    password.chmod(0o400)
    os.chown(password, programs.RELAY_UID, programs.RELAY_GID)
    address = terminator((SERVER, squid.port)).address
    relay = relay_via(*lines(address, authority, name="other.example.test", kind="http"),
                      f"user = {proxies.USER}", f"password-file = {password}")
    refused(loaded, loaded.listen(), "ostname mismatch")
    config = loaded.directory / "upstreams.conf"
    config.write_text(config.read_text().replace("other.example.test", NAME))
    relay.signal(signal.SIGHUP)
    host.wait_until(lambda: "read the configuration again" in relay.text(), "it reloads")
    listener = loaded.listen()
    client = loaded.connect(listener)
    server, peer = loaded.accept(listener)
    assert peer[0] == SERVER, "not through the proxy"
    wire.exchange(client, server)
