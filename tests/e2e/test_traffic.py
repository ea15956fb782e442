# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Traffic by cgroup: packets and bytes, in `tproxyctl top --by traffic` and in the metrics."""

import json
import os
import re
import signal
import socket
import subprocess
from functools import partial

import pytest

import host
import programs
import wire
from harness import CLIENT, SERVER
from maps import PinnedMap
from test_admin import Admin, directory  # noqa: F401 (a fixture)
from tproxyctl import binary, ctl  # noqa: F401 (fixtures)

DELAY = ["--delay", "0.1"]
ETHERNET = 14  # bytes of the header, which the interface counts and the scope does not
HOOKS = {"block_in", "block_out"}


def attached(bed):
    """The hooks of traffic that are attached somewhere."""
    return {name.split("_", 1)[1].rpartition("_")[0] for name in bed.pins.names()
            if name.startswith("link_block_")}


def interface(netns):
    """What the interface has sent and received, in packets and in bytes without Ethernet."""
    with netns.inside():
        text = open("/proc/thread-self/net/dev", encoding="ascii").read()
    fields = [int(field) for field in re.search(r"tproxy0:(.*)", text)[1].split()]
    received, packets_in, sent, packets_out = (fields[i] for i in (0, 1, 8, 9))
    return {"tx": sent - ETHERNET * packets_out, "tx_packets": packets_out,
            "rx": received - ETHERNET * packets_in, "rx_packets": packets_in}


def quiet_networks(bed):
    """Nothing but the test's own sockets uses the interface, and no packet stands for many."""
    for netns in (bed.client_net, bed.server_net):
        netns.sysctl("ipv6/conf/all/disable_ipv6", 1)
        netns.ip("link set tproxy0 gso_max_segs 1")
    for netns, address, peer in ((bed.client_net, SERVER, bed.server_net),
                                 (bed.server_net, CLIENT, bed.client_net)):
        shown = subprocess.run(["nsenter", f"--net={peer.path}", "ip", "-j", "link", "show",
                                "tproxy0"], capture_output=True, check=True).stdout
        netns.ip(f"neigh replace {address} dev tproxy0 nud permanent "
                 f"lladdr {json.loads(shown)[0]['address']}")
    host.settled(lambda: tuple(interface(bed.client_net).values()), "the interface is quiet")


@pytest.fixture
def traffic(ctl):
    """The lines of top by cgroup, and the document."""
    def read(*options):
        document = json.loads(ctl("top", "--by", "traffic", "--once", "--json", *DELAY,
                                  *options).succeeded().out)
        return {line["cgroup"]: line for line in document["lines"]}, document
    return read


def amount(line):
    return {key: line[key] for key in ("tx", "tx_packets", "rx", "rx_packets")}


def add(*lines):
    return {key: sum(line[key] for line in lines) for key in lines[0]}


def send_datagrams(address, count, size):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _ in range(count):
            sock.sendto(bytes(size), address)


def stream(bed, place, up, down):
    """A connection of @place that has carried so many bytes."""
    listener = bed.listen()
    client = bed.connect(listener, place=place)
    server, _ = bed.accept(listener)
    for sender, receiver, size in ((client, server, up), (server, client, down)):
        task = bed.task(partial(wire.read_exactly, receiver, size), place=place)
        sender.sendall(bytes(size))
        task.result()


