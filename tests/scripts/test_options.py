#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""scripts/options.py finds options that man pages and completions lack, or have too many of.

The programs are scripts that print a table. To see it fail: leave out one of the checks.
"""

import os

import common

TABLE = (
    "status\t\t\tcommand\t\t\t\t\tprint what is loaded\n"
    "pin-dir\tp\tDIR\tpath\tkey fixed\t\t/pins\t\twhere; or elsewhere\n"
    "listen\t\tADDR:PORT\tcustom\tkey fixed\t\t127.0.0.1:0 and [::1]:0\t\taddress\n"
    "workers\tw\tN\tnumber\tkey\t1 to 64\tone per CPU\t\tthreads\n"
    "version\t\t\tversion\t\t\t\t\tprint the version\n")
MAN = """tproxy-x(8)

# OPTIONS

*-p*, *--pin-dir* _DIR_
	The directory. Default: _/pins_.

*--listen* _ADDR:PORT_
	The address. *--workers* has others. Default: 127.0.0.1:0.

*-w*, *--workers* _N_
	Threads.

	As many as there are CPUs.

*--version*, *version*
	Print it.

# SIGNALS

*SIGHUP*
	It is not applied if a line is wrong or if _pin-dir_ or
	_listen_ would change.
"""
COMPLETION = "--pin-dir --listen= --workers --version"
FISH = "".join(f"complete -c x -l {name} -d 'not --this'\n"
               for name in ("pin-dir", "listen", "workers", "version"))
PROGRAMS = {"tproxy-load": "loader", "tproxyctl": "loader", "tproxy-relay": "proxy"}

# What is replaced in the relay's man page, and what is said about it.
WRONG_PAGES = {
    ("*-p*, *--pin-dir*", "*--pin-dir*"): "no entry *-p*, *--pin-dir* _DIR_",
    ("_DIR_", "_DIRECTORY_"): "no entry *-p*, *--pin-dir* _DIR_",
    ("_/pins_", "_/other_"): "*-p*, *--pin-dir* _DIR_ does not have the default /pins",
    ("*--version*, *version*\n", "*--versions*\n"): "*--versions* is no option of the program",
    (" or\n\t_listen_", ""): "whether a reload can change listen",
    ("_pin-dir_ or", "_pin-dir_, _workers_ or"): "whether a reload can change workers",
}


class OptionsTest(common.TestCase):
    def tree(self, man=MAN, completion=COMPLETION, fish=FISH):
        """A tree that is its own build directory, where this is wrong about the relay."""
        files = {}
        for name, folder in PROGRAMS.items():
            relay = name == "tproxy-relay"
            files |= {
                f"{folder}/{name}": f"#!/bin/sh\ncat <<'END'\n{TABLE}END\n",
                f"{folder}/{name}.8.scd": man if relay else MAN,
                f"scripts/completion/{name}": completion if relay else COMPLETION,
                f"scripts/completion/_{name}": COMPLETION,
                f"scripts/completion/{name}.fish": fish if relay else FISH,
            }
        top = self.made(files)
        for name, folder in PROGRAMS.items():
            os.chmod(f"{top}/{folder}/{name}", 0o755)
        return top

    def check(self, top):
        return self.findings("options.py", top, top).splitlines()

    def test_good(self):
        self.assertEqual(self.check(self.tree()), [])

    def test_man_pages(self):
        for (old, new), said in WRONG_PAGES.items():
            with self.subTest(new):
                self.assertIn(old, MAN)
                findings = self.check(self.tree(man=MAN.replace(old, new, 1)))
                self.assertTrue(any("proxy/tproxy-relay.8.scd: " in line and said in line
                                    for line in findings), findings)

    def test_completions(self):
        for how, said in (({"completion": COMPLETION + " --other"}, "--other is no option"),
                          ({"completion": "--pin-dir --workers"}, "does not offer --listen"),
                          ({"fish": FISH.replace("listen", "listener")}, "does not offer --listen"),
                          ({"fish": FISH.replace("listen", "listener")}, "--listener is no")):
            with self.subTest(said):
                findings = self.check(self.tree(**how))
                self.assertTrue(any(said in line for line in findings), findings)

    def test_program_that_is_not_built(self):
        top = self.tree()
        os.remove(f"{top}/loader/tproxyctl")
        self.assertIn("tproxyctl is not built", self.check(top)[0])


if __name__ == "__main__":
    common.main()
