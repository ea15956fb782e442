# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The parts of the host that a test owns: cgroups, network namespaces, a bpffs, forked tasks.

Nothing here outlives the run except directories of cgroup2 and one empty directory in /tmp. Network
namespaces are file descriptors, mounts live in a mount namespace of the session, and every task and
every program that a test leaves running asks the kernel to kill it when its parent dies. sweep()
removes what a killed run left behind. Run as a program, this file does only that.
"""

import contextlib
import ctypes
import dataclasses
import fcntl
import io
import os
import pickle
import re
import signal
import socket
import struct
import subprocess
import threading
import time
import traceback
from pathlib import Path

PREFIX = "tproxy-e2e"

CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
RTF_LOCAL = 1 << 31
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
MNT_DETACH = 2
IFF_UP = 1
SIOCSIFFLAGS = 0x8914
PR_SET_PDEATHSIG = 1
ADDR_NO_RANDOMIZE = 0x0040000

# Multiplies all time limits. programs.py sets it for slow builds.
patience = 1

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result):
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def die_with_parent():
    _check(_libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))


def stop_address_randomization():
    """Disables it for the programs that this process starts."""
    _check(_libc.personality(ADDR_NO_RANDOMIZE))


def wait_until(predicate, what, timeout=5.0):
    """Calls @predicate until it returns a true value, and returns that."""
    timeout *= patience
    end = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(0.01)


def settled(look, what, looks=20):
    """Returns the result of look() when it has been the same @looks times in a row."""
    seen = [look()]

    def same():
        seen.append(look())
        return len(seen) > looks and len(set(seen[-looks:])) == 1

    wait_until(same, f"{what}: no change")
    return seen[-1]


def thread_states(pid):
    """The state of each thread of a process, see State in proc(5)."""
    states = set()
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            states.add(stat.read_text().rpartition(") ")[2][0])
    return states


def stays_true(predicate, what, duration):
    """Asserts that @predicate is true for the whole @duration (seconds)."""
    end = time.monotonic() + duration
    while time.monotonic() < end:
        assert predicate(), f"did not stay true for {duration} s: {what}"
        time.sleep(0.01)


# --- mounts


def _mounts():
    """The mounts as (mount point, type, root), the newest last."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        yield fields.split()[4], rest.split()[0], fields.split()[3]


def mounted_at(path):
    """Returns the type of the file system that is mounted at @path, or None."""
    return {point: fstype for point, fstype, _ in _mounts()}.get(str(path))


def cgroup2_root():
    """Returns where cgroup2 is mounted, which is below another place on a hybrid host, or None."""
    return next((Path(point) for point, fstype, root in _mounts()
                 if fstype == "cgroup2" and root == "/"), None)


def private_mounts():
    """Moves this process to a mount namespace of its own. Its mounts end with it."""
    _check(_libc.unshare(CLONE_NEWNS))
    _check(_libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))


@contextlib.contextmanager
def mounted(fstype, path, options):
    path.mkdir(parents=True)
    _check(_libc.mount(PREFIX.encode(), os.fsencode(path), fstype.encode(), 0, options.encode()))
    try:
        yield path
    finally:
        _check(_libc.umount2(os.fsencode(path), MNT_DETACH))
        path.rmdir()


def bpffs(path):
    """A private bpffs, with the mode of the one that systemd mounts."""
    return mounted("bpf", path, "mode=1700")


# --- cgroups


class Cgroup:
    """A directory of cgroup2. Leaving the block kills the processes inside and below."""

    def __init__(self, path):
        self.path = Path(path)

    def __enter__(self):
        self.remove()
        self.path.mkdir()
        return self

    def __exit__(self, *_):
        self.remove()

    def __str__(self):
        return str(self.path)

    def child(self, name):
        child = Cgroup(self.path / name)
        child.path.mkdir()
        return child

    def join(self):
        (self.path / "cgroup.procs").write_text("0")

    def populated(self):
        return "populated 1" in (self.path / "cgroup.events").read_text()

    def pids(self):
        return [int(pid) for procs in self.path.rglob("cgroup.procs")
                for pid in procs.read_text().split()]

    def remove(self):
        if not self.path.exists():
            return
        (self.path / "cgroup.kill").write_text("1")
        wait_until(lambda: not self.populated(), f"{self} is empty after a kill")
        for directory, _, _ in os.walk(self.path, topdown=False):
            os.rmdir(directory)


