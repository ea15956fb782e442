# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The workloads with an upstream, a proxy in the server's namespace: chain measures what each kind
of upstream costs before the first byte, chain-load is crr and bulk through SOCKS5 and the PROXY
protocol beside other programs, and failover is the death of the upstream in use.
"""

import json
import os
import signal
import sys

from contenders import RELAY_IDS, Redirected, Tproxy
from peers import HaproxyRelay, IptablesRedirected, Proxychains, Redsocks
from sandbox import SERVER_NETNS, SERVER_PORT, Failure, command, need, wait_until, write
from workload import Metric, Workload

SOCKS, LOGIN, CONNECT, CONNECT_TLS, PROXY_HEADER, DEAD, NEXT = range(7101, 7108)
USER, PASSWORD = "alice", "secret"
NEEDS = (("microsocks", "microsocks"), ("tinyproxy", "tinyproxy"), ("haproxy", "haproxy"),
         ("openssl", "openssl"))
DELAYS_MS = (0, 10, 50)
DISTANT = {"count": 32, "clients": 8}  # of a turn with a delay: connections, and at a time

# The upstream of each variant: the keys of its section.
KINDS = {
    "relay alone": None,
    "PROXY v2": {"type": "tcp", "port": PROXY_HEADER, "proxy-protocol": "v2"},
    "SOCKS5": {"type": "socks5", "port": SOCKS},
    "SOCKS5, pipelined": {"type": "socks5", "port": SOCKS, "pipeline": "yes"},
    "SOCKS5, password": {"type": "socks5", "port": LOGIN, "user": USER},
    "CONNECT": {"type": "http", "port": CONNECT},
    "CONNECT over TLS": {"type": "http", "port": CONNECT_TLS, "tls": "yes"},
}
# Of chain-load only: the server itself speaks SOCKS5, so that no proxy copies the bytes.
AT_SERVER = {"SOCKS5 at the server": {"type": "socks5", "port": SERVER_PORT}}


class Proxies:
    """The proxies in the server's namespace. They are the same for all contenders."""

    def __init__(self, sandbox):
        self.sandbox = sandbox
        self.processes = []
        self.directory = os.path.join(sandbox.directory, "proxies")

    def start(self):
        need(*NEEDS)
        os.makedirs(self.directory, exist_ok=True)
        bare = os.path.join(Redirected.build, "tests", "bench", "tproxy-bare")
        for port in (SOCKS, DEAD, NEXT):
            self.launch(port, bare, "--socks5", "0.0.0.0", port)
        self.launch(LOGIN, "microsocks", "-i", "0.0.0.0", "-p", LOGIN, "-u", USER, "-P", PASSWORD)
        self.launch(CONNECT, "tinyproxy", "-d", "-c",
                    self.file("tinyproxy.conf", f"Port {CONNECT}\nTimeout 600\nLogLevel Error\n"))
        self.launch(PROXY_HEADER, "haproxy", "-db", "-f", self.haproxy())

    def stop(self):
        while self.processes:
            self.processes.pop().stop()

    def launch(self, port, *argv):
        """Starts one and waits until it listens."""
        process = self.sandbox.start_in_server_netns([*map(str, argv)], f"proxy-{port}")
        self.processes.append(process)
        wait_until(lambda: process.check() or process.listens_on(port), f"{argv[0]} listens")
        return process

    def file(self, name, text):
        path = os.path.join(self.directory, name)
        write(path, text)
        return path

    def haproxy(self):
        """It accepts TLS for Tinyproxy, and connects to where a PROXY header says."""
        pem, key = (os.path.join(self.directory, name) for name in ("proxy.pem", "proxy.key"))
        command("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=proxy.test",
                "-addext", "subjectAltName=DNS:proxy.test", "-keyout", key, "-out", pem)
        both = self.file("both.pem", "")
        with open(both, "w", encoding="utf-8") as file:
            for path in (pem, key):
                with open(path, encoding="utf-8") as part:
                    file.write(part.read())
        os.chmod(pem, 0o644)
        return self.file("haproxy.cfg", f"""\
global
    maxconn 2000
    nbthread {os.cpu_count()}
defaults
    mode tcp
    option splice-auto
    timeout connect 10s
    timeout client 10m
    timeout server 10m
listen tls
    bind 0.0.0.0:{CONNECT_TLS} ssl crt {both}
    server s 127.0.0.1:{CONNECT}
listen header
    bind 0.0.0.0:{PROXY_HEADER} accept-proxy
    server s 0.0.0.0:0
""")

    def section(self, name, host, keys):
        """A section of tproxy-relay's configuration."""
        lines = {"type": keys["type"], "address": f"{host}:{keys['port']}",
                 **{key: value for key, value in keys.items() if key not in ("type", "port")}}
        if "user" in keys:
            lines["password-file"] = self.file("password", PASSWORD + "\n")
            os.chown(lines["password-file"], RELAY_IDS, RELAY_IDS)
            os.chmod(lines["password-file"], 0o400)
        if "tls" in keys:
            lines |= {"tls-name": "proxy.test", "tls-ca": os.path.join(self.directory, "proxy.pem")}
        return "".join([f"[upstream {name}]\n", *(f"{key} = {value}\n"
                                                  for key, value in lines.items())])


