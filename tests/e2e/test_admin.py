# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The admin address: metrics as Prometheus reads them, on a UNIX socket or a loopback address."""

import contextlib
import ctypes
import http.client
import json
import os
import re
import select
import selectors
import signal
import socket
import stat
import subprocess
import threading
import time
from functools import partial

import pytest

import host
import programs
import wire
from browser import PROGRAM, Browser
from harness import NOBODY, SERVER, SERVER2
from test_faults import descriptors
from test_handover import LIFE_LEAST, start  # noqa: F401 (a fixture)
from test_log import PR_SET_NAME, config, path, reload  # noqa: F401 (a fixture)

PORT = 9101
TCP = f"127.0.0.1:{PORT}"


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


class Admin:
    """The admin address of a relay of a bed: a path, or ADDR:PORT in the clients' namespace."""

    def __init__(self, bed, address):
        self.bed = bed
        self.address = address

    def connection(self):
        timeout = 10 * host.patience
        if str(self.address).startswith("/"):
            return UnixConnection(self.address, timeout)
        name, _, port = self.address.rpartition(":")
        return http.client.HTTPConnection(name.strip("[]"), int(port), timeout=timeout)

    def request(self, method, path, **headers):
        """The response and its body."""
        with self.bed.client_net.inside(), contextlib.closing(self.connection()) as connection:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response, response.read()

    def get(self, path):
        response, body = self.request("GET", path)
        assert response.status == 200, (response.status, body)
        return body.decode()

    def metrics(self):
        """{name with labels: value}."""
        return parse(self.get("/metrics"))

    def raw(self):
        """A socket that is connected to the address."""
        with self.bed.client_net.inside():
            connection = self.connection()
            connection.connect()
            return self.bed.keep(connection.sock)


def parse(text):
    return {name: float(value) for name, value in
            (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))}


@pytest.fixture
def directory(bed):
    """A directory that the relay's user may write to."""
    directory = bed.directory / "run"
    directory.mkdir()
    os.chown(directory, programs.RELAY_UID, programs.RELAY_GID)
    return directory


@pytest.fixture
def unix(loaded, directory):
    loaded.start_relay("--admin", directory / "admin.sock")
    return Admin(loaded, directory / "admin.sock")


@pytest.fixture
def tcp(loaded):
    loaded.start_relay("--admin", TCP)
    return Admin(loaded, TCP)


def serves(admin):
    try:
        return admin.metrics()["tproxy_relay_registered"] == 1
    except (OSError, http.client.HTTPException):
        return False


# --- metrics


def visit(bed, up, down):
    """A relayed connection that has passed these numbers of bytes, and is still open."""
    client, server = bed.pair()
    client.sendall(bytes(up))
    wire.read_exactly(server, up)
    server.sendall(bytes(down))
    wire.read_exactly(client, down)
    return client, server


def test_metrics(unix):
    """Each number is that of the connections made, bytes of running ones included.

    To see it fail: add the bytes in report() of session.c, when a session ends.
    """
    bed, name = unix.bed, "tproxy_relay_{}"
    client, server = visit(bed, 70, 200)
    # The client may have read before the worker has counted.
    host.wait_until(lambda: unix.metrics()['tproxy_relay_bytes_total{direction="down"}'] == 200,
                    "the answer is counted")
    running = unix.metrics()
    assert running['tproxy_relay_bytes_total{direction="up"}'] == 70
    assert sum(value for key, value in running.items()
               if key.startswith("tproxy_relay_sessions{")) == 1
    assert running[name.format("connection_seconds_count")] == 0
    for sock in (client, server):
        sock.close()
    with pytest.raises(ConnectionResetError):
        wire.read_exactly(bed.connect(NOBODY), 1)
    host.wait_until(lambda: unix.metrics()[name.format("connection_seconds_count")] == 2, "the end")
    ended = unix.metrics()
    assert ended['tproxy_relay_connections_ended_total{reason="closed"}'] == 1
    assert ended['tproxy_relay_connections_ended_total{reason="destination failed"}'] == 1
    assert ended['tproxy_connections_total{verdict="redirected"}'] == 2
    assert ended['tproxy_connect_reasons_total{reason="redirected"}'] == 2
    assert ended[name.format("connections_accepted_total")] == 2
    # The failed one has neither connected nor had a byte.
    assert ended[name.format("connect_seconds_count")] == 1
    assert ended[name.format("first_byte_seconds_count")] == 1
    assert sum(value for key, value in ended.items()
               if key.startswith("tproxy_relay_sessions{")) == 0
    assert ended["tproxy_loaded"] == 1


