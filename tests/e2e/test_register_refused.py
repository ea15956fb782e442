# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What tproxyctl register refuses: one line that says what to do, and no change."""

import os
import signal
import socket
import subprocess

import pytest

import host
import host6
import programs
from registering import (PORT, ask_where_to, bound, children, find_listener, mark_of,
                         mark_of_socket, registered, serve_where_to)
from registering import binary, ctl, doctor, haproxy, register  # fixtures
from test_handover import start as service  # fixture
from tproxyctl import other_abi_version

IPPROTO_MPTCP = 262


def listen_for_ever(*sockets):
    """Listens on each of the sockets, which are arguments of bound(): (family, address, port) and
    options by name."""
    kept = [bound(*args, **options) for *args, options in sockets]
    while kept:
        signal.pause()


@pytest.fixture
def listening(loaded):
    """A process that listens, in the relay cgroup or elsewhere: returns its PID."""
    def start(*sockets, place=None):
        task = loaded.task(listen_for_ever, *sockets, place=place or loaded.relay_place)
        for socks in sockets:
            host.wait_until(lambda port=socks[2]: find_listener(task.pid, port, close=True),
                            "it listens")
        return task.pid

    return start


def inet(port, address="127.0.0.1", **options):
    return (socket.AF_INET, address, port, options)


@pytest.fixture
def unchanged(loaded):
    """Asserts that nothing is registered, before and after."""
    yield
    assert registered(loaded) == []


def test_nothing_is_loaded(bed, register):
    register("--pid", os.getpid()).refused("tproxy-load", bed.pins.path)
    register("--remove", "--pid", os.getpid()).refused("tproxy-load")


def test_another_abi_version(loaded, register):
    with other_abi_version(loaded):
        register("--pid", os.getpid()).refused("99", f"version {programs.ABI_VERSION}")
        register("--remove", "--pid", os.getpid()).refused("99")


def test_no_such_process(loaded, register, unchanged):
    child = subprocess.Popen(["true"])
    child.wait()
    register("--pid", child.pid).refused(f"process {child.pid} does not exist")
    register("--remove", "--pid", child.pid).refused(f"{child.pid} is not registered")


def test_it_listens_nowhere(loaded, register, unchanged):
    child = loaded.start("sleep", "60", place=loaded.relay_place)
    register("--pid", child.pid).refused(child.pid, "nor its children listen")
    register("--pid", child.pid, "--port", 7).refused(child.pid, "port 7")


def test_it_does_not_listen_at_that_port(loaded, register, listening, unchanged):
    pid = listening(inet(PORT))
    register("--pid", pid, "--port", PORT, "--port", 7).refused(pid, "port 7")
    assert mark_of(loaded, pid, PORT) is None


@pytest.mark.parametrize("where", ["scope", "outside"])
def test_it_is_not_in_the_relay_cgroup(loaded, register, listening, unchanged, where):
    """With its own connections in scope HAProxy would connect to itself. To see it fail: leave
    check_holders() out."""
    cgroup = getattr(loaded, where)
    pid = listening(inet(PORT), place=host.Place(cgroup, loaded.client_net))
    register("--pid", pid, "--port", PORT).refused(pid, cgroup, loaded.relay_cgroup, "Slice=")
    assert mark_of(loaded, pid, PORT) is None


def test_its_name_only_begins_like_the_relay_cgroup(loaded, register, listening, unchanged):
    with host.Cgroup(f"{loaded.relay_cgroup}2") as cgroup:
        pid = listening(inet(PORT), place=host.Place(cgroup, loaded.client_net))
        register("--pid", pid, "--port", PORT).refused("not in the relay cgroup")


@pytest.mark.parametrize("replaced", [False, True], ids=["registered", "replaced"])
def test_relay_of_ours(loaded, register, service, replaced):
    """Its supervisor, which has its sockets and does not accept, is refused too, and so is a relay
    that another one has replaced. To see it fail: leave is_tproxy_relay() out."""
    relay = service()
    pids = [relay.pid, relay.relay_pid]
    port = int(relay.registrations()[-1][2])
    host.wait_until(lambda: find_listener(relay.pid, port, close=True),
                    "the supervisor has the sockets")
    if replaced:
        loaded.start_relay()
    before = registered(loaded)
    for pid in pids:
        register("--pid", pid).refused(pid, "tproxy-relay", "registers itself")
    after = registered(loaded)
    assert [entry["pid"] for entry in after] == [entry["pid"] for entry in before]
    assert loaded.visit(loaded.listen()).relayed


def serve_from_two_cgroups(*cgroups):
    for cgroup in cgroups:
        if os.fork() == 0:
            host.die_with_parent()
            cgroup.join()
            listen_for_ever(inet(PORT, reuse=True))
    while True:
        os.waitpid(-1, 0)


