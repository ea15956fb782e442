# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Real programs, unmodified, through the relay to real servers."""

import contextlib
import fcntl
import hashlib
import os
import re
import socket
from pathlib import Path

import pytest

import wire
from harness import SERVER
from host import wait_until

MADE_BY_TEST = 0o711  # the mode of a directory that several tests share
PAGE = "<h1>a page</h1>\n"

NGINX = """
daemon off;
master_process off;
user root;
error_log stderr;
pid {directory}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{ listen {address}:80; root {directory}/www; }}
}}
"""

SSHD = """
Port 22
ListenAddress {address}
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/key.pub
PidFile none
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
"""


def listens(bed, port):
    """Returns true if the port is open, as seen by the servers."""
    def connects():
        with socket.socket() as sock:
            return sock.connect_ex((SERVER, port)) == 0

    return bed.run_in(connects, place=bed.server)


def start_server(bed, port, *argv):
    bed.start(*argv)
    wait_until(lambda: listens(bed, port), f"{argv[0]} listens")


@pytest.fixture
def www(proxied):
    """The root of an nginx at http://SERVER/."""
    www = proxied.directory / "www"
    www.mkdir()
    (www / "index.html").write_text(PAGE)
    config = proxied.directory / "nginx.conf"
    config.write_text(NGINX.format(directory=proxied.directory, address=SERVER))
    start_server(proxied, 80, "/usr/sbin/nginx", "-p", proxied.directory, "-c", config, "-e",
                 "stderr")
    return www


def relayed(bed, port):
    """The relay's lines about connections to this port, once there are some."""
    return wait_until(lambda: bed.relay.connections_to((SERVER, port)), "the relay served it")


def big_file(path, size=50_000_000):
    stream = wire.Stream(path.name, size)
    with path.open("wb") as file:
        file.writelines(stream.blocks())
    return stream.sha256()


@pytest.mark.needs("curl", "nginx")
def test_curl(proxied, www):
    """A page, and curl reports the server as its peer."""
    result = proxied.run("curl", "-sS", "--max-time", 60, "-w",
                         "%{remote_ip}:%{remote_port} %{http_code}", f"http://{SERVER}/")
    assert result.succeeded().out == f"{PAGE}{SERVER}:80 200"
    assert len(relayed(proxied, 80)) == 1


@pytest.mark.needs("curl", "nginx")
def test_curl_large_file(proxied, www):
    expected = big_file(www / "big")
    copy = proxied.directory / "copy"
    proxied.run("curl", "-sSf", "--max-time", 60, "-o", copy, f"http://{SERVER}/big").succeeded()
    assert hashlib.sha256(copy.read_bytes()).hexdigest() == expected


@pytest.mark.needs("curl")
def test_curl_refused(proxied):
    """A reset: while curl connects (7), sends (55) or waits for the answer (56)."""
    result = proxied.run("curl", "-sS", "--max-time", 60, f"http://{SERVER}:9/")
    assert result.status in (7, 55, 56), result


@pytest.mark.needs("curl", "nginx")
def test_curl_many_in_parallel(proxied, www):
    result = proxied.run("curl", "-sSf", "--max-time", 60, "--parallel", "--parallel-max", 40,
                         f"http://{SERVER}/?[1-200]")
    assert result.succeeded().out == PAGE * 200


@pytest.mark.needs("wget", "nginx")
def test_wget(proxied, www):
    expected = big_file(www / "big")
    copy = proxied.directory / "copy"
    proxied.run("wget", "-q", "--tries=1", "--timeout=60", "-O", copy,
                f"http://{SERVER}/big").succeeded()
    assert hashlib.sha256(copy.read_bytes()).hexdigest() == expected
    assert relayed(proxied, 80)


GIT = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null",
       "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
       **{f"GIT_{who}_{what}": "tproxy@example.org" for who in ("AUTHOR", "COMMITTER")
          for what in ("NAME", "EMAIL")}}


@pytest.fixture
def repository(proxied):
    """A bare repository with some commits, and the id of the last one."""
    work, bare = proxied.directory / "work", proxied.directory / "www" / "repo.git"
    bare.parent.mkdir(exist_ok=True)

    def git(*args):
        return proxied.run("git", *args, place=proxied.bystander, env=GIT).succeeded().out.strip()

    git("init", "-q", work)
    for number in range(20):
        (work / f"file{number}").write_bytes(os.urandom(50_000))
        git("-C", work, "add", ".")
        git("-C", work, "commit", "-q", "-m", f"commit {number}")
    git("clone", "-q", "--bare", work, bare)
    git("-C", bare, "update-server-info")
    return bare, git("-C", bare, "rev-parse", "HEAD")


def clone(bed, url, expected):
    copy = bed.directory / "clone"
    bed.run("git", "clone", "-q", url, copy, env=GIT).succeeded()
    bed.run("git", "-C", copy, "fsck", "--full", env=GIT).succeeded()
    head = bed.run("git", "-C", copy, "rev-parse", "HEAD", env=GIT).succeeded().out.strip()
    assert head == expected