def test_counts_are_those_of_the_interface(bed, directory, traffic):
    """TCP and UDP of two units of a scope, and of a cgroup outside: each number of top and of the
    metrics is exact. To see it fail: let traffic_count() add ctx->len + 1."""
    units = [bed.scope.child(name) for name in ("web.service", "batch.service")]
    bed.load("--traffic")
    quiet_networks(bed)
    before = interface(bed.client_net)
    stream(bed, host.Place(units[0], bed.client_net), 400_000, 100_000)
    with bed.server_net.inside():
        sink = bed.keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sink.bind((SERVER, 0))
    bed.run_in(partial(send_datagrams, sink.getsockname(), 100, 500),
               place=host.Place(units[1], bed.client_net))

    def counted():
        moved = interface(bed.client_net)
        return {key: moved[key] - before[key] for key in moved}

    scope, web, batch = map(str, (bed.scope, *units))
    host.wait_until(lambda: amount(traffic()[0][scope]) == counted(),
                    "the scope has what the interface has")
    lines, document = traffic()
    assert amount(lines[batch]) == {"tx": 100 * 528, "tx_packets": 100, "rx": 0, "rx_packets": 0}
    assert add(amount(lines[web]), amount(lines[batch])) == amount(lines[scope])
    assert lines[web]["tx"] > 400_000 and lines[web]["rx"] > 100_000
    assert amount(document) == amount(lines[scope]), "the sum counts each packet once"
    assert set(traffic("--cgroup", batch)[0]) == {batch}

    bystander = counted()
    stream(bed, bed.bystander, 1000, 1000)
    assert counted() != bystander and amount(traffic()[0][scope]) == bystander
    bed.start_relay("--admin", directory / "admin.sock")
    metrics = Admin(bed, directory / "admin.sock").get("/metrics")
    found = {(kind, direction): int(value) for kind, direction, value in re.findall(
        rf'^tproxy_traffic_(\w+)_total{{cgroup="{re.escape(scope)}",role="scope",'
        r'direction="(\w+)"} (\d+)$', metrics, re.MULTILINE)}
    assert found == {("bytes", "out"): bystander["tx"], ("bytes", "in"): bystander["rx"],
                     ("packets", "out"): bystander["tx_packets"],
                     ("packets", "in"): bystander["rx_packets"]}
    assert "tproxy_traffic_counted 1\n" in metrics and web not in metrics


def test_redirected(bed, traffic):
    """The client and the relay each have their own traffic."""
    bed.load("--traffic")
    bed.start_relay()
    assert bed.visit(bed.listen()).relayed
    lines, _ = traffic()
    for cgroup in (bed.scope, bed.relay_cgroup):
        assert lines[str(cgroup)]["tx"] > 0 and lines[str(cgroup)]["rx"] > 0


def test_removed_cgroup(bed, directory, traffic):
    """The sum of the scope keeps what a removed cgroup has transferred."""
    unit = bed.scope.child("unit")
    bed.load("--traffic")
    bed.start_relay("--admin", directory / "admin.sock")
    admin = Admin(bed, directory / "admin.sock")
    bed.run_in(partial(send_datagrams, (SERVER, 9), 10, 100),
               place=host.Place(unit, bed.client_net))
    assert str(unit) in traffic()[0]

    def sent():
        return int(re.search(rf'^tproxy_traffic_packets_total{{cgroup="{bed.scope}",role="scope",'
                             r'direction="out"} (\d+)$', admin.get("/metrics"), re.MULTILINE)[1])

    assert sent() == 10
    unit.remove()
    bed.load("--traffic")
    assert bed.pins.count("map_traffic") == 1 and sent() == 10


# --- switching it on and off


def start_top(bed, binary):
    """Starts top, and returns it when it has shown an interval."""
    top = bed.start(str(binary), "top", "--by", "traffic", "--json", *DELAY, "-p", bed.pins.path,
                    place=bed.bystander)
    host.wait_until(lambda: '"by":"traffic"' in top.log.read_text(), "top shows traffic")
    return top


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL],
                         ids=lambda number: number.name)
def test_on_while_top_runs(loaded, binary, number):
    """However it ends. To see it fail: let guard() end without traffic_set_for_now(false)."""
    assert not attached(loaded)
    top = start_top(loaded, binary)
    assert attached(loaded) == HOOKS
    top.signal(number)
    top.wait()
    host.wait_until(lambda: not attached(loaded), "the hooks are detached")


