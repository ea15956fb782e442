# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Pinned maps and programs in tests: bpftool reads, bpf(2) writes.

Maps are read with `bpftool map dump`, because that is a supported way to inspect tproxy, so its
field names are under test too. To write 65,536 entries that way would take seconds.
"""

import ctypes
import errno
import json
import os
import platform
import socket
import struct
import subprocess
from pathlib import Path

from host import wait_until

BPFTOOL = "/usr/sbin/bpftool" if os.path.exists("/usr/sbin/bpftool") else "bpftool"

PORTS_MAX = 64  # TPROXY_PORTS_MAX

_NR_BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]
_MAP_LOOKUP_ELEM, _MAP_UPDATE_ELEM, _MAP_DELETE_ELEM, _MAP_GET_NEXT_KEY = 1, 2, 3, 4
_PROG_LOAD = 5
_OBJ_PIN, _OBJ_GET, _OBJ_GET_INFO = 6, 7, 15
_PROG_QUERY, _MAP_FREEZE = 16, 22
# The attach types of cgroups in enum bpf_attach_type, without those of LSM and of UNIX sockets.
_CGROUP_TYPES = (0, 1, 2, 3, 6, *range(8, 16), *range(18, 23), *range(29, 33), 34)
_PROG_TYPE_CGROUP_SOCK_ADDR, _ATTACH_INET4_CONNECT = 18, 10
_PROG_TYPE_CGROUP_SOCKOPT, _ATTACH_GETSOCKOPT = 25, 21
_PROG_TYPE_SCHED_CLS = 3
_PROG_TYPE_CGROUP_SKB = 8
_PROG_TYPE_XDP, _ATTACH_XDP, _LINK_CREATE = 6, 37, 28
_XDP_GENERIC, _XDP_NATIVE = 1 << 1, 1 << 2

_libc = ctypes.CDLL(None, use_errno=True)


def _bpf(command, attributes):
    buffer = ctypes.create_string_buffer(attributes, 128)
    result = _libc.syscall(_NR_BPF, command, buffer, 128)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _address(buffer):
    return ctypes.addressof(buffer)


def bpftool(*args):
    """Runs bpftool, and returns its output as JSON (None if there is none)."""
    argv = [BPFTOOL, "--json", *map(str, args)]
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{argv}: {result.stdout}{result.stderr}"
    return json.loads(result.stdout) if result.stdout.strip() else None


class PinnedMap:
    """A pinned map by bpf(2), for writing."""

    def __init__(self, path):
        name = ctypes.create_string_buffer(os.fsencode(path))
        self.fd = _bpf(_OBJ_GET, struct.pack("=QII", _address(name), 0, 0))
        info = ctypes.create_string_buffer(24)
        _bpf(_OBJ_GET_INFO, struct.pack("=IIQ", self.fd, 24, _address(info)))
        _, _, self.key_size, self.value_size, self.max_entries, _ = struct.unpack("=6I", info.raw)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)

    def freeze(self):
        """No process can write to it any more."""
        _bpf(_MAP_FREEZE, struct.pack("=I", self.fd))

    def update(self, key, value):
        assert len(key) == self.key_size and len(value) == self.value_size
        key, value = ctypes.create_string_buffer(key), ctypes.create_string_buffer(value)
        _bpf(_MAP_UPDATE_ELEM, struct.pack("=IIQQQ", self.fd, 0, _address(key), _address(value), 0))

    def lookup(self, key):
        """Returns the value, or None."""
        key = ctypes.create_string_buffer(key)
        value = ctypes.create_string_buffer(self.value_size)
        try:
            _bpf(_MAP_LOOKUP_ELEM,
                 struct.pack("=IIQQQ", self.fd, 0, _address(key), _address(value), 0))
        except FileNotFoundError:
            return None
        return value.raw

    def lookup_per_cpu(self, key):
        """Returns the values of a per-CPU map on all CPUs, one after the other."""
        cpus = int(Path("/sys/devices/system/cpu/possible").read_text().rpartition("-")[2]) + 1
        key = ctypes.create_string_buffer(key)
        values = ctypes.create_string_buffer(-(-self.value_size // 8) * 8 * cpus)
        _bpf(_MAP_LOOKUP_ELEM,
             struct.pack("=IIQQQ", self.fd, 0, _address(key), _address(values), 0))
        return values.raw

    def total(self, key):
        """Returns the sum over all CPUs of a per-CPU map's 64-bit values."""
        return sum(value for value, in struct.iter_unpack("=Q", self.lookup_per_cpu(key)))

    def is_empty(self):
        try:
            self.first_key()
        except FileNotFoundError:
            return True
        return False

    def delete(self, key):
        key = ctypes.create_string_buffer(key)
        _bpf(_MAP_DELETE_ELEM, struct.pack("=IIQQ", self.fd, 0, _address(key), 0))

    def first_key(self):
        key = ctypes.create_string_buffer(self.key_size)
        _bpf(_MAP_GET_NEXT_KEY, struct.pack("=IIQQ", self.fd, 0, 0, _address(key)))
        return key.raw

    def _strange_key(self, number):
        """A key that no socket has: cookies count up from 1."""
        return struct.pack("=Q", 1 << 63 | number).ljust(self.key_size, b"\0")

    def fill(self):
        """Adds entries without a socket, up to the limit."""
        value = bytes(self.value_size)
        for number in range(self.max_entries):
            self.update(self._strange_key(number), value)

    def empty(self):
        for number in range(self.max_entries):
            self.delete(self._strange_key(number))


