#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""tproxy-bench on a path that changes, loses or delays bytes: it prints a reason and no number.

Client and server of the shapes on the loopback device, with a relay of the test between them.
Usage: test_load.py TPROXY_BENCH
"""

import contextlib
import json
import socket
import subprocess
import sys
import threading
import unittest

BENCH = sys.argv.pop(1) if len(sys.argv) > 1 else "build/tests/bench/tproxy-bench"
PROMPT = ("write-20+80-nodelay", "post-3000+100-fresh", "pipelined-16x64-nodelay", "up-100k",
          "down-1m", "down-rcvbuf-8k")
SECONDS = 20  # more than anything here takes


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


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
            server = socket.create_connection(("127.0.0.1", self.port))
            up = threading.Thread(target=self.pump, args=(client, server, lambda _, b: b),
                                  daemon=True)
            up.start()
            self.pump(server, client, self.change)
            up.join()
            client.close()
            server.close()

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


class Shapes(unittest.TestCase):

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

    def between(self, change):
        relay = Between(self.port, change)
        relay.start()
        self.addCleanup(relay.close)
        return relay.address

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


if __name__ == "__main__":
    unittest.main()