def test_honest_metrics(loaded, directory):
    """What became of connects that were pending. To see it fail: leave them out of the sums that
    metrics and state.json are made of, in stats_sum().
    """
    loaded.start_relay("--honest-connect", "--admin", directory / "admin.sock")
    admin = Admin(loaded, directory / "admin.sock")
    visit(loaded, 1, 1)
    for _ in range(2):
        with pytest.raises(ConnectionRefusedError):
            loaded.connect(NOBODY)
    counts = host.wait_until(lambda: (now := admin.metrics())[
        'tproxy_relay_honest_connects_total{result="refused"}'] == 2 and now, "all are counted")
    assert counts["tproxy_relay_honest_connects_begun_total"] == 3
    ends = {key: value for key, value in counts.items() if "honest_connects_total{" in key}
    assert ends['tproxy_relay_honest_connects_total{result="joined"}'] == 1
    assert sum(ends.values()) == 3
    state = json.loads(admin.get("/state.json"))
    assert state["honest_connects"] == {"begun": 3, "joined": 1, "refused": 2}


def test_histograms(unix):
    """A server that waits for 300 ms is slow to its first byte, and not to connect. To see it fail:
    let note_moved() count the first byte of the client."""
    client, server = unix.bed.pair()
    client.sendall(b"x")
    wire.read_exactly(server, 1)
    time.sleep(0.3)
    server.sendall(b"y")
    wire.read_exactly(client, 1)
    host.wait_until(lambda: unix.metrics()["tproxy_relay_first_byte_seconds_count"], "the byte")
    found = unix.metrics()
    assert found['tproxy_relay_first_byte_seconds_bucket{le="0.25"}'] == 0
    assert found['tproxy_relay_first_byte_seconds_bucket{le="+Inf"}'] == 1
    assert found["tproxy_relay_first_byte_seconds_sum"] >= 0.28
    assert (found["tproxy_relay_first_byte_seconds_sum"] -
            found["tproxy_relay_connect_seconds_sum"]) >= 0.28


def test_metrics_of_rules(unix):
    """Hits by name or line, and the verdicts of rules. A rule may have the name "default".

    To see it fail: leave out sum_hits() in write_rules().
    """
    bed = unix.bed
    file = bed.directory / "rules"
    file.write_text("observe port 81 name build\nredirect port 83 name default\nrefuse port 82\n")
    bed.load("--rules", file)
    for port in (81, 82, 82, 83, 84):
        with contextlib.suppress(OSError):
            bed.run_in(partial(wire.connect, ("198.51.100.2", port))).close()
    found = unix.metrics()
    assert found['tproxy_rule_hits_total{rule="build",action="observe"}'] == 1
    assert found['tproxy_rule_hits_total{rule="line:3",action="refuse"}'] == 2
    assert found['tproxy_rule_hits_total{rule="default",action="redirect"}'] == 2
    assert {verdict: found[f'tproxy_connections_total{{verdict="{verdict}"}}']
            for verdict in ("redirected", "direct", "observed", "refused")} == {
                "redirected": 2, "direct": 0, "observed": 1, "refused": 2}
    assert found["tproxy_rules_generation"] == 1


def connect_bound(address):
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"tproxy0")
        sock.settimeout(wire.TIMEOUT)
        return sock.connect_ex(address)


@pytest.mark.parametrize("options, verdict", [([], "direct"), (["--fail-closed"], "refused")])
def test_verdict_of_the_fail_policy(unix, options, verdict):
    """The reason is the same, the policy decides the verdict. To see it fail: let verdict_of() say
    VERDICT_DIRECT for TPROXY_STAT_BOUND_DEVICE."""
    unix.bed.load(*options)
    before = unix.metrics()
    failed = unix.bed.run_in(connect_bound, unix.bed.listen().getsockname())
    assert bool(failed) == bool(options)
    after = unix.metrics()
    changed = {name for name in after if name.startswith("tproxy_conn") and
               after[name] != before[name]}
    assert changed == {f'tproxy_connections_total{{verdict="{verdict}"}}',
                       'tproxy_connect_reasons_total{reason="bound_device"}'}
    assert after["tproxy_fail_closed"] == len(options)