@pytest.mark.parametrize("turn", [1, -1])
def test_one_of_its_children_is_not_in_the_relay_cgroup(loaded, register, unchanged, turn):
    """To see it fail: call check_cgroup() for the first holder only."""
    cgroups = [loaded.relay_cgroup, loaded.outside][::turn]
    task = loaded.task(serve_from_two_cgroups, *cgroups, place=loaded.relay_place)
    host.wait_until(lambda: sum(bool(find_listener(child, PORT, close=True))
                                for child in children(task.pid)) == 2, "they listen")
    register("--pid", task.pid, "--port", PORT).refused("not in the relay cgroup", loaded.outside)
    processes = children(task.pid)
    task.stop()
    host.wait_until(lambda: not set(processes) & set(loaded.top.pids()), "they end too")


def test_below_the_relay_cgroup_is_well(loaded, register, listening):
    below = loaded.relay_cgroup.child("below")
    pid = listening(inet(PORT), place=host.Place(below, loaded.client_net))
    register("--pid", pid, "--port", PORT).succeeded()


def test_in_scope_without_a_relay_cgroup(bed, register):
    bed.load(relay_cgroup=False)
    task = bed.task(listen_for_ever, inet(PORT), place=bed.client)
    host.wait_until(lambda: find_listener(task.pid, PORT, close=True), "it listens")
    register("--pid", task.pid, "--port", PORT).refused("in scope", "--relay-cgroup", bed.scope)
    assert registered(bed) == []


def test_out_of_scope_without_a_relay_cgroup(bed, register):
    """Its connections are direct, but no program of tproxy sees its sockets."""
    bed.load(relay_cgroup=False)
    task = bed.task(listen_for_ever, inet(PORT), place=bed.bystander)
    host.wait_until(lambda: find_listener(task.pid, PORT, close=True), "it listens")
    register("--pid", task.pid, "--port", PORT).refused("not attached", "relay cgroup")
    assert registered(bed) == [] and mark_of(bed, task.pid, PORT) is None


def test_relay_cgroup_was_removed(bed, register):
    gone = bed.relay_cgroup.child("gone")
    bed.tproxy_load("--cgroup", bed.scope, "--relay-cgroup", gone).succeeded()
    gone.remove()
    task = bed.task(listen_for_ever, inet(PORT), place=bed.relay_place)
    host.wait_until(lambda: find_listener(task.pid, PORT, close=True), "it listens")
    register("--pid", task.pid, "--port", PORT).refused("removed", "--relay-cgroup")


def hold(socks):
    """The argument is what the process holds."""
    while socks:
        signal.pause()


def holder(bed, *socks):
    """A process in the relay cgroup that has sockets which other processes have created."""
    task = bed.task(hold, socks, place=bed.relay_place)
    host.wait_until(lambda: task.pid in bed.relay_cgroup.pids(), "it is in its cgroup")
    return task


def test_listener_was_created_outside(loaded, register, unchanged):
    """The process is in the relay cgroup now, but its socket never will be: no program of
    tproxy would see its connections. A good socket beside it does not help, and stays as it
    was.

    To see it fail: let check_whoami() return 0 without asking.
    """
    stranger = loaded.keep(loaded.run_in(bound, socket.AF_INET, "127.0.0.1", PORT,
                                         place=loaded.bystander))
    good = loaded.keep(loaded.run_in(bound, socket.AF_INET, "127.0.0.1", PORT + 1,
                                     place=loaded.relay_place))
    for first, second in ((stranger, good), (good, stranger)):
        task = holder(loaded, first, second)
        register("--pid", task.pid, "--port", PORT + 1, "--port", PORT).refused(
            "not attached", f"127.0.0.1:{PORT}")
        assert mark_of_socket(loaded, stranger) is None and mark_of_socket(loaded, good) is None
        task.stop()
    register("--pid", holder(loaded, good).pid, "--port", PORT + 1).succeeded()
    register("--remove", "--pid", registered(loaded)[0]["pid"]).succeeded()


def test_two_addresses(loaded, register, listening):
    pid = listening(inet(PORT), inet(PORT + 1, "127.0.0.2"))
    ports = ["--port", PORT, "--port", PORT + 1]
    register("--pid", pid, *ports).refused(f"127.0.0.1:{PORT}", f"127.0.0.2:{PORT + 1}", "--port")
    assert registered(loaded) == [] and mark_of(loaded, pid, PORT) is None
    register("--pid", pid, "--port", PORT + 1).succeeded()
    (shown,) = loaded.tproxy_load.status()["relays"]
    assert shown["listen"] == [f"127.0.0.2:{PORT + 1}"]


@pytest.mark.parametrize("address", ["224.0.0.1", "255.255.255.255"])
def test_address_without_clients(loaded, register, listening, unchanged, address):
    """To see it fail: let is_multicast() in candidate.c return false."""
    register("--pid", listening(inet(PORT, address))).refused(f"{address}:{PORT}", "no client")


def test_only_what_was_asked_for_is_marked(loaded, register, listening):
    """HAProxy has a port for statistics too."""
    pid = listening(inet(PORT), inet(PORT + 1))
    register("--pid", pid, "--port", PORT).succeeded()
    assert mark_of(loaded, pid, PORT) and mark_of(loaded, pid, PORT + 1) is None


