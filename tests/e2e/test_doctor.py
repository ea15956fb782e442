# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""tproxyctl doctor: faults of a host, and how to fix them."""

import os
import re
import signal
import struct
import subprocess
import time
from pathlib import Path

import pytest

import host
import programs
import wire
from maps import Entry, Layout, attached, bpftool, load_connect4, pack_listen
from ruling import load_rules
from test_handover import start  # fixture
from tproxyctl import apply_fix, binary, ctl, doctor, foreign, other_abi_version  # fixtures too


# --- doctor: a host that is well


def test_doctor_of_a_running_proxy(proxied, doctor, ctl):
    """Also compares the documented modes and hooks with what the loader makes."""
    diagnosis = doctor().fine()
    for check in ("privileges", "kernel", "loaded", "pins", "links", "foreign", "relay"):
        assert diagnosis.about(check, "ok"), check
    assert len(diagnosis.about("kernel", "ok")) == 15
    text = ctl("doctor").succeeded().out
    for finding in diagnosis.findings:
        assert finding["what"] in text and finding.get("fix", "") in text
    assert text.endswith("\n0 errors, 0 warnings\n")


def test_doctor_changes_nothing(proxied, doctor):
    def state():
        pins = [(name, os.stat(proxied.pins.path / name)[:6]) for name in proxied.pins.names()]
        return pins, [attached(cgroup) for cgroup in
                      (proxied.scope, proxied.relay_cgroup, proxied.top)], proxied.stats()

    before = state()
    doctor("--cgroup", proxied.top)
    assert state() == before
    assert proxied.relay.connections() == []


def test_doctor_in_a_cgroup_sees_that_sockets_know_it(proxied, doctor):
    """To see it fail: query the socket of another process."""
    for place in (proxied.client, proxied.bystander):
        assert doctor(place=place).fine().about("sockets", "ok")


def test_doctor_before_anything_is_loaded(bed, doctor):
    diagnosis = doctor("--cgroup", bed.scope)
    fix = diagnosis.only("warning", "loaded", bed.pins.path)
    assert "--cgroup PATH" in fix and f"--pin-dir '{bed.pins.path}'" in fix
    assert not diagnosis.of("error") and not diagnosis.answer["loaded"]


def test_doctor_without_privilege(proxied, doctor):
    diagnosis = doctor(user=(programs.RELAY_UID + 1, programs.RELAY_GID + 1))
    assert diagnosis.about("privileges", "error")[0]["fix"] == "sudo tproxyctl doctor"
    assert not diagnosis.about("kernel", "error")


def test_doctor_strict(loaded, doctor, ctl):
    """To see it fail: let --strict count errors only."""
    def statuses():
        return [ctl("doctor", *options).status for options in ([], ["--strict"])]

    assert doctor().of("warning") and statuses() == [0, 1]
    loaded.start_relay()
    assert doctor().fine() and statuses() == [0, 0]
    loaded.unload()
    assert statuses() == [0, 1]


def test_doctor_proposes_nothing_that_takes_the_host(bed, doctor):
    """No command redirects all processes, or hides a directory under a mount."""
    for pin_dir in (None, "/tmp/nope/tproxy", "/tmp/tproxy", "tproxy"):
        proposals = [finding for finding in doctor(pin_dir=pin_dir).findings if "fix" in finding]
        assert proposals
        for finding in proposals:
            fix = finding["fix"]
            assert not re.search(r"(^|&& |; )tproxy-load($| &&|;)|--all", fix), finding
            assert "mount" not in fix or "/sys/fs/bpf" in fix, finding


# --- doctor: what is wrong


def test_doctor_without_bpffs(bed, doctor):
    directory = bed.directory / "plain"
    directory.mkdir()
    diagnosis = doctor(pin_dir=directory / "tproxy")
    assert "--pin-dir /sys/fs/bpf/" in diagnosis.only("error", "bpffs", directory)
    assert doctor(pin_dir=directory / "not" / "there").about("bpffs", "error")