class Chained(Tproxy):
    """tproxy-relay with upstreams, which use() changes."""

    def __init__(self, sandbox, name):
        self.name = name
        super().__init__(sandbox)
        self.path = os.path.join(sandbox.directory, f"{name}.conf")
        self.relay_options = ("--config", self.path)
        write(self.path, "[relay]\n")

    def use(self, default, *sections):
        write(self.path, "".join([f"[relay]\ndefault-upstream = {default}\n", *sections]))
        if not self.relay:
            self.start()
            return
        again = "read the configuration again"
        before = self.relay.log().count(again)
        self.relay.popen.send_signal(signal.SIGHUP)
        wait_until(lambda: self.relay.check() or self.relay.log().count(again) > before,
                   "the relay reads its configuration")


class Distant(Chained):
    """At the end of a link with this round trip time, in place of a veth pair."""

    def __init__(self, sandbox, name, number, delay_ms):
        """@number distinguishes the links, and is part of their addresses."""
        super().__init__(sandbox, name)
        self.number, self.delay_ms = number, delay_ms
        self.wire = None

    def start(self):
        if self.delay_ms and not self.wire:
            self.start_wire()
        super().start()

    def start_wire(self):
        device = f"wire{self.number}"
        self.wire = self.sandbox.start(
            [self.program("tests", "bench", "tproxy-wire"), f"/run/netns/{SERVER_NETNS}",
             f"/run/netns/{self.netns}", device, str(self.delay_ms * 1000)],
            self.netns, "outside", device)
        wait_until(lambda: self.wire.check() or "ready" in self.wire.log(), "the link is ready")
        self.host, self.own_host = (f"10.78.{self.number}.{host}" for host in (1, 2))
        for netns, host in ((SERVER_NETNS, self.host), (self.netns, self.own_host)):
            command("ip", "-n", netns, "address", "add", f"{host}/24", "dev", device)
            command("ip", "-n", netns, "link", "set", device, "up")

    def cut(self):
        wire, self.wire = self.wire, None
        if wire:
            wire.stop()