@pytest.mark.needs("git", "nginx")
def test_git_clone_over_http(proxied, www, repository):
    _, head = repository
    clone(proxied, f"http://{SERVER}/repo.git", head)
    assert relayed(proxied, 80)


@pytest.mark.needs("git")
def test_git_clone_by_git_daemon(proxied, repository):
    bare, head = repository
    start_server(proxied, 9418, "/usr/bin/git", "-c", "safe.directory=*", "daemon",
                 "--export-all", f"--listen={SERVER}", f"--base-path={bare.parent}")
    clone(proxied, f"git://{SERVER}/repo.git", head)
    assert relayed(proxied, 9418)


@pytest.fixture
def separation_directory():
    """sshd requires it, at a fixed place. Tests in parallel share it: each has a lock of it, and
    the last one removes it if a test has made it, which its mode says."""
    path = Path("/run/sshd")
    held = None
    while held is None:
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=MADE_BY_TEST)
        with contextlib.suppress(FileNotFoundError):  # another test has removed it
            held = hold_directory(path)
    yield
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(held).st_mode & 0o777 == MADE_BY_TEST:
            path.rmdir()
    os.close(held)


def hold_directory(path):
    """Returns a descriptor with a lock, or None if the directory was removed meanwhile."""
    held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(held, fcntl.LOCK_SH)
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(held), path.stat()):
            return held
    os.close(held)
    return None


@pytest.mark.needs("ssh", "sshd", "ssh-keygen")
def test_ssh(proxied, separation_directory):
    """The server speaks first. 5 MB go through a command there and back."""
    for name in ("host_key", "key"):
        proxied.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f",
                    proxied.directory / name).succeeded()
    config = proxied.directory / "sshd_config"
    config.write_text(SSHD.format(directory=proxied.directory, address=SERVER))
    start_server(proxied, 22, "/usr/sbin/sshd", "-D", "-e", "-f", config)
    data = os.urandom(5_000_000)
    result = proxied.run(
        "ssh", "-F", "none", "-i", proxied.directory / "key", "-o", "BatchMode=yes",
        "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
        "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=60", f"root@{SERVER}",
        "tee /dev/stderr | sha256sum; echo $SSH_CONNECTION; exit 42", data=data)
    assert result.status == 42, result.out
    digest, connection = result.out.splitlines()
    assert digest.split()[0] == hashlib.sha256(data).hexdigest()
    assert connection.endswith(f"{SERVER} 22")
    assert relayed(proxied, 22)


@pytest.mark.needs("redis-cli", "redis-server")
def test_redis_cli(proxied):
    """One connection with a large value, and 20,000 commands in a pipeline."""
    start_server(proxied, 6379, "/usr/bin/redis-server", "--bind", SERVER, "--port", 6379,
                 "--save", "", "--dir", proxied.directory, "--protected-mode", "no")

    def cli(*args, data=None):
        return proxied.run("redis-cli", "-h", SERVER, *args, data=data).succeeded().out.strip()

    assert cli("PING") == "PONG"
    value = "x" * 2_000_000
    assert cli("-x", "SET", "large", data=value) == "OK"
    assert cli("GET", "large") == value
    assert "errors: 0, replies: 20000" in cli("--pipe", data="INCR counter\r\n" * 20_000)
    assert cli("GET", "counter") == "20000"
    assert relayed(proxied, 6379)


@pytest.mark.needs("nc")
def test_nc_closes_its_sending_side_first(proxied):
    """nc -N: the server reads EOF, and its answer still arrives whole. To see it fail: close the
    whole session at the first EOF."""
    listener = proxied.listen()
    stream = wire.Stream("nc", 3_000_000)

    def answer():
        conn, _ = listener.accept()
        size, digest = wire.receive_stream(conn)
        conn.sendall(f"{size} {digest}\n".encode() * 1000)
        conn.close()

    server = proxied.task(answer, place=proxied.server)
    result = proxied.run("nc", "-N", *listener.getsockname(), data=b"".join(stream.blocks()))
    server.result()
    assert result.succeeded().out == f"{stream.size} {stream.sha256()}\n" * 1000


@pytest.mark.needs("wrk", "nginx")
def test_wrk(proxied, www):
    """50 connections at once for a while, without an error."""
    result = proxied.run("wrk", "--threads", 2, "--connections", 50, "--duration", "2s",
                         "--timeout", "20s", f"http://{SERVER}/index.html").succeeded()
    requests = int(re.search(r"(\d+) requests in", result.out)[1])
    assert requests > 500, result.out
    assert "Socket errors" not in result.out and "Non-2xx" not in result.out, result.out
    wait_until(proxied.pins.at_rest, "maps are empty afterwards")
    wait_until(lambda: len(relayed(proxied, 80)) >= 50, "all are told of")