@pytest.mark.parametrize("cgroup", ["/tmp", "/no/such/cgroup"])
def test_doctor_of_no_cgroup(bed, doctor, cgroup):
    doctor("--cgroup", cgroup).only("error", "cgroup", cgroup)


@pytest.mark.parametrize("name, mode", [("map_config", 0o666), ("map_marks", 0o662),
                                        ("map_socks", 0o600), ("link_", 0o644),
                                        ("prog_connect4", 0o604), ("prog_pick", 0o600),
                                        ("ring_7", 0o640), ("", 0o755)])
def test_doctor_sees_wrong_modes(proxied, doctor, name, mode):
    (path,) = [proxied.pins.path / pin for pin in proxied.pins.names() if pin.startswith(name)
               ][:1] if name else [proxied.pins.path]
    before = path.stat().st_mode
    path.chmod(mode)
    apply_fix(doctor().only("error", "pins", path, f"{mode:04o}", f"{before & 0o7777:04o}"))
    assert path.stat().st_mode == before
    doctor().fine()


def test_doctor_sees_wrong_owners(proxied, doctor):
    path = proxied.pins.path / "map_config"
    os.chown(path, 12345, 4711)
    apply_fix(doctor().only("error", "pins", path, "12345:4711", f"0:{programs.RELAY_GID}"))
    doctor().fine()


def test_doctor_sees_that_relays_cannot_get_to_the_pins(proxied, doctor):
    bpffs = proxied.pins.path.parent
    bpffs.chmod(0o700)
    apply_fix(doctor().only("error", "pins", bpffs, "0700"))
    doctor().fine()


def test_doctor_sees_a_bpffs_that_is_read_only(proxied, doctor):
    """It reports this once, and no links that cannot be read. Its command fixes it.

    Fails if the flags of the mount are ignored.
    """
    bpffs = proxied.pins.path.parent
    subprocess.run(["mount", "-o", "remount,ro", bpffs], check=True)
    try:
        apply_fix(doctor().only("error", "bpffs", bpffs, "read-only"))
        doctor().fine()
    finally:
        subprocess.run(["mount", "-o", "remount,rw", bpffs], check=True)


def test_doctor_sees_missing_and_foreign_pins(proxied, doctor):
    """To see it fail: look for the maps of the table only."""
    for name in ("map_stats", "ring_7", "prog_pick"):
        (proxied.pins.path / name).unlink()
        fix = doctor().only("error", "pins", name)
        assert "tproxy-load" in fix and "--pin-dir" in fix and "systemctl" not in fix
        proxied.load()
    doctor().fine()
    load_connect4(proxied.pins.path / "map_foreign", 1)
    apply_fix(doctor().only("warning", "pins", "map_foreign"))
    doctor().fine()


def test_doctor_of_an_unfinished_load(loaded, doctor):
    with loaded.pins.open("map_policy") as policy:
        policy.update(bytes(4), bytes(policy.value_size))
    assert "tproxy-load" in doctor().only("error", "loaded", "did not finish")
    (loaded.pins.path / "map_policy").unlink()
    assert "tproxy-load" in doctor().only("error", "loaded", "no map_policy")
    loaded.load()


def test_doctor_of_another_abi_version(loaded, doctor):
    with other_abi_version(loaded):
        assert "--unload" in doctor().only("error", "loaded", "99",
                                           f"version {programs.ABI_VERSION}")


@pytest.mark.parametrize("hook", ["connect4", "connect6", "sockops", "release"])
def test_doctor_sees_a_link_that_was_detached(proxied, doctor, hook):
    """Detached by another program."""
    link = proxied.pins.path / f"link_{hook}_{proxied.scope.path.stat().st_ino:x}"
    bpftool("link", "detach", "pinned", link)
    assert "tproxy-load" in doctor().only("error", "links", hook, proxied.scope)
    proxied.load()
    doctor().fine()