def test_metrics_when_nothing_is_loaded(unix):
    """The relay's own metrics stay. To see it fail: let write_metrics() write nothing without the
    maps."""
    assert "tproxy_connections_total" in unix.get("/metrics")
    unix.bed.unload()
    text = unix.get("/metrics")
    assert parse(text)["tproxy_loaded"] == 0 and "tproxy_relay_bytes_total" in text
    assert "tproxy_connections_total" not in text
    unix.bed.load()
    host.wait_until(lambda: serves(unix), "it has registered again", 10)
    assert unix.metrics()["tproxy_loaded"] == 1


@pytest.mark.needs("promtool")
def test_promtool(unix):
    """promtool finds nothing to criticise. Labels have no process, address or command."""
    visit(unix.bed, 1, 1)
    text = unix.get("/metrics")
    result = subprocess.run(["promtool", "check", "metrics"], input=text, text=True,
                            capture_output=True, check=False)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")
    labels = set(re.findall(r'[{,](\w+)="', text))
    assert labels <= {"version", "abi", "worker", "thread", "reason", "direction", "le", "verdict",
                      "event", "rule", "action", "place", "kind", "cgroup", "role",
                      "upstream", "result"}, labels
    assert "python3" not in text and "198.51.100" not in text


@pytest.mark.needs("prometheus")
@pytest.mark.deadline(60)
def test_prometheus(tcp, directory):
    """A real Prometheus scrapes the relay, and answers a query with its numbers."""
    bed = tcp.bed
    visit(bed, 70, 200)
    web = f"127.0.0.1:{PORT + 1}"
    file = directory / "prometheus.yml"
    file.write_text(json.dumps({  # which is YAML too
        "global": {"scrape_interval": "200ms"},
        "scrape_configs": [{"job_name": "tproxy", "static_configs": [{"targets": [TCP]}]}]}))
    bed.start("prometheus", f"--config.file={file}", f"--storage.tsdb.path={directory}/data",
              f"--web.listen-address={web}", place=bed.bystander)
    prometheus = Admin(bed, web)

    def ask(query):
        with contextlib.suppress(OSError, http.client.HTTPException):
            response, body = prometheus.request("GET", "/api/v1/query?query=" + query)
            if response.status == 200:
                return json.loads(body)["data"]["result"]
        return None

    name = "tproxy_relay_bytes_total"
    host.wait_until(lambda: ask(name), "Prometheus has scraped", 20)
    assert {row["metric"]["direction"]: row["value"][1] for row in ask(name)} == {
        "up": "70", "down": "200"}
    assert [row["value"][1] for row in ask("up")] == ["1"]
    assert len(ask("tproxy_relay_connect_seconds_bucket")) == 14


MONITORING = programs.REPOSITORY / "scripts/monitoring"


def metrics_of(text):
    """Names of metrics in queries."""
    return set(re.findall(r"\b(?:tproxy|process)_[a-z_]+[a-z]\b", text))


@pytest.mark.needs("promtool")
def test_dashboard_and_alerts(unix):
    """Their queries are valid, and the relay has each metric that they name.

    To see it fail: rename a metric in proxy/report/metrics.c.
    """
    rules = MONITORING / "tproxy.rules.yml"
    result = subprocess.run(["promtool", "check", "rules", rules], text=True, capture_output=True,
                            check=False)
    assert result.returncode == 0 and "10 rules found" in result.stdout, result
    dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries += [row["query"] for row in dashboard["templating"]["list"]]
    queries.append(re.sub(r"#.*", "", rules.read_text()))
    asked = {re.sub("_bucket$", "", name) for name in metrics_of("\n".join(queries))}
    names = set(re.findall("^# TYPE ([a-z_]+) ", unix.get("/metrics"), re.MULTILINE))
    assert len(asked) > 15 and asked <= names, asked - names


