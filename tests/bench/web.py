# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The workloads with wrk and nginx, which are widely used programs."""

import json
import os

from sandbox import HTTP_PORT, Failure, need, wait_until, write
from workload import RATE, RELAY_US, Metric, Workload

CONNECTIONS = 64
SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "wrk.lua")


class Http(Workload):
    name = "http"
    title = "wrk against nginx, 64 connections kept alive, a page of 1 KiB"
    metrics = (RATE, Metric("p50_us", "p50 µs"), Metric("p99_us", "p99 µs"), RELAY_US)
    minors = True
    headers: tuple[str, ...] = ()
    nginx = None

    def begin(self):
        need(("nginx", "nginx-light"), ("wrk", "wrk"))
        sandbox = next(iter(self.contenders.values())).sandbox
        root = os.path.join(sandbox.directory, "nginx")
        os.makedirs(root, exist_ok=True)
        configuration = os.path.join(root, "nginx.conf")
        temporary = "\n".join(f"    {kind}_temp_path {root}/{kind};" for kind in
                              ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        write(configuration, f"""\
daemon off;
user nobody nogroup;
worker_processes auto;
worker_rlimit_nofile 10000;
pid {root}/nginx.pid;
events {{
    worker_connections 4096;
}}
http {{
{temporary}
    access_log off;
    keepalive_requests 1000000000;
    server {{
        listen {HTTP_PORT} reuseport backlog=4096;
        location / {{
            default_type text/plain;
            return 200 "{'0123456789abcdef' * 64}";
        }}
    }}
}}
""")
        self.nginx = sandbox.start_in_server_netns(
            ["nginx", "-p", root, "-e", "stderr", "-c", configuration], "nginx")
        wait_until(lambda: self.nginx.check() or self.nginx.listens_on(HTTP_PORT), "nginx listens")

    def end(self):
        if self.nginx:
            self.nginx.stop()

    def measure(self, variant, scale):
        contender = self.contenders[variant]
        seconds = scale.of(contender).http_seconds
        argv = ["wrk", "-t", min(2, os.cpu_count()), "-c", CONNECTIONS, "-d", f"{seconds}s",
                "--timeout", "10s", "--latency", "-s", SCRIPT, *self.headers,
                f"http://{contender.host}:{HTTP_PORT}/"]
        before = contender.relay_seconds()
        result = self.result(*contender.run_client(argv))
        if contender.relay:
            result["relay_us"] = (contender.relay_seconds() - before) / result["requests"] * 1e6
            if result["relay_us"] < 1:
                raise Failure("the relay has done nothing: wrk goes past it")
        return result

    @staticmethod
    def result(output, errors):
        """The last output of wrk.lua. A single failed or wrong request makes it a Failure."""
        try:
            result = json.loads(output.strip().splitlines()[-1])
        except (ValueError, IndexError) as error:
            raise Failure(f"wrk: {errors.strip() or output.strip() or 'no output'}") from error
        failures = {what: count for what, count in result.pop("errors").items() if count}
        if failures:
            raise Failure("wrk: " + ", ".join(f"{count} {what} errors"
                                              for what, count in failures.items()))
        if not result["requests"]:
            raise Failure("wrk: not one response")
        return result


class HttpClose(Http):
    name = "http-close"
    title = "wrk against nginx, 64 at a time, Connection: close, a page of 1 KiB"
    headers = ("-H", "Connection: close")
