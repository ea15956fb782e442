# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A thousand connections at once, each with a plan drawn from a seed (I6).

Both ends know the plan: how many bytes go each way, in which pieces and with which pauses, and
how the connection ends. Each end checks every byte that it receives, and whether the connection
ended as planned. TPROXY_SEED repeats a run.
"""

import asyncio
import collections
import dataclasses
import os
import random
import socket
import struct
import time

import pytest

import host
import wire

CONNECTIONS = 1000
SIZE_MAX = 1 << 20
HEADER = struct.Struct("=I")
CLIENT, SERVER = "client", "server"


@dataclasses.dataclass(frozen=True)
class Plan:
    number: int
    seed: str
    sizes: dict  # by sender
    resetter: str | None  # the end that resets
    reset_after: int  # when it has sent that many of its bytes

    def random(self, purpose):
        return random.Random(f"{self.seed}/{self.number}/{purpose}")

    def data(self, sender):
        return self.random(f"data of {sender}").randbytes(self.sizes[sender])

    def pieces(self, sender):
        """The pieces that the sender sends, as (data, pause after it)."""
        rng = self.random(f"pieces of {sender}")
        data = self.data(sender)
        if self.resetter == sender:
            data = data[:self.reset_after]
        start = 0
        while start < len(data):
            size = int(2 ** rng.uniform(0, 18))
            pause = rng.uniform(0, 0.2) if rng.random() < 0.1 else 0
            yield data[start:start + size], pause
            start += size


def make_plan(seed, number):
    rng = random.Random(f"{seed}/{number}")
    sizes = {end: rng.choice([0, 1, int(2 ** rng.uniform(0, 20))]) for end in (CLIENT, SERVER)}
    resetter = rng.choice([None, None, None, CLIENT, SERVER])
    reset_after = rng.randint(0, sizes[resetter]) if resetter else 0
    return Plan(number, seed, sizes, resetter, reset_after)


class End:
    """One end of one connection. problem() returns what differed from the plan."""

    def __init__(self, me, other, plan, sock):
        self.me, self.other, self.plan, self.sock = me, other, plan, sock
        self.received = bytearray()
        self.was_reset = False

    async def run(self):
        loop = asyncio.get_running_loop()
        reader = asyncio.create_task(self._read(loop))
        await self._write(loop)
        if self.plan.resetter == self.me:
            reader.cancel()
            await asyncio.wait([reader])
            wire.reset(self.sock)
        else:
            await reader
            self.sock.close()

    async def _write(self, loop):
        try:
            for piece, pause in self.plan.pieces(self.me):
                await loop.sock_sendall(self.sock, piece)
                await asyncio.sleep(pause)
            if self.plan.resetter != self.me:
                self.sock.shutdown(socket.SHUT_WR)
        except OSError:  # ECONNRESET, EPIPE, ENOTCONN
            self.was_reset = True

    async def _read(self, loop):
        try:
            while chunk := await loop.sock_recv(self.sock, 1 << 16):
                self.received += chunk
        except ConnectionResetError:
            self.was_reset = True

    def problem(self):
        planned = self.plan.data(self.other)
        if self.plan.resetter:
            if not planned.startswith(self.received):
                return "bytes differ"
            if self.plan.resetter == self.other and not self.was_reset:
                return f"end of file instead of a reset, after {len(self.received)} bytes"
            return None
        if self.was_reset:
            return f"reset after {len(self.received)} of {len(planned)} bytes"
        return None if self.received == planned else "bytes differ"

    def report(self):
        problem = self.problem()
        return problem and f"{self.me} of {self.plan}: {problem}"


async def run_clients(seed, addresses):
    loop = asyncio.get_running_loop()

    async def connect(number):
        sock = socket.socket()
        sock.setblocking(False)
        await loop.sock_connect(sock, addresses[number % len(addresses)])
        await loop.sock_sendall(sock, HEADER.pack(number))
        return End(CLIENT, SERVER, make_plan(seed, number), sock)

    ends = await asyncio.gather(*map(connect, range(CONNECTIONS)))
    await asyncio.gather(*(end.run() for end in ends))
    return [end.report() for end in ends if end.report()]


async def run_servers(seed, listeners):
    loop = asyncio.get_running_loop()
    ends = []

    async def accept(listener):
        sock, _ = await loop.sock_accept(listener)
        sock.setblocking(False)
        header = b""
        while len(header) < HEADER.size:
            header += await loop.sock_recv(sock, HEADER.size - len(header))
        ends.append(End(SERVER, CLIENT, make_plan(seed, HEADER.unpack(header)[0]), sock))

    async def accept_all(listener):
        listener.setblocking(False)
        for _ in range(CONNECTIONS // len(listeners)):
            await accept(listener)

    await asyncio.gather(*map(accept_all, listeners))  # now all are open at once
    await asyncio.gather(*(end.run() for end in ends))
    return [end.report() for end in ends if end.report()]


@pytest.mark.deadline(120)
def test_mixed(proxied):
    """To see it fail: close in place of resetting, or lose buffered data at EOF."""
    seed = os.environ.get("TPROXY_SEED") or str(time.time_ns())
    print(f"repeat with TPROXY_SEED={seed}")
    listeners = [proxied.listen() for _ in range(4)]
    addresses = [listener.getsockname() for listener in listeners]
    tasks = [proxied.task(lambda: asyncio.run(run_servers(seed, listeners)), place=proxied.server),
             proxied.task(lambda: asyncio.run(run_clients(seed, addresses)))]
    problems = [problem for task in tasks for problem in task.result(100)]
    assert not problems, f"{len(problems)} of {CONNECTIONS}, TPROXY_SEED={seed}: {problems[:5]}"
    host.wait_until(proxied.pins.at_rest, "maps are empty afterwards")
    assert proxied.stats()["redirected"] == CONNECTIONS


def test_plans_are_mixed():
    """The seed produces all kinds of connections, and the same ones each time."""
    plans = [make_plan("seed", number) for number in range(CONNECTIONS)]
    assert plans == [make_plan("seed", number) for number in range(CONNECTIONS)]
    kinds = collections.Counter(plan.resetter for plan in plans)
    assert min(kinds[None], kinds[CLIENT], kinds[SERVER]) > CONNECTIONS // 10
    assert max(max(plan.sizes.values()) for plan in plans) > SIZE_MAX // 2
    assert any(not any(plan.sizes.values()) for plan in plans)
