# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Rules: what each condition and action does to a connection, and how they are loaded, counted and
shown. test_rules_swap.py has what happens while they are replaced."""

import json
import socket
import threading

import pytest

import host
import programs
from harness import SERVER, SERVER2
from ruling import (  # fixtures too
    DIRECT, RELAYED, Servers, attempt, binary, ctl, hits, load_rules, serve_peers, show,
    write_rules)
from test_again import make_again
from tproxyctl import doctor, foreign  # fixtures

USER, GROUP = 61234, 61235


@pytest.fixture
def servers(proxied):
    return Servers(proxied)


# --- actions


@pytest.mark.parametrize("action, outcome", [
    ("redirect", RELAYED), ("direct", DIRECT), ("observe", DIRECT), ("refuse", "ECONNREFUSED"),
    ("refuse EACCES", "EACCES"), ("refuse EPERM", "EPERM"), ("refuse ENETUNREACH", "ENETUNREACH"),
    ("refuse EHOSTUNREACH", "EHOSTUNREACH"), ("refuse ETIMEDOUT", "ETIMEDOUT"),
])
def test_actions(proxied, ctl, servers, action, outcome):
    """Each action decides, both in a rule and as the default. To see it fail: exchange two cases in
    decide_rules()."""
    other = "direct" if outcome == RELAYED else "redirect"
    load_rules(proxied, ctl, f"{action} to {SERVER}", f"default {other}")
    rest = DIRECT if other == "direct" else RELAYED
    assert servers.outcomes() == [outcome, outcome, rest, rest]
    load_rules(proxied, ctl, f"{other} to {SERVER}", f"default {action}")
    assert servers.outcomes() == [rest, rest, outcome, outcome]


def test_first_rule_that_matches_decides(proxied, ctl, servers):
    """To see it fail: go on after a match in rules_match()."""
    low, high = servers.ports
    load_rules(proxied, ctl, f"refuse EACCES port {low}", f"direct to {SERVER}",
               f"refuse EPERM to {SERVER}", f"refuse EPERM port {high}")
    assert servers.outcomes() == ["EACCES", DIRECT, "EACCES", "EPERM"]


def test_without_rules_all_is_redirected(proxied, ctl, servers):
    assert servers.outcomes() == [RELAYED] * 4
    assert show(ctl)["generation"] == 0
    load_rules(proxied, ctl, "refuse")
    assert servers.outcomes() == ["ECONNREFUSED"] * 4
    ctl("rules", "unload").succeeded()
    assert servers.outcomes() == [RELAYED] * 4
    assert show(ctl)["generation"] == 0
    ctl("rules", "unload").succeeded()
    load_rules(proxied, ctl)
    assert servers.outcomes() == [RELAYED] * 4


def test_fail_closed_is_for_what_rules_redirect(bed, ctl):
    """Without a relay, a rule's direct connection works, and a redirected one is refused."""
    bed.load("--fail-closed")
    servers = Servers(bed)
    load_rules(bed, ctl, f"direct to {SERVER}")
    assert servers.outcomes() == [DIRECT, DIRECT, "ECONNREFUSED", "ECONNREFUSED"]


# --- conditions


def test_ports_and_ranges(proxied, ctl, servers):
    low, high = servers.ports
    load_rules(proxied, ctl, f"direct port 1,{low}", "default refuse")
    assert servers.outcomes() == [DIRECT, "ECONNREFUSED"] * 2
    load_rules(proxied, ctl, f"direct port {low}-{high}", "default refuse")
    assert servers.outcomes() == [DIRECT] * 4
    load_rules(proxied, ctl, f"direct port 1-{low - 1}, {low + 1}-{high - 1}, {high + 1}-65535",
               "default refuse")
    assert servers.outcomes() == ["ECONNREFUSED"] * 4


@pytest.mark.parametrize("what", ["uid", "gid"])
def test_users_and_groups(proxied, ctl, servers, what):
    """Numbers, ranges, names; the real ids. To see it fail: compare the halves of
    bpf_get_current_uid_gid() the other way around."""
    ids = {"uid": {"uid": USER, "gid": GROUP}, "gid": {"uid": GROUP, "gid": USER}}[what]
    for value in (USER, f"{USER - 1}-{USER + 1}", f"5, {USER}"):
        load_rules(proxied, ctl, f"refuse EACCES {what} {value}")
        assert servers.try_at(**ids) == "EACCES"
        assert servers.try_at() == RELAYED
        assert servers.try_at(**{what: USER + 2}) == RELAYED
    load_rules(proxied, ctl, f"direct {what} root", "default refuse")
    assert servers.try_at() == DIRECT
    assert servers.try_at(**ids) == "ECONNREFUSED"


