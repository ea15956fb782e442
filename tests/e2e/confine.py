# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A place where processes run as confined as the relay in tproxy-relay.service, without systemd.

Taken from the unit: SystemCallFilter=, its error number, and RestrictAddressFamilies=. Implemented
here, as the unit must have them: NoNewPrivileges=, PrivateUsers=, an empty CapabilityBoundingSet=,
ProtectProc= with ProcSubset=, RestrictNamespaces=, MemoryDenyWriteExecute= and
ProtectSystem=strict. The latter makes all mounts read-only, those that systemd exempts too.
scripts/vm starts the unit itself, under systemd.
"""

import contextlib
import ctypes
import dataclasses
import errno
import functools
import os
import platform
import re
import socket
import struct
import subprocess

import host
from programs import RELAY_GID, RELAY_UID, REPOSITORY

UNIT = REPOSITORY / "proxy/tproxy-relay.service.in"

CLONE_NEWUSER = 0x10000000
CLONE_NEW_ANY = 0x7E020080  # CLONE_NEW* of clone(2), with CLONE_NEWTIME
AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY, SYS_MOUNT_SETATTR = -100, 0x8000, 1, 442
PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 24, 38, 2
PROT_WRITE, PROT_EXEC = 2, 4

# linux/bpf_common.h, linux/seccomp.h, linux/audit.h
LOAD, AND, JUMP_EQUAL, JUMP_SET, RETURN = 0x20, 0x54, 0x15, 0x45, 0x06
ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
NUMBER, ARCHITECTURE = 0, 4

libc = ctypes.CDLL(None, use_errno=True)


def check(result):
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def unit():
    """{setting: its values in order}"""
    settings = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", UNIT.read_text(encoding="ascii"), re.MULTILINE):
        settings.setdefault(name, []).append(value)
    return settings


# --- system calls


@functools.cache
def numbers():
    """{system call: number} of this machine."""
    macros = subprocess.run(
        ["cc", "-E", "-dM", "-include", "sys/syscall.h", "-x", "c", "/dev/null"],
        capture_output=True, text=True, check=True).stdout
    return {name: int(number)
            for name, number in re.findall(r"^#define __NR_(\w+) (\d+)$", macros, re.MULTILINE)}


@functools.cache
def call_set(name):
    """The system calls of systemd's group @name. Any other name is a system call."""
    if not name.startswith("@"):
        return {name}
    text = subprocess.run(["systemd-analyze", "--no-pager", "syscall-filter", name],
                          capture_output=True, text=True, check=True).stdout
    members = [line.strip() for line in text.splitlines()[1:]]
    return set().union(*(call_set(each) for each in members if each and not each.startswith("#")))


def allowed_calls(filters):
    """Evaluates the lists as systemd does: the first one starts the set, ~ removes from it."""
    allowed = set(call_set("@default"))
    for value in filters:
        calls = set().union(*(call_set(name) for name in value.lstrip("~").split()))
        allowed = allowed - calls if value.startswith("~") else allowed | calls
    return allowed


def _instruction(code, value, if_true=0, if_false=0):
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _load(offset):
    return _instruction(LOAD, offset)


def _argument(index):
    """The lower half of an argument."""
    return _load(16 + 8 * index)


def _error(code):
    return _instruction(RETURN, ERRNO | code)


def _only_for(name, *instructions):
    body = [*instructions, _load(NUMBER)]
    return [_instruction(JUMP_EQUAL, numbers()[name], 0, len(body)), *body]


