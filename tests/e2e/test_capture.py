# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""tproxyctl capture: packets of the programs in scope, in files that other programs read."""

import contextlib
import ctypes
import fcntl
import hashlib
import os
import re
import signal
import socket
import struct
import subprocess
from functools import partial

import pytest

import harness
import host
import host6
import maps
import pcapng
import programs
import wire
from test_observe import set_rules
from tproxyctl import binary, ctl  # noqa: F401 (fixtures)

ALIVE = bytes(4)  # TPROXY_CAPTURE_ALIVE_NS


@pytest.fixture
def capture(loaded, binary):  # noqa: F811 (the fixture)
    """capture(*options): runs while the block does."""
    number = 0

    @contextlib.contextmanager
    def run(*options, place=None, ends=True, **program):
        nonlocal number
        number += 1
        log = loaded.directory / f"capture{number}.log"
        with programs.Program(binary, "capture", "--pin-dir", loaded.pins.path, *options,
                              place=place or loaded.bystander, log=log, **program) as process:
            process.says("capturing")
            yield process
            if ends:
                process.signal(signal.SIGINT)
                assert process.wait() == 0, process.text()
                assert "Sanitizer" not in process.text(), process.text()

    return run


def talk(bed, listener, up=b"up" * 5000, down=b"down" * 4000, **options):
    """A connection on which both ends send and close. Returns its id, the client's address, and the
    address from which the server got it."""
    client = bed.connect(listener, **options)
    server, peer = bed.accept(listener)
    client.sendall(up)
    client.shutdown(1)
    assert wire.read_to_end(server) == (up, wire.EOF)
    server.sendall(down)
    server.close()
    assert wire.read_to_end(client) == (down, wire.EOF)
    name = client.getsockname()[:2]
    number = wire.connection_id(client)
    client.close()
    return number, name, peer[:2]


def alive_ns(bed):
    with bed.pins.open("map_capture") as state:
        return int.from_bytes(state.lookup(ALIVE), "little")


def pass_5_s(bed):
    """Makes the last sign of life of a capture an old one."""
    with bed.pins.open("map_capture") as state:
        state.update(ALIVE, (1).to_bytes(8, "little"))


def at_rest(bed):
    return bed.pins.dump("map_flows") == [] and alive_ns(bed) == 0


def test_both_legs(proxied, capture, tmp_path):
    """SYN to FIN of both legs with the program, and the bytes that were sent."""
    listener = proxied.listen()
    with capture("-w", tmp_path / "c.pcapng") as process:
        number, client, relay = talk(proxied, listener)
    got = pcapng.read(tmp_path / "c.pcapng")
    legs = {"client": (client, got.of(number, "client")),
            "upstream": (relay, got.of(number, "upstream"))}
    assert len(got.packets) == sum(len(packets) for _, packets in legs.values())
    for leg, (source, packets) in legs.items():
        assert {p.interface for p in packets} == {"lo" if leg == "client" else host6.DEVICE}
        assert packets[0].flags == pcapng.SYN and packets[0].src == source
        destination, = {p.dst for p in packets} - {source}
        assert pcapng.stream(packets, source) == b"up" * 5000
        assert pcapng.stream(packets, destination) == b"down" * 4000
        assert all(p.outgoing == (p.src == source) for p in packets)
        for end in (source, destination):
            assert any(p.flags & pcapng.FIN for p in packets if p.src == end), leg
        assert {p.process for p in packets} == {(packets[0].process[0], "python3")}
        assert {p.field("dst") for p in packets} == {"{}:{}".format(*listener.getsockname())}
        assert {p.field("uid") for p in packets} == {"0"}
    assert got.statistics == {"accepted": len(got.packets), "dropped": 0,
                              "delivered": len(got.packets)}
    assert f"captured {len(got.packets)} packets: IPv4 {len(got.packets)}, IPv6 0; 0 dropped" in \
        process.text()
    assert at_rest(proxied)


