# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""tproxy-load --xdp: the links on interfaces, in load, unload, status and doctor, and --follow."""

import contextlib
import json
import os
import socket
import struct
import subprocess
import time

import pytest

import harness
import host
import programs
import wire
from host import wait_until
from maps import XdpLink, bpftool, load_xdp
from tproxyctl import binary, ctl, doctor, foreign  # fixtures

VETH = "tproxy0"  # in the servers' namespace, see harness.py
MODES = {1: "native", 2: "generic"}


@pytest.fixture
def place(bed):
    """Where the loader runs: indexes of interfaces are those of its namespace."""
    return host.Place(bed.outside, bed.server_net)


@pytest.fixture
def load(bed, place):
    """Loads with the options and --xdp for each interface."""
    def run(*options, xdp=(), scopes=(bed.scope,)):
        args = [arg for scope in scopes for arg in ("--cgroup", scope)]
        args += [arg for name in xdp for arg in ("--xdp", name)]
        return bed.tproxy_load(*args, "--relay-cgroup", bed.relay_cgroup, "--relay-group",
                               programs.RELAY_GID, *options, place=place)
    return run


@pytest.fixture
def state(bed, place):
    """The object "xdp" of status."""
    def read():
        result = bed.tproxy_load("--status", "--json", place=place)
        return json.loads(result.succeeded().out)["xdp"]
    return read


@pytest.fixture
def follow(bed, place):
    """Starts tproxy-load --follow as its unit does, and waits until it serves."""
    def start():
        program = bed.start(*programs.with_capabilities_of("tproxy-follow"), bed.tproxy_load.binary,
                            "--pin-dir", bed.pins.path, "--follow", place=place)
        wait_until(lambda: "nothing is loaded" in program.text() or os.path.exists(
            bed.pins.path) and follower(bed, place) == program.pid, "it follows")
        return program
    return start


def follower(bed, place):
    result = bed.tproxy_load("--status", "--json", place=place)
    return json.loads(result.out)["xdp"]["follow_pid"]


def attached(bed, name=VETH):
    """The mode and the program of an interface, as the kernel shows them, or None."""
    result = subprocess.run(["nsenter", f"--net={bed.server_net.path}", "ip", "-j", "link", "show",
                             name], text=True, capture_output=True, check=False)
    xdp = json.loads(result.stdout)[0].get("xdp") if result.returncode == 0 else None
    return (MODES[xdp["mode"]], xdp["prog"]["id"]) if xdp else None


def pinned_program(bed):
    return bpftool("prog", "show", "pinned", bed.pins.path / "prog_xdp")["id"]


def pins(bed):
    return [name for name in bed.pins.names() if name.startswith("xdp_")]


def attach_by_netlink(bed, name, mode, pin):
    """ip(8) may make directories in /sys/fs/bpf, which is one of its own here."""
    subprocess.run(["nsenter", f"--net={bed.server_net.path}", "unshare", "--mount",
                    "--propagation", "private", "sh", "-c",
                    f"mount -t bpf bpf /sys/fs/bpf && ip link set dev {name} {mode} pinned {pin}"],
                   check=True)


@pytest.fixture(autouse=True)
def bpffs_of_the_host():
    """No test here leaves anything in it."""
    directory = "/sys/fs/bpf"
    before = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    yield
    after = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    # Other programs of the host may pin there: those of ip(8) are meant.
    assert not {"ip", "xdp", "tc"} & set(after).difference(before)


def make_again(bed, name):
    """Removes an interface, and makes another one of that name."""
    bed.server_net.ip(f"link del {name}")
    bed.server_net.ip(f"link add {name} type veth peer name {name}p", f"link set {name} up")


@pytest.fixture
def spare(bed):
    """An interface that a test may remove."""
    bed.server_net.ip("link add spare type veth peer name sparep", "link set spare up")
    return "spare"