# By instance: metrics, with the values that they have from then on every 15 seconds. "0+2x80" rises
# by 2 each time.
CAUSES = {
    "down": {"up": "0x80"},
    "not loaded": {"tproxy_loaded": "0x80"},
    "idle": {"tproxy_loaded": "1x80", "tproxy_relay_registered": "0x80"},
    "busy": {
        "up": "1x80", "tproxy_loaded": "1x80", "tproxy_relay_registered": "1x80",
        "tproxy_relay_worker_stuck": "1x80", 'tproxy_upstream_up{upstream="direct"}': "0x80",
        'tproxy_connect_reasons_total{reason="no_relay"}': "0+1x80",
        'tproxy_connect_reasons_total{reason="negative_cache"}': "0+20x80",
        'tproxy_relay_connections_ended_total{reason="destination failed"}': "0+1x80",
        "tproxy_relay_connections_accepted_total": "0+100x80",
        'tproxy_relay_connect_seconds_bucket{le="1"}': "0+90x80",
        'tproxy_relay_connect_seconds_bucket{le="2.5"}': "0+100x80",
        'tproxy_relay_connect_seconds_bucket{le="+Inf"}': "0+100x80",
        'tproxy_relay_sessions{worker="0",thread="worker"}': "91x80",
        'tproxy_relay_sessions{worker="0",thread="bulk"}': "4x80",
        "tproxy_relay_sessions_limit": "100x80",
        'tproxy_events_lost_total{reason="events_lost"}': "0x75 5x5"},
    "well": {
        "up": "1x80", "tproxy_loaded": "1x80", "tproxy_relay_registered": "1x80",
        "tproxy_relay_worker_stuck": "0x80", 'tproxy_upstream_up{upstream="direct"}': "1x80",
        'tproxy_connect_reasons_total{reason="no_relay"}': "7x80",
        'tproxy_connect_reasons_total{reason="negative_cache"}': "0+1x80",
        'tproxy_relay_connections_ended_total{reason="destination failed"}': "0+1x80",
        "tproxy_relay_connections_accepted_total": "0+100x80",
        'tproxy_relay_connect_seconds_bucket{le="1"}': "0+99x80",
        'tproxy_relay_connect_seconds_bucket{le="2.5"}': "0+100x80",
        'tproxy_relay_connect_seconds_bucket{le="+Inf"}': "0+100x80",
        'tproxy_relay_sessions{worker="0",thread="worker"}': "80x80",
        'tproxy_relay_sessions{worker="0",thread="bulk"}': "4x80",
        "tproxy_relay_sessions_limit": "100x80",
        'tproxy_events_lost_total{reason="events_lost"}': "5x80"}}
FIRED = {"down": {"RelayDown"}, "not loaded": {"NotLoaded"}, "idle": {"RelayNotRegistered"},
         "busy": {"WorkerStuck", "UpstreamDown", "Bypassed", "DestinationsFail", "SlowConnects",
                  "NearLimit", "EventsLost"}}


def series_of(instance, name):
    metric, _, labels = name.rstrip("}").partition("{")
    labels = ",".join(filter(None, [labels, f'job="tproxy",instance="{instance}"']))
    return f"{metric}{{{labels}}}"


@pytest.mark.needs("promtool")
def test_alerts_fire(tmp_path):
    """Each alert has a cause for which it fires, and none fires without.

    To see it fail: compare with tproxy_relay_sessions_limit without the sum: its labels differ.
    """
    fired = [{"labels": f'{{alertname="Tproxy{name}",instance="{instance}"}}', "value": 1}
             for instance, names in FIRED.items() for name in names]
    file = tmp_path / "tests.yml"
    file.write_text(json.dumps({
        "rule_files": [str(MONITORING / "tproxy.rules.yml")],
        "evaluation_interval": "15s",
        "tests": [{
            "interval": "15s",
            "input_series": [{"series": series_of(instance, name), "values": values}
                             for instance, metrics in CAUSES.items()
                             for name, values in metrics.items()],
            "promql_expr_test": [{
                "expr": 'count by (alertname, instance) (ALERTS{alertstate="firing"})',
                "eval_time": "20m", "exp_samples": fired}]}]}))
    result = subprocess.run(["promtool", "test", "rules", file], text=True, capture_output=True,
                            check=False)
    assert result.returncode == 0, result.stdout + result.stderr


# --- the address