@pytest.mark.needs("tshark", "tcpdump", "capinfos")
def test_other_programs_read_it(proxied, capture, tmp_path):
    """Two interfaces and two IP versions: tcpdump, tshark and capinfos take the file, and tshark
    shows comments and processes."""
    host6.give_addresses(proxied)
    with capture("-w", tmp_path / "c.pcapng"):
        number, _, _ = talk(proxied, proxied.listen())
        number6, _, _ = talk6(proxied)
    got = pcapng.read(tmp_path / "c.pcapng")
    for connection, version in ((number, 4), (number6, 6)):
        assert {p.version for p in got.of(connection)} == {version}
    lines = tool("tcpdump", "-nr", tmp_path / "c.pcapng").splitlines()
    assert len(lines) == len(got.packets)
    assert sum(" IP6 " in line for line in lines) == len(got.of(number6))
    wanted = ["frame.interface_name", "frame.comment", "frame.packet_flags_direction", "ip.version",
              "ipv6.version", "tcp.seq_raw"]
    fields = [arg for name in wanted for arg in ("-e", name)]
    shown = [line.split("\t") for line in
             tool("tshark", "-nr", tmp_path / "c.pcapng", "-T", "fields", *fields).splitlines()]
    assert [[name, comment, int(way, 16), v4 or v6, int(seq)]
            for name, comment, way, v4, v6, seq in shown] == [
        [p.interface, p.comment, 2 if p.outgoing else 1, str(p.version), p.seq]
        for p in got.packets]
    processes = tool("tshark", "-X", "read_format:MIME Files Format", "-r", tmp_path / "c.pcapng",
                     "-T", "fields", "-e", "pcapng.darwin.process_name").strip()
    assert processes.split(",") == [name for _, name in got.processes]
    about = tool("capinfos", "-TmQ", "-c", "-E", tmp_path / "c.pcapng").splitlines()[1]
    assert about.endswith(f'"linux-sll2","{len(got.packets)}"')


