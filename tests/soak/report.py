# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The result of a soak: failures are judged, memory and descriptors are compared with bounds.

A failure is expected if an event explains it: a connection that was open when the relay was
killed breaks; one that is open at the drain deadline is reset. Loader upgrades, unload and load
explain nothing.
"""

import collections
import dataclasses
import statistics

from traffic import ENDED, REFUSED, RESET

DRAIN = 5.0
UNEXPECTED = "UNEXPECTED"
# How many of them the JSON contains.
UNEXPECTED_MAX = 100
# On a busy machine, a server may get to a connection later than its client.
LATE = {"client": 0.2, "server": 2.0}
# Until a relay has had its peak of traffic.
WARM_UP = 10.0
RSS_GROWTH_KIB = 1024
SAMPLES_MAX = 2000
ROWS = 12
# Pipes are kept for the life of the relay: PIPES_MAX in relay/capacity.c, two descriptors each.
PIPE_ENDS_MAX = 2 * 128
# Each worker keeps one prepared upstream socket of each family.
SPARES = 2


@dataclasses.dataclass
class Event:
    """begin and end enclose what may break connections; took is the duration of the whole event."""

    name: str
    begin: float
    end: float
    took: float

    def explains(self, failure):
        if self.name == "kill":
            return (failure.begin <= self.end + LATE[failure.side] and failure.end >= self.begin
                    and failure.what in (ENDED, RESET, REFUSED))
        if self.name == "restart":
            return (failure.begin <= self.begin + LATE[failure.side] and failure.what == RESET
                    and failure.end >= self.begin + DRAIN - 0.2)
        return False


@dataclasses.dataclass
class Sample:
    second: float
    rss_kib: int
    sockets: int
    pipes: int
    others: int


@dataclasses.dataclass
class Generation:
    """One relay process."""

    pid: int
    begin: float
    end: float = 0.0
    ended: str = ""
    samples: list = dataclasses.field(default_factory=list)
    closes: dict = dataclasses.field(default_factory=dict)

    def add(self, sample):
        self.samples.append(sample)
        if len(self.samples) > SAMPLES_MAX:
            del self.samples[1::2]

    def warm(self):
        return [sample for sample in self.samples if sample.second >= WARM_UP]

    def growth_kib(self):
        """Growth from the first third after the warm-up to the last one, or None if there is too
        little data."""
        warm = self.warm()
        if len(warm) < 6:
            return None
        third = len(warm) // 3
        first, last = (statistics.median(sample.rss_kib for sample in part)
                       for part in (warm[:third], warm[-third:]))
        return int(last - first)


@dataclasses.dataclass
class Outcome:
    """All observations. The last generation is the one without events."""

    seed: int
    seconds: float = 0.0
    workers: int = 2
    sanitized: bool = False
    clients: object = None
    servers: object = None
    events: list = dataclasses.field(default_factory=list)
    generations: list = dataclasses.field(default_factory=list)
    counters: dict = dataclasses.field(default_factory=dict)
    at_start: Sample = None
    at_rest: Sample = None
    entries: dict = dataclasses.field(default_factory=dict)
    findings: list = dataclasses.field(default_factory=list)
    interrupted: bool = False

    def explanation(self, failure):
        return next((event.name for event in self.events if event.explains(failure)), UNEXPECTED)

    def failures(self):
        """The number of each (side, kind, what, explanation)."""
        return collections.Counter((failure.side, failure.kind, failure.what,
                                    self.explanation(failure))
                                   for failure in self.clients.failures + self.servers.failures)

    def unexpected(self):
        return [failure for failure in self.clients.failures + self.servers.failures
                if self.explanation(failure) == UNEXPECTED]

    def rss_bound_kib(self):
        return RSS_GROWTH_KIB * (16 if self.sanitized else 1)

    def judge(self):
        """Adds the findings of traffic and samples."""
        if unexpected := self.unexpected():
            self.findings.append(f"{len(unexpected)} unexpected failures")
        if self.clients.dropped or self.servers.dropped:
            self.findings.append(f"{self.clients.dropped + self.servers.dropped} more failures "
                                 "than are kept")
        good = sum(self.clients.good.values())
        if self.counters.get("redirected", 0) < good / 2:
            self.findings.append(f"only {self.counters.get('redirected', 0)} of {good} connections "
                                 "were redirected")
        for name in ("map_full", "publish_failed"):
            if self.counters.get(name):
                self.findings.append(f"counter {name} is {self.counters[name]}")
        for name, entries in self.entries.items():
            if entries:
                self.findings.append(f"{name} holds {entries} entries at rest")
        self._judge_relay()

    def _judge_relay(self):
        growth = self.generations[-1].growth_kib() if self.generations else None
        if growth is not None and growth > self.rss_bound_kib():
            self.findings.append(f"the relay grew by {growth} KiB")
        if not self.at_rest or not self.at_start:
            return
        sockets = self.at_start.sockets + SPARES * self.workers
        if self.at_rest.sockets > sockets:
            self.findings.append(f"{self.at_rest.sockets} sockets at rest, not {sockets} at most")
        if self.at_rest.pipes > PIPE_ENDS_MAX:
            self.findings.append(f"{self.at_rest.pipes} ends of pipes at rest")
        if self.at_rest.others > self.at_start.others:
            self.findings.append(f"{self.at_rest.others} other descriptors at rest, not "
                                 f"{self.at_start.others}")


def as_json(outcome):
    """Everything; of single failures the first unexpected ones. Times are of CLOCK_MONOTONIC."""
    return {
        "seed": outcome.seed,
        "seconds": round(outcome.seconds, 1),
        "interrupted": outcome.interrupted,
        "connections": outcome.clients.good,
        "bytes": outcome.clients.bytes + outcome.servers.bytes,
        "failures": [{"side": side, "kind": kind, "what": what, "explanation": why, "count": count}
                     for (side, kind, what, why), count in sorted(outcome.failures().items())],
        "unexpected": [dataclasses.asdict(failure)
                       for failure in outcome.unexpected()[:UNEXPECTED_MAX]],
        "events": [dataclasses.asdict(event) for event in outcome.events],
        "relays": [{**dataclasses.asdict(generation), "growth_kib": generation.growth_kib()}
                   for generation in outcome.generations],
        "rss_growth_bound_kib": outcome.rss_bound_kib(),
        "counters": outcome.counters,
        "at_start": outcome.at_start and dataclasses.asdict(outcome.at_start),
        "at_rest": outcome.at_rest and dataclasses.asdict(outcome.at_rest),
        "map_entries_at_rest": outcome.entries,
        "findings": outcome.findings,
    }


def _table(head, rows):
    rows = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        yield "  ".join([row[0].ljust(widths[0]),
                         *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))])
    yield ""


def _connections(outcome):
    by_kind = collections.defaultdict(collections.Counter)
    for kind, count in outcome.clients.good.items():
        by_kind[kind]["good"] += count
    for (side, kind, _, why), count in outcome.failures().items():
        if side == "client":
            by_kind[kind]["bad" if why == UNEXPECTED else "expected"] += count
    total = sum(by_kind.values(), collections.Counter())
    for kind, count in [*sorted(by_kind.items()), ("all", total)]:
        yield kind, count["good"], count["expected"], count["bad"]


def _relays(outcome):
    for generation in outcome.generations:
        warm = generation.warm()
        peak = max((sample.rss_kib for sample in generation.samples), default="-")
        growth = generation.growth_kib()
        yield (generation.pid, f"{generation.end - generation.begin:.0f} s", generation.ended,
               sum(generation.closes.values()), warm[0].rss_kib if warm else "-", peak,
               "-" if growth is None else f"{growth:+d}",
               max((s.sockets + s.pipes + s.others for s in generation.samples), default="-"))


def _over_time(generation):
    step = len(generation.samples) // ROWS + 1
    for sample in generation.samples[::step]:
        yield (f"{sample.second:.0f} s", sample.rss_kib, sample.sockets, sample.pipes,
               sample.others)


def as_text(outcome):
    megabytes = (outcome.clients.bytes + outcome.servers.bytes) / 1e6
    yield (f"soak: seed {outcome.seed}, {outcome.seconds:.0f} s"
           + (", INTERRUPTED" if outcome.interrupted else "") + f", {megabytes:.0f} MB checked")
    yield ""
    yield from _table(("CONNECTIONS", "good", "expected failures", "unexpected"),
                      _connections(outcome))
    yield from _table(("FAILURES", "side", "what", "explained by", "count"),
                      [(kind, side, what, why, count) for (side, kind, what, why), count
                       in sorted(outcome.failures().items())] or [("none", "", "", "", 0)])
    events = collections.defaultdict(list)
    for event in outcome.events:
        events[event.name].append(event.took)
    yield from _table(("EVENTS", "times", "longest"),
                      [(name, len(spans), f"{max(spans):.2f} s")
                       for name, spans in sorted(events.items())])
    closes = sum((collections.Counter(g.closes) for g in outcome.generations),
                 collections.Counter())
    yield from _table(("CLOSED, SAYS THE RELAY", "connections"), sorted(closes.items()))
    yield from _table(("KERNEL COUNTERS", "connections"),
                      [(name, count) for name, count in outcome.counters.items() if count])
    yield from _table(("RELAY", "lived", "ended", "connections", "RSS warm", "peak", "growth KiB",
                       "descriptors"), _relays(outcome))
    if outcome.generations:
        yield from _table(("LAST RELAY", "RSS KiB", "sockets", "pipe ends", "others"),
                          _over_time(outcome.generations[-1]))
    if outcome.at_rest and outcome.at_start:
        yield from _table(("AT REST", "RSS KiB", "sockets", "pipe ends", "others"), [
            ("first relay, before traffic", *dataclasses.astuple(outcome.at_start)[1:]),
            ("last relay, after traffic", *dataclasses.astuple(outcome.at_rest)[1:])])
    yield from _table(("MAP ENTRIES AT REST", ""), outcome.entries.items())
    yield (f"bounds: growth {outcome.rss_bound_kib()} KiB after {WARM_UP:.0f} s; at rest no more "
           f"sockets than before traffic and {SPARES} for each worker, no other descriptors, "
           f"{PIPE_ENDS_MAX} ends of pipes")
    for finding in outcome.findings:
        yield f"FINDING: {finding}"
    yield "FAILED" if outcome.findings else "passed"