class Pins:
    """The pin directory of a loaded tproxy."""

    def __init__(self, path):
        self.path = Path(path)

    def names(self):
        return sorted(path.name for path in self.path.iterdir()) if self.path.exists() else []

    def open(self, name):
        return PinnedMap(self.path / name)

    def dump(self, name):
        """Returns all entries of a map as a list of {"key", "value"} with fields by name. If an
        entry is deleted between bpftool's reads of key and value, its value is an error, which is
        not formatted, and the entry is left out."""
        entries = bpftool("map", "dump", "pinned", self.path / name)
        gone = {"error": os.strerror(errno.ENOENT)}
        return [entry.get("formatted", entry) for entry in entries if entry.get("value") != gone]

    def count(self, name):
        return len(self.dump(name))

    def program_id(self, name):
        """As `bpftool prog show` tells, without a process: some tests ask for all of them often."""
        path = ctypes.create_string_buffer(os.fsencode(self.path / name))
        fd = _bpf(_OBJ_GET, struct.pack("=QII", _address(path), 0, 0))
        try:
            info = ctypes.create_string_buffer(8)  # the type, and the id
            _bpf(_OBJ_GET_INFO, struct.pack("=IIQ", fd, 8, _address(info)))
        finally:
            os.close(fd)
        return struct.unpack("=II", info.raw)[1]

    def remove_link(self, hook, cgroup):
        """Removes the pin of a link, which is its last reference, and waits until the program is
        detached. The kernel does that later, in a work queue; the link's id is gone before."""
        path = self.path / f"link_{hook}_{cgroup.path.stat().st_ino:x}"
        program = bpftool("link", "show", "pinned", path)["prog_id"]
        path.unlink()
        wait_until(lambda: program not in attached(cgroup), f"{hook} is detached from {cgroup}")

    def wait_dead_links(self, cgroup_id):
        """Waits until the links of a removed cgroup, which no socket refers to any more, are
        detached."""
        paths = [self.path / name for name in self.names()
                 if name.startswith("link_") and name.endswith(f"_{cgroup_id:x}")]
        wait_until(lambda: not any(bpftool("link", "show", "pinned", path)["cgroup_id"]
                                   for path in paths), "its links are detached")

    def at_rest(self):
        return not self.dump("map_socks") and not self.dump("map_ports")


def pack_address(address):
    """As in struct tproxy_endpoint: IPv4 addresses are mapped."""
    if ":" in address:
        return socket.inet_pton(socket.AF_INET6, address)
    return b"\xff\xff".rjust(12, b"\0") + socket.inet_aton(address)


def pack_listen(address, *ports, n_ports=None):
    """struct tproxy_listen."""
    count = len(ports) if n_ports is None else n_ports
    return struct.pack("=16sHH", pack_address(address), count, 0) + struct.pack(
        f"={PORTS_MAX}H", *ports, *[0] * (PORTS_MAX - len(ports)))