def attempt_in_thread(address):
    """Connects in a thread that has another name than the process."""
    def connect():
        with open(f"/proc/self/task/{threading.get_native_id()}/comm", "w",
                  encoding="ascii") as comm:
            comm.write("athread")
        results.append(attempt(address))

    with open("/proc/self/comm", "w", encoding="ascii") as comm:
        comm.write("aprocess")
    results = []
    thread = threading.Thread(target=connect)
    thread.start()
    thread.join()
    return results[0]


def test_commands(proxied, ctl, servers):
    """The command of the process, not of the thread; 15 bytes at most."""
    load_rules(proxied, ctl, 'refuse EACCES command curl, "with blank", a-name-of-15-bytes-or-more',
               "refuse EPERM command aprocess", "direct command athread")
    for command in ("curl", "with blank", "a-name-of-15-by"):
        assert servers.try_at(command=command) == "EACCES"
    for command in ("curl2", "cur", "with", "a-name-of-15-b"):
        assert servers.try_at(command=command) == RELAYED
    assert proxied.run_in(attempt_in_thread, (SERVER, servers.ports[0])) == "EPERM"


def in_cgroup(bed, cgroup):
    return host.Place(cgroup, bed.client_net)


def test_cgroup_by_path(proxied, ctl, servers):
    """The cgroup and all below it. To see it fail: begin with the last level in
    rules_cgroup_bits()."""
    inside = proxied.scope.child("inside")
    below, beside = inside.child("below"), proxied.scope.child("inside2")
    relative = "/" + str(inside.path.relative_to(host.cgroup2_root()))
    for path in (inside.path, relative):
        load_rules(proxied, ctl, f"refuse EACCES cgroup {path}")
        assert servers.try_at(place=in_cgroup(proxied, inside)) == "EACCES"
        assert servers.try_at(place=in_cgroup(proxied, below)) == "EACCES"
        assert servers.try_at(place=in_cgroup(proxied, beside)) == RELAYED
        assert servers.try_at() == RELAYED


def test_cgroup_by_name_that_comes_after_the_load(proxied, ctl, servers):
    """The kernel half reads names in parts of 31 bytes. To see it fail: add n, and not n - 1, in
    rules_name_length()."""
    long = [".scope".rjust(length, "n") for length in (31, 32, 62, 63, 255)]
    load_rules(proxied, ctl, "refuse EACCES cgroup name:app-*.service",
               "refuse EPERM cgroup name:exact", "refuse ETIMEDOUT cgroup name:*.scope")
    made = {name: proxied.scope.child(name) for name in
            ("app-1.service", "app-.service", "app-1.servicex", "xapp-1.service", "exact",
             "exactly", "a.scope", ".scope", "scope2", *long)}
    below = made["app-1.service"].child("below")
    outcome = {name: servers.try_at(place=in_cgroup(proxied, cgroup))
               for name, cgroup in made.items()}
    assert outcome == {
        "app-1.service": "EACCES", "app-.service": "EACCES", "app-1.servicex": RELAYED,
        "xapp-1.service": RELAYED, "exact": "EPERM", "exactly": RELAYED, "a.scope": "ETIMEDOUT",
        ".scope": "ETIMEDOUT", "scope2": RELAYED, **dict.fromkeys(long, "ETIMEDOUT")}
    assert servers.try_at(place=in_cgroup(proxied, below)) == "EACCES"
    # Made again, as a restart does.
    make_again(made["exact"])
    assert servers.try_at(place=in_cgroup(proxied, made["exact"])) == "EPERM"


def test_cgroup_tests_are_those_of_the_generation(proxied, ctl, servers):
    """Results that are cached for a cgroup are not used for other rules, also after rules were
    taken back or unloaded. To see it fail: leave the generation out of struct tproxy_cgroup_key."""
    first = in_cgroup(proxied, proxied.scope.child("first"))
    second = in_cgroup(proxied, proxied.scope.child("second"))
    for name in ("first", "second", "first"):
        load_rules(proxied, ctl, f"refuse EACCES cgroup name:{name}")
        assert [servers.try_at(place=place) == "EACCES" for place in (first, second)] == [
            name == "first", name == "second"]
        ctl("rules", "unload").succeeded()


