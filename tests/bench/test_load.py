#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""tproxy-bench on a path that changes, loses or delays bytes: it prints a reason and no number.

Client and server of the shapes and of pairs on the loopback device, with a relay of the test
between them.
Usage: test_load.py TPROXY_BENCH
"""

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

BENCH = sys.argv.pop(1) if len(sys.argv) > 1 else "build/tests/bench/tproxy-bench"
PROMPT = ("write-20+80-nodelay", "post-3000+100-fresh", "pipelined-16x64-nodelay", "up-100k",
          "down-1m", "down-rcvbuf-8k")
SECONDS = 20  # more than anything here takes


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def read_exactly(sock, size):
    """A socket with a timeout does not wait for MSG_WAITALL."""
    data = b""
    while len(data) < size and (chunk := sock.recv(size - len(data))):
        data += chunk
    return data


class Between(threading.Thread):
    """Relays one connection after the other. change(number, bytes) returns what the client gets.
    None ends the connection there."""

    def __init__(self, port, change):
        super().__init__(daemon=True)
        self.port, self.change = port, change
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]

    def run(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            self.relay(client, self.change)

    def relay(self, client, change):
        with client, socket.create_connection(("127.0.0.1", self.port)) as server:
            up = threading.Thread(target=self.pump, args=(client, server, lambda _, b: b),
                                  daemon=True)
            up.start()
            self.pump(server, client, change)
            up.join()

    @staticmethod
    def pump(source, sink, change):
        seen = 0
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                changed = change(seen, data)
                if changed is None:
                    break
                sink.sendall(changed)
                seen += len(data)
            sink.shutdown(socket.SHUT_WR)
            source.shutdown(socket.SHUT_RD)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class Several(Between):
    """Relays connections at the same time. change(number of the connection, bytes) returns what the
    client gets."""

    def run(self):
        number = 0
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.relay, daemon=True, args=(
                client, lambda _, data, n=number: self.change(n, data))).start()
            number += 1


class Served(unittest.TestCase):
    """Base: with a server."""

    @classmethod
    def setUpClass(cls):
        cls.port = free_port()
        cls.server = subprocess.Popen([BENCH, "server", f"127.0.0.1:{cls.port}"],
                                      stdout=subprocess.PIPE, text=True)
        cls.addClassCleanup(cls.stop)
        assert cls.server.stdout.readline() == "ready\n"

    @classmethod
    def stop(cls):
        cls.server.kill()
        cls.server.communicate()

    def between(self, change, kind=Between):
        relay = kind(self.port, change)
        relay.start()
        self.addCleanup(relay.close)
        return relay.address


class Shapes(Served):

    def shape(self, name, address=None, count=20, **expected):
        """Returns the output of a client, after comparing it with its exit status."""
        done = subprocess.run([BENCH, "shape", address or f"127.0.0.1:{self.port}", "--shape", name,
                               "--count", str(count)], stdout=subprocess.PIPE, text=True,
                              timeout=SECONDS, check=False)
        result = json.loads(done.stdout)
        self.assertEqual(done.returncode, 1 if "reason" in result else 0)
        for key, value in expected.items():
            self.assertEqual(result.get(key), value, result)
        return result

    def test_each_counts_its_exchanges(self):
        for name in PROMPT:
            self.assertEqual(self.shape(name, count=20).get("count"), 20, name)

    def test_through_a_relay_that_changes_nothing(self):
        for name in PROMPT:
            through = self.between(lambda _, data: data)
            self.assertEqual(self.shape(name, through, count=20).get("count"), 20, name)

    def test_a_changed_byte(self):
        """Fails if end_receive() does not compare."""
        def change(seen, data):
            if seen <= 50000 < seen + len(data):
                data = bytearray(data)
                data[50000 - seen] ^= 1
            return data
        result = self.shape("down-1m", self.between(change), count=2, reason="a wrong byte")
        self.assertNotIn("p50_us", result)

    def test_a_lost_byte(self):
        self.shape("down-100k", self.between(lambda seen, data: data[1:] if seen == 0 else data),
                   count=3, reason="a wrong byte")

    def test_an_early_end(self):
        result = self.shape("up-100k", self.between(lambda seen, data: None if seen else data),
                            count=3, reason="end of file")
        self.assertEqual(result["progress"], 1)

    def test_a_request_that_was_changed(self):
        """The server resets and does not answer. Fails if serve() continues after -EBADMSG."""
        with socket.create_connection(("127.0.0.1", self.port)) as client:
            client.settimeout(SECONDS)
            client.sendall(b"S\0" + b"x" * 100)
            with self.assertRaises(ConnectionResetError):
                client.recv(100)

    def test_no_such_shape_on_the_wire(self):
        """Fails if end_meet() takes any index."""
        with socket.create_connection(("127.0.0.1", self.port)) as client:
            client.settimeout(SECONDS)
            client.sendall(b"S\xff" + b"x" * 100)
            with self.assertRaises(ConnectionResetError):
                client.recv(100)

    def test_ends_when_the_time_is_up(self):
        """Fails if is_late() is never true: 1,000 trickles take 40 s."""
        result = subprocess.run([BENCH, "shape", f"127.0.0.1:{self.port}", "--shape",
                                 "trickle-up", "--count", "1000", "--seconds", "1"],
                                stdout=subprocess.PIPE, text=True, timeout=SECONDS, check=True)
        self.assertLess(json.loads(result.stdout)["count"], 1000)

    def test_bad_usage(self):
        for words in (["--shape", "no-such"], ["--shape", "up-100k", "--clients", "2"], []):
            done = subprocess.run([BENCH, "shape", "127.0.0.1:1", *words], stderr=subprocess.PIPE,
                                  text=True, timeout=SECONDS, check=False)
            self.assertEqual((done.returncode, done.stderr.count("\n")), (2, 1))

    def refused(self, port):
        """Both ports are of this host: each connect() ends at once."""
        done = subprocess.run([BENCH, "refused", f"127.0.0.1:{port}", "--count", "20", "--clients",
                               "2"], stdout=subprocess.PIPE, text=True, timeout=SECONDS,
                              check=False)
        return json.loads(done.stdout)

    def test_refused(self):
        self.assertEqual(self.refused(free_port()).get("count"), 20)

    def test_not_refused(self):
        """Fails if latency_refused() takes success for a number."""
        result = self.refused(self.port)
        self.assertEqual(result["reason"], "connect() has succeeded")
        self.assertNotIn("p50_us", result)


class Pairs(Served):
    """The cgroups are directories with a plain file cgroup.procs, which takes what is written."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="tproxy-bench-test.")
        self.addCleanup(directory.cleanup)
        self.cgroups = [os.path.join(directory.name, name) for name in ("ours", "base")]
        for path in self.cgroups:
            os.mkdir(path)
            with open(os.path.join(path, "cgroup.procs"), "w", encoding="ascii"):
                pass

    def pair(self, workload, *options, address=None):
        done = subprocess.run([BENCH, workload, address or f"127.0.0.1:{self.port}", "--cgroups",
                               ",".join(self.cgroups), *options], stdout=subprocess.PIPE,
                              text=True, timeout=SECONDS, check=False)
        result = json.loads(done.stdout)
        self.assertEqual(done.returncode, 1 if "reason" in result else 0)
        return result

    def entered(self):
        contents = []
        for path in self.cgroups:
            with open(os.path.join(path, "cgroup.procs"), encoding="ascii") as file:
                contents.append(file.read())
        return contents

    def test_exchanges(self):
        """20 pairs of 20 exchanges are two rounds of 8 and one of 4, with a connection each."""
        result = self.pair("rr", "--count", "400")
        self.assertEqual((result["count"], result["base"]["count"]), (400, 400))
        self.assertEqual((result["pairs"], result["connections"]), (20, 3))

    def test_connections(self):
        """25 pairs of 10 connections are two rounds, each of which begins with 10 that do not
        count. The second needs new sockets."""
        result = self.pair("crr", "--count", "250")
        self.assertEqual((result["count"], result["base"]["count"]), (250, 250))
        self.assertEqual((result["pairs"], result["connections"]), (25, 270))
        self.assertEqual(self.entered(), ["00", "00"])

    def test_long_bursts(self):
        result = self.pair("crr", "--count", "500", "--burst", "250")
        self.assertEqual((result["pairs"], result["connections"]), (2, 510))

    def test_bytes(self):
        for workload in ("bulk-up", "bulk-down"):
            result = self.pair(workload, "--seconds", "1")
            self.assertEqual(result["bytes"], result["pairs"] * 2 * 2**20)
            self.assertEqual(result["bytes"], result["base"]["bytes"])

    def test_sides(self):
        """Ours are slow: the connections 0, 3, 4, 7, 8, because the side that begins a round
        changes. Fails if a ratio is that of base to ours, or if a burst uses the other's
        connection."""
        def change(number, data):
            if number % 4 in (0, 3):
                time.sleep(0.005)
            return data
        result = self.pair("rr", "--count", "180", address=self.between(change, Several))
        self.assertEqual(result["connections"], 2)
        self.assertGreater(result["ratio"], 1.0)
        self.assertGreater(result["p50_us"], 5000.0)
        self.assertLess(result["base"]["p50_us"], result["p50_us"])

    def test_a_changed_byte(self):
        """Fails if receive_piece() does not compare."""
        result = self.pair("bulk-down", "--seconds", "1", address=self.between(
            lambda _, data: bytes(len(data)), Several))
        self.assertEqual(result["reason"], "a wrong byte after 0 right ones")
        self.assertNotIn("gbit_s", result)

    def test_the_server_sends_what_is_asked_for(self):
        """Fails if conn_send() goes on after the last byte, or if the second piece begins
        where the first did."""
        with socket.create_connection(("127.0.0.1", self.port)) as client:
            client.settimeout(SECONDS)
            client.sendall(b"P" + struct.pack("=QQ", 0, 100_000))
            first = read_exactly(client, 100_000)
            client.sendall(struct.pack("=QQ", 2, 3) + first[:2])
            second = read_exactly(client, 3)
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(client.recv(1), b"")
        self.assertEqual(first[:34479] + second, first[65521:] + second)
        self.assertEqual(second, first[100_000 - 65521:][:3])

    def test_the_server_resets_after_a_wrong_byte(self):
        """Fails if conn_take_piece() does not compare."""
        with socket.create_connection(("127.0.0.1", self.port)) as client:
            client.settimeout(SECONDS)
            client.sendall(b"P" + struct.pack("=QQ", 100, 1) + bytes(100))
            with self.assertRaises(ConnectionResetError):
                client.recv(1)

    def test_bad_usage(self):
        both = ",".join(self.cgroups)
        for words, status in ((["rr", "127.0.0.1:1", "--cgroups", self.cgroups[0]], 2),
                              (["rr", "127.0.0.1:1", "--cgroups", both + "-none"], 1),
                              (["crr", "127.0.0.1:1", "--cgroups", both, "--clients", "2"], 2),
                              (["hold", "127.0.0.1:1", "--cgroups", both], 2)):
            done = subprocess.run([BENCH, *words], stderr=subprocess.PIPE, text=True,
                                  timeout=SECONDS, check=False)
            self.assertEqual((done.returncode, done.stderr.count("\n")), (status, 1))


if __name__ == "__main__":
    unittest.main()