def test_doctor_sees_a_link_that_is_missing(proxied, doctor):
    proxied.pins.remove_link("getpeer4", proxied.scope)
    doctor().only("error", "links", "getpeer4", proxied.scope)
    proxied.load()
    proxied.pins.remove_link("sockopt", proxied.relay_cgroup)
    diagnosis = doctor()
    assert "sockopt" in diagnosis.about("links", "error")[0]["what"]
    # No program answers on the relay's listener. The relay notices too, within two seconds.
    assert len(diagnosis.about("relay", "error") + diagnosis.about("relay", "warning")) == 1
    proxied.load()
    host.wait_until(lambda: not doctor().of("warning"), "the relay is registered")
    doctor().fine()


def test_doctor_sees_an_upgrade_that_did_not_finish(proxied, doctor):
    """The pinned program is not the one that the link runs."""
    pin = proxied.pins.path / "prog_connect4"
    pin.unlink()
    load_connect4(pin, 1, name=b"tproxy_connect4")
    pin.chmod(0o600)
    doctor().only("error", "links", "connect4", "upgrade")
    proxied.load()
    doctor().fine()


def test_doctor_of_links_that_connections_keep(proxied, doctor):
    """Links of a cgroup that left the scope: no fault, and the finding is true.

    Fails if such a link counts as one that an upgrade has not reached.
    """
    client, server = proxied.pair()
    said = proxied.load(scopes=[proxied.outside]).out
    assert "for their running connections" in said
    (finding,) = doctor().fine().about("links", "info")
    assert "no longer in scope" in finding["what"]
    client.close()
    server.close()

    def gone():
        proxied.load(scopes=[proxied.outside])
        return not doctor().fine().about("links", "info")

    host.wait_until(gone, "a load has removed them")
    assert attached(proxied.scope) == []


# --- doctor: programs of others


def test_doctor_tells_of_foreign_programs(proxied, doctor, foreign):
    ids = [foreign(proxied.scope, "multi"), foreign(proxied.top, "multi")]
    warnings = doctor().about("foreign", "warning")
    assert [re.findall(r"program (\d+), 'foreign', is on connect4 at '(.*?)'", warning["what"])[0]
            for warning in warnings] == [(str(ids[0]), str(proxied.scope)),
                                         (str(ids[1]), str(proxied.top))]
    assert f"bpftool prog show id {ids[0]}" in warnings[0]["fix"]
    # Neither at tproxy's cgroups nor above them.
    foreign(proxied.outside, "multi")
    assert len(doctor().about("foreign", "warning")) == 2
    assert len(doctor("--cgroup", proxied.outside).about("foreign", "warning")) == 3
    assert not doctor().of("error")


def test_doctor_tells_of_another_tproxy(proxied, doctor, bed):
    other = bed.directory / "bpf" / "other"
    args = ["--cgroup", bed.scope, "--relay-cgroup", bed.relay_cgroup]
    bed.tproxy_load(*args, pin_dir=other).succeeded()
    warnings = doctor().about("foreign", "warning")
    assert len(warnings) > 1 and all("tproxy_" in warning["what"] for warning in warnings)
    bed.tproxy_load("--unload", pin_dir=other).succeeded()


@pytest.mark.parametrize("others, in_the_way", [
    ([("scope", "")], ["scope"]),
    ([("scope", "override")], ["scope"]),
    ([("scope", "multi")], []),
    ([("top", "")], ["top"]),
    ([("top", "override")], ["top"]),  # tproxy's program would keep that one from running
    ([("top", "multi")], []),
    # The nearest cgroup above decides. A program at the cgroup itself does not replace that one.
    ([("scope", "multi"), ("top", "")], ["top"]),
    ([("scope", "override"), ("top", "override")], ["scope"]),
    ([("top", "multi"), ("run", "")], []),
    ([("top", "override"), ("run", "")], ["top"]),
], ids=lambda value: "-".join(":".join(item) if isinstance(item, tuple) else item
                              for item in value))
