# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The other contenders: programs from the distribution, each behind its usual redirect."""

import os

from contenders import (IDLE_MAX, RELAY_IDS, RELAY_PORT, Bare, Contender, Redirected, Tproxy,
                        TproxyHonest)
from sandbox import HTTP_PORT, SERVER_PORT, SMALL_PORT, Failure, command, wait_until, write

SOCKS_PORT = 7002


class IptablesRedirected(Contender):
    """Base: iptables REDIRECT sends to RELAY_PORT all connections but those of the relay's own
    user."""

    def rules(self, *words):
        return command("nsenter", f"--net=/run/netns/{self.netns}", "iptables", "-t", "nat", *words)

    def redirect(self):
        for port in (SERVER_PORT, HTTP_PORT, SMALL_PORT):
            self.rules("-A", "OUTPUT", "-p", "tcp", "--dport", str(port), "-m", "owner", "!",
                       "--uid-owner", str(RELAY_IDS), "-j", "REDIRECT",
                       "--to-ports", str(RELAY_PORT))

    def stop(self):
        try:
            super().stop()
        finally:
            if self.redirecting():
                self.rules("-F", "OUTPUT")

    def redirecting(self):
        try:
            return "REDIRECT" in self.rules("-S", "OUTPUT")
        except Failure:
            return False  # without iptables there is no rule


class HaproxyRelay(Contender):
    """Base: HAProxy in TCP mode, with as many threads as tproxy-relay has workers."""

    needs = (("haproxy", "haproxy"),)
    server = "0.0.0.0:0"  # the original destination

    def start_haproxy(self):
        configuration = os.path.join(self.sandbox.directory, f"{self.name}.cfg")
        write(configuration, f"""\
global
    maxconn {IDLE_MAX + 100}
    maxpipes 40
    nbthread {os.cpu_count()}
defaults
    mode tcp
    option splice-auto
    timeout connect 10s
    timeout client 10m
    timeout server 10m
listen relay
    bind 127.0.0.1:{RELAY_PORT}
    server s {self.server}
""")
        self.start_relay(["haproxy", "-db", "-f", configuration])
        wait_until(lambda: self.relay.check() or self.relay.listens_on(RELAY_PORT), "it listens")


class Haproxy(IptablesRedirected, HaproxyRelay):
    """HAProxy behind iptables REDIRECT."""

    name = "haproxy"
    needs = (*HaproxyRelay.needs, ("iptables", "iptables"))

    def start(self):
        super().start()
        self.redirect()
        self.start_haproxy()


class HaproxyOurs(Redirected, HaproxyRelay):
    """HAProxy behind tproxy's redirect, with its listener registered."""

    name = "haproxy-ours"
    minor = True

    def start(self):
        super().start()
        self.load()
        self.start_haproxy()
        self.register()


class SocksServer(Contender):
    """Base: Dante's SOCKS5 server, started before the programs that send to it."""

    minor = True

    @property
    def socks(self):
        """Its address and port."""
        return "127.0.0.1", SOCKS_PORT

    def start_socks(self):
        """Dante counts as the contender's relay until another program is started."""
        configuration = os.path.join(self.sandbox.directory, f"{self.name}-dante.cfg")
        write(configuration, f"""\
logoutput: stderr
errorlog: stderr
internal: 127.0.0.1 port = {SOCKS_PORT}
external: {self.own_host}
clientmethod: none
socksmethod: none
client pass {{
    from: 0.0.0.0/0 to: 0.0.0.0/0
}}
socks pass {{
    from: 0.0.0.0/0 to: 0.0.0.0/0
    command: connect
}}
""")
        pid_file = os.path.join(self.sandbox.directory, f"{self.name}-dante.pid")
        write(pid_file, "")
        os.chown(pid_file, RELAY_IDS, RELAY_IDS)
        self.start_relay(["danted", "-f", configuration, "-p", pid_file], f"{self.name}-dante")
        wait_until(lambda: self.relay.check() or self.relay.listens_on(SOCKS_PORT),
                   "Dante listens")


class Redsocks(IptablesRedirected, SocksServer):
    """redsocks behind iptables REDIRECT, with Dante behind it."""

    name = "redsocks"
    needs = (("redsocks", "redsocks"), ("danted", "dante-server"), ("iptables", "iptables"))

    def start(self):
        super().start()
        self.redirect()
        self.start_socks()
        configuration = os.path.join(self.sandbox.directory, "redsocks.cfg")
        write(configuration, f"""\
base {{
    log_debug = off;
    log_info = off;
    log = stderr;
    daemon = off;
    redirector = iptables;
}}
redsocks {{
    local_ip = 127.0.0.1;
    local_port = {RELAY_PORT};
    ip = {self.socks[0]};
    port = {self.socks[1]};
    type = socks5;
    splice = true;
}}
""")
        self.start_relay(["redsocks", "-c", configuration])
        wait_until(lambda: self.relay.check() or self.relay.listens_on(RELAY_PORT), "it listens")


class Proxychains(SocksServer):
    """proxychains4, a library preloaded into the client, with Dante behind it."""

    name = "proxychains4"
    needs = (("proxychains4", "proxychains4"), ("danted", "dante-server"))

    def start(self):
        super().start()
        self.start_socks()
        configuration = os.path.join(self.sandbox.directory, "proxychains.cfg")
        write(configuration, f"""\
strict_chain
tcp_read_time_out 15000
tcp_connect_time_out 8000
[ProxyList]
socks5 {self.socks[0]} {self.socks[1]}
""")
        self.wrapper = ("proxychains4", "-q", "-f", configuration)


CONTENDERS = {kind.name: kind for kind in (Contender, Tproxy, TproxyHonest, Haproxy, Bare,
                                           HaproxyOurs, Redsocks, Proxychains)}