class Layout:
    """The offsets of the fields of a map's value, from its BTF."""

    def __init__(self, pin):
        info = bpftool("map", "show", "pinned", pin)
        types = bpftool("btf", "dump", "map", "id", info["id"], "value")["types"]
        structs = [entry for entry in types if entry["kind"] == "STRUCT"]
        (value,) = [entry for entry in structs if entry["size"] == info["bytes_value"]]
        self.size = value["size"]
        self._offsets = {field["name"]: field["bits_offset"] // 8 for field in value["members"]}

    def pack(self, **fields):
        """Packs a value with these fields, given as bytes, and zeroes elsewhere."""
        value = bytearray(self.size)
        for name, data in fields.items():
            offset = self._offsets[name]
            value[offset:offset + len(data)] = data
        return bytes(value)

    def unpack(self, value, name, form):
        return struct.unpack_from(form, value, self._offsets[name])


class Entry:
    """The registration of a relay, which is stopped so that it does not repair the entry,
    changed."""

    def __init__(self, bed):
        self.bed = bed
        self.layout = Layout(bed.pins.path / "map_config")
        (self.entry,) = bpftool("map", "dump", "pinned", bed.pins.path / "map_config")

    def bytes_of(self, what):
        return bytes(int(byte, 16) for byte in self.entry[what])

    def change(self, **fields):
        mask = self.layout.pack(**{name: b"\xff" * len(data) for name, data in fields.items()})
        value = [new if masked else old for old, new, masked
                 in zip(self.bytes_of("value"), self.layout.pack(**fields), mask, strict=True)]
        with self.bed.pins.open("map_config") as config:
            config.update(self.bytes_of("key"), bytes(value))


def _load(path, program_type, attach_type, *instructions, name=b"foreign"):
    """Loads and pins a foreign program. Instructions are (code, registers, offset, value)."""
    code = ctypes.create_string_buffer(
        b"".join(struct.pack("=BBhi", *instruction) for instruction in instructions))
    license_text = ctypes.create_string_buffer(b"GPL")
    attributes = struct.pack("=IIQQIIQII16sII", program_type, len(instructions), _address(code),
                             _address(license_text), 0, 0, 0, 0, 0, name, 0, attach_type)
    fd = _bpf(_PROG_LOAD, attributes)
    try:
        name = ctypes.create_string_buffer(os.fsencode(path))
        _bpf(_OBJ_PIN, struct.pack("=QII", _address(name), fd, 0))
    finally:
        os.close(fd)


_RETURN = (0x95, 0, 0, 0)

TCP_CONNECT_CB = 3  # of sockops, BPF_SOCK_OPS_*
RTT_CB_FLAG = 1 << 3


def load_connect4(path, verdict, name=b"foreign"):
    """For cgroup/connect4: allows (1) or denies (0) everything."""
    _load(path, _PROG_TYPE_CGROUP_SOCK_ADDR, _ATTACH_INET4_CONNECT, (0xB7, 0, 0, verdict), _RETURN,
          name=name)


# The hooks of tproxy's programs: program type, attach type, and the name for bpftool.
HOOKS = {"connect4": (_PROG_TYPE_CGROUP_SOCK_ADDR, _ATTACH_INET4_CONNECT, "cgroup_inet4_connect"),
         "connect6": (_PROG_TYPE_CGROUP_SOCK_ADDR, 11, "cgroup_inet6_connect"),
         "getpeer4": (_PROG_TYPE_CGROUP_SOCK_ADDR, 29, "cgroup_inet4_getpeername"),
         "getpeer6": (_PROG_TYPE_CGROUP_SOCK_ADDR, 30, "cgroup_inet6_getpeername"),
         "sweep": (_PROG_TYPE_CGROUP_SOCK_ADDR, 8, "cgroup_inet4_bind"),
         "sockopt": (_PROG_TYPE_CGROUP_SOCKOPT, _ATTACH_GETSOCKOPT, "cgroup_getsockopt"),
         "sockops": (13, 3, "cgroup_sock_ops"),
         "release": (9, 34, "cgroup_inet_sock_release")}


def load_harmless(path, hook):
    """For any hook: changes nothing."""
    program_type, attach_type, _ = HOOKS[hook]
    _load(path, program_type, attach_type, (0xB7, 0, 0, 1), _RETURN)


def load_sockops(path, op, flags):
    """For sockops: replaces the callback flags of a socket at this callback."""
    program_type, attach_type, _ = HOOKS["sockops"]
    _load(path, program_type, attach_type,
          (0x61, 0x12, 0, 0),   # r2 = ctx->op
          (0x55, 0x02, 2, op),  # if r2 != op, skip the next two
          (0xB7, 2, 0, flags),  # r2 = flags
          (0x85, 0, 0, 59),     # bpf_sock_ops_cb_flags_set(ctx, r2)
          (0xB7, 0, 0, 1),
          _RETURN)


def load_xdp(path, name=b"foreign"):
    """For an interface: passes everything."""
    _load(path, _PROG_TYPE_XDP, _ATTACH_XDP, (0xB7, 0, 0, 2), _RETURN, name=name)


class XdpLink:
    """A link of a pinned program on an interface of this namespace, which this process holds."""

    def __init__(self, path, interface, generic):
        name = ctypes.create_string_buffer(os.fsencode(path))
        program = _bpf(_OBJ_GET, struct.pack("=QII", _address(name), 0, 0))
        try:
            self.fd = _bpf(_LINK_CREATE, struct.pack(
                "=4I", program, socket.if_nametoindex(interface), _ATTACH_XDP,
                _XDP_GENERIC if generic else _XDP_NATIVE))
        finally:
            os.close(program)

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def load_sendmsg4_denial(path):
    """For cgroup/sendmsg4: denies everything."""
    _load(path, _PROG_TYPE_CGROUP_SOCK_ADDR, 14, (0xB7, 0, 0, 0), _RETURN)


def load_connect4_but(path, address, port):
    """For cgroup/connect4: denies this destination."""
    wanted, = struct.unpack("=i", socket.inet_aton(address))
    _load(path, _PROG_TYPE_CGROUP_SOCK_ADDR, _ATTACH_INET4_CONNECT,
          (0x61, 0x12, 4, 0), (0x61, 0x13, 24, 0),  # user_ip4, user_port
          (0xB7, 0, 0, 1),
          (0x56, 2, 2, wanted), (0x56, 3, 1, socket.htons(port)),  # 32-bit: another one
          (0xB7, 0, 0, 0), _RETURN)


def load_connect4_to(path, address, port):
    """For cgroup/connect4: replaces any other destination by this address."""
    wanted, = struct.unpack("=i", socket.inet_aton(address))
    _load(path, _PROG_TYPE_CGROUP_SOCK_ADDR, _ATTACH_INET4_CONNECT,
          (0xB4, 2, 0, wanted), (0x63, 0x21, 4, 0),               # user_ip4
          (0xB4, 2, 0, socket.htons(port)), (0x63, 0x21, 24, 0),  # user_port
          (0xB7, 0, 0, 1), _RETURN)


def load_getsockopt(path, most):
    """For cgroup/getsockopt: a request whose optlen is still larger succeeds without an answer."""
    optlen, retval = 32, 36  # in struct bpf_sockopt
    _load(path, _PROG_TYPE_CGROUP_SOCKOPT, _ATTACH_GETSOCKOPT,
          (0x61, 0x12, optlen, 0),  # r2 = ctx->optlen
          (0xB7, 0, 0, 1),          # r0 = 1
          (0xB5, 2, 3, most),       # if r2 <= most, skip the next three
          (0xB7, 3, 0, 0),          # r3 = 0
          (0x63, 0x31, optlen, 0),  # ctx->optlen = r3
          (0x63, 0x31, retval, 0),  # ctx->retval = r3
          _RETURN)


def load_vlan_push(path, number):
    """For tc: gives a packet an 802.1Q tag."""
    _load(path, _PROG_TYPE_SCHED_CLS, 0,
          (0xB4, 2, 0, socket.htons(0x8100)), (0xB4, 3, 0, number),
          (0x85, 0, 0, 18),  # bpf_skb_vlan_push()
          (0xB7, 0, 0, 0), _RETURN)


def load_vlan_pop(path):
    """For tc: takes the outer tag off."""
    _load(path, _PROG_TYPE_SCHED_CLS, 0,
          (0x85, 0, 0, 19),  # bpf_skb_vlan_pop()
          (0xB7, 0, 0, 0), _RETURN)


# For egress and ingress: the attach type, and the offset of the remote address in the IPv4 header.
DIRECTIONS = {"ingress": (0, 12), "egress": (1, 16)}
_PASS_OTHERS = ((0xB7, 0, 0, 1),        # r0 = 1
                (0x61, 0x12, 16, 0),    # r2 = skb->protocol
                (0x15, 2, 1, 0x0008),   # IPv4: go on
                _RETURN)


def _load_remote(direction):
    """Copies the remote IPv4 address to the stack at -4."""
    return ((0xB7, 2, 0, DIRECTIONS[direction][1]), (0xBF, 0xA3, 0, 0), (0x07, 3, 0, -4),
            (0xB7, 4, 0, 4), (0x85, 0, 0, 26))  # bpf_skb_load_bytes()


def _load_filter(path, direction, *instructions, **options):
    _load(path, _PROG_TYPE_CGROUP_SKB, DIRECTIONS[direction][0], *_PASS_OTHERS, *instructions,
          **options)


def load_loopback_filter(path, direction, passes):
    """Of IPv4 packets, passes only those to and from 127.0.0.0/8, or only the others."""
    _load_filter(path, direction, *_load_remote(direction),
                 (0x71, 0xA2, -4, 0),                    # r2 = the first byte
                 (0xB7, 0, 0, int(passes)), (0x15, 2, 1, 127),
                 (0xB7, 0, 0, int(not passes)), _RETURN)


def load_interface_filter(path, direction, ifindex):
    """Passes the packets of one interface, as RestrictNetworkInterfaces= does."""
    _load_filter(path, direction, (0x61, 0x12, 40, 0), (0xB7, 0, 0, 1), (0x15, 2, 1, ifindex),
                 (0xB7, 0, 0, 0), _RETURN)


def load_pass_all(path, direction):
    """Passes everything, as a program that only counts."""
    _load_filter(path, direction, (0xB7, 0, 0, 1), _RETURN)


def load_allow_list(path, direction, *networks):
    """Passes packets of these IPv4 networks, which are in a trie, as IPAddressAllow= does."""
    trie = path.with_name(path.name + "_trie")
    bpftool("map", "create", trie, "type", "lpm_trie", "key", 8, "value", 8, "entries", 16,
            "name", "allow", "flags", 1)
    with PinnedMap(trie) as allow:
        for network in networks:
            address, _, bits = network.partition("/")
            allow.update(struct.pack("=I", int(bits)) + socket.inet_aton(address), bytes(8))
        _load_filter(path, direction, *_load_remote(direction),
                     (0x62, 0xA, -8, 32),                          # the length of the prefix
                     (0x18, 0x11, 0, allow.fd), (0, 0, 0, 0),      # r1 = the map
                     (0xBF, 0xA2, 0, 0), (0x07, 2, 0, -8), (0x85, 0, 0, 1),  # look up
                     (0x15, 0, 1, 0), (0xB7, 0, 0, 1), _RETURN,
                     name=b"sd_fw_" + direction.encode())
    trie.unlink()


def effective(cgroup):
    """The ids of the programs that run for the cgroup, those of cgroups above included."""
    return sorted(entry["id"] for entry in bpftool("cgroup", "show", cgroup, "effective") or [])


def _attached_as(fd, kind):
    ids = (ctypes.c_uint32 * 64)()
    query = ctypes.create_string_buffer(
        struct.pack("=IIIIQI", fd, kind, 0, 0, ctypes.addressof(ids), len(ids)), 128)
    if _libc.syscall(_NR_BPF, _PROG_QUERY, query, 128) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return ids[:struct.unpack_from("=I", query, 24)[0]]


def attached(cgroup):
    """The ids of the programs that are attached to the cgroup itself, see BPF_PROG_QUERY in
    bpf(2). `bpftool cgroup show` takes 10 ms for the same."""
    fd = os.open(str(cgroup), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return sorted(each for kind in _CGROUP_TYPES for each in _attached_as(fd, kind))
    finally:
        os.close(fd)
