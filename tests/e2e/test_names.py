# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Names of destinations in the client's first bytes: the log, the lines of [names], and clients
that are slow or silent. The resolver reads /etc/hosts of the test; there is no name server."""

import http.server
import os
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest

import host
import wire
from harness import SERVER, SERVER2
from test_log import json_lines

CORPUS = Path(__file__).parent.parent / "fuzz" / "corpus"
REQUEST = b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n"
HERE, ELSEWHERE = "here.example.test", "elsewhere.example.test"


def client_hello(name):
    """The first bytes of a TLS client."""
    sent = ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), sent, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return sent.read()


@pytest.fixture
def mounted(bed):
    """mounted(path, text) has a file in /etc with this text."""
    targets = []

    def mount(path, text):
        file = bed.directory / path.name
        file.write_text(text)
        targets.append(os.path.realpath(path))
        subprocess.run(["mount", "--bind", file, targets[-1]], check=True)

    yield mount
    for target in targets:
        subprocess.run(["umount", target], check=True)


@pytest.fixture
def relay_with(loaded, mounted):
    """relay_with(line, ...) starts a relay with these lines of configuration."""
    mounted(Path("/etc/hosts"), f"{SERVER} {HERE} other.{HERE}\n{SERVER2} {ELSEWHERE}\n")
    mounted(Path("/etc/resolv.conf"), "nameserver 127.0.0.1\noptions attempts:1 timeout:1\n")
    path = loaded.directory / "tproxy.conf"

    def start(*lines, log="json"):
        path.write_text("\n".join(lines) + "\n")
        path.chmod(0o644)
        return loaded.start_relay("-f", path, "--connection-log", log, "--workers", 1)

    start.path = path
    return start


def lines_of(relay, count=1):
    host.wait_until(lambda: len(json_lines(relay)) >= count, f"{count} lines", 10)
    return json_lines(relay)


def fetched(bed, listener, data):
    """Sends the data and verifies that the server gets it, and nothing else, and can answer."""
    client = bed.connect(listener)
    server, peer = bed.accept(listener)
    assert peer != client.getsockname(), "not relayed"
    client.sendall(data)
    client.shutdown(socket.SHUT_WR)
    assert wire.read_to_end(server) == (data, wire.EOF)
    server.sendall(b"answer")
    server.close()
    assert wire.read_to_end(client) == (b"answer", wire.EOF)


def arrives(bed, address, data):
    """Sends the data, and returns whether the server there gets it; otherwise the client must get a
    reset."""
    listener = bed.listen(*address)
    try:
        client = bed.connect(address)
        client.sendall(data)
        listener.settimeout(0.02)

        def accepted():
            try:
                return listener.accept()[0]
            except TimeoutError:
                return None

        def decided():
            sock = accepted()
            if sock:
                with sock:
                    sock.settimeout(wire.TIMEOUT)
                    assert wire.read_exactly(sock, len(data)) == data
                return "arrived"
            client.settimeout(0.02)
            try:
                assert client.recv(1) == b""
                return "closed"
            except TimeoutError:
                return None
            except ConnectionResetError:
                return wire.RESET

        fate = None
        deadline = time.monotonic() + wire.TIMEOUT
        while not fate and time.monotonic() < deadline:
            fate = decided()
        assert fate in ("arrived", wire.RESET), fate
        client.close()
        return fate == "arrived"
    finally:
        listener.close()


# --- the log

class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello\n")

    def log_message(self, *_):
        pass


def serve(listener, certificate):
    server = http.server.HTTPServer(listener.getsockname(), Hello, bind_and_activate=False)
    listener.settimeout(None)
    server.socket = listener
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(listener, server_side=True)
    server.serve_forever()


@pytest.fixture
def web(loaded):
    """Web servers on ports 80 and 443, with a certificate for no name."""
    pem = loaded.directory / "web.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", pem, "-out", f"{pem}.c",
                    "-days", "2", "-subj", "/CN=web"], check=True, capture_output=True)
    pem.write_text(pem.read_text() + Path(f"{pem}.c").read_text())
    for port, certificate in ((80, None), (443, pem)):
        loaded.task(serve, loaded.listen(port=port), certificate, place=loaded.server)


@pytest.mark.needs("curl", "openssl")
def test_real_clients(loaded, web, relay_with):
    """curl with both protocols, and openssl. The log has the name of each, and the bytes arrive:
    the servers answer. To see it fail: let naming_result() return NULL."""
    relay = relay_with("[relay]", "sniff = yes")
    for url in ("http://one.example.test/", "https://two.example.test/"):
        port = 443 if url.startswith("https") else 80
        name = url.split("/")[2]
        done = loaded.run("curl", "-sSk", "--resolve", f"{name}:{port}:{SERVER}", url)
        assert done.succeeded().out == "hello\n"
    done = loaded.run("openssl", "s_client", "-connect", f"{SERVER}:443", "-servername",
                      "three.example.test", "-ign_eof", data="GET / HTTP/1.0\r\n\r\n")
    assert "hello" in done.out
    assert {(line.get("name"), line.get("protocol")) for line in lines_of(relay, 3)} == {
        ("one.example.test", "http"), ("two.example.test", "tls"), ("three.example.test", "tls")}


def test_hello_of_two_segments(loaded, relay_with):
    """A hello with a post-quantum key share, in two parts, the second after the relay has seen the
    first. ECH is told. To see it fail: let peek() take a part for all; leave out sniffed::ech."""
    relay = relay_with("[relay]", "sniff = yes")
    hello = (CORPUS / "tls_hello" / "chromium").read_bytes()
    listener = loaded.listen(port=443)

    def visit():
        client = loaded.connect(listener)
        client.setsockopt(socket.SOL_TCP, socket.TCP_NODELAY, 1)
        client.sendall(hello[:1400])
        time.sleep(0.01)
        client.sendall(hello[1400:])
        server, _ = loaded.accept(listener)
        assert wire.read_exactly(server, len(hello)) == hello
        wire.exchange(client, server)
        client.close()
        server.close()
        return lines_of(relay, visits)[-1]

    # On a busy machine the second part may come after the limit of the wait.
    for visits in range(1, 20):
        line = visit()
        if "name" in line:
            break
    assert (line["name"], line["ech"], line["protocol"]) == ("chromium.example.org", True, "tls")


def test_text(loaded, relay_with):
    """The line for people. It has no name if the bytes have none."""
    relay = relay_with("[relay]", "sniff = yes", log="text")
    listener = loaded.listen(port=80)
    fetched(loaded, listener, REQUEST % b"Text.Example.")
    fetched(loaded, listener, b"\0\1\2")
    shown = f"-> {SERVER}:80, name \"text.example\": up"
    host.wait_until(lambda: relay.text().count(f"-> {SERVER}:80") == 2, "two lines", 10)
    assert relay.text().count(shown) == 1


# --- bytes and time

def test_bytes_in_every_form(loaded, relay_with):
    """One byte at a time, wrong bytes, and hellos that are cut: all arrive, and nothing else. To
    see it fail: let peek() consume what it sees."""
    relay_with("[relay]", "sniff = yes")
    listener = loaded.listen(port=443)
    hello = client_hello("bytes.example.test")
    for data in (hello, hello[:100], b"\x16\x03\x01\x40\x00", b"\x16" * 40, bytes(range(256)) * 200,
                 b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
                 b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):
        fetched(loaded, listener, data)
    client = loaded.connect(listener)
    client.setsockopt(socket.SOL_TCP, socket.TCP_NODELAY, 1)
    for byte in hello:
        client.send(bytes([byte]))
    client.shutdown(socket.SHUT_WR)
    server, _ = loaded.accept(listener)
    assert wire.read_to_end(server) == (hello, wire.EOF)


def test_urgent(loaded, relay_with):
    """An urgent byte in what is looked at arrives as one, in its place. To see it fail: let
    at_mark() in pump.c return false."""
    relay_with("[relay]", "sniff = yes")
    listener = loaded.listen(port=80)
    client = loaded.connect(listener)
    client.sendall(b"GET /")
    client.send(b"!", socket.MSG_OOB)
    client.sendall(b" HTTP/1.1\r\n")
    server, _ = loaded.accept(listener)
    assert wire.read_exactly(server, 5) == b"GET /"
    assert server.recv(1, socket.MSG_OOB) == b"!"
    assert wire.read_exactly(server, 11) == b" HTTP/1.1\r\n"


def greeted(bed, listener):
    """A connection on which the server speaks first. Returns the seconds from its start to the
    banner."""
    client = bed.connect(listener)
    start = time.monotonic()
    server, _ = bed.accept(listener)
    server.sendall(b"banner")
    assert wire.read_exactly(client, 6) == b"banner"
    seconds = time.monotonic() - start
    client.close()
    server.close()
    return seconds


@pytest.mark.deadline(60)
def test_server_speaks_first(loaded, relay_with):
    """On a port where clients speak first, and the route depends on their name, a silent client
    costs one timeout, and the next ones none: 40 of them would take 12 s. To see it fail: let
    is_silent() return false."""
    relay_with("[names]", f"{HERE} = direct")
    listener = loaded.listen(port=443)
    start = time.monotonic()
    greeted(loaded, listener)
    assert time.monotonic() - start > 0.25
    assert sum(greeted(loaded, listener) for _ in range(40)) < 6


@pytest.mark.deadline(60)
def test_other_ports_do_not_wait(loaded, relay_with):
    """The relay looks at no client elsewhere, and waits for none: 40 destinations would take 12 s.
    To see it fail: let naming_is_wanted() return true."""
    relay = relay_with("[relay]", "sniff-ports = 443", "[names]", "* = refuse")
    assert arrives(loaded, (SERVER, 80), REQUEST % HERE.encode())
    assert not arrives(loaded, (SERVER, 443), REQUEST % HERE.encode())
    assert sum(greeted(loaded, loaded.listen(port=port)) for port in range(5000, 5040)) < 6
    # Connections that end at about the same time are logged in any order.
    line, = (line for line in lines_of(relay, 42) if line["destination"] == f"{SERVER}:80")
    assert "name" not in line


@pytest.mark.parametrize("route", ["depends", "does not"])
def test_client_ends_while_it_is_waited_for(loaded, relay_with, route):
    """A FIN is passed on. A reset ends the connection. To see it
    fail: let peek() return SNIFF_NONE after an error, which the kernel reports once only."""
    relay = relay_with("[relay]", "sniff = yes",
                       *(["[names]", f"{HERE} = direct"] if route == "depends" else []))
    listener = loaded.listen(port=443)
    fetched(loaded, listener, b"")
    fetched(loaded, listener, b"GET")
    for count, data in ((3, b""), (4, b"GET")):
        before = relay.descriptors_at_rest()
        client = loaded.connect(listener)
        client.sendall(data)
        host.wait_until(lambda: relay.descriptors() > before, "the relay accepts", 10)
        wire.reset(client)
        lines = lines_of(relay, count)
    assert [line["reason"] for line in lines] == 2 * ["closed"] + 2 * ["reset by client"]


# --- what the name decides

def test_lines_decide(loaded, relay_with):
    """The first line that matches decides. A connection without a name, or on another port, is not
    concerned. To see it fail: let names_find() ignore the order."""
    relay = relay_with("[names]", "first.ads.example.test = refuse EACCES",
                       "*.ads.example.test = refuse", "*.tracker.example.test = refuse EACCES")
    for name, arrived in (("a.ads.example.test", False), ("first.ads.example.test", False),
                          ("ads.example.test", True), ("x.y.tracker.example.test", False),
                          ("other.example.test", True)):
        assert arrives(loaded, (SERVER, 443), client_hello(name)) == arrived, name
        assert arrives(loaded, (SERVER, 80), REQUEST % name.encode()) == arrived, name
    assert arrives(loaded, (SERVER, 443), b"nothing with a name")
    assert arrives(loaded, (SERVER, 8081), client_hello("a.ads.example.test"))
    reasons = [(line["reason"], line.get("errno")) for line in lines_of(relay, 12)]
    assert reasons.count(("refused by name", 111)) == 2
    assert reasons.count(("refused by name", 13)) == 4
    # The next connection to the same address may have another name.
    assert arrives(loaded, (SERVER, 443), client_hello("other.example.test"))


def test_false_name_does_not_get_direct(loaded, relay_with):
    """`direct` holds for the addresses of the name only, so a forged name leads nowhere else. To
    see it fail: let judge() return LINE_APPLIES for NAME_ADDRESS_OTHER."""
    relay_with("[names]", f"{HERE} = direct", f"*.{HERE} = direct", f"{ELSEWHERE} = direct",
               "* = refuse")
    for address, name, arrived in (
            (SERVER, HERE, True), (SERVER, f"other.{HERE}", True), (SERVER2, ELSEWHERE, True),
            (SERVER2, HERE, False), (SERVER, ELSEWHERE, False),
            (SERVER, f"unknown.{HERE}", False), (SERVER, "example.test", False)):
        assert arrives(loaded, (address, 443), client_hello(name)) == arrived, (address, name)


def test_reload(loaded, relay_with):
    """SIGHUP replaces the lines for new connections."""
    relay = relay_with("[names]", f"{HERE} = refuse")
    assert not arrives(loaded, (SERVER, 443), client_hello(HERE))
    relay_with.path.write_text("[names]\nother.example.test = refuse\n")
    relay.signal(signal.SIGHUP)
    host.wait_until(lambda: "read the configuration again" in relay.text(), "the reload", 10)
    assert arrives(loaded, (SERVER, 443), client_hello(HERE))
    assert not arrives(loaded, (SERVER, 443), client_hello("other.example.test"))


def proxy(listener, channel):
    """A proxy of HTTP CONNECT that notes what it is asked for, and answers itself."""
    listener.settimeout(None)
    while True:
        sock, _ = listener.accept()
        with sock, open(channel, "ab", buffering=0) as notes:
            sock.settimeout(wire.TIMEOUT)
            asked = b""
            while not asked.endswith(b"\r\n\r\n"):
                asked += wire.read_exactly(sock, 1)
            notes.write(asked.split()[1] + b"\n")
            sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            wire.read_to_end(sock)


@pytest.fixture
def asked(loaded):
    """asked() is what the proxy at SERVER:3128 was asked for."""
    notes = loaded.directory / "asked"
    notes.touch()
    loaded.task(proxy, loaded.listen(port=3128), notes, place=loaded.server)
    return lambda: notes.read_text().split()


SQUID = ["[upstream squid]", "type = http", f"address = {SERVER}:3128"]


def ask_for(bed, address, data, asked):
    """What the proxy is asked for, for a connection with this data; None: it is not asked."""
    before = len(asked())
    client = bed.connect(address)
    client.sendall(data)
    client.shutdown(socket.SHUT_WR)
    wire.read_to_end(client)
    client.close()
    return asked()[before] if len(asked()) > before else None


def test_name_is_handed_on(loaded, relay_with, asked):
    """With send-name the proxy gets the name, whatever the address is: a false name leads to the
    name's host. Without a name, or with ECH, it gets the address. To see it fail: leave out
    dial_request::name; pass it with ECH too."""
    relay_with("[relay]", "default-upstream = squid", *SQUID, "send-name = yes")
    hello = (CORPUS / "tls_hello" / "chromium").read_bytes()
    for data, wanted in ((client_hello("any.example.test"), "any.example.test:443"),
                         (b"no name", f"{SERVER2}:443"), (hello, f"{SERVER2}:443")):
        assert ask_for(loaded, (SERVER2, 443), data, asked) == wanted


def test_dials_meanwhile(loaded, relay_with, asked):
    """An upstream that gets no name is dialled while the client is waited for: also for one that
    sends nothing yet. To see it fail: let name_policy_needs_name() return true."""
    relay = relay_with("[relay]", "default-upstream = squid", "sniff = yes", *SQUID)
    took = []
    for port in (443, 80, 8080, 8443):
        client = loaded.connect((SERVER2, port))
        host.wait_until(lambda: len(asked()) > len(took), "the proxy is asked", 10)
        wire.reset(client)
        line = lines_of(relay, len(took) + 1)[-1]
        assert line["reason"] == "reset by client"
        took.append(line["duration_ms"])
    # The limit of the wait is 300 ms. A busy machine may take longer once.
    assert min(took) < 250
    for _ in range(20):
        data = client_hello("any.example.test")
        assert ask_for(loaded, (SERVER2, 443), data, asked) == f"{SERVER2}:443"
        if "name" in lines_of(relay, len(asked()))[-1]:
            break
    assert json_lines(relay)[-1]["name"] == "any.example.test"


def test_line_with_upstream(loaded, relay_with, asked):
    """An upstream that gets addresses only serves names whose address is the destination's; `*`
    serves all. An upstream that gets names serves them all. A name with ECH decides for no certain
    name. To see it fail: let hands_on() return true; leave out the test of line->any."""
    other = loaded.listen(SERVER2, 443)
    relay_with(*SQUID, "[upstream names]", "type = http", f"address = {SERVER}:3128",
               "send-name = yes", "[names]", f"{HERE} = via squid", "*.names.test = via names",
               "*.example.org = via names", "*.every.test = refuse", "* = via squid")
    assert ask_for(loaded, (SERVER, 443), client_hello(HERE), asked) == f"{SERVER}:443"
    assert ask_for(loaded, (SERVER2, 443), client_hello("a.names.test"),
                   asked) == "a.names.test:443"
    assert ask_for(loaded, (SERVER2, 443), client_hello(HERE), asked) == f"{SERVER2}:443"
    hello = (CORPUS / "tls_hello" / "chromium").read_bytes()
    assert ask_for(loaded, (SERVER2, 443), hello, asked) == f"{SERVER2}:443"
    # Without `* = via squid` they are direct.
    relay_with.path.write_text(relay_with.path.read_text().replace("* = via squid", ""))
    loaded.relay.signal(signal.SIGHUP)
    host.wait_until(lambda: "read the configuration again" in loaded.relay.text(), "reload", 10)
    for data in (client_hello(HERE), hello):
        fetched(loaded, other, data)