def test_doctor_knows_what_keeps_the_loader_out(bed, doctor, foreign, others, in_the_way):
    """doctor applies the kernel's rule, and the loader verifies it. Programs are attached in this
    order, nearest first."""
    bed.run = host.Cgroup(bed.top.path.parent)
    theirs = {where: foreign(getattr(bed, where), *flags.split()) for where, flags in others}
    diagnosis = doctor("--cgroup", bed.scope)
    errors = diagnosis.about("foreign", "error")
    assert len(errors) == len(in_the_way) == len(diagnosis.of("error"))
    for where, error in zip(in_the_way, errors, strict=True):
        assert f"'{getattr(bed, where)}'" in error["what"]
        assert f"_inet4_connect id {theirs[where]}" in error["fix"]
    result = bed.tproxy_load("--cgroup", bed.scope, "--relay-cgroup", bed.relay_cgroup)
    assert (result.status != 0) == bool(in_the_way), result


def test_doctor_does_not_tell_of_programs_that_do_not_run(bed, doctor, foreign):
    """A program further up that is overridden does not run. To see it fail: do not query effective
    programs."""
    foreign(bed.scope, "override")
    hidden = foreign(bed.top, "override")
    diagnosis = doctor("--cgroup", bed.scope)
    assert not any(f"program {hidden}," in finding["what"] for finding in diagnosis.findings)


# --- doctor: relays


def test_doctor_without_relay(loaded, doctor):
    assert "tproxy-relay" in doctor().only("warning", "relay", "none is registered", "directly")
    loaded.load("--fail-closed")
    doctor().only("error", "relay", "none is registered", "refused")


def test_doctor_sees_a_relay_that_was_killed(proxied, doctor):
    proxied.relay.kill()
    assert "tproxy-relay" in doctor().only("error", "relay", proxied.relay.pid, "does not exist")


def test_doctor_sees_a_relay_that_is_stopped(proxied, doctor):
    proxied.relay.signal(signal.SIGSTOP)
    host.wait_until(lambda: doctor().of("error"), "the relay is stopped")
    apply_fix(doctor().only("error", "relay", proxied.relay.pid, "stopped"))
    host.wait_until(lambda: not doctor().of("error"), "the relay runs again")


def upstreams(bed, *names):
    """Options of a relay that has these upstreams."""
    path = bed.directory / f"{'-'.join(names)}.conf"
    path.write_text("".join(f"[upstream {name}]\ntype = socks5\naddress = 127.0.0.1:9\n"
                            for name in names))
    return "--config", path


def test_doctor_sees_upstreams_that_no_relay_has(loaded, doctor, ctl, start):
    """Rules and their default name upstreams. Relays are asked at a UNIX socket and at a port; one
    that cannot be asked may have every upstream. To see it fail: let has() in doctor/upstreams.c
    return true; let ask_all() there compare although a relay has not answered."""
    admin = loaded.directory / "admin"
    admin.mkdir()
    os.chown(admin, programs.RELAY_UID, programs.RELAY_GID)
    start(*upstreams(loaded, "corp"), "--admin", admin / "socket")
    load_rules(loaded, ctl, "redirect via corp port 1", "direct port 2", "redirect via tor port 3",
               "redirect via direct port 4", "redirect via tor port 5",
               "default redirect via other")
    file = loaded.directory / "test.rules"
    first, second = doctor().of("error")
    assert f"'tor' of 'redirect via tor port 3' (line 3 of '{file}') and of 1 more" in first["what"]
    assert f"'other' of 'default redirect via other' (line 6 of '{file}') is" in second["what"]
    for finding in first, second:
        assert finding["check"] == "upstreams" and f"rules load '{file}'" in finding["fix"]

    elsewhere = host.Place(loaded.relay_cgroup, loaded.server_net)
    silent = loaded.start_relay(place=elsewhere)
    [finding] = doctor().fine().about("upstreams", "info")
    assert f"relay {silent.pid} cannot be asked" in finding["what"] and "--admin" in finding["fix"]
    silent.kill()
    loaded.start_relay(*upstreams(loaded, "tor", "other"), "--admin", "127.0.0.1:8080",
                       place=elsewhere)
    assert doctor().fine().about("upstreams", "info"), "the port is in another namespace"
    assert doctor(place=loaded.server).fine().about("upstreams", "ok")