def test_two_tops(loaded, binary):
    """The end of one does not end the counting of the other."""
    one = start_top(loaded, binary)
    other = start_top(loaded, binary)
    one.signal(signal.SIGTERM)
    one.wait()
    host.wait_until(lambda: not attached(loaded) or attached(loaded) == HOOKS, "it has ended")
    seen = len(other.log.read_text().splitlines())
    host.wait_until(lambda: len(other.log.read_text().splitlines()) > seen + 3, "other goes on")
    host.wait_until(lambda: attached(loaded) == HOOKS, "traffic is counted again")
    other.signal(signal.SIGTERM)
    other.wait()
    host.wait_until(lambda: not attached(loaded), "the hooks are detached")


def test_top_and_its_guard_are_killed(loaded, binary, ctl):
    """The next top switches counting off when it ends. To see it fail: start no guard while counts
    are on."""
    top = start_top(loaded, binary)
    with open(f"/proc/{top.pid}/task/{top.pid}/children", encoding="ascii") as children:
        (guard,) = map(int, children.read().split())
    for pid in (guard, top.pid):
        os.kill(pid, signal.SIGKILL)
    top.wait()
    assert attached(loaded)
    ctl("top", "--by", "traffic", "--once", *DELAY).succeeded()
    assert not attached(loaded)


def test_option_of_the_load(bed, ctl, traffic):
    bed.load("--traffic")
    assert attached(bed) == HOOKS
    traffic()
    assert attached(bed) == HOOKS, "top leaves it on"
    bed.tproxy_load("--again").succeeded()
    assert attached(bed) == HOOKS, "--again keeps it"
    bed.load()
    assert not attached(bed)


def test_not_root(loaded, ctl):
    ctl("top", "--by", "traffic", "--once", *DELAY,
        user=(programs.RELAY_UID, programs.RELAY_GID)).refused("traffic is not counted")
    assert not attached(loaded)


def test_usage(binary):
    programs.call(binary, "top", "--by", "traffic", "--port", "80").refused(
        "--by traffic has no filter but --cgroup", status=2)


# --- beside the block list, which has the same programs


def test_list_and_traffic_need_the_same_programs(bed, ctl):
    """Neither the end of the list nor that of the counting detaches what the other one needs."""
    bed.load("--traffic")
    ctl("block", "203.0.113.7", "--no-safety").succeeded()
    bed.load()
    assert attached(bed) == HOOKS, "the list has an entry"
    ctl("top", "--by", "traffic", "--once", *DELAY).succeeded()
    assert attached(bed) == HOOKS
    bed.load("--traffic")
    ctl("unblock", "203.0.113.7").succeeded()
    assert attached(bed) == HOOKS, "traffic is counted"
    bed.load()
    assert not attached(bed)


def test_metrics_of_the_list(bed, directory, ctl):
    bed.load()
    bed.start_relay("--admin", directory / "admin.sock")
    metrics = Admin(bed, directory / "admin.sock").metrics
    assert metrics()['tproxy_block_entries{kind="block"}'] == 0
    ctl("block", SERVER, "203.0.113.0/24", "--no-safety").succeeded()
    with pytest.raises(PermissionError):
        bed.connect((SERVER, 80))
    found = metrics()
    assert found['tproxy_block_entries{kind="block"}'] == 2
    assert found['tproxy_block_dropped_total{place="connect"}'] == 1
    assert found['tproxy_block_seen_total{place="connect"}'] == 1
    assert found['tproxy_block_dropped_total{place="xdp"}'] == 0


def test_failed_load_is_undone(loaded):
    """I7: the flag of traffic cannot be written, which is the last step that can fail. The cgroups
    stay those of before. To see it fail: leave restore_targets() out of undo()."""
    before, names = loaded.pins.dump("map_targets"), loaded.pins.names()
    with PinnedMap(loaded.pins.path / "map_block") as block:
        block.freeze()
    loaded.tproxy_load("--cgroup", loaded.scope, "--cgroup", loaded.outside, "--relay-cgroup",
                       loaded.relay_cgroup, "--relay-group", programs.RELAY_GID,
                       "--traffic").refused("map_block")
    assert loaded.pins.dump("map_targets") == before
    assert loaded.pins.names() == names and attached(loaded) == set()