def tool(name, *args):
    return subprocess.run([name, *map(str, args)], check=True, text=True, timeout=60,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout


def talk6(bed, **options):
    """talk() over IPv6."""
    listener = host6.listen(bed)
    client = bed.keep(bed.run_in(host6.connect, listener.getsockname()[:2], **options))
    server, peer = bed.accept(listener)
    client.sendall(b"up")
    assert server.recv(10) == b"up"
    server.close()
    assert wire.read_to_end(client) == (b"", wire.EOF)
    name = client.getsockname()[:2]
    number = wire.connection_id(client)
    client.close()
    return number, name, peer[:2]


def test_direct_and_observed(loaded, capture, tmp_path):
    """Without a relay: direct ones, and those of a rule that observes, each to the last FIN."""
    direct, watched = loaded.listen(), loaded.listen()
    set_rules(loaded, f"observe port {watched.getsockname()[1]}")
    with capture("-w", tmp_path / "c.pcapng"):
        numbers = [talk(loaded, listener)[0] for listener in (direct, watched)]
    got = pcapng.read(tmp_path / "c.pcapng")
    for number, leg in zip(numbers, ("direct", "observed")):
        packets = got.of(number)
        assert {p.field("leg") for p in packets} == {leg}
        assert packets[0].flags == pcapng.SYN and packets[0].outgoing
        source = packets[0].src
        assert pcapng.stream(packets, source) == b"up" * 5000
        assert pcapng.stream(packets, packets[0].dst) == b"down" * 4000
        assert {p.process[1] for p in packets} == {"python3"}
        assert len([p for p in packets if p.flags & pcapng.FIN]) == 2
        assert packets[-1].flags & pcapng.ACK
    assert len(got.packets) == sum(len(got.of(number)) for number in numbers)
    assert at_rest(loaded)


def test_bystander(proxied, capture, tmp_path):
    """Packets of programs that are out of scope, to the same server, are not there."""
    listener = proxied.listen()
    with capture("-w", tmp_path / "c.pcapng"):
        outside = proxied.connect(listener, place=proxied.bystander)
        proxied.accept(listener)[0].sendall(b"hello")
        number, _, _ = talk(proxied, listener)
        assert outside.recv(10) == b"hello"
    got = pcapng.read(tmp_path / "c.pcapng")
    assert got.of(number) and {p.field("id") for p in got.packets} == {number}


def as_command(name, function, *args):
    """Runs a function under another command."""
    ctypes.CDLL(None).prctl(15, name.encode(), 0, 0, 0)  # PR_SET_NAME
    return function(*args)


def test_filters(proxied, capture, tmp_path):
    """Captures at the same time, each with the packets of the connections that pass its filter,
    from the SYN on. With more than four values of an option tproxyctl decides, not the kernel."""
    listener, other = proxied.listen(), proxied.listen(harness.SERVER2)
    port = listener.getsockname()[1]
    only = {"command": ["chosen"], "command=": ["cho*"], "command==": [*"abcd", "chosen"],
            "port": [port], "port=": [1, 2, 3, 4, f"{port}-{port}"],
            "to": [harness.SERVER + "/32"]}
    both = {"uid": [4711, "root"], "cgroup": [proxied.top.path], "verdict": ["redirected"]}
    none = {"pid": [proxied.relay.pid]}
    with contextlib.ExitStack() as stack:
        for name, values in {**only, **both, **none}.items():
            option = "--" + name.rstrip("=")
            options = [word for value in values for word in (option, value)]
            stack.enter_context(capture("-w", tmp_path / name, *options))
        wanted = proxied.keep(proxied.run_in(partial(as_command, "chosen", wire.connect,
                                                     listener.getsockname())))
        unwanted = proxied.connect(other)
        for client, at in ((wanted, listener), (unwanted, other)):
            server = proxied.accept(at)[0]
            for _ in range(3):
                wire.exchange(client, server)
    numbers = [wire.connection_id(sock) for sock in (wanted, unwanted)]
    for names, expected in ((only, numbers[:1]), (both, numbers), (none, [])):
        for name in names:
            got = pcapng.read(tmp_path / name)
            assert {p.field("id") for p in got.packets} == set(expected), name
            for number in expected:
                for leg in ("client", "upstream"):
                    assert got.of(number, leg)[0].flags == pcapng.SYN
    assert at_rest(proxied)


def test_existing_connections(proxied, capture, tmp_path):
    """Those that are alive when the capture begins: redirected ones on lo, and observed ones."""
    listener, watched = proxied.listen(), proxied.listen(harness.SERVER2)
    set_rules(proxied, f"observe to {harness.SERVER2}")
    redirected, observed = proxied.visit(listener), proxied.visit(watched)
    assert redirected.relayed and not observed.relayed
    with capture("-w", tmp_path / "c.pcapng"):
        for visit in (redirected, observed):
            wire.exchange(visit.client, visit.server, b"later")
    got = pcapng.read(tmp_path / "c.pcapng")
    for visit, leg in ((redirected, "client"), (observed, "observed")):
        packets = got.of(wire.connection_id(visit.client))
        assert {p.field("leg") for p in packets} == {leg}
        assert b"".join(p.payload for p in packets if p.outgoing) == b"later"
    assert len(got.packets) == sum(len(got.of(wire.connection_id(v.client)))
                                   for v in (redirected, observed))


def test_lines(proxied, capture):
    """Without -w: a line for each packet, on stdout alone."""
    with capture() as process:
        number, (address, port), _ = talk(proxied, proxied.listen())
    lines = [line for line in process.text().splitlines() if not line.startswith("tproxyctl: ")]
    first = lines[0].split()
    assert first[1] == "lo" and re.fullmatch(r"python3\[\d+\]", first[2])
    assert first[3:5] == [number, "client"] and first[5] == f"{address}:{port}"
    assert "Flags [S], seq" in lines[0] and "Flags [S.], seq" in lines[1]
    assert sum("Flags [S], seq" in line for line in lines) == 2
    assert f"captured {len(lines)} packets" in process.text()


def age_first_flow(bed):
    """Makes the end of a connection an old one. Returns true if no entry is left."""
    with bed.pins.open("map_flows") as flows:
        try:
            key = flows.first_key()
        except FileNotFoundError:
            return True
        value = flows.lookup(key)
        if value:  # struct tproxy_flow: ended_ns follows two numbers of 64 bits
            flows.update(key, value[:16] + (1).to_bytes(8, "little") + value[24:])
    return False


def test_entries_go_while_it_runs(proxied, capture):
    """The kernel half notes the end of both sockets. The capture deletes their entries later.

    To see it fail: leave out flow_end(), or the deletion in pass() of capture/flows.c.
    """
    with capture():
        talk(proxied, proxied.listen())
        host.wait_until(lambda: [entry["value"]["ended_ns"] > 0
                                 for entry in proxied.pins.dump("map_flows")] == [True, True],
                        "both sockets have ended")
        host.wait_until(lambda: age_first_flow(proxied), "the capture deletes them", 10)


def test_drops_are_counted(proxied, capture, tmp_path):
    """A capture that stands still loses what its ring of 16 MiB cannot keep. It tells how much.

    To see it fail: do not add tp_drops in tap_count().
    """
    up, down = wire.Stream("up", 12_000_000), wire.Stream("down", 1000)
    with capture("-w", tmp_path / "c.pcapng") as process:
        with process.stopped():
            client, server = proxied.pair()
            task = proxied.task(wire.swap_streams, server, down, place=proxied.server)
            wire.swap_streams(client, up)
            assert task.result() == (up.size, up.sha256())
    dropped = pcapng.read(tmp_path / "c.pcapng").statistics["dropped"]
    assert dropped > 0 and f"; {dropped} dropped" in process.text()


def test_count_and_snap_length(proxied, capture, tmp_path):
    """-c ends the capture, and -s cuts each packet, of which the connection is still known."""
    with capture("-w", tmp_path / "c.pcapng", "-c", "7", "-s", "44", ends=False) as process:
        number, _, _ = talk(proxied, proxied.listen())
        assert process.wait() == 0
    got = pcapng.read(tmp_path / "c.pcapng")
    assert len(got.packets) == len(got.of(number)) == 7
    assert {len(p.data) for p in got.packets} == {44} and all(p.length > 44 for p in got.packets)
    assert at_rest(proxied)


def test_files(proxied, capture, tmp_path):
    """-C alone makes a sequence of files, with -W a ring. Each file is complete, and together they
    have every packet once."""
    listener, data = proxied.listen(), bytes(range(256)) * 400
    with capture("-w", tmp_path / "all", "-C", "64K"), \
            capture("-w", tmp_path / "ring", "-C", "64K", "-W", "3"):
        number, source, _ = talk(proxied, listener, data, data)
    names = [tmp_path / "all"] + [tmp_path / f"all{i}" for i in range(1, 100)]
    names = [name for name in names if name.exists()]
    assert len(names) == len(list(tmp_path.glob("all*"))) > 4
    files = [pcapng.read(name) for name in names]
    packets = [p for file in files for p in file.packets]
    assert pcapng.stream([p for p in packets if p.field("leg") == "client"], source) == data
    assert all(file.statistics and file.packets for file in files)
    assert sorted(path.name for path in tmp_path.glob("ring*")) == ["ring0", "ring1", "ring2"]
    ring = [p for name in ("ring0", "ring1", "ring2") for p in pcapng.read(tmp_path / name).packets]
    assert {p.data for p in ring} <= {p.data for p in packets} and len(ring) < len(packets)


@pytest.mark.needs("tshark")
def test_pipe(proxied, capture, tmp_path):
    """-w -: tshark reads the packets as they come."""
    reading, writing = os.pipe()
    with open(tmp_path / "out", "wb") as out, \
            subprocess.Popen(["tshark", "-l", "-nr", "-", "-T", "fields", "-e", "frame.comment"],
                             stdin=reading, stdout=out, stderr=subprocess.DEVNULL) as tshark:
        os.close(reading)
        with os.fdopen(writing, "wb") as pipe, capture("-w", "-", out=pipe) as process:
            number, _, _ = talk(proxied, proxied.listen())
            host.wait_until(lambda: (tmp_path / "out").read_text().count(f"id={number}") > 10,
                            "tshark shows packets", 20)
        assert tshark.wait(60) == 0
    assert process.wait() == 0


def test_killed(proxied, capture, tmp_path):
    """The file of a capture that was killed is complete to a packet. What the capture left in the
    maps goes by itself, and a connection in between is as without it.

    To see it fail: leave out flow_sweep() in sweep().
    """
    listener = proxied.listen()
    with capture("-w", tmp_path / "c.pcapng", ends=False) as process:
        number, _, _ = talk(proxied, listener)
        host.wait_until(lambda: b"leg=upstream" in (tmp_path / "c.pcapng").read_bytes(), "packets")
        process.kill()
    assert pcapng.read(tmp_path / "c.pcapng").of(number)
    assert not at_rest(proxied)
    pass_5_s(proxied)
    talk(proxied, listener)
    host.wait_until(lambda: at_rest(proxied), "the sweep has cleaned up", 15)
    entries = proxied.pins.dump("map_flows")
    talk(proxied, listener)
    assert proxied.pins.dump("map_flows") == entries == []


def test_stopped(proxied, capture, tmp_path):
    """A capture that was stopped says that connections are missing, and goes on.

    To see it fail: leave out has_stalled().
    """
    listener = proxied.listen()
    with capture("-w", tmp_path / "c.pcapng") as process:
        with process.stopped():
            pass_5_s(proxied)
            missing, _, _ = talk(proxied, listener)
        host.wait_until(lambda: alive_ns(proxied) > 1, "it renews")
        number, _, _ = talk(proxied, listener)
    assert "was stopped for more than 5 s" in process.text()
    got = pcapng.read(tmp_path / "c.pcapng")
    assert got.of(number) and not got.of(missing)


def test_unloaded(loaded, capture, tmp_path):
    """A load in place changes nothing. After an unload the capture ends, and its file is whole.

    To see it fail: leave out flows_are_pinned().
    """
    with capture("-w", tmp_path / "c.pcapng", ends=False) as process:
        loaded.load()
        number, _, _ = talk(loaded, loaded.listen())
        host.wait_until(lambda: f"id={number}".encode() in (tmp_path / "c.pcapng").read_bytes(),
                        "packets")
        loaded.unload()
        assert process.wait() == 1
    assert "was unloaded" in process.text()
    got = pcapng.read(tmp_path / "c.pcapng")
    assert got.of(number) and got.statistics


def test_full_disk(proxied, capture, tmp_path):
    """The capture ends, says why, and leaves a file that other programs read."""
    with host.mounted("tmpfs", tmp_path / "small", "size=64k") as small:
        with capture("-w", small / "c.pcapng", ends=False) as process:
            talk(proxied, proxied.listen(), bytes(200_000), b"")
            assert process.wait() == 1
        assert "No space left on device" in process.text()
        got = pcapng.read(small / "c.pcapng")
        assert got.packets and got.statistics is None
    assert at_rest(proxied)


def test_refusals(loaded, ctl, tmp_path):  # noqa: F811 (the fixture)
    """An ordinary user, wrong options, and nothing loaded."""
    ctl("capture", user=(65534, 65534)).refused("root")
    ctl("capture", user=(65534, programs.RELAY_GID)).refused("map_capture", "root")
    ctl("capture", "-C", "1M").refused("--write", status=2)
    ctl("capture", "-w", "-", "-C", "1M").refused("--write", status=2)
    ctl("capture", "-w", tmp_path / "x", "-W", 3).refused("--file-size", status=2)
    ctl("capture", "-c", 0).refused("--count", "'0'", status=2)
    ctl("capture", "--to", "nonsense").refused("'nonsense'", status=2)
    ctl("capture", "-w", "/nowhere/x").refused("/nowhere/x", "No such file")
    ctl("capture", pin_dir="/sys/fs/bpf/nowhere").refused("nothing is loaded")
    assert at_rest(loaded)


def test_bulk(proxied, capture, tmp_path):
    """Segments of 64 KiB, both ways at the same time: every byte is there, in both legs. The ring
    of 16 MiB has room for all of them."""
    up, down = wire.Stream("up", 1_500_001), wire.Stream("down", 1_000_003)
    listener = proxied.listen()
    with capture("-w", tmp_path / "c.pcapng"):
        client = proxied.connect(listener)
        server, peer = proxied.accept(listener)
        task = proxied.task(wire.swap_streams, server, down, place=proxied.server)
        assert wire.swap_streams(client, up) == (down.size, down.sha256())
        assert task.result() == (up.size, up.sha256())
    got = pcapng.read(tmp_path / "c.pcapng")
    assert got.statistics["dropped"] == 0
    for leg, source in (("client", client.getsockname()), ("upstream", peer)):
        packets = got.of(wire.connection_id(client), leg)
        for sender, sent in ((source, up), (packets[0].dst, down)):
            data = pcapng.stream(packets, sender)
            assert (len(data), hashlib.sha256(data).hexdigest()) == (sent.size, sent.sha256()), leg


VLAN = 5
ETHTOOL = 0x8946  # SIOCETHTOOL
GET_FLAGS, SET_FLAGS, TX_VLAN = 0x25, 0x26, 1 << 7
PACKET, AUXDATA = 263, 8  # SOL_PACKET, PACKET_AUXDATA
TAG_VALID = 16  # TP_STATUS_VLAN_VALID


def give_tags(bed, in_frame):
    """All packets between the namespaces have a tag of 802.1Q: from tc's egress to its ingress. The
    packet sockets see it between the two. A device that does not take the tag in the metadata of
    the packet gets it in the frame, as after ethtool -K DEVICE txvlan off."""
    push, pop = bed.directory / "bpf" / "push", bed.directory / "bpf" / "pop"
    maps.load_vlan_push(push, VLAN)
    maps.load_vlan_pop(pop)
    for netns in (bed.client_net, bed.server_net):
        if in_frame:
            refuse_tags(netns)
        for command in ("qdisc add dev {} clsact",
                        f"filter add dev {{}} egress bpf da object-pinned {push}",
                        f"filter add dev {{}} ingress bpf da object-pinned {pop}"):
            subprocess.run(["nsenter", f"--net={netns.path}", "tc",
                            *command.format(host6.DEVICE).split()], check=True)


def refuse_tags(netns):
    value = ctypes.create_string_buffer(struct.pack("=II", GET_FLAGS, 0))
    request = struct.pack("=16sQ16x", host6.DEVICE.encode(), ctypes.addressof(value))
    with netns.inside(), socket.socket() as sock:
        fcntl.ioctl(sock, ETHTOOL, request)
        flags, = struct.unpack_from("=I", value, 4)
        struct.pack_into("=II", value, 0, SET_FLAGS, flags & ~TX_VLAN)
        fcntl.ioctl(sock, ETHTOOL, request)


def tag_of(sock):
    """The tag of the next packet that leaves: from the frame and from the metadata, 0 for none."""
    while True:
        frame, messages, _, source = sock.recvmsg(65536, 64)
        status, *_, metadata, _ = struct.unpack_from("=IIIHHHH", messages[0][2])
        if source[2] == socket.PACKET_OUTGOING:
            kind, tag = struct.unpack_from("!HH", frame, 12)
            return tag if kind == 0x8100 else 0, metadata if status & TAG_VALID else 0


@pytest.mark.parametrize("in_frame", [False, True])
def test_vlan(loaded, capture, tmp_path, in_frame):
    """Packets with a tag of 802.1Q are captured like others, without the tag: the metadata of the
    packets have it, or the frames.

    To see it fail: read with BPF_HDR_START_MAC from byte 14 on in bpf/capture.bpf.c.
    """
    give_tags(loaded, in_frame)
    host6.give_addresses(loaded)
    loaded.start_relay()  # it has the addresses of IPv6 from the start
    with loaded.client_net.inside():
        tap = loaded.keep(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)))
    tap.bind((host6.DEVICE, 3))
    tap.settimeout(wire.TIMEOUT)
    tap.setsockopt(PACKET, AUXDATA, 1)
    with capture("-w", tmp_path / "c.pcapng"):
        number, _, relay = talk(loaded, loaded.listen())
        number6, _, relay6 = talk6(loaded)
    assert tag_of(tap) == ((VLAN, 0) if in_frame else (0, VLAN))
    got = pcapng.read(tmp_path / "c.pcapng")
    sent = {(number, 4, relay): (b"up" * 5000, b"down" * 4000), (number6, 6, relay6): (b"up", b"")}
    for (connection, version, source), (up, down) in sent.items():
        packets = got.of(connection, "upstream")
        assert {(p.version, p.interface) for p in packets} == {(version, host6.DEVICE)}
        assert packets[0].flags == pcapng.SYN and packets[0].src == source
        assert all(p.outgoing == (p.src == source) for p in packets)
        destination, = {p.dst for p in packets} - {source}
        assert pcapng.stream(packets, source) == up
        assert pcapng.stream(packets, destination) == down


def test_namespace(proxied, capture, tmp_path):
    """The server's namespace has the same packets, but not these programs."""
    with capture("-w", tmp_path / "c.pcapng", place=proxied.server):
        talk(proxied, proxied.listen())
    assert pcapng.read(tmp_path / "c.pcapng").packets == []