@pytest.fixture
def stopped(proxied):
    """A proxy whose relay is stopped, so that it writes no registration."""
    with proxied.relay.stopped():
        yield proxied


def relay_errors(doctor):
    return [error["what"] for error in doctor().about("relay", "error")
            if "is stopped" not in error["what"]]


@pytest.mark.parametrize("address, port", [("127.0.0.1", 9), ("127.0.0.9", None)])
def test_doctor_sees_that_nobody_listens(stopped, doctor, address, port):
    """At that port, or at the relay's port of another address."""
    port = port or stopped.relay.address[1]
    Entry(stopped).change(listen=pack_listen(address, port))
    (error,) = relay_errors(doctor)
    assert f"no socket listens at {address}:{port}" in error


def test_doctor_sees_a_stranger_at_the_port(stopped, doctor):
    stranger = stopped.listen("127.0.0.1", netns=stopped.client_net)
    Entry(stopped).change(listen=pack_listen(*stranger.getsockname()))
    (error,) = relay_errors(doctor)
    assert "another process" in error and str(stranger.getsockname()[1]) in error


def test_doctor_sees_a_listener_without_our_mark(stopped, doctor):
    """This process is registered as the relay: it runs and listens, but it never marked its
    listener."""
    def error_of(listener):
        Entry(stopped).change(listen=pack_listen(*listener.getsockname()),
                              pid=struct.pack("=I", os.getpid()),
                              alive_ns=struct.pack("=Q", time.monotonic_ns()))
        (error,) = relay_errors(doctor)
        assert str(os.getpid()) in error
        return error

    with wire.listener(("127.0.0.1", 0)) as listener:
        assert "another network namespace" in error_of(listener)
    assert "not marked" in error_of(stopped.listen("127.0.0.1", netns=stopped.client_net))


def test_doctor_sees_a_wildcard_listener(loaded, doctor):
    """Registered as 127.0.0.1, bound to 0.0.0.0."""
    loaded.start_relay("--listen", "0.0.0.0:0")
    assert doctor().fine().about("relay", "ok")


def test_doctor_sees_a_relay_that_says_nothing(stopped, doctor):
    entry = Entry(stopped)
    # A stopped relay has a finding of its own. This one runs and does not renew its registration.
    entry.change(alive_ns=struct.pack("=Q", 1), pid=struct.pack("=I", os.getpid()))
    assert any("no heartbeat" in error for error in relay_errors(doctor))


def test_doctor_tells_of_connections_that_missed_the_relay(stopped, doctor):
    Entry(stopped).change(unreachable=struct.pack("=Q", 7))
    warnings = doctor().about("relay", "warning")
    assert len(warnings) == 1 and " 7 connections" in warnings[0]["what"]


def test_doctor_tells_of_few_descriptors(loaded, doctor):
    loaded.start_relay(files=1000)
    assert "LimitNOFILE" in doctor().only("warning", "nofile", loaded.relay.pid, "1000")


def test_doctor_sees_a_relay_that_no_program_answers(stopped, doctor):
    """It was started in another relay cgroup than the current one, so its connections are reset.
    The test writes its registration again, in case the loader removed it. To see it fail: let
    is_answered() always return true."""
    entry = Entry(stopped)
    stopped.tproxy_load("--cgroup", stopped.scope, "--relay-cgroup", stopped.outside,
                        "--relay-group", programs.RELAY_GID).succeeded()
    entry.change(alive_ns=struct.pack("=Q", time.monotonic_ns()))
    (error,) = relay_errors(doctor)
    assert "no program" in error and "reset" in error
    stopped.load()