def test_socket_file(unix):
    """The group of the relay may connect, and nobody else. To see it fail: leave out chmod() in
    bind_unix()."""
    found = os.lstat(unix.address)
    assert stat.S_ISSOCK(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o660
    assert (found.st_uid, found.st_gid) == (programs.RELAY_UID, programs.RELAY_GID)
    assert os.listdir(unix.address.parent) == [unix.address.name]
    unix.bed.relay.signal(signal.SIGTERM)
    unix.bed.relay.wait()
    assert not unix.address.exists()


REFUSED = {
    "192.0.2.1:9101": "no loopback address",
    "0.0.0.0:9101": "no loopback address",
    "[::]:9101": "no loopback address",
    "[::ffff:127.0.0.1]:9101": "no loopback address",
    "127.0.0.1:0": "without a port",
    "localhost:9101": "neither an absolute path nor ADDR:PORT",
    "admin.sock": "neither an absolute path nor ADDR:PORT",
    "/" + 120 * "x": "too long",
}


def test_refused_addresses(bed):
    for address, why in REFUSED.items():
        bed.run_relay("--admin", address).refused(f"'{address}' is {why}", status=2)


def test_port_of_the_relay_itself(bed):
    """Both share their ports with other sockets of their user (SO_REUSEPORT), so the kernel would
    give some clients of the relay to the page. To see it fail: leave out
    check_admin_port()."""
    for listen in (TCP, f"0.0.0.0:{PORT}", f"127.0.0.1:{PORT - 1}"):
        result = bed.run_relay("--listen", listen, "--admin", TCP, "--workers", 2)
        result.refused(f"--admin: port {PORT} is one of the ports of --listen", status=2)


def test_check_finds_what_a_start_would(loaded, directory):
    """A missing directory is none of its business: the unit makes it. To see it fail: let
    check_directory() return 0."""
    shut = directory / "shut"
    shut.mkdir(mode=0o755)
    for address in (shut / "admin.sock", "127.0.0.1:80"):
        for options in ([], ["--check"]):
            loaded.run_relay("--admin", address, *options).refused(
                f"--admin {address}: Permission denied")
    missing = directory / "none/admin.sock"
    loaded.run_relay("--admin", missing).refused(f"--admin {missing}: No such file")
    loaded.run_relay("--admin", missing, "--check").succeeded()


def foreign_file(path):
    path.write_text("mine")


def foreign_socket(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
    os.chown(path, 1, 1)


@contextlib.contextmanager
def listening(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
        os.chown(path, programs.RELAY_UID, programs.RELAY_GID)
        yield


@pytest.mark.parametrize("make, why", [(foreign_file, "no socket"),
                                       (foreign_socket, "socket of another user")])
def test_foreign_file_stays(loaded, directory, make, why):
    """To see it fail: let check_path() return 0."""
    file = directory / "admin.sock"
    make(file)
    before = os.lstat(file)
    for options in ([], ["--check"]):
        result = loaded.run_relay("--admin", file, *options)
        assert result.status == 1 and why in result.err, result
    assert os.lstat(file) == before


def test_socket_of_another_program_stays(loaded, directory):
    """It is of the same user, and a program listens there. To see it fail: let is_taken() return
    false."""
    file = directory / "admin.sock"
    with listening(file):
        loaded.run_relay("--admin", file).refused("socket of another program")


def test_stale_socket_is_replaced(loaded, directory):
    """Killed relays leave their socket. To see it fail: let is_taken() return true."""
    file = directory / "admin.sock"
    loaded.start_relay("--admin", file).kill()
    assert file.exists()
    loaded.start_relay("--admin", file)
    assert serves(Admin(loaded, file))


def test_port_of_another_program(loaded):
    loaded.listen("127.0.0.1", PORT, netns=loaded.client_net)
    result = loaded.run_relay("--admin", TCP)
    assert result.status == 1 and f"--admin {TCP}: Address already in use" in result.err, result


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_next_relay_takes_the_address(loaded, directory, kind):
    """Requests without a pause while one relay follows another: each is answered. The old relay,
    which drains, leaves the socket file of the new one.

    To see it fail: bind to the path itself, or leave out the inode in admin_socket_close().
    """
    admin = Admin(loaded, directory / "admin.sock" if kind == "unix" else TCP)
    old = loaded.start_relay("--admin", admin.address)
    started = []
    for _ in range(2):
        started.append(admin.metrics()["process_start_time_seconds"])
        new = loaded.start_relay("--admin", admin.address)
        assert serves(admin) or kind == "tcp"
        old.signal(signal.SIGQUIT)
        assert old.wait() == 0
        assert admin.metrics()["process_start_time_seconds"] > started[-1]
        old = new


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_relay_that_outlives_the_next(loaded, directory, kind):
    """The first relay has its address again when the second one has ended, as it has its clients.
    Until then the second one alone answers, and the log tells of a shared port.

    To see it fail: leave out follow_other_relays().
    """
    admin = Admin(loaded, directory / "admin.sock" if kind == "unix" else TCP)
    first = loaded.start_relay("--admin", admin.address)
    started = admin.metrics()["process_start_time_seconds"]
    second = loaded.start_relay("--admin", admin.address)
    shared = f"--admin {TCP}: another relay listens there too"
    if kind == "tcp":
        assert shared in second.text() and shared not in first.text()
        assert first.says("page and metrics are left to the relay that is registered now")
    for _ in range(10):
        assert admin.metrics()["process_start_time_seconds"] > started
    second.signal(signal.SIGTERM)
    assert second.wait() == 0
    host.wait_until(lambda: serves(admin), "the first one serves", 10)
    assert admin.metrics()["process_start_time_seconds"] == started


def test_service(loaded, directory, start):  # noqa: F811
    """With --drain-in-background: the child that follows a killed one has the address, and then the
    service that follows a restart. The drained child leaves the file of the next one.

    To see it fail: leave out the inode in admin_socket_close().
    """
    admin = Admin(loaded, directory / "admin.sock")

    def started_after(before):
        with contextlib.suppress(OSError, http.client.HTTPException):
            started = admin.metrics()["process_start_time_seconds"]
            return started if started > before else 0
        return 0

    service = start("--admin", admin.address)
    first = started_after(0)
    time.sleep(LIFE_LEAST)
    os.kill(service.relay_pid, signal.SIGKILL)
    second = host.wait_until(lambda: started_after(first), "the next child serves", 10)
    service.wait_registered(2)
    service.signal(signal.SIGTERM)
    assert service.wait() == 0
    assert started_after(0) == second, "the child serves until the next service is there"
    start("--admin", admin.address)
    assert started_after(second)
    host.wait_until(service.gone, "the child has ended", 10)
    assert started_after(second)


def test_reload(loaded, directory, path):  # noqa: F811
    """It goes on, and a reload cannot change it."""
    admin = Admin(loaded, directory / "admin.sock")
    config(path, f"admin = {admin.address}")
    relay = loaded.start_relay("--config", path)
    before = os.lstat(admin.address)
    reload(relay, "read the configuration again")
    assert serves(admin) and os.lstat(admin.address).st_ino == before.st_ino
    config(path, f"admin = {TCP}")
    reload(relay, "'admin' cannot change while the relay runs")
    assert serves(admin)


# --- what a client may do


def exchange(admin, request):
    """Sends bytes and reads all of the answer."""
    sock = admin.raw()
    with contextlib.suppress(OSError):
        sock.sendall(request)
    answer = b""
    with contextlib.suppress(OSError):
        while part := sock.recv(65536):
            answer += part
    return answer


HOSTS = {"localhost": 200, "LocalHost:9101": 200, "127.0.0.1:9101": 200, "127.1.2.3": 200,
         "[::1]:9101": 200, "[::1]": 200, "localhost:": 200, "evil.example": 421,
         "localhost.evil.example": 421, "127.0.0.1.evil.example:9101": 421, "": 421,
         "198.51.100.1:9101": 421, "[::2]": 421, "127.0.0.1:9101@evil.example": 421,
         "localhost:x": 421}


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_host_header(request, kind):
    """A page of another site cannot make a browser read ours, nor through a tunnel to the UNIX
    socket. Only there a request may have no Host header.

    To see it fail: let admin_host_is_loopback() return true.
    """
    admin = request.getfixturevalue(kind)
    for name, status in HOSTS.items():
        response, body = admin.request("GET", "/metrics", Host=name)
        assert response.status == status, name
        assert (status == 200) == (b"tproxy_loaded" in body), name
    status = exchange(admin, b"GET /metrics HTTP/1.0\r\n\r\n").split()[1]
    assert status == (b"200" if kind == "unix" else b"421")


LOCAL = b" HTTP/1.1\r\nHost: localhost\r\n"
HOSTILE = [
    (b"GET /metrics HTTP/1.1\r\n\r\n", b"421 "),
    (b"GET http://localhost/metrics" + LOCAL + b"\r\n", b"421 "),
    (b"POST /metrics" + LOCAL + b"\r\n", b"405 "),
    (b"DELETE /metrics" + LOCAL + b"\r\n", b"405 "),
    (b"OPTIONS *" + LOCAL + b"\r\n", b"4"),
    (b"GET /../etc/passwd" + LOCAL + b"\r\n", b"404 "),
    (b"GET /metrics%00" + LOCAL + b"\r\n", b"404 "),
    (b"GET /" + 9000 * b"x" + LOCAL + b"\r\n", b"4"),
    (b"GET /metrics" + LOCAL + 900 * b"X-Header: value\r\n" + b"\r\n", b"4"),
    (b"GET /metrics" + LOCAL + b"Content-Length: 99999999\r\n\r\n", b""),
    (b"GET /metrics" + LOCAL + b"Transfer-Encoding: chunked\r\n\r\nfffffff\r\n", b""),
    (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b""),
]


def test_hostile_requests(tcp):
    """Each is refused, and the next one is served."""
    for request, first in HOSTILE:
        answer = exchange(tcp, request)
        assert not first or answer.partition(b" ")[2].startswith(first), (request, answer)
        assert b"tproxy_loaded" not in answer, request
        tcp.raw().close()
    assert serves(tcp)


def test_head(tcp):
    """The headers of GET, and no body. Nothing may be stored or embedded."""
    response, body = tcp.request("HEAD", "/metrics")
    assert response.status == 200 and body == b"" and int(response.headers["Content-Length"]) > 1000
    for name, value in [("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"),
                        ("X-Frame-Options", "DENY"), ("Connection", "close"),
                        ("Cross-Origin-Resource-Policy", "same-origin")]:
        assert response.headers[name] == value
    assert response.headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert "Access-Control-Allow-Origin" not in response.headers


CLIENTS_MAX = 16  # of admin/server.c


@contextlib.contextmanager
def dripping(socks):
    """Each sends a byte of a header now and then, while the block runs."""
    done = threading.Event()

    def drip():
        while not done.wait(0.2):
            for sock in socks:
                with contextlib.suppress(OSError):  # the relay has given it up
                    sock.send(b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_slow_clients(tcp):
    """Clients that never complete their request take all places. Others are served all the same,
    and the relay gives up the slow ones.

    To see it fail: leave out shutdown() in on_timer() of admin/server.c, or
    evconnlistener_disable() in on_client().
    """
    relay = tcp.bed.relay
    before = host.settled(lambda: descriptors(relay, "socket"), "sockets of the relay")
    slow = [tcp.raw() for _ in range(24)]
    for sock in slow:
        sock.sendall(b"GET /metrics" + LOCAL + b"X-Header: ")
    most = 0

    def ended():
        nonlocal most
        most = max(most, descriptors(relay, "socket") - before)
        return select.select(slow[:1], [], [], 0)[0]

    with dripping(slow):
        host.wait_until(ended, "the oldest one is given up", 30)
        wire.exchange(*tcp.bed.pair())
        host.wait_until(lambda: serves(tcp), "another client is served", 30)
        assert wire.ended_by(slow[0]) in (wire.EOF, wire.RESET)
    assert most <= CLIENTS_MAX
    assert relay.running()


def test_many_silent_clients(tcp):
    """A scrape behind 1,000 clients that send nothing takes some 2 s.

    To see it fail: listen with a backlog of 16, so that SYNs are sent again after 1, 2 and 4 s, or
    end only the oldest client at a time.
    """
    silent = [tcp.raw() for _ in range(1000)]
    began = time.monotonic()
    assert serves(tcp)
    assert time.monotonic() - began < 5 * host.patience
    for sock in silent:
        sock.close()


def test_descriptors(unix):
    """Connections leave nothing. To see it fail: do not call bufferevent_decref() in reap()."""
    serves(unix)
    before = unix.bed.relay.descriptors_at_rest()
    for _ in range(60):
        assert exchange(unix, b"GET /metrics HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200")
        unix.raw().close()
    host.wait_until(lambda: unix.bed.relay.descriptors_at_rest() <= before, "all are closed")


# --- the page


def state(admin):
    return json.loads(admin.get("/state.json"))


PROGRAMS = [  # name, port, bytes up, bytes down
    (b"postgres", 5432, 48_300, 912_000), (b"git", 443, 22_100, 24_500_000),
    (b"node", 6379, 310_000, 1_240_000), (b"python3", 443, 5_200, 18_000),
    (b"apt", 80, 1_900, 11_000_000), (b"ssh", 22, 96_000, 210_000),
    (b"<script>", 8080, 300, 1_200),
]
RULES = """observe port 22 name admin
refuse port 25 name no-mail
redirect port 5432 name database
redirect to 198.51.100.0/24 port 443 name build
direct to 198.51.100.3 port 123
"""


def talk(name, address, up, down, pause):
    """Names itself, passes these bytes each way, and goes on with a small one now and then."""
    ctypes.CDLL(None).prctl(PR_SET_NAME, name)
    with wire.connect(address) as sock:
        sock.sendall(bytes(up))
        wire.read_exactly(sock, down)
        while True:
            time.sleep(pause)
            sock.sendall(b"x")


def serve(listeners):
    """For each listener: reads what comes, and sends a number of bytes at the first byte."""
    ready = selectors.DefaultSelector()
    for listener, down in listeners:
        ready.register(listener, selectors.EVENT_READ, (True, down))
    while True:
        for key, _ in ready.select():
            is_listener, down = key.data
            if is_listener:
                ready.register(key.fileobj.accept()[0], selectors.EVENT_READ, (False, down))
                continue
            data = b""
            with contextlib.suppress(OSError):
                data = key.fileobj.recv(1 << 20)
                key.fileobj.sendall(bytes(down))
            ready.modify(key.fileobj, selectors.EVENT_READ, (False, 0))
            if not data:
                ready.unregister(key.fileobj)
                key.fileobj.close()


def fail(address):
    with contextlib.suppress(OSError), wire.connect(address) as sock:
        sock.recv(1)


@pytest.fixture
def busy(tcp):
    """Programs of several names, rules, refusals and failures."""
    bed = tcp.bed
    file = bed.directory / "rules"
    file.write_text(RULES)
    bed.load("--rules", file)
    ports = {port: down for _, port, _, down in PROGRAMS}
    bed.task(serve, [(bed.listen(address, port), down) for port, down in ports.items()
                     for address in (SERVER, SERVER2)], place=bed.server)
    for number, (name, port, up, down) in enumerate(PROGRAMS):
        for i in range(1 + number % 3):
            bed.task(talk, name, ((SERVER, SERVER2)[i % 2], port), up, ports[port], 0.1 * (i + 1))
    for port in (25, 25, 25, 9, 9, 8081):
        bed.run_in(fail, (SERVER, port))
    bed.run_in(connect_bound, (SERVER, 443))
    names = {name.decode() for name, *_ in PROGRAMS}
    host.wait_until(lambda: {row["command"] for row in state(tcp)["connections"]} >= names,
                    "all programs are connected", 10)
    return tcp


@pytest.fixture
def page(busy):
    """The page in a browser, when it has shown the state."""
    with Browser(busy.bed) as browser:
        browser.admin = busy
        browser.resize(1280, 1340)
        browser.open(f"http://{busy.address}/")
        browser.wait("document.body?.dataset.shown", "the page shows the state")
        yield browser
        assert not browser.complaints, browser.complaints


@pytest.mark.needs(PROGRAM)
@pytest.mark.deadline(90)
def test_page(page):
    """Programs, destinations, rules, refusals and failures are there, as text. The page loads
    nothing from elsewhere, works by itself, on a phone, in the dark, and while the relay is away.

    To see it fail: set innerHTML in make() of page.js, or leave out "connect-src" in server.c.
    """
    connections = page.text("#connections")
    for name, port, *_ in PROGRAMS:
        assert name.decode() in connections and f":{port}" in connections
    assert page.evaluate("document.querySelectorAll('script').length") == 1
    assert "<script>" in page.text("#programs") and f"{SERVER}:443" in page.text("#destinations")
    assert re.search(r"no-mail refuse port 25\s+3\s", page.text("#rules"))
    assert re.search(r"refused by a rule rule_refused\s+3\b", page.text("#reasons"))
    assert re.search(r"destination failed\s+\d", page.text("#reasons"))
    assert "bound_device" in page.text("#reasons")
    assert page.text("#badge") == "all well" and "all 2 workers answer" in page.text("#checks")

    page.evaluate("""byId('filter').value = 'git 443';
                     byId('filter').dispatchEvent(new Event('input'))""")
    rows = page.evaluate("[...document.querySelectorAll('#connections tbody tr')]"
                         ".map((row) => row.innerText)")
    assert rows and all("git" in row and ":443" in row for row in rows)
    page.evaluate("byId('filter').value = ''")
    assert page.evaluate("connectionRow({ ...state.connections[0], command: ' ' }).textContent"
                         ).startswith("(no name)")

    page.bed = page.admin.bed
    client, server = page.bed.pair()
    wire.exchange(client, server)
    port = server.getsockname()[1]
    page.wait(f"byId('connections').innerText.includes(':{port}')", "it shows a new connection")

    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.prefer("dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    page.resize(360, 800, mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360, "it scrolls sideways"

    with page.bed.relay.stopped():
        page.evaluate("fetch = () => Promise.reject(new Error('gone'))")
        page.wait("!byId('offline').hidden", "it says that the relay does not answer")
    assert "No answer from the relay since" in page.text("#offline")
    assert page.text("#badge") == "no answer", "what it says of the health is old"