class Chain(Workload):
    """Each turn measures its upstream and a connection without any relay, and subtracts."""

    name = "chain"
    title = ("first byte through each kind of upstream: what connect, 64-byte request and response,"
             " close take\n  longer than without a relay, p50, by the round trip time from the"
             " relay to upstream and server")
    metrics = tuple(Metric(f"added_{delay}_us", f"RTT {delay} ms, added µs", 0)
                    for delay in DELAYS_MS)
    headlines = tuple(metric.key for metric in metrics)
    baselines = ()

    def __init__(self, contenders):
        super().__init__(contenders)
        self.tproxy = contenders.get("tproxy")
        self.proxies, self.places = None, {}

    def variants(self):
        return list(KINDS) if self.tproxy else []

    def begin(self):
        self.proxies = Proxies(self.tproxy.sandbox)
        self.proxies.start()
        for delay in DELAYS_MS:
            self.places[delay] = Distant(self.tproxy.sandbox, f"chain-{delay}ms", delay, delay)
            self.places[delay].start()

    def end(self):
        while self.places:
            place = self.places.popitem()[1]
            place.stop()
            place.cut()
        self.proxies.stop()

    def recover(self, variant):
        for place in self.places.values():
            place.restart()

    def measure(self, variant, scale):
        return {f"added_{delay}_us": self.added(place, KINDS[variant], scale)
                for delay, place in self.places.items()}

    def added(self, place, keys, scale):
        if keys:
            place.use("one", self.proxies.section("one", place.host, keys))
        else:
            place.use("direct")
        amount = DISTANT if place.delay_ms else {"count": scale.crr // 5, "clients": 1}
        options = [word for key, value in amount.items() for word in (f"--{key}", value)]
        plain = place.run_bench("crr", *options, cgroup="outside")
        return place.run_bench("crr", *options)["p50_us"] - plain["p50_us"]


class ChainedRedsocks(Redsocks):
    """redsocks with the SOCKS5 server of all."""

    name = "chain-redsocks"
    needs = (("redsocks", "redsocks"), ("iptables", "iptables"))

    @property
    def socks(self):
        return self.host, SOCKS

    def start_socks(self):
        """It runs already."""


class ChainedProxychains(Proxychains):
    """proxychains4 with the SOCKS5 server of all."""

    name = "chain-proxychains4"
    needs = (("proxychains4", "proxychains4"),)

    @property
    def socks(self):
        return self.host, SOCKS

    def start_socks(self):
        """It runs already."""


class ChainedHaproxy(IptablesRedirected, HaproxyRelay):
    """HAProxy as the relay, which sends a PROXY header to an upstream."""

    name = "chain-haproxy"

    @property
    def server(self):
        return f"{self.host}:{PROXY_HEADER} send-proxy-v2"

    def start(self):
        super().start()
        self.redirect()
        self.start_haproxy()


class ChainLoad(Workload):
    """The amounts are a half of those of crr, crr64 and bulk."""

    name = "chain-load"
    title = ("through a SOCKS5 server (bare.c) or to HAProxy with a PROXY header: crr, crr by 64"
             " clients, bulk\n  client, relay, upstream and server share the cores")
    metrics = (Metric("p50_us", "crr p50 µs"), Metric("rate", "crr64 per second", 0, "higher"),
               Metric("relay_us", "crr64 relay CPU µs each"),
               Metric("up_gbit_s", "bulk-up Gbit/s", 2, "higher"),
               Metric("down_gbit_s", "bulk-down Gbit/s", 2, "higher"),
               Metric("relay_s_per_gb", "bulk, relay CPU s/GB", 3))
    headlines = ("p50_us", "rate", "relay_us", "up_gbit_s", "down_gbit_s", "relay_s_per_gb")
    baselines = ("tproxy alone", "redsocks, SOCKS5", "HAProxy, PROXY v2")
    kinds = {"tproxy alone": "relay alone", "tproxy, SOCKS5": "SOCKS5",
             "tproxy, SOCKS5 at the server": "SOCKS5 at the server",
             "redsocks, SOCKS5": ChainedRedsocks, "proxychains4, SOCKS5": ChainedProxychains,
             "tproxy, PROXY v2": "PROXY v2", "HAProxy, PROXY v2": ChainedHaproxy}

    def __init__(self, contenders):
        super().__init__(contenders)
        self.tproxy = contenders.get("tproxy")
        self.proxies, self.chained, self.others, self.reasons = None, None, {}, {}

    def variants(self):
        return list(self.kinds) if self.tproxy else []

    def begin(self):
        sandbox = self.tproxy.sandbox
        self.proxies = Proxies(sandbox)
        self.proxies.start()
        self.chained = Chained(sandbox, "chain-tproxy")
        self.chained.start()
        for name, kind in self.kinds.items():
            if isinstance(kind, str):
                continue
            self.others[name] = kind(sandbox)
            try:
                self.others[name].start()
            except Failure as failure:
                self.reasons[name] = str(failure)

    def end(self):
        for contender in [self.chained, *self.others.values()]:
            if contender:
                contender.stop()
        self.proxies.stop()

    def recover(self, variant):
        (self.others.get(variant) or self.chained).restart()

    def measure(self, variant, scale):
        if variant in self.reasons:
            raise Failure(self.reasons[variant])
        contender = self.others.get(variant, self.chained)
        if contender is self.chained:
            keys = (KINDS | AT_SERVER)[self.kinds[variant]]
            sections = [self.proxies.section("one", contender.host, keys)] if keys else []
            contender.use("one" if keys else "direct", *sections)
        return self.run(contender, scale)

    @staticmethod
    def run(contender, scale):
        one = contender.run_bench("crr", "--count", max(1, scale.crr // 2))
        count, seconds = max(64, scale.crr64 // 2), max(1, scale.bulk_seconds // 2)
        before = contender.relay_seconds()
        many = contender.run_bench("crr", "--count", count, "--clients", 64)
        between = contender.relay_seconds()
        up, down = (contender.run_bench(kind, "--seconds", seconds, "--streams", 1)
                    for kind in ("bulk-up", "bulk-down"))
        result = {"p50_us": one["p50_us"], "rate": many["rate"], "up_gbit_s": up["gbit_s"],
                  "down_gbit_s": down["gbit_s"]}
        if contender.relay:
            result["relay_us"] = (between - before) / count * 1e6
            result["relay_s_per_gb"] = ((contender.relay_seconds() - between)
                                        / (up["bytes"] + down["bytes"]) * 1e9)
        return result


class Failover(Workload):
    """64 clients connect, exchange and close. Then the upstream in use is killed, or is stopped,
    which leaves its port open. A turn fails if a connection fails that has begun after that."""

    name = "failover"
    title = ("time from the death of the upstream in use to the first byte through the next, under"
             " 64 clients\n  killed: its port refuses; silent: it accepts and does not answer")
    metrics = (Metric("first_ms", "first byte, ms", 2),
               Metric("worst_ms", "slowest after that, ms"),
               Metric("lost", "connections that it had, and lost", 0))
    headlines = ("first_ms", "worst_ms")
    baselines = ()

    def __init__(self, contenders):
        super().__init__(contenders)
        self.tproxy = contenders.get("tproxy")
        self.proxies, self.chained = None, None

    def variants(self):
        return ["killed", "silent"] if self.tproxy else []

    def begin(self):
        self.proxies = Proxies(self.tproxy.sandbox)
        self.proxies.start()
        self.chained = Chained(self.tproxy.sandbox, "chain-failover")

    def end(self):
        self.chained.stop()
        self.proxies.stop()

    def recover(self, variant):
        self.chained.stop()

    def measure(self, variant, scale):
        """A fresh relay, which does not know yet that the upstream was dead in another turn."""
        self.chained.stop()
        victim = next(process for process in self.proxies.processes if process.listens_on(DEAD)
                      and f"proxy-{DEAD}" in process.log_path)
        host = self.chained.host
        self.chained.use("both", "[upstream both]\ntype = group\nmembers = one, two\n",
                         *(self.proxies.section(name, host, {"type": "socks5", "port": port})
                           for name, port in (("one", DEAD), ("two", NEXT))))
        number = signal.SIGKILL if variant == "killed" else signal.SIGSTOP
        client = [sys.executable, "-B", os.path.join(os.path.dirname(__file__), "dying.py"), host,
                  SERVER_PORT, victim.popen.pid, int(number)]
        try:
            output, errors = self.chained.run_client(client)
        finally:
            victim.popen.kill()
            victim.popen.wait()
            self.proxies.processes.remove(victim)
            self.proxies.launch(DEAD, *victim.popen.args[2:])
        return self.result(output, errors)

    @staticmethod
    def result(output, errors):
        try:
            result = json.loads(output)
        except ValueError as error:
            raise Failure(f"client: {errors.strip() or 'no output'}") from error
        if result["failed"]:
            raise Failure(f"{result['failed']} connections failed that began after the death of"
                          f" the upstream: {result['reason']}")
        return {key: result[key] for key in ("first_ms", "worst_ms", "lost")}