def memory_v1_root():
    """Returns where cgroup v1 has its memory controller (on a hybrid host), or None."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        if rest.startswith("cgroup ") and "memory" in rest.split()[-1].split(","):
            return Path(fields.split()[4])
    return None


class MemoryCgroup:
    """A memory limit for the processes that join, with their usage, kernel memory included. A
    hybrid host has the controller in v1, so the processes join it in addition to their place in
    cgroup2. Otherwise it is a child of that place, which must then have no process itself."""

    def __init__(self, name, place):
        v1 = memory_v1_root()
        if v1:
            self.path, self._joined = v1 / name, [place.path, v1 / name]
            self._limit, self._used, self._events = (
                "memory.limit_in_bytes", "memory.usage_in_bytes", "memory.oom_control")
            return
        self.path = place.path / "limited"
        self._joined = [self.path]
        self._limit, self._used, self._events = "memory.max", "memory.current", "memory.events"
        root = cgroup2_root()
        assert "memory" in (root / "cgroup.controllers").read_text().split(), "no controller"
        for directory in reversed(self.path.relative_to(root).parents):
            control = root / directory / "cgroup.subtree_control"
            if "memory" not in control.read_text().split():
                assert directory != Path("."), f"the host gives no memory controller: {control}"
                control.write_text("+memory")

    def __enter__(self):
        self.path.mkdir()
        return self

    def __exit__(self, *_):
        os.rmdir(self.path)

    def _read(self, name):
        return (self.path / name).read_text()

    def join(self):
        for directory in self._joined:
            (directory / "cgroup.procs").write_text("0")

    def limit(self, size):
        (self.path / self._limit).write_text(str(size))

    def used(self):
        return int(self._read(self._used))

    def kills(self):
        """How many processes the kernel has killed because of the limit."""
        return int(re.search(r"^oom_kill (\d+)", self._read(self._events), re.MULTILINE)[1])


def sweep(session=None):
    """Removes the leftovers of killed runs, whose names contain the process of the run, and with
    @session those of this run. Another run may sweep at the same time."""
    v1 = memory_v1_root()
    for path in [*cgroup2_root().glob(PREFIX + "-*"), *Path("/tmp").glob(PREFIX + "-*"),
                 *(v1.glob(PREFIX + "-*") if v1 else [])]:
        owner = re.match(PREFIX + r"-(\d+)", path.name)
        if not owner or (owner[0] != session and _is_pytest(int(owner[1]))):
            continue
        with contextlib.suppress(FileNotFoundError):
            if path.parent in (Path("/tmp"), v1):
                path.rmdir()
            else:
                Cgroup(path).remove()


def _is_pytest(pid):
    try:
        return b"pytest" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


# --- network namespaces


class NetNs:
    """A network namespace that exists as long as its file descriptor and the processes inside."""

    def __init__(self):
        self.fd = -1

    def __enter__(self):
        thread = threading.Thread(target=self._create)
        thread.start()
        thread.join()
        return self

    def __exit__(self, *_):
        os.close(self.fd)

    def _create(self):
        _check(_libc.unshare(CLONE_NEWNET))
        self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))

    @property
    def path(self):
        """A path for nsenter --net= and ip … netns."""
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    def join(self):
        _check(_libc.setns(self.fd, CLONE_NEWNET))

    @contextlib.contextmanager
    def inside(self):
        """Moves the calling thread there: sockets created in the block belong to this namespace."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.join()
        try:
            yield
        finally:
            _check(_libc.setns(home, CLONE_NEWNET))
            os.close(home)

    def ip(self, *commands):
        with self.inside():
            subprocess.run(["ip", "-batch", "-"], input="\n".join(commands), text=True, check=True)
        for words in map(str.split, commands):
            if words[:2] == ["addr", "add"] and "nodad" in words:
                self._wait_local(words[2].partition("/")[0])

    def _wait_local(self, address):
        """The kernel makes an IPv6 address a local one later, in a work queue. Until then it says
        that there is no route. An address of /128 has another row from the start."""
        row = f"{socket.inet_pton(socket.AF_INET6, address).hex()} 80 "

        def is_local():
            with self.inside():
                rows = Path("/proc/thread-self/net/ipv6_route").read_text().splitlines()
            return any(each.startswith(row) and int(each.split()[8], 16) & RTF_LOCAL
                       for each in rows)

        wait_until(is_local, f"{address} is local")

    def sysctl(self, name, value):
        with self.inside():
            Path("/proc/sys/net", name).write_text(str(value))


