# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A pytest plugin for an emulated machine: gives the end to end tests more time.

It multiplies their deadlines and does not change what they wait for. It does not help tests of
duration itself.
"""

import sys

FACTOR = 5


def pytest_collection_finish(session):
    conftest, host, wire = (sys.modules[name] for name in ("conftest", "host", "wire"))
    conftest.DEADLINE *= FACTOR
    for item in session.items:
        for marker in item.own_markers:
            if marker.name == "deadline":
                object.__setattr__(marker, "args", (marker.args[0] * FACTOR,))
    wire.TIMEOUT *= FACTOR
    original = host.wait_until

    def wait_until(predicate, what, timeout=5.0):
        return original(predicate, what, timeout * FACTOR)

    for module in list(sys.modules.values()):
        if getattr(module, "wait_until", None) is original:
            module.wait_until = wait_until
