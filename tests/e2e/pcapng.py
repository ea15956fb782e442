# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Reads pcapng files of tproxyctl capture. What such a file should not have is an error."""

import dataclasses
import ipaddress
import struct

SECTION, INTERFACE, STATISTICS, PACKET, PROCESS = 0x0A0D0D0A, 1, 5, 6, 0x80000001
LINUX_SLL2 = 276
SYN, FIN, RST, ACK = 2, 1, 4, 16


@dataclasses.dataclass(frozen=True)
class Packet:
    interface: str
    time_ns: int
    comment: str
    process: tuple  # (pid, name), or None
    outgoing: bool
    version: int  # of IP
    src: tuple
    dst: tuple
    flags: int
    seq: int
    payload: bytes
    data: bytes  # from the IP header on, as captured
    length: int  # of the whole packet

    def field(self, name):
        """A field of the comment: uid, id, leg or dst."""
        found = [word for word in self.comment.split() if word.startswith(name + "=")]
        return found[0].partition("=")[2] if found else None


@dataclasses.dataclass
class Capture:
    application: str = ""
    interfaces: list = dataclasses.field(default_factory=list)
    processes: list = dataclasses.field(default_factory=list)
    packets: list = dataclasses.field(default_factory=list)
    statistics: dict = None

    def of(self, connection, leg=None):
        """The packets of a connection, or of one leg."""
        return [p for p in self.packets
                if p.field("id") == connection and leg in (None, p.field("leg"))]


def _options(data):
    found = {}
    while data:
        code, size = struct.unpack_from("=HH", data)
        if code == 0:
            assert size == 0 and len(data) == 4, "options after the last one"
            return found
        assert code not in found, code
        found[code] = data[4:4 + size]
        assert len(found[code]) == size
        data = data[4 + -(-size // 4) * 4:]
    raise AssertionError("no end of options")


def _blocks(data):
    while data:
        kind, size = struct.unpack_from("=II", data)
        assert size % 4 == 0 and len(data) >= size, f"block of {size} bytes at the end"
        assert struct.unpack_from("=I", data, size - 4) == (size,)
        yield kind, data[8:size - 4]
        data = data[size:]


def _address(data):
    return str(ipaddress.ip_address(data))


def _packet(body, capture):
    interface, high, low, captured, length = struct.unpack_from("=IIIII", body)
    sll2, ip = body[20:40], body[40:20 + captured]
    ether, _, ifindex, _, kind, _ = struct.unpack_from("!HHIHBB", sll2)
    assert ifindex > 0 and kind in (0, 4), kind
    options = _options(body[20 + -(-captured // 4) * 4:])
    version = ip[0] >> 4
    assert ether == {4: 0x0800, 6: 0x86DD}[version]
    if version == 4:
        tcp, end = (ip[0] & 15) * 4, int.from_bytes(ip[2:4], "big")
        src, dst = _address(ip[12:16]), _address(ip[16:20])
    else:
        tcp, end = 40, 40 + int.from_bytes(ip[4:6], "big")
        src, dst = _address(ip[8:24]), _address(ip[24:40])
    sport, dport, seq = struct.unpack_from("!HHI", ip, tcp)
    payload = ip[tcp + (ip[tcp + 12] >> 4) * 4:end or None]
    flags, = struct.unpack("=I", options[2])
    assert flags in (1, 2) and (kind == 4) == (flags == 2)
    process = struct.unpack("=I", options[0x8001])[0] if 0x8001 in options else None
    return Packet(capture.interfaces[interface], high << 32 | low, options.get(1, b"").decode(),
                  None if process is None else capture.processes[process], flags == 2, version,
                  (src, sport), (dst, dport), ip[tcp + 13], seq, payload, ip, length - 20)


def parse(data):
    """Parses the content of a file."""
    capture = Capture()
    for number, (kind, body) in enumerate(_blocks(data)):
        assert (kind == SECTION) == (number == 0)
        if kind == SECTION:
            magic, major, minor, size = struct.unpack_from("=IHHq", body)
            assert (magic, major, minor, size) == (0x1A2B3C4D, 1, 0, -1)
            capture.application = _options(body[16:])[4].decode()
        elif kind == INTERFACE:
            link, _, snap = struct.unpack_from("=HHI", body)
            options = _options(body[8:])
            assert link == LINUX_SLL2 and options[9] == b"\x09" and snap > 20
            capture.interfaces.append(options[2].decode())
        elif kind == PROCESS:
            pid, = struct.unpack_from("=I", body)
            capture.processes.append((pid, _options(body[4:])[2].decode()))
        elif kind == PACKET:
            capture.packets.append(_packet(body, capture))
        else:
            assert kind == STATISTICS and struct.unpack_from("=I", body) == (0,)
            options = _options(body[12:])
            capture.statistics = {name: int.from_bytes(options[code], "little")
                                  for name, code in (("accepted", 6), ("dropped", 7),
                                                     ("delivered", 8))}
    return capture


def read(path):
    return parse(path.read_bytes())


def stream(packets, source):
    """The bytes that @source has sent, put together by their sequence numbers."""
    sent = [p for p in packets if p.src == source]
    first = next(p.seq for p in sent if p.flags & SYN)
    data = bytearray()
    for p in sorted(sent, key=lambda p: (p.seq - first) & 0xFFFFFFFF):
        if not p.payload:
            continue
        at = (p.seq - first - 1) & 0xFFFFFFFF
        assert at <= len(data), f"a gap at byte {len(data)}"
        data[at:at + len(p.payload)] = p.payload
    return bytes(data)