# --- places and tasks


def _home():
    """The cgroup of this process, which is that of the run."""
    line = re.search("^0::(.*)$", Path("/proc/self/cgroup").read_text(), re.MULTILINE)
    return Cgroup(cgroup2_root() / line[1].lstrip("/"))


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a process is to run."""

    cgroup: Cgroup
    netns: NetNs

    def enter(self):
        """Called in a forked child before anything else."""
        die_with_parent()
        self.cgroup.join()
        self.netns.join()

    def can_be_left(self):
        """Whether inside() can be used: not where enter() does what cannot be undone, and not in
        a thread beside others, because a cgroup has whole processes."""
        return (type(self) is Place and type(self.cgroup) is Cgroup
                and threading.current_thread() is threading.main_thread())

    @contextlib.contextmanager
    def inside(self):
        """Moves this process to the cgroup, and the thread to the namespace: a socket or a program
        of the block starts there. A fork of pytest instead takes 30 ms on a slow machine, this
        0.1 ms."""
        home = _home()
        with self.netns.inside():
            self.cgroup.join()
            try:
                yield
            finally:
                home.join()


@contextlib.contextmanager
def starting_at(place):
    """A program of the block that has the result as its preexec_fn starts at @place. Without a
    preexec_fn subprocess uses vfork(2)."""
    if place is None:
        yield None
    elif place.can_be_left():
        with place.inside():
            yield None
    else:
        yield place.enter


class _Pickler(pickle.Pickler):
    """Passes sockets by descriptor."""

    def __init__(self, file):
        super().__init__(file)
        self.sockets = []

    def persistent_id(self, obj):
        if not isinstance(obj, socket.socket):
            return None
        self.sockets.append(obj)
        return len(self.sockets) - 1, obj.gettimeout()


class _Unpickler(pickle.Unpickler):
    def __init__(self, file, fds):
        super().__init__(file)
        self.fds = fds

    def persistent_load(self, pid):
        index, timeout = pid
        sock = socket.socket(fileno=self.fds[index])
        sock.settimeout(timeout)
        return sock


class Task:
    """A function that runs in a forked child at some place. result() returns its result, sockets
    included, or raises its exception."""

    _HEADER = struct.Struct("=Q")
    _FDS_MAX = 250

    def __init__(self, place, function, *args):
        self.name = getattr(function, "__name__", repr(function))
        self._channel, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            self._run(theirs, place, function, args)
        theirs.close()

    @classmethod
    def _run(cls, channel, place, function, args):
        try:
            place.enter()
            outcome = (True, function(*args))
        except BaseException as error:  # the parent raises it
            outcome = (False, cls._picklable(error))
        try:
            data = io.BytesIO()
            pickler = _Pickler(data)
            pickler.dump(outcome)
            header = cls._HEADER.pack(data.tell())
            socket.send_fds(channel, [header], [s.fileno() for s in pickler.sockets])
            channel.sendall(data.getbuffer())
        finally:
            os._exit(0)

    @staticmethod
    def _picklable(error):
        """Tests examine OSErrors. Other exceptions are passed as a traceback."""
        if isinstance(error, OSError):
            return error
        return AssertionError("in a task:\n" + "".join(traceback.format_exception(error)))

    def result(self, timeout=10.0):
        """Waits for the end of the task. A task that takes too long is killed."""
        timeout *= patience
        try:
            self._channel.settimeout(timeout)
            header, fds, _, _ = socket.recv_fds(self._channel, self._HEADER.size, self._FDS_MAX)
            assert header, f"task {self.name} died"
            data = bytearray()
            while len(data) < self._HEADER.unpack(header)[0]:
                data += self._channel.recv(1 << 20)
        except TimeoutError:
            raise AssertionError(f"task {self.name} not done within {timeout} s") from None
        finally:
            self.stop()
        done, value = _Unpickler(io.BytesIO(data), fds).load()
        if not done:
            raise value
        return value

    def stop(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self._channel.close()
            self.pid = 0


def needs_no_process(function):
    """Marks a function that changes nothing of its process and closes what it does not return:
    run_in() does not fork for it."""
    function.needs_no_process = True
    return function


def run_in(place, function, *args, timeout=10.0):
    called = getattr(function, "func", function)  # of a functools.partial
    if getattr(called, "needs_no_process", False) and place.can_be_left():
        with place.inside():
            return function(*args)
    return Task(place, function, *args).result(timeout)


if __name__ == "__main__":
    sweep()
