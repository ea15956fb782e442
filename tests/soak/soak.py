#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Mixed traffic through tproxy for a given time, while relay and loader are restarted and killed.

Client processes connect without pause, over IPv4 and IPv6 (traffic.py). Every few seconds one of

    restart   a new relay starts, the old one gets SIGTERM and drains
    kill      the relay is killed (SIGKILL), a new one starts
    upgrade   tproxy-load runs again
    reload    tproxy-load --unload, tproxy-load

and in the last 40 % of the time there are no events, so that the relay's memory can be observed.
Prints a table at the end, and exits 1 if anything was wrong (see report.py). As in the end to end
tests, network namespaces, cgroups and a bpffs of its own end with the run. SIGINT and SIGTERM end
the traffic early; the second one ends the run at once.

--seed repeats the choices of a run: which connections, which sizes, which events and when. It does
not repeat the order in which the kernel's scheduler ran them.
"""

import argparse
import contextlib
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))

import host  # noqa: E402 (the path comes first)
import programs  # noqa: E402
import report  # noqa: E402
import traffic  # noqa: E402
from harness import SERVER, Bed  # noqa: E402
from relays import Relays  # noqa: E402

NAME = "tproxy-soak"
CLIENT6, SERVER6 = "fd00:7470::1", "fd00:7470::2"
CLOSED_PORT = 9
CLIENTS, SERVERS, WORKERS = 5, 2, 2
DESCRIPTORS = 20_000
GAP = (5.0, 11.0)
QUIET_SHARE = 0.4
TICK, SAMPLE, PROGRESS = 0.05, 1.0, 60.0
MINUTES_MAX = 7 * 24 * 60
# A client that is told to end finishes its connection first.
LAST_WORDS = 2 * traffic.TIMEOUT + traffic.IDLE[1]


class Interrupted(Exception):
    pass


def interrupt(*_):
    raise Interrupted


def heed_signals():
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


# --- set-up


def sweep():
    """Removes the leftovers of a killed run."""
    for path in [*host.cgroup2_root().glob(NAME + "-*"), *Path("/tmp").glob(NAME + "-*")]:
        owner = re.fullmatch(NAME + r"-(\d+)", path.name)
        if not owner or is_soak(int(owner[1])):
            continue
        if path.parent == Path("/tmp"):
            with contextlib.suppress(OSError):
                path.rmdir()
        else:
            host.Cgroup(path).remove()


def is_soak(pid):
    try:
        return b"soak.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@contextlib.contextmanager
def bed_of(binaries):
    """The bed of the end to end tests, with IPv6, and enough ports."""
    run = f"{NAME}-{os.getpid()}"
    sweep()
    host.private_mounts()
    directory = Path("/tmp", run)
    with host.mounted("tmpfs", directory, "mode=755"), host.Cgroup(host.cgroup2_root() / run):
        (directory / "bin").mkdir()
        for binary in binaries:
            shutil.copy(binary, directory / "bin")
        with Bed("bed", directory / "bed", directory / "bin") as bed:
            bed.server_net.ip(f"addr add {SERVER6}/64 dev tproxy0 nodad")
            bed.client_net.ip(f"addr add {CLIENT6}/64 dev tproxy0 nodad")
            for net in (bed.client_net, bed.server_net):
                net.sysctl("ipv4/ip_local_port_range", "1024 65535")
                net.sysctl("ipv4/tcp_tw_reuse", 1)
            yield bed


def listen6(bed):
    with bed.server_net.inside():
        sock = bed.keep(socket.socket(socket.AF_INET6))
        sock.bind((SERVER6, 0))
        sock.listen(4096)
    return sock


# --- the run


class Soak:
    def __init__(self, bed, relays, outcome):
        self.bed, self.relays, self.outcome = bed, relays, outcome
        self.random = random.Random(outcome.seed)
        self._tasks, self._told = [], {}

    def _start(self, group, place, function, *args):
        """Starts a process that runs until its group is told to end."""
        if group not in self._told:
            self._told[group] = [self.bed.keep(sock) for sock in socket.socketpair()]
        task = self.bed.task(function, self._told[group][1], *args, place=place)
        self._tasks.append((group, task))

    def _tell(self, group, timeout):
        """The merged tallies of a group."""
        tally = traffic.Tally()
        if group in self._told:
            self._told[group][0].sendall(b"enough")
        for task in [task for mine, task in self._tasks if mine == group]:
            tally.merge(task.result(timeout))
        return tally

    def start_traffic(self):
        listeners, greeters = ([self.bed.listen(), listen6(self.bed)] for _ in range(2))
        targets = traffic.Targets(
            tuple(sock.getsockname()[:2] for sock in listeners),
            tuple(sock.getsockname()[:2] for sock in greeters),
            ((SERVER, CLOSED_PORT), (SERVER6, CLOSED_PORT)))
        for _ in range(SERVERS):
            self._start("servers", self.bed.server, traffic.serve, listeners, greeters)
        for number in range(CLIENTS):
            self._start("clients", self.bed.client, traffic.run_clients, targets,
                        f"{self.outcome.seed}/{number}")

    def stop_traffic(self):
        self.outcome.clients = self._tell("clients", LAST_WORDS)
        self.outcome.servers = self._tell("servers", LAST_WORDS)

    # Events. Each returns when it began and ended, for Event.explains().

    def _restart(self):
        return self.relays.restart(), time.monotonic()

    def _kill(self):
        return time.monotonic(), self.relays.kill()

    def _upgrade(self):
        began = time.monotonic()
        self.bed.load()
        return began, time.monotonic()

    def _reload(self):
        began, times = time.monotonic(), len(self.relays.relay.registrations())
        self.add_counters()
        self.bed.unload()
        self.bed.load()
        self.relays.relay.wait_registered(times + 1)
        return began, time.monotonic()

    def add_counters(self):
        """Adds the counters of the maps that are pinned now."""
        for name, count in self.bed.stats().items():
            self.outcome.counters[name] = self.outcome.counters.get(name, 0) + count

    def _happen(self, name):
        now = time.monotonic()
        began, ended = getattr(self, "_" + name)()
        took = time.monotonic() - now
        self.outcome.events.append(report.Event(name, began, ended, took))
        say(f"{name}, {took:.2f} s")

    def _bag(self, quiet):
        names = ["upgrade", "reload"] if quiet else ["restart", "kill", "upgrade", "reload"]
        return self.random.sample(names, len(names))

    def run(self, seconds):
        """Traffic and events until the time has passed."""
        begin = time.monotonic()
        quiet_from, end = begin + seconds * (1 - QUIET_SHARE), begin + seconds
        event_at, sample_at, progress_at = begin + GAP[0], begin, begin + PROGRESS
        bag, bag_is_quiet = [], False
        while (now := time.monotonic()) < end:
            quiet = now >= quiet_from
            if now >= event_at:
                if not bag or bag_is_quiet != quiet:
                    bag, bag_is_quiet = self._bag(quiet), quiet
                self._happen(bag.pop())
                event_at += self.random.uniform(*GAP)
            if now >= sample_at:
                self.relays.generation.add(self.relays.sample())
                sample_at = now + SAMPLE
            if now >= progress_at:
                sample = self.relays.generation.samples[-1]
                say(f"{now - begin:.0f} s, relay {sample.rss_kib} KiB, {sample.sockets} sockets")
                progress_at += PROGRESS
            self.relays.reap()
            if not self.relays.relay.running():
                raise AssertionError(f"the relay ended: {self.relays.relay.text()[-2000:]}")
            time.sleep(TICK)

    def look_at_rest(self):
        """After the traffic: reads what is left in maps and in the relay."""
        sample = None

        def settled():
            nonlocal sample
            sample = self.relays.sample()
            return (self.bed.pins.at_rest() and sample.sockets
                    <= self.outcome.at_start.sockets + report.SPARES * WORKERS)

        with contextlib.suppress(AssertionError):  # state that is not at rest is judged later
            host.wait_until(settled, "at rest")
        self.outcome.at_rest = sample
        for name in ("map_socks", "map_ports"):
            self.outcome.entries[name] = self.bed.pins.count(name)
        self.add_counters()


def soak(bed, relay, outcome, seconds):
    outcome.clients, outcome.servers = traffic.Tally(), traffic.Tally()
    with Relays(bed, relay, outcome, WORKERS) as relays:
        bed.load()
        relays.start()
        outcome.at_start = relays.sample()
        run = Soak(bed, relays, outcome)
        begin = time.monotonic()
        try:
            run.start_traffic()
            run.run(seconds)
        except Interrupted:
            outcome.interrupted = True
            say("interrupted: ending the traffic")
        except AssertionError as error:
            outcome.findings.append(str(error))
        outcome.seconds = time.monotonic() - begin
        run.stop_traffic()
        if relays.relay.running():
            run.look_at_rest()
            relays.end()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10, help="of traffic (default: 10)")
    parser.add_argument("--build", type=Path, default=programs.REPOSITORY / "build",
                        help="the build directory (default: build)")
    parser.add_argument("--seed", type=int, help="of a run to be repeated (default: a new one)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    args = parser.parse_args()
    if not 0 < args.minutes <= MINUTES_MAX:
        parser.error(f"--minutes: '{args.minutes}' is not from 0 to {MINUTES_MAX}")
    if args.seed is None:
        args.seed = random.SystemRandom().randrange(1 << 32)
    return args


def main():
    args = arguments()
    binaries = [args.build / "loader" / "tproxy-load", args.build / "proxy" / "tproxy-relay"]
    if os.geteuid() != 0:
        sys.exit("soak.py: it makes namespaces and loads programs: run it as root")
    for binary in binaries:
        if not os.access(binary, os.X_OK):
            sys.exit(f"soak.py: '{binary}' is not built")
    if not host.cgroup2_root():
        sys.exit("soak.py: no cgroup2 is mounted")
    programs.SANITIZED = b"__asan_init" in binaries[1].read_bytes()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, DESCRIPTORS), most))
    outcome = report.Outcome(args.seed, workers=WORKERS, sanitized=programs.SANITIZED)
    heed_signals()
    say(f"seed {args.seed}, {args.minutes:g} minutes, {args.build}")
    try:
        with bed_of(binaries) as bed:
            soak(bed, bed.directory.parent / "bin" / programs.RELAY.name, outcome,
                 args.minutes * 60)
    except Interrupted:
        sys.exit("soak.py: interrupted; all is cleaned up")
    outcome.judge()
    print("\n".join(report.as_text(outcome)))
    if args.json:
        args.json.write_text(json.dumps(report.as_json(outcome), indent=1) + "\n",
                             encoding="utf-8")
    sys.exit(1 if outcome.findings else 130 if outcome.interrupted else 0)


if __name__ == "__main__":
    main()
