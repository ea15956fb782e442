# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Makes calls of a relay fail: builds inject.c, preloads it, and writes the rules that it
follows."""

import mmap
import os
import struct
import subprocess
from pathlib import Path

import programs

SOURCE = Path(__file__).with_name("inject.c")

# The same order as enum call in inject.c.
CALLS = ("accept4", "socket", "connect", "recv", "send", "splice_in", "splice_out", "epoll_add",
         "epoll_del", "epoll_wait", "pipe2", "setpipe", "bpf_update", "bpf_other", "obj_get",
         "getsockopt", "setsockopt", "linger", "so_error", "shutdown", "close", "getsockname",
         "poll", "eventfd_read", "write", "malloc", "worker_malloc", "realtime")

FOR_EVER = 1 << 30
_RULE = struct.Struct("=iiiiii")


def build(directory):
    """Returns the library, which any user may load."""
    library = directory / "inject.so"
    allocator = [] if programs.SANITIZED else ["-DINJECT_MALLOC"]
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", *allocator, "-o", library, SOURCE, "-ldl"],
                   check=True)
    return library


class Faults:
    """The rules of one relay, which is started with the variables in env."""

    def __init__(self, library, path):
        with open(path, "w+b") as file:
            file.truncate(_RULE.size * len(CALLS))
            os.chmod(path, 0o666)
            self._rules = mmap.mmap(file.fileno(), 0)
        asan = programs.ENVIRONMENT["ASAN_OPTIONS"] + ":verify_asan_link_order=0"
        self.env = {"LD_PRELOAD": str(library), "TPROXY_INJECT": str(path), "ASAN_OPTIONS": asan}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._rules.close()

    def fail(self, call, error, skip=0, every=1, left=1):
        """After @skip calls, lets every @every-th call fail, @left times."""
        offset = CALLS.index(call) * _RULE.size
        _RULE.pack_into(self._rules, offset, 0, skip, every, left, 0, 0)
        struct.pack_into("=i", self._rules, offset, error)

    def stop(self, call):
        """Ends all failures, and returns how many there were."""
        offset = CALLS.index(call) * _RULE.size
        struct.pack_into("=i", self._rules, offset, 0)
        return self.struck(call)

    def struck(self, call):
        return _RULE.unpack_from(self._rules, CALLS.index(call) * _RULE.size)[5]

    def set_clock(self, seconds):
        """Shifts the host's clock as the relay sees it."""
        struct.pack_into("=i", self._rules, CALLS.index("realtime") * _RULE.size, seconds)

    def clock_read(self):
        """How often the relay has read the host's clock."""
        return _RULE.unpack_from(self._rules, CALLS.index("realtime") * _RULE.size)[4]