def test_too_many_ports(loaded, register, binary):
    """64 are accepted, 65 are not. The program is executed again: a forked task would have the
    test's sockets too."""
    code = ("import signal, socket\n"
            "socks = [socket.create_server(('127.0.0.1', {port} + i)) for i in range({n})]\n"
            "print('ready', flush=True)\n"
            "signal.pause()\n")

    def start(count):
        program = programs.Program("/usr/bin/python3", "-c", code.format(port=PORT, n=count),
                                   place=loaded.relay_place,
                                   log=loaded.directory / f"listens{count}.log")
        loaded._started.enter_context(program)
        host.wait_until(lambda: "ready" in program.text(), "it listens")
        return program

    many = start(65)
    register("--pid", many.pid).refused("more than 64 ports", "--port")
    assert registered(loaded) == [] and mark_of(loaded, many.pid, PORT) is None
    many.kill()
    register("--pid", start(64).pid).succeeded()
    assert len(loaded.tproxy_load.status()["relays"][0]["listen"]) == 64


def test_mptcp(loaded, register, listening, unchanged):
    """The socket that the process holds is not the one that gets connections."""
    pid = listening(inet(PORT, proto=IPPROTO_MPTCP))
    register("--pid", pid, "--port", PORT).refused("Multipath TCP", "GODEBUG")


def test_link_local_address(loaded, register, unchanged):
    host6.give_addresses(loaded)

    def listen_link_local():
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind((host6.LINK_LOCAL_CLIENT, PORT, 0, socket.if_nametoindex(host6.DEVICE)))
            sock.listen()
            hold([sock])

    task = loaded.task(listen_link_local, place=loaded.relay_place)
    host.wait_until(lambda: find_listener(task.pid, PORT, close=True), "it listens")
    register("--pid", task.pid, "--port", PORT).refused("link-local")


def test_more_than_one_network_namespace(loaded, register, unchanged):
    elsewhere = host.Place(loaded.relay_cgroup, loaded.server_net)
    socks = [loaded.keep(loaded.run_in(bound, socket.AF_INET, "127.0.0.1", port, place=place))
             for port, place in ((PORT, loaded.relay_place), (PORT + 1, elsewhere))]
    register("--pid", holder(loaded, *socks).pid, "--port", PORT, "--port", PORT + 1).refused(
        "network namespace")


def test_socket_of_another_network_namespace(loaded, register):
    """HAProxy's `namespace`: the namespace of the socket counts, not that of the process."""
    loaded.load("--fail-closed")
    task = loaded.task(serve_elsewhere, loaded.client_net, place=host.Place(loaded.relay_cgroup,
                                                                            loaded.server_net))
    host.wait_until(lambda: register("--pid", task.pid, "--port", PORT).status == 0, "it listens")
    assert ask_where_to(loaded, socket.AF_INET, ("198.51.100.2", 9)) == "198.51.100.2 9"


def serve_elsewhere(netns):
    netns.join()
    serve_where_to(socket.AF_INET, "127.0.0.1", PORT)


@pytest.mark.parametrize("options", [["--pid"], ["--remove", "--pid"]], ids=["", "remove"])
def test_who_is_not_root(loaded, register, listening, unchanged, options):
    """An unprivileged user is refused, for a process of its own too. So is a member of the relay's
    group, although it may write the maps."""
    pid = listening(inet(PORT))
    for gid in (programs.RELAY_GID, programs.RELAY_GID + 1):
        register(*options, pid, user=(programs.RELAY_UID, gid)).refused("root")
    assert mark_of(loaded, pid, PORT) is None


def test_root_without_the_capability_to_duplicate(loaded, register, binary, listening, unchanged):
    pid = listening(inet(PORT))
    result = programs.call("setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace",
                           binary, "register", "--pin-dir", loaded.pins.path, "--pid", pid)
    assert result.status == 1 and "CAP_SYS_PTRACE" in result.err and result.out == ""
    assert result.err.count("\n") == 1


def test_in_a_pid_namespace(loaded, register, binary):
    """PIDs have another meaning there, which is detected before anything is registered."""
    code = ("import socket, subprocess, os, sys\n"
            f"sock = socket.create_server(('127.0.0.1', {PORT}))\n"
            f"sys.exit(subprocess.run(['{binary}', 'register', '--pin-dir',"
            f" '{loaded.pins.path}', '--pid', str(os.getpid())]).returncode)\n")
    result = loaded.run("unshare", "--pid", "--fork", "--mount-proc", "/usr/bin/python3", "-c",
                        code, place=loaded.relay_place)
    assert result.status == 1 and "container" in result.err, result
    assert registered(loaded) == []


def test_no_room_for_another_namespace(loaded, register, listening):
    """The marks are restored. To see it fail: leave marks_restore() out."""
    pid = listening(inet(PORT))
    with loaded.pins.open("map_config") as config:
        config.fill()
        register("--pid", pid, "--port", PORT).refused("too many network namespaces")
        assert mark_of(loaded, pid, PORT) is None
        config.empty()
    register("--pid", pid, "--port", PORT).succeeded()