def test_unless(proxied, ctl, servers):
    """An exception excludes only its own rule. To see it fail: return a SKIP row in
    rules_match()."""
    low, high = servers.ports
    load_rules(proxied, ctl, f"refuse EACCES to {SERVER} unless uid root",
               f"refuse EPERM to {SERVER} port {high}", "default redirect")
    assert servers.outcomes() == [RELAYED, "EPERM", RELAYED, RELAYED]
    assert servers.outcomes(uid=USER) == ["EACCES", "EACCES", RELAYED, RELAYED]
    # Both conditions of an exception have to hold; of two exceptions one.
    load_rules(proxied, ctl, f"refuse unless uid root port {low} unless to {SERVER2}")
    assert servers.outcomes() == [RELAYED, "ECONNREFUSED", RELAYED, RELAYED]
    assert servers.outcomes(uid=USER) == ["ECONNREFUSED", "ECONNREFUSED", RELAYED, RELAYED]


def test_all_conditions_must_hold(proxied, ctl, servers):
    low, high = servers.ports
    load_rules(proxied, ctl,
               f"refuse EACCES to {SERVER} port {low} uid {USER} gid {GROUP} command curl")
    good = {"uid": USER, "gid": GROUP, "command": "curl"}
    assert servers.outcomes(**good) == ["EACCES", RELAYED, RELAYED, RELAYED]
    for wrong in ({"uid": 1}, {"gid": 1}, {"command": "wget"}):
        assert servers.try_at(**{**good, **wrong}) == RELAYED


def test_sets(proxied, ctl, servers):
    """Inline, from a file, overlapping, one without a name. To see it fail: leave the bits of
    shorter prefixes out of longer ones."""
    (proxied.directory / "bad.netset").write_bytes(
        b"; a list\r\n\r\n198.51.100.3   # one\r\n203.0.113.0/24\n10.1.2.3/8\n")
    load_rules(proxied, ctl, "set all = 198.51.100.0/24", f"set one = {SERVER}",
               "set bad file bad.netset", "refuse EACCES to @bad", "refuse EPERM to @one",
               "direct to @all")
    assert servers.outcomes() == ["EPERM", "EPERM", "EACCES", "EACCES"]
    load_rules(proxied, ctl, "set all = 198.51.100.0/24", f"set one = {SERVER}",
               "direct to @all", "refuse EPERM to @one")
    assert servers.outcomes() == [DIRECT] * 4
    load_rules(proxied, ctl, f"direct to 198.51.100.0/30, {SERVER2}", "default refuse")
    assert servers.outcomes() == [DIRECT] * 4
    load_rules(proxied, ctl, f"direct to {SERVER2}-198.51.100.9", "default refuse")
    assert servers.outcomes() == ["ECONNREFUSED"] * 2 + [DIRECT] * 2
    load_rules(proxied, ctl, "direct to ::/0", "refuse EPERM to any")
    assert servers.outcomes() == ["EPERM"] * 4


def test_ipv4_in_an_ipv6_socket(proxied, ctl, servers):
    load_rules(proxied, ctl, f"refuse EACCES to {SERVER}")
    assert servers.try_at(f"::ffff:{SERVER}", family=socket.AF_INET6) == "EACCES"
    assert servers.try_at(f"::ffff:{SERVER2}", family=socket.AF_INET6) == RELAYED


# --- loopback


def local_server(bed, address="127.0.0.1"):
    sock = bed.listen(address, netns=bed.client_net)
    bed.task(serve_peers, sock, place=bed.client)
    return sock.getsockname()


def flags(bed):
    (entry,) = bed.pins.dump("map_policy")
    return entry["value"]["flags"]


