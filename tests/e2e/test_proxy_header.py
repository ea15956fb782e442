# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""PROXY headers, as HAProxy, nginx, Wireshark and a receiver of this file read them.

Destinations are at SERVER2; the servers that read headers are at SERVER.
"""

import ipaddress
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import host
import host6
import wire
from harness import SERVER, SERVER2
from host6 import SERVER6_2

DISSECTOR = Path(__file__).resolve().parents[2] / "scripts" / "wireshark" / "tproxy.lua"
SO_NETNS_COOKIE = 71
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
DESTINATION, DESTINATION6 = (SERVER2, 80), (SERVER6_2, 80)
REQUEST = b"GET / HTTP/1.1\r\nHost: www.example.org\r\nConnection: close\r\n\r\n"

HAPROXY = """
global
    maxconn 100
    nbthread 1
defaults
    mode http
    timeout connect 10s
    timeout client 1m
    timeout server 1m
frontend headers
    bind :::{port} v4v6 accept-proxy {tls}
    http-request return status 200 content-type text/plain lf-string \
"%[src] %[src_port] %[dst] %[dst_port] %[fc_pp_unique_id] %[fc_pp_authority] ."
"""

NGINX = """
daemon off;
master_process off;
user root;
error_log stderr;
pid {directory}/nginx.pid;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen {port} proxy_protocol;
        listen [::]:{port} proxy_protocol;
        return 200 "$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr \
$proxy_protocol_server_port {tlvs}.";
    }}
}}
"""


@pytest.fixture
def bed(bed):
    host6.give_addresses(bed)
    bed.load()
    return bed


def use(bed, version="v2", process="no", sniff="no", **keys):
    """Starts a relay with an upstream that gets headers, by default at SERVER:8080."""
    keys = {"type": "tcp", "address": f"{SERVER}:8080", **keys}
    keys |= {"proxy-protocol": version, "proxy-process": process}
    path = bed.directory / "relay.conf"
    path.write_text(f"[relay]\ndefault-upstream = one\nsniff = {sniff}\n\n[upstream one]\n" +
                    "".join(f"{key} = {value}\n" for key, value in keys.items()
                            if value is not None))
    return bed.start_relay("--config", path)


def connect(address):
    return (host6.connect if ":" in address[0] else wire.connect)(address)


def ask(address):
    """Runs among the clients: sends a request, and returns what identifies the connection and the
    words of the answer."""
    with connect(address) as sock:
        me = sock.getsockname()
        identity = wire.connection_id(sock)
        sock.sendall(REQUEST)
        answer, _ = wire.read_to_end(sock)
    return me, identity, answer.partition(b"\r\n\r\n")[2].decode().split()


def same_address(text, address):
    """Compares addresses, mapped ones as the IPv4 addresses that they are."""
    one, other = (ipaddress.ip_address(x) for x in (text, address))
    return (getattr(one, "ipv4_mapped", None) or one) == (getattr(other, "ipv4_mapped", None) or
                                                          other)


def assert_read(words, me, destination):
    assert same_address(words[0], me[0]) and int(words[1]) == me[1], words
    assert same_address(words[2], destination[0]) and int(words[3]) == destination[1], words


def serve(bed, name, config, *argv, **values):
    """Starts a server with a configuration, and waits until it listens at SERVER:8080. "FILE" in
    @argv is the path of the configuration."""
    directory = bed.directory / name
    directory.mkdir()
    file = directory / "config"
    file.write_text(config.format(directory=directory, port=8080, **values))
    bed.start(*(file if word == "FILE" else word for word in argv))

    def listens():
        with socket.socket() as sock:
            return sock.connect_ex((SERVER, 8080)) == 0

    host.wait_until(lambda: bed.run_in(listens, place=bed.server), f"{name} listens")


# --- other programs


@pytest.mark.needs("haproxy")
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_haproxy(bed, version):
    """It checks the CRC, and reads addresses and id.

    To see it fail: change a byte of the table in crc32c(), or write the ports in host byte order.
    """
    serve(bed, "haproxy", HAPROXY, "haproxy", "-db", "-f", "FILE", tls="")
    use(bed, version)
    for destination in (DESTINATION, DESTINATION6):
        me, identity, words = bed.run_in(ask, destination)
        assert_read(words, me, destination)
        assert words[4:] == (["."] if version == "v1" else [identity, "."])


@pytest.mark.needs("haproxy")
def test_name(bed):
    """The name that the client's first bytes tell, as AUTHORITY.

    To see it fail: write target->name, which is NULL without send-name, in put_tlvs().
    """
    serve(bed, "haproxy", HAPROXY, "haproxy", "-db", "-f", "FILE", tls="")
    use(bed, sniff="yes")
    _, identity, words = bed.run_in(ask, DESTINATION)
    assert words[4:] == [identity, "www.example.org", "."]


@pytest.mark.needs("haproxy", "openssl")
def test_haproxy_tls(bed):
    """It reads the header before TLS begins. A check of the upstream sends both too: without a
    client it finds that the certificate has another name.

    To see it fail: let connected() of attempt.c begin TLS always; let checks end before the header.
    """
    key = bed.directory / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=upstream",
                    "-addext", "subjectAltName=DNS:upstream.example", "-keyout", key, "-out",
                    bed.directory / "ca.pem"], check=True, capture_output=True)
    (bed.directory / "ca.pem").chmod(0o644)
    key.write_text(key.read_text() + (bed.directory / "ca.pem").read_text())
    serve(bed, "haproxy", HAPROXY, "haproxy", "-db", "-f", "FILE", tls=f"ssl crt {key}")
    use(bed, tls="yes", **{"tls-name": "upstream.example", "tls-ca": bed.directory / "ca.pem"})
    me, identity, words = bed.run_in(ask, DESTINATION)
    assert_read(words, me, DESTINATION)
    assert words[4:] == [identity, "."]
    relay = use(bed, tls="yes", **{"tls-name": "other.example", "check-interval": "100ms",
                                   "tls-ca": bed.directory / "ca.pem"})
    host.wait_until(lambda: "is down after 3 failures, the last one: certificate refused" in
                    relay.text(), "checks see the certificate")


def nginx_version():
    text = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr
    return tuple(int(n) for n in re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", text).groups())


@pytest.mark.needs("nginx")
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_nginx(bed, version):
    """It reads the addresses, and from 1.23.2 on the fields too."""
    tlvs = version == "v2" and nginx_version() >= (1, 23, 2)
    serve(bed, "nginx", NGINX, "nginx", "-c", "FILE", "-e", "stderr",
          tlvs="$proxy_protocol_tlv_unique_id " if tlvs else "")
    use(bed, version)
    for destination in (DESTINATION, DESTINATION6):
        me, identity, words = bed.run_in(ask, destination)
        assert_read(words, me, destination)
        assert words[4:] == ([identity, "."] if tlvs else ["."])


# --- byte by byte


def fields_of(data):
    found = {}
    while data:
        kind, size = struct.unpack_from("!BH", data)
        assert kind not in found and len(data) >= 3 + size
        found[kind] = data[3:3 + size]
        data = data[3 + size:]
    return found


def read_header(sock):
    """Returns source, destination and fields of a header of version 2."""
    head = wire.read_exactly(sock, 16)
    assert head[:13] == SIGNATURE + b"\x21"
    body = wire.read_exactly(sock, int.from_bytes(head[14:], "big"))
    size = {0x11: 4, 0x21: 16}[head[13]]
    ports = struct.unpack_from("!HH", body, 2 * size)
    ends = [(str(ipaddress.ip_address(body[i * size:(i + 1) * size])), ports[i]) for i in (0, 1)]
    return *ends, fields_of(body[2 * size + 4:])


def netns_cookie():
    with socket.socket() as sock:
        return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), sys.byteorder)


def start_client(bed):
    """A program that connects, sends a request and waits."""
    script = ("import socket, sys; s = socket.create_connection((sys.argv[1], 80)); "
              "s.sendall(sys.argv[2].encode()); s.recv(1)")
    return bed.start("/usr/bin/python3", "-c", script, SERVER2, REQUEST.decode(),
                     place=bed.client)


def test_process(bed):
    """The field of tproxy: the client's process, read byte by byte.

    To see it fail: write PROXY_TPROXY_UID in host byte order, or take the path from any process.
    """
    listener = bed.listen(SERVER, 8080)
    use(bed, process="yes")
    client = start_client(bed)
    sock, _ = bed.accept(listener)
    _, destination, fields = read_header(sock)
    assert destination == DESTINATION
    assert fields[0x30] == str(bed.run_in(netns_cookie)).encode()
    value = fields[0xE4]
    assert value[:5] == b"tprx\1"
    ours = fields_of(value[5:])
    assert int.from_bytes(ours[1], "big") == client.pid
    assert ours[2] == struct.pack("!I", os.getuid())
    assert ours[3] == struct.pack("!I", os.getgid())
    assert ours[4] == Path(f"/proc/{client.pid}/comm").read_bytes()[:-1]
    assert ours[5] == struct.pack("!Q", bed.scope.path.stat().st_ino)
    assert ours[6].decode() == "/" + str(bed.scope.path.relative_to(host.cgroup2_root()))
    sock.sendall(b"x")


def test_without_process(bed):
    """What is not asked for is not told."""
    listener = bed.listen(SERVER, 8080)
    use(bed)
    client = bed.connect(DESTINATION)
    sock, _ = bed.accept(listener)
    source, destination, fields = read_header(sock)
    assert (source, destination) == (client.getsockname(), DESTINATION)
    assert sorted(fields) == [0x03, 0x05, 0x30]
    wire.exchange(client, sock)


def test_direct(bed):
    """A header to the original destination itself."""
    listener = bed.listen(SERVER)
    use(bed, "v1", type="direct", address=None)
    client = bed.connect(listener)
    sock, _ = bed.accept(listener)
    me, address = client.getsockname(), listener.getsockname()
    line = f"PROXY TCP4 {me[0]} {address[0]} {me[1]} {address[1]}\r\n".encode()
    assert wire.read_exactly(sock, len(line)) == line
    wire.exchange(client, sock)


def test_families_that_differ(bed):
    """An IPv4 client of an IPv6 address would be mapped; a mapped destination is IPv4."""
    listener = bed.listen(SERVER, 8080)
    use(bed, "v2")
    client = bed.connect((f"::ffff:{SERVER2}", 80))
    sock, _ = bed.accept(listener)
    source, destination, _ = read_header(sock)
    assert destination == DESTINATION and source[1] == client.getsockname()[1]
    wire.exchange(client, sock)


# --- on the wire


class Tap:
    """Frames of the servers' interface, from its start on."""

    def __init__(self, bed):
        with bed.server_net.inside():
            self._sock = bed.keep(socket.socket(socket.AF_PACKET, socket.SOCK_RAW,
                                                socket.htons(3)))
            self._sock.bind(("tproxy0", 3))
        self._sock.settimeout(wire.TIMEOUT)
        self.frames = []

    def first_data(self, port):
        """The payload of the first TCP segment over IPv4 to this port that has one."""
        while True:
            frame = self._sock.recv(65536)
            self.frames.append(frame)
            if frame[12:14] != b"\x08\x00" or frame[23] != 6:
                continue
            packet = frame[14:14 + int.from_bytes(frame[16:18], "big")]
            segment = packet[(packet[0] & 15) * 4:]
            payload = segment[(segment[12] >> 4) * 4:]
            if payload and int.from_bytes(segment[2:4], "big") == port:
                return payload

    def write(self, path):
        """Writes a pcap file."""
        with path.open("wb") as file:
            file.write(struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65536, 1))
            for number, frame in enumerate(self.frames):
                file.write(struct.pack("=IIII", number, 0, len(frame), len(frame)) + frame)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_first_segment(bed, version):
    """The header goes with the client's first bytes, which wait for the relay here. The kernel
    holds it back for 200 ms only, so a relay that is held up itself may need another try.

    To see it fail: let bytes_follow() in attempt.c return false.
    """
    listener = bed.listen(SERVER, 8080)
    relay = use(bed, version)
    for _ in range(5):
        tap = Tap(bed)
        relay.stop()
        client = bed.connect(DESTINATION)
        client.sendall(REQUEST)
        relay.signal(signal.SIGCONT)
        payload = tap.first_data(8080)
        assert payload.startswith(b"PROXY TCP4 " if version == "v1" else SIGNATURE)
        sock, _ = bed.accept(listener)
        assert wire.read_exactly(sock, len(payload)) == payload
        if payload.endswith(REQUEST):
            assert len(payload) <= 536 + len(REQUEST)
            return
        assert wire.read_exactly(sock, len(REQUEST)) == REQUEST  # before the next tap
    raise AssertionError("the header was in a segment of its own each time")