def test_modes(bed, load, state):
    """Native where the driver can, else generic with the reason; all of it goes with an unload. To
    see it fail: attach in generic mode always."""
    said = load(xdp=[VETH, "lo"]).succeeded().out
    assert f"interface '{VETH}': filtered, native\n" in said
    assert "interface 'lo': filtered, generic: the interface has no native mode\n" in said
    assert attached(bed) == ("native", pinned_program(bed))
    assert attached(bed, "lo") == ("generic", pinned_program(bed))
    first, second = state()["interfaces"]
    assert (first["interface"], first["state"], first["mode"]) == (VETH, "attached", "native")
    assert (second["interface"], second["mode"]) == ("lo", "generic")
    assert "no native mode" in second["why"] and "why" not in first
    assert set(state()["counters"]) == {"seen", "passed", "dropped", "dropped_bytes", "invalid"}
    assert (bed.pins.path / pins(bed)[0]).stat().st_mode & 0o777 == 0o600
    bed.unload()
    assert attached(bed) is attached(bed, "lo") is None


def test_native_only(bed, load):
    """--xdp-mode native is refused, since Linux 6.3 before anything changes; before that a driver
    does not tell, and the load is undone. To see it fail: fall back."""
    load("--xdp-mode", "native", xdp=[VETH, "lo"]).refused("'lo'", "native mode")
    assert not bed.pins.path.exists() and attached(bed) is None


def test_another_load(bed, load, state):
    """Links stay and get the new program. The mode changes if it is asked for. What is not named
    any more is detached, and said. To see it fail: leave out xdp_step_detach()."""
    load(xdp=[VETH, "lo"]).succeeded()
    links = [entry["link_id"] for entry in state()["interfaces"]]
    before = pinned_program(bed)
    load(xdp=[VETH, "lo"]).succeeded()
    assert pinned_program(bed) != before
    assert [entry["link_id"] for entry in state()["interfaces"]] == links
    assert attached(bed) == ("native", pinned_program(bed))
    load("--xdp-mode", "generic", xdp=[VETH, "lo"]).succeeded()
    assert attached(bed) == ("generic", pinned_program(bed))
    assert state()["interfaces"][0]["why"] == "as asked for"
    said = load("--xdp-mode", "generic", xdp=[VETH]).succeeded().out
    assert "interface 'lo': no longer filtered" in said
    assert attached(bed, "lo") is None and attached(bed)[0] == "generic" and len(pins(bed)) == 1


def block(bed, address):
    """Puts an address into the list in force, as its programs see it."""
    prefix = struct.pack("=I", 128) + bytes(10) + b"\xff\xff" + socket.inet_aton(address)
    with bed.pins.open("map_block_0") as trie, bed.pins.open("map_block") as head:
        trie.update(prefix, struct.pack("=4QI4x", 0, 0, 0, 0, 128))
        value = head.lookup(bytes(4))
        changes, = struct.unpack_from("=I", value, 4)
        head.update(bytes(4), struct.pack("=2I", 1, changes + 1) + value[8:])