def test_doctor_sees_a_proxy_outside_of_the_relay_cgroup(stopped, doctor):
    """tproxyctl registered it, and it was moved afterwards. To see it fail: leave out
    check_exempt()."""
    Entry(stopped).change(alive_ns=bytes(8))
    assert not any("itself" in error for error in relay_errors(doctor))
    (stopped.outside.path / "cgroup.procs").write_text(str(stopped.relay.pid))
    assert any("redirected to itself" in error and str(stopped.outside) in error
               for error in relay_errors(doctor))


def test_doctor_sees_that_the_relay_cgroup_was_removed(bed, doctor):
    """Also if another cgroup is at the same path. To see it fail: leave out
    check_relay_cgroup()."""
    cgroup = bed.top.child("more-relays")
    bed.tproxy_load("--cgroup", bed.scope, "--relay-cgroup", cgroup).succeeded()
    assert not any("removed" in error["what"] for error in doctor().about("loaded", "error"))
    cgroup.remove()
    cgroup.path.mkdir()
    (error,) = doctor().about("loaded", "error")
    assert "relay cgroup" in error["what"] and "tproxy-load" in error["fix"]


# --- doctor: the map of connections, and counters


@pytest.mark.parametrize("policy, where_to", [([], "directly"), (["--fail-closed"], "refused")],
                         ids=["open", "closed"])
def test_doctor_of_a_map_that_fills(loaded, doctor, policy, where_to):
    """It names the users and cgroups with the most connections. To see it fail: let find_top() not
    sort."""
    loaded.load(*policy)
    layout = Layout(loaded.pins.path / "map_socks")
    cgroup = loaded.scope.path.stat().st_ino
    parts = {uid: layout.pack(uid=struct.pack("=I", uid),
                              cgroup_id=struct.pack("=Q", cgroup if uid == 54321 else uid))
             for uid in (12345, 54321, 54322, 54323)}

    def usage(level):
        (finding,) = doctor().about("usage", level)
        return finding["what"]

    with loaded.pins.open("map_socks") as socks:
        def put(uid, first, last):
            for number in range(first, last):
                socks.update(struct.pack("=Q", 1 << 63 | number), parts[uid])

        assert "holds 0 of 65536" in usage("ok")
        for uid, first, last in ((54323, 0, 1), (54322, 1, 3), (12345, 3, 9003),
                                 (54321, 9003, 49151)):
            put(uid, first, last)
        assert "holds 49151 of" in usage("ok")
        put(54321, 49151, 49152)
        told = usage("warning")
        assert "holds 49152 of 65536 connections: " in told
        assert "by user 40149 of 54321, 9000 of 12345, 2 of 54322; " in told
        assert f"by cgroup 40149 of {loaded.scope}, 9000 of (id 12345, " in told
        put(54321, 49152, socks.max_entries)
        assert "holds 65536 of 65536 connections, new ones" in usage("error")
        assert where_to in usage("error")
        socks.empty()


def test_every_counter_is_explained(loaded, doctor):
    """Doctor explains all counters but the ordinary ones, and the man page all. Fails if a line is
    missing in doctor/usage.c or tproxy-load.8.scd."""
    names = list(loaded.stats())
    for number in range(len(names)):
        bpftool("map", "update", "pinned", loaded.pins.path / "map_stats",
                "key", number, 0, 0, 0, "value", 1, 0, 0, 0, 0, 0, 0, 0)
    assert all(loaded.stats().values())
    told = [finding["what"].partition(":")[0] for finding in doctor().about("counters", "info")]
    assert sorted(told) == sorted(name for name in names
                                  if name not in ("redirected", "blocked", "honest_pending")
                                  and not name.startswith(("bypass_", "rule_")))
    page = Path(__file__).parents[2].joinpath("loader/tproxy-load.8.scd").read_text()
    assert [name for name in names if f"\n*{name}*\n\t" not in page] == []


def test_doctor_tells_what_counters_mean(proxied, doctor):
    assert not doctor().about("counters", "info")
    proxied.relay.kill()
    assert not proxied.visit(proxied.listen()).relayed
    (info,) = doctor().about("counters", "info")
    assert info["what"].startswith("no_listener: 1 ")