def test_silent_client(bed):
    """The header of a client that waits for the server is not held back."""
    listener = bed.listen(SERVER, 8080)
    use(bed, "v2")
    tap = Tap(bed)
    bed.connect((SERVER2, 22))
    payload = tap.first_data(8080)
    sock, _ = bed.accept(listener)
    assert wire.read_exactly(sock, len(payload)) == payload and payload.startswith(SIGNATURE)


@pytest.mark.needs("tshark")
def test_tshark(bed):
    """Wireshark's dissector of headers, and scripts/wireshark/tproxy.lua for the fields."""
    listener = bed.listen(SERVER, 8080)
    use(bed, process="yes", sniff="yes")
    tap = Tap(bed)
    client = start_client(bed)
    tap.first_data(8080)
    sock, _ = bed.accept(listener)
    source, _, fields = read_header(sock)
    names = ["proxy.src.ipv4", "proxy.dst.ipv4", "tproxy.id", "tproxy.name", "tproxy.netns",
             "tproxy.pid", "tproxy.uid", "tproxy.gid", "tproxy.command", "tproxy.cgroup_id",
             "tproxy.cgroup"]
    scope = bed.scope.path
    path = bed.directory / "frames.pcap"
    tap.write(path)
    script = shutil.copy(DISSECTOR, bed.directory)
    out = subprocess.run(
        ["tshark", "-o", "tcp.try_heuristic_first:TRUE", "-X", f"lua_script:{script}", "-nr", path,
         "-Y", "tproxy", "-T", "fields", *(word for name in names for word in ("-e", name))],
        capture_output=True, text=True, check=True).stdout
    values = dict(zip(names, out.rstrip("\n").split("\t"), strict=True))
    assert values == {
        "proxy.src.ipv4": source[0], "proxy.dst.ipv4": SERVER2,
        "tproxy.id": fields[0x05].decode(), "tproxy.name": "www.example.org",
        "tproxy.gid": str(os.getgid()),
        "tproxy.netns": fields[0x30].decode(), "tproxy.pid": str(client.pid),
        "tproxy.uid": str(os.getuid()),
        "tproxy.command": Path(f"/proc/{client.pid}/comm").read_text()[:-1],
        "tproxy.cgroup_id": str(scope.stat().st_ino),
        "tproxy.cgroup": "/" + str(scope.relative_to(host.cgroup2_root()))}
