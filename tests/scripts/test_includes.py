#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""scripts/includes.py finds includes that the tree must not have, in trees made up here.

To see it fail: leave out the row of a folder, ONLY, or the call of circles().
"""

import common

GOOD = {
    "bpf/tproxy.bpf.c": ["tproxy_abi.h", "endpoint.bpf.h"],
    "bpf/endpoint.bpf.h": ["tproxy_abi.h"],
    "common/tproxy_abi.h": [],
    "common/log.c": ["log.h", "config.h"],
    "common/log.h": [],
    "loader/host/json.h": ["log.h"],
    "loader/state/pins.h": ["host/json.h"],
    "loader/load/load.c": ["load.h", "options.h", "state/pins.h", "tproxy.skel.h"],
    "loader/load/load.h": [],
    "loader/load/options.h": [],
    "loader/ctl/options.h": [],
    "loader/ctl/doctor.c": ["options.h", "doctor/doctor.h", "host/json.h"],
    "loader/doctor/doctor.h": ["tproxy_abi.h"],
    "proxy/main.c": ["options.h", "log.h", "version.h"],
    "proxy/options.h": [],
}
BAD = {
    ("common/log.h", "options.h"): "no header",
    ("bpf/endpoint.bpf.h", "log.h"): "may not",
    ("loader/host/json.h", "state/pins.h"): "may not",
    ("loader/state/pins.h", "load/load.h"): "may not",
    ("loader/load/load.h", "ctl/options.h"): "may not",
    ("loader/load/options.h", "tproxy.skel.h"): "may not",
    ("loader/ctl/options.h", "doctor/doctor.h"): "may not",
    ("loader/load/load.h", "nothing.h"): "no header",
    ("proxy/options.h", "host/json.h"): "no header",
}


class IncludesTest(common.TestCase):
    def check(self, added):
        return self.findings("includes.py", self.made({
            path: "".join(f'#include "{name}"\n' for name in names + added.get(path, []))
            for path, names in GOOD.items()}))

    def test_the_arrows_of_the_plan_are_fine(self):
        self.assertEqual(self.check({}), "")

    def test_each_other_arrow_is_found(self):
        for (path, name), text in BAD.items():
            with self.subTest(f"{path} -> {name}"):
                said = self.check({path: [name]})
                self.assertIn(f"{path}: ", said)
                self.assertIn(text, said)

    def test_circles_are_found(self):
        said = self.check({"common/log.h": ["tproxy_abi.h"], "common/tproxy_abi.h": ["log.h"]})
        self.assertEqual(said, "circle: common/log -> common/tproxy_abi -> common/log\n")

    def test_a_file_and_its_header_are_one_place(self):
        """load.c includes options.h, so options.h must not include load.h."""
        said = self.check({"loader/load/options.h": ["load.h"]})
        self.assertEqual(said, "circle: loader/load/load -> loader/load/options"
                               " -> loader/load/load\n")


if __name__ == "__main__":
    common.main()