def seccomp_filter(settings, allowed):
    denied = _error(getattr(errno, settings["SystemCallErrorNumber"][0]))
    program = [_load(ARCHITECTURE),
               _instruction(JUMP_EQUAL, ARCHITECTURES[platform.machine()], 1, 0),
               _instruction(RETURN, KILL), _load(NUMBER)]

    families = [getattr(socket, name) for name in settings["RestrictAddressFamilies"][0].split()]
    program += _only_for("socket", _argument(0),
                         *(_instruction(JUMP_EQUAL, family, len(families) - index)
                           for index, family in enumerate(families)),
                         _error(errno.EAFNOSUPPORT))
    both = PROT_WRITE | PROT_EXEC
    program += _only_for("mmap", _argument(2), _instruction(AND, both),
                         _instruction(JUMP_EQUAL, both, 0, 1), _error(errno.EPERM))
    program += _only_for("mprotect", _argument(2),
                         _instruction(JUMP_SET, PROT_EXEC, 0, 1), _error(errno.EPERM))
    program += _only_for("unshare", _error(errno.EPERM))
    program += _only_for("setns", _error(errno.EPERM))
    program += _only_for("clone", _argument(0),
                         _instruction(JUMP_SET, CLONE_NEW_ANY, 0, 1), _error(errno.EPERM))
    # The filter cannot examine its flags.
    program += _only_for("clone3", _error(errno.ENOSYS))

    for name in sorted(allowed & numbers().keys()):
        program += [_instruction(JUMP_EQUAL, numbers()[name], 0, 1), _instruction(RETURN, ALLOW)]
    return b"".join([*program, denied])


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


# --- the place


@dataclasses.dataclass(frozen=True)
class Confined(host.Place):
    """A place that allows what the unit allows and nothing else. Processes run as the relay's
    user."""

    filter: bytes = b""

    def enter(self):
        super().enter()
        with _own_users():
            _read_only_mounts()
        os.setgroups([])
        capability = 0
        while libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:
            capability += 1
        os.setresgid(RELAY_GID, RELAY_GID, RELAY_GID)
        os.setresuid(RELAY_UID, RELAY_UID, RELAY_UID)
        host.die_with_parent()  # a change of user clears it
        check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        program = _Program(len(self.filter) // 8, self.filter)
        check(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0))


def _read_only_mounts():
    host.private_mounts()
    check(libc.mount(b"proc", b"/proc", b"proc", 0, b"subset=pid,hidepid=invisible"))
    read_only = struct.pack("=QQQQ", MOUNT_ATTR_RDONLY, 0, 0, 0)
    check(libc.syscall(SYS_MOUNT_SETATTR, AT_FDCWD, b"/", AT_RECURSIVE, read_only, len(read_only)))


@contextlib.contextmanager
def _own_users():
    """Moves to a user namespace that maps root and the relay's user, after the block. A process
    that was started before and stays outside writes its maps."""
    pid = os.getpid()
    reading, writing = os.pipe()
    helper = os.fork()
    if helper == 0:
        status = 1
        try:
            os.read(reading, 1)
            for name, number in (("uid_map", RELAY_UID), ("gid_map", RELAY_GID)):
                with open(f"/proc/{pid}/{name}", "w", encoding="ascii") as file:
                    file.write(f"0 0 1\n{number} {number} 1\n")
            status = 0
        finally:
            os._exit(status)
    yield
    check(libc.unshare(CLONE_NEWUSER))
    os.write(writing, b"x")
    _, status = os.waitpid(helper, 0)
    os.close(reading)
    os.close(writing)
    if status:
        raise OSError(errno.EPERM, "the user namespace got no users")


def confined(bed, without=()):
    """The place of the bed's relays, confined as by the unit. @without removes allowed system
    calls."""
    settings = unit()
    assert settings["CapabilityBoundingSet"] == settings["AmbientCapabilities"] == [""]
    for name in ("NoNewPrivileges", "PrivateUsers", "RestrictNamespaces", "MemoryDenyWriteExecute"):
        assert settings[name] == ["yes"], name
    for name, value in (("ProtectSystem", "strict"), ("ProtectProc", "invisible"),
                        ("ProcSubset", "pid")):
        assert settings[name] == [value], name
    allowed = allowed_calls(settings["SystemCallFilter"]) - set(without)
    return Confined(bed.relay_cgroup, bed.client_net, seccomp_filter(settings, allowed))