def test_loopback_is_left_alone_unless_named(proxied, ctl):
    """To see it fail: clear named_only in gather_rules()."""
    address = local_server(proxied)
    for rules in (["refuse"], ["refuse to any"], ["refuse to 0.0.0.0/0"], ["default refuse"],
                  [f"refuse port {address[1]}"], ["refuse to 127.0.0.2"]):
        load_rules(proxied, ctl, *rules)
        assert proxied.run_in(attempt, address) == DIRECT, rules
        assert set(hits(ctl).values()) == {0}, "no rule and no default has decided"
    for rules in (["refuse EACCES to 127.0.0.1"], ["refuse EACCES to 10.0.0.0/8, 127.0.0.0/8"]):
        load_rules(proxied, ctl, *rules, "default refuse")
        assert proxied.run_in(attempt, address) == "EACCES", rules
    load_rules(proxied, ctl, "redirect to 127.0.0.1")
    assert proxied.run_in(attempt, address) == RELAYED
    assert flags(proxied) == 4
    load_rules(proxied, ctl, "refuse EACCES to 192.0.2.1")
    assert flags(proxied) == 0


def test_loopback_that_is_included_is_ordinary(bed, ctl):
    bed.load("--include-loopback")
    bed.start_relay()
    address = local_server(bed)
    load_rules(bed, ctl, "refuse EACCES")
    assert bed.run_in(attempt, address) == "EACCES"
    load_rules(bed, ctl, f"direct port {address[1]}", "default refuse")
    assert bed.run_in(attempt, address) == DIRECT


def test_a_second_load_keeps_the_loopback_flag(proxied, ctl):
    address = local_server(proxied)
    load_rules(proxied, ctl, "refuse EACCES to 127.0.0.1")
    proxied.load()
    assert proxied.run_in(attempt, address) == "EACCES"


# --- counters


def test_hits(proxied, ctl, servers):
    load_rules(proxied, ctl, f"refuse to {SERVER} name first", f"direct to {SERVER2}")
    servers.outcomes()
    servers.try_at(SERVER2)
    assert hits(ctl) == {f"refuse to {SERVER} name first": 2, f"direct to {SERVER2}": 3, None: 0}
    shown = show(ctl)
    assert [rule.get("name") for rule in shown["rules"]] == ["first", None]
    assert [rule["number"] for rule in shown["rules"]] == [1, 2]
    assert shown["rules"][1]["last_hit_ms_ago"] < 60000
    assert "last_hit_ms_ago" not in shown["default"]
    text = ctl("rules", "stats").succeeded().out
    assert "first" in text and " s ago" in text and "never" in text
    assert proxied.stats()["rule_direct"] == 3 and proxied.stats()["rule_refused"] == 2


def test_counters_survive_a_reload_of_the_same_rule(proxied, ctl, servers):
    """In another order and with other blanks; a changed rule begins at 0. To see it fail: give each
    rule a new index in rule_counters_assign()."""
    one, two = f"refuse to {SERVER}", f"direct to {SERVER2}"
    load_rules(proxied, ctl, one, two)
    servers.outcomes()
    load_rules(proxied, ctl, f"  direct   to {SERVER2}# comment", "direct port 1", one)
    assert hits(ctl) == {one: 2, two: 2, "direct port 1": 0, None: 0}
    servers.outcomes()
    load_rules(proxied, ctl, f"{one} name other", two)
    assert hits(ctl) == {f"{one} name other": 0, two: 4, None: 0}
    # A rule that was gone for a while, and is here again.
    ctl("rules", "unload").succeeded()
    load_rules(proxied, ctl, two, one)
    assert hits(ctl) == {two: 4, one: 4, None: 0}


def test_counters_are_not_confused_over_many_loads(proxied, ctl, servers):
    """More rules than there are indices, in turn. A new rule never has hits of an old one."""
    keep = f"refuse EACCES to {SERVER}"
    for load in range(8):
        rules = [f"direct to 192.0.2.{load} port {port}" for port in range(1, 201)]
        load_rules(proxied, ctl, *rules[:100], keep, *rules[100:],
                   f"refuse EPERM to {SERVER2} name of-load-{load}")
        servers.outcomes()
        counted = hits(ctl)
        assert counted.pop(keep) == 2 * (load + 1)
        assert counted.pop(f"refuse EPERM to {SERVER2} name of-load-{load}") == 2
        assert set(counted.values()) == {0}


def test_long_text_is_cut_visibly(proxied, ctl):
    """To see it fail: let copy_text() add no dots."""
    addresses = ", ".join(f"192.0.2.{last}" for last in range(1, 100))
    load_rules(proxied, ctl, f"direct to {addresses} name long")
    (rule,) = show(ctl)["rules"]
    assert rule["text"].startswith("direct to 192.0.2.1, ") and rule["text"].endswith(" ...")
    assert "name long" not in rule["text"] and rule["name"] == "long"