def send_for_ever(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        while True:
            sock.sendto(b"datagram", address)
            time.sleep(0.0002)


def test_no_gap(bed, place, load, state):
    """While loads replace the program, no packet from a blocked address passes. With the
    capabilities of the unit. To see it fail: detach and attach instead of bpf_link_update()."""
    def loads():
        programs.call(*programs.with_capabilities_of("tproxy-load"), bed.tproxy_load.binary,
                      "--pin-dir", bed.pins.path, "--cgroup", bed.scope, "--xdp", VETH,
                      place=place).succeeded()

    def dropped():
        return state()["counters"]["dropped"]

    loads()
    with bed.server_net.inside():
        sock = bed.keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sock.bind((harness.SERVER, 0))
    sock.settimeout(wire.TIMEOUT)
    bed.task(send_for_ever, sock.getsockname(), place=bed.bystander)
    assert sock.recv(100) == b"datagram"
    block(bed, harness.CLIENT)
    wait_until(lambda: dropped() > 0, "packets are dropped")
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.recv(100)
    for _ in range(4):
        before, program = dropped(), pinned_program(bed)
        loads()
        assert pinned_program(bed) != program
        wait_until(lambda before=before: dropped() > before, "packets came meanwhile")
    with pytest.raises(BlockingIOError):
        sock.recv(100)
    counters = state()["counters"]
    assert counters["seen"] == counters["passed"] + counters["dropped"] + counters["invalid"]
    assert counters["dropped_bytes"] >= 36 * counters["dropped"]


def test_again(bed, place, load):
    """--again attaches to the interfaces of the load before, in their mode. To see it fail: let
    add_interfaces() return at once."""
    load("--xdp-mode", "generic", xdp=[VETH]).succeeded()
    (bed.pins.path / pins(bed)[0]).unlink()
    wait_until(lambda: attached(bed) is None, "it is detached")
    bed.tproxy_load("--again", place=place).succeeded()
    assert attached(bed) == ("generic", pinned_program(bed))


def test_keys_of_the_file(bed, place, tmp_path):
    """xdp may be repeated, and the command line replaces it."""
    file = tmp_path / "conf"
    file.write_text(f"[load]\ncgroup = {bed.scope}\nxdp = lo\nxdp = {VETH}\nxdp-mode = generic\n")
    bed.tproxy_load("--config", file, place=place).succeeded()
    assert attached(bed)[0] == attached(bed, "lo")[0] == "generic"
    bed.tproxy_load("--config", file, "--xdp", VETH, place=place).succeeded()
    assert attached(bed, "lo") is None and attached(bed)


def test_failed_load_is_undone(bed, load, foreign):
    """I7: a program is attached exclusively to the second scope. To see it fail: leave out
    created_add() in xdp_step_attach()."""
    foreign(bed.outside)
    load(xdp=[VETH], scopes=[bed.scope, bed.outside]).refused(bed.outside)
    assert attached(bed) is None and not bed.pins.path.exists()


@pytest.mark.parametrize("how", ["netlink", "link"])
def test_other_program(bed, place, load, doctor, how):
    """An interface that another program holds is named with its owner. Nothing is replaced, and
    nothing else is changed. To see it fail: leave out xdp_step_check()."""
    pin = bed.directory / "bpf" / "theirs"
    load_xdp(pin, name=b"theirs")
    if how == "netlink":
        attach_by_netlink(bed, VETH, "xdpgeneric", pin)
        owner = "attached by netlink"
    else:
        with bed.server_net.inside():
            link = bed.keep(XdpLink(pin, VETH, generic=True))
        owner = f"of process {os.getpid()} ("
    before = attached(bed)
    load(xdp=["lo", VETH]).refused(f"'{VETH}'", "'theirs'", f"id {before[1]}", owner, "generic")
    assert attached(bed) == before and attached(bed, "lo") is None
    assert not bed.pins.path.exists()
    load(xdp=["lo"]).succeeded()
    names, program = bed.pins.names(), pinned_program(bed)
    load(xdp=["lo", VETH]).refused(f"'{VETH}'")
    assert bed.pins.names() == names and pinned_program(bed) == program
    assert attached(bed) == before
    if how == "link":
        link.close()
        wait_until(lambda: attached(bed) is None, "their link is gone")
        load(xdp=["lo", VETH]).succeeded()
        assert attached(bed)[1] == pinned_program(bed)


def test_other_program_comes_later(bed, place, load, state, doctor, spare):
    """It took the interface that was made again. status and doctor name it."""
    load(xdp=[spare]).succeeded()
    pin = bed.directory / "bpf" / "theirs"
    load_xdp(pin, name=b"theirs")
    make_again(bed, spare)
    attach_by_netlink(bed, spare, "xdpdrv", pin)
    (entry,) = state()["interfaces"]
    assert entry["state"] == "foreign" and "'theirs'" in entry["holder"]
    fix = doctor(place=place).only("error", "xdp", "'theirs'", "netlink")
    assert fix.startswith(f"ip link set dev '{spare}' xdpdrv off; ")
    subprocess.run(["nsenter", f"--net={bed.server_net.path}", "sh", "-c",
                    fix.partition(";")[0]], check=True)
    assert attached(bed, spare) is None


def test_interface_that_is_not_there(bed, place, load, doctor, follow):
    """No error at a load, which may run at boot. --follow attaches when it appears. To see it
    fail: let the load fail."""
    said = load(xdp=["spare"]).succeeded().out
    assert "interface 'spare' does not exist; tproxy-load --follow" in said
    findings = doctor(place=place).about("xdp", "warning")
    assert "'spare' does not exist" in findings[0]["what"] and "--follow" in findings[0]["fix"]
    follow()
    (finding,) = doctor(place=place).about("xdp", "warning")
    assert "it is filtered once it does" in finding["what"]
    bed.server_net.ip("link add other type veth peer name otherp", "link set other name spare")
    wait_until(lambda: attached(bed, "spare"), "it is filtered")
    assert doctor(place=place).about("xdp", "ok")


def test_no_ethernet_frames(bed, load):
    """The filter would misread them. To see it fail: leave out XDP_UNFIT."""
    bed.server_net.ip("tuntap add dev tun0 mode tun")
    load(xdp=["tun0"]).refused("'tun0'", "Ethernet")


def test_made_again_without_follow(bed, place, load, state, doctor, spare):
    """Not filtered: doctor and status say so, and the command that doctor names repairs it. To see
    it fail: look for the pin only."""
    load(xdp=[spare]).succeeded()
    assert "does not run" in doctor(place=place).about("xdp", "warning")[0]["what"]
    make_again(bed, spare)
    assert attached(bed, spare) is None and state()["interfaces"][0]["state"] == "detached"
    assert "DETACHED" in bed.tproxy_load("--status", place=place).succeeded().out
    fix = doctor(place=place).only("error", "xdp", f"'{spare}' is not filtered")
    assert "--again" in fix
    bed.tproxy_load("--again", place=place).succeeded()
    assert attached(bed, spare) == ("native", pinned_program(bed)) and len(pins(bed)) == 1


def test_made_again(bed, place, load, follow, doctor, spare):
    """--follow attaches within a second. To see it fail: ignore RTM_NEWLINK, and look every 5 s."""
    load(xdp=[spare, VETH]).succeeded()
    follow()
    took = []
    for _ in range(3):
        make_again(bed, spare)
        start = time.monotonic()
        wait_until(lambda: attached(bed, spare), "it is filtered again")
        took.append(time.monotonic() - start)
        assert attached(bed, spare) == ("native", pinned_program(bed))
    # The machine may be busy.
    assert min(took) < 1, took
    # The link of the interface that is gone is no longer pinned.
    wait_until(lambda: len(pins(bed)) == 2, "two links are pinned")
    assert doctor(place=place).about("xdp", "ok")


def test_follow_stays(bed, place, load, follow, spare):
    """One process for a pin directory. It survives an unload and a load, and leaves everything
    attached when it ends. To see it fail: let is_same_file() return true always."""
    program = follow()
    load(xdp=[spare]).succeeded()
    wait_until(lambda: follower(bed, place) == program.pid, "it has seen the load")
    bed.tproxy_load("--follow", place=place).refused(f"process {program.pid} ")
    bed.unload()
    load(xdp=[spare]).succeeded()
    wait_until(lambda: follower(bed, place) == program.pid, "it has seen the second load")
    make_again(bed, spare)
    wait_until(lambda: attached(bed, spare), "it is filtered again")
    program.signal(15)
    assert program.wait() == 0
    assert attached(bed, spare) == ("native", pinned_program(bed))
    assert follower(bed, place) == 0


def test_other_namespace(bed, place, load, state):
    """Indexes mean nothing there: status does not guess. --again leaves the interfaces filtered
    where they are, with the new program. A load that names them moves the filter, and says so. To
    see it fail: leave out xdp_netns."""
    load(xdp=[VETH]).succeeded()
    elsewhere = host.Place(bed.outside, bed.client_net)
    result = bed.tproxy_load("--status", "--json", place=elsewhere)
    assert json.loads(result.succeeded().out)["xdp"]["interfaces"][0]["state"] == "elsewhere"
    mode, before = attached(bed)
    out = bed.tproxy_load("--again", place=elsewhere).succeeded().out
    assert f"'{VETH}' is one of another network namespace" in out
    assert attached(bed) == (mode, pinned_program(bed)) and pinned_program(bed) != before
    bed.tproxy_load("--again", place=place).succeeded()
    assert attached(bed) == (mode, pinned_program(bed))
    assert state()["interfaces"][0]["state"] == "attached"
    out = bed.tproxy_load("--cgroup", bed.scope, "--xdp", VETH, place=elsewhere).succeeded().out
    assert f"'{VETH}' of another network namespace: no longer filtered" in out
    assert attached(bed) is None
