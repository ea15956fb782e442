# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The builds in which the end to end tests run: plain, with ASan and UBSan, with TSan.

scripts/test.sh has all three, and shares the tests out: the plain build runs the kernel half, the
build with ASan the rest, both run the main job, and TSan runs what makes threads meet. Most of the
time of a test goes into its load, its relay and its namespaces, so a second run with another build
would double the time, and the second build has the same code.

Outside test.sh a plain build runs every test, and a build with a sanitizer its part:

    sudo meson test -C build --suite e2e
    sudo meson test -C build --suite e2e --test-args=--part=plain      as in test.sh
"""

from pathlib import Path

# The kernel half, what the loader pins, the same steps again and again, and what another suite runs
# with a sanitizer: these tests run little code of user space that the others do not run.
KERNEL_HALF = frozenset("""
    abi again block_connect block_packets bystander churn cli config containers early entries errors
    exempt explain explain_rules handover hostile ipv6 list live load loader_life mark namespaces
    override pins policy ports programs redirect register register_refused rules_ready rules_swap
    run_rules secrets sockets spin stray syscalls targets top traffic trust udp unsupported via who
    xdp
    """.split())

# The main job. The plain build, which is the one that is installed, runs it too.
MAIN_JOB = frozenset("lifecycle mixed relay upstreams".split())

# With TSan: start, HUP, limits, drain and end, relays that are replaced or stand still, load from
# many sides. What one connection does is one thread's work.
THREADS = frozenset("""
    handoff handover honest_chaos lifecycle log logfile mixed overload quota relay upstreams_conf
    """.split())

# A file that was renamed would leave its build unseen.
for _name in KERNEL_HALF | MAIN_JOB | THREADS:
    assert Path(__file__).with_name(f"test_{_name}.py").exists(), f"there is no test_{_name}.py"

PARTS = ("all", "plain", "address", "thread")


def belongs(item, part):
    """Returns whether @part runs this test. A test that is not for a sanitizer's build is for the
    plain one, wherever it is."""
    module = item.path.stem.removeprefix("test_")
    if part == "plain":
        plain_only = item.get_closest_marker("plain_build") is not None
        return plain_only or module in KERNEL_HALF | MAIN_JOB
    if part == "address":
        return module not in KERNEL_HALF
    return part == "all" or module in THREADS