def test_rules_with_the_same_text_have_their_own_counters(proxied, ctl, servers):
    rule = f"refuse to {SERVER}"
    for _ in range(2):
        load_rules(proxied, ctl, rule, rule)
        servers.outcomes()
    assert [entry["hits"] for entry in show(ctl)["rules"]] == [4, 0]


# --- what is refused, and what is shown


def unchanged(bed, ctl, call):
    before = show(ctl)["generation"]
    result = call()
    assert result.status == 1 and result.out == "", result
    assert show(ctl)["generation"] == before
    assert len(bed.pins.dump("map_sets")) == 1
    return result.err


def test_file_with_an_error_changes_nothing(proxied, ctl, servers):
    load_rules(proxied, ctl, "refuse EACCES")
    path = write_rules(proxied, "direct", "refuse port 99999", name="bad.rules")
    assert f"{path}:2:" in unchanged(proxied, ctl, lambda: ctl("rules", "load", path))
    absent = proxied.scope.path / "absent"
    path = write_rules(proxied, f"direct cgroup {absent}", name="bad.rules")
    assert "name:" in unchanged(proxied, ctl, lambda: ctl("rules", "load", path))
    unchanged(proxied, ctl, lambda: ctl("rules", "load", proxied.directory / "none"))
    assert servers.outcomes() == ["EACCES"] * 4


def test_cgroup_outside_of_all_scopes(bed, ctl, doctor):
    """Its rule would not be enforced. An exception, or a cgroup above a scope, is no error. To see
    it fail: let is_in_scope() return true."""
    path = write_rules(bed, "direct", f"refuse port 1 cgroup {bed.outside.path}",
                       name="outside.rules")
    error = f"{path}:2:22: cgroup \"{bed.outside.path}\" is outside"
    result = bed.tproxy_load("--cgroup", bed.scope, "--rules", path)
    assert result.status == 1 and error in result.err and not bed.pins.path.exists()
    bed.load(scopes=[bed.scope])
    assert error in unchanged(bed, ctl, lambda: ctl("rules", "load", path))
    load_rules(bed, ctl, f"refuse port 1 unless cgroup {bed.outside.path}",
               f"refuse port 2 cgroup {bed.top.path}")
    assert not doctor().about("rules", "warning")
    bed.load(scopes=[bed.scope, bed.outside])
    ctl("rules", "load", path).succeeded()
    bed.load(scopes=[bed.scope])
    assert doctor().about("rules", "warning"), "the load has left it out"


def test_too_many_rows(proxied, ctl):
    path = write_rules(proxied, f"direct port {','.join(map(str, range(1, 258)))}")
    assert "257" in unchanged(proxied, ctl, lambda: ctl("rules", "load", path))


@pytest.mark.parametrize("command", [["load"], ["load", "a", "b"], ["show", "a"], [], ["nonsense"],
                                     ["show", "--confirm", "3s"], ["load", "a", "--confirm", "0.5"],
                                     ["load", "a", "--confirm", "0s"],
                                     ["load", "a", "--no-resolve"], ["unload", "--json"],
                                     ["confirm", "--json"], ["revert", "--json"]])
def test_usage(loaded, ctl, command):
    ctl("rules", *command).refused(status=2)


def test_nothing_is_loaded(bed, ctl):
    path = write_rules(bed, "direct")
    for command in (["load", path], ["show"], ["unload"], ["confirm"]):
        ctl("rules", *command).refused(bed.pins.path)


def test_members_of_the_group_may_look(proxied, ctl):
    load_rules(proxied, ctl, "refuse", "direct name never")
    load_rules(proxied, ctl, "set a = 192.0.2.0/24", "direct to @a name own")
    user = (programs.RELAY_UID, programs.RELAY_GID)
    assert show(ctl, user=user)["rules"][0]["name"] == "own"
    assert show(ctl, user=user)["sets"] == [{"name": "a", "prefixes": 1}]
    assert "own" in ctl("rules", "stats", user=user).succeeded().out
    path = write_rules(proxied, "direct")
    assert ctl("rules", "load", path, user=user).status == 1


