# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A browser without a screen, as the tests of the page use it: Chromium, by its debugging pipe."""

import base64
import contextlib
import json
import os
import select
import subprocess
import time

import host

PROGRAM = "chromium-headless-shell"
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
           "--no-proxy-server", "--remote-debugging-pipe"]


class Browser:
    """One page, in a browser beside the clients of a bed. The program ends with the block: its
    processes have a cgroup of their own."""

    def __init__(self, bed):
        self.cgroup = host.Cgroup(bed.outside.path / "browser")
        self.place = host.Place(self.cgroup, bed.client_net)
        self.home = bed.directory / "browser"
        self.complaints = []  # of the page: errors, and what the policy has refused
        self._number = 0
        self._session = {}
        self._rest = b""

    def __enter__(self):
        self.home.mkdir()
        self.cgroup.__enter__()
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        # It reads from descriptor 3 and writes to 4. sh takes no number above 9 here.
        command = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        with (self.home / "log").open("wb") as log:
            self.process = subprocess.Popen(
                ["bash", "-c", command, "bash", PROGRAM, *OPTIONS, f"--user-data-dir={self.home}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(theirs_in, theirs_out),
                preexec_fn=self.place.enter, env={**os.environ, "HOME": str(self.home)})
        os.close(theirs_in)
        os.close(theirs_out)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(domain + ".enable")
        return self

    def __exit__(self, *_):
        self.cgroup.__exit__()
        self.process.wait()
        os.close(self._in)
        os.close(self._out)

    def _read(self, end):
        """The next message."""
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], max(0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            part = os.read(self._in, 1 << 20)
            assert part, "the browser has ended: " + (self.home / "log").read_text()
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def call(self, method, **params):
        """Calls a method of the DevTools protocol, and returns its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params, **self._session}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + 30 * host.patience
        while True:
            answer = self._read(end)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            if answer.get("method") in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled",
                                        "Log.entryAdded"):
                self.complaints.append(answer["params"])

    def evaluate(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, expression, what):
        """Waits until the expression is true, and returns it."""
        return host.wait_until(lambda: self.evaluate(expression), what, 20)

    def open(self, url):
        self.call("Page.navigate", url=url)

    def resize(self, width, height, mobile=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=mobile)

    def prefer(self, scheme):
        """As the user's setting does: "dark" or "light"."""
        self.call("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self):
        """A PNG of the window."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def text(self, selector):
        """The text of an element as it is shown."""
        with contextlib.suppress(AssertionError):
            return self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText")
        return None