def test_status(proxied, ctl):
    assert "rules          none" in proxied.tproxy_load("--status").out
    path = write_rules(proxied, "refuse", "default direct")
    ctl("rules", "load", path).succeeded()
    assert proxied.tproxy_load.status()["rules"] == {
        "generation": 1, "unconfirmed": False, "count": 1, "default": "direct", "file": str(path)}
    assert f"rules          1, default direct; generation 1, from {path}" in proxied.tproxy_load(
        "--status").out
    loaded = json.loads(ctl("rules", "load", path, "--json").succeeded().out)
    assert (loaded["generation"], loaded["count"], loaded["in_force"]) == (2, 1, True)


# --- tproxy-load


def test_rules_of_the_loader(bed, ctl):
    """The first load puts rules into force. A second one keeps or replaces them; --again keeps
    them."""
    bed.load("--rules", write_rules(bed, f"refuse EACCES to {SERVER}"))
    servers = Servers(bed)
    bed.start_relay()
    assert servers.outcomes() == ["EACCES", "EACCES", RELAYED, RELAYED]
    for again in (bed.load, lambda: bed.tproxy_load("--again").succeeded()):
        again()
        assert servers.outcomes() == ["EACCES", "EACCES", RELAYED, RELAYED]
        assert show(ctl)["generation"] == 1
    bed.load("--rules", write_rules(bed, f"refuse EPERM to {SERVER2}"))
    assert servers.outcomes() == [RELAYED, RELAYED, "EPERM", "EPERM"]
    bed.unload()
    bed.load()
    assert show(ctl)["generation"] == 0


def test_loader_with_a_bad_file_loads_nothing(bed, ctl):
    path = write_rules(bed, "refuse nonsense")
    result = bed.tproxy_load("--cgroup", bed.scope, "--rules", path)
    assert result.status == 1 and f"{path}:1:" in result.err
    assert not bed.pins.path.exists()
    result = bed.tproxy_load("--check", "--cgroup", bed.scope, "--rules", path)
    assert result.status == 1 and f"{path}:1:" in result.err
    path.write_text("refuse\n")
    bed.tproxy_load("--check", "--cgroup", bed.scope, "--rules", path).succeeded()
    assert not bed.pins.path.exists()


def test_rules_are_there_before_anything_is_attached(bed):
    """With the capabilities of the unit. To see it fail: attach first in load_steps(), with a sleep
    after it; or open the inner maps by their ids."""
    path = write_rules(bed, "refuse EACCES")
    servers = Servers(bed)
    capabilities = "+bpf,+net_admin,+perfmon,+chown"
    for rules in ("refuse EACCES", "refuse EPERM"):
        path.write_text(rules + "\n")
        programs.call("setpriv", f"--bounding-set=-all,{capabilities}", programs.LOAD, "--pin-dir",
                      bed.pins.path, "--cgroup", bed.scope, "--relay-cgroup", bed.relay_cgroup,
                      "--relay-group", programs.RELAY_GID, "--rules", path).succeeded()
        assert servers.outcomes() == [rules.split()[1]] * 4


def test_failure_after_the_rules_puts_the_old_ones_back(bed, ctl, foreign):
    """To see it fail: leave rules_step_undo() out of undo()."""
    bed.load("--rules", write_rules(bed, "refuse EACCES"))
    servers = Servers(bed)
    foreign(bed.outside)
    result = bed.tproxy_load("--cgroup", bed.scope, "--cgroup", bed.outside, "--relay-cgroup",
                             bed.relay_cgroup, "--rules",
                             write_rules(bed, "refuse EPERM", name="new.rules"))
    assert result.status == 1, result
    assert servers.outcomes() == ["EACCES"] * 4
    assert len(bed.pins.dump("map_sets")) == 1
    assert [rule["text"] for rule in show(ctl)["rules"]] == ["refuse EACCES"]


# --- doctor


def test_doctor_sees_a_cgroup_of_a_rule_that_is_gone(proxied, ctl, doctor):
    cgroup = proxied.scope.child("of-a-rule")
    path = write_rules(proxied, "refuse to 192.0.2.1", f"direct cgroup {cgroup} name mine")
    ctl("rules", "load", path).succeeded()
    assert doctor().fine().about("rules", "ok")
    make_again(cgroup)
    fix = doctor().only("error", "rules", "name mine", "removed")
    assert f"tproxyctl rules load '{path}' --pin-dir '{proxied.pins.path}'" in fix
    ctl("rules", "load", path).succeeded()
    doctor().fine()
