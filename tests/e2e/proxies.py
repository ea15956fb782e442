# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Real proxies for the relay to go through, as servers of a bed.

Each function starts one, waits until it listens, and returns it. They listen at SERVER, at SERVER6
and some at a UNIX socket, and ask for USER and PASSWORD if they are started with @login. Each has a
directory of its own for its configuration. A destination sees a connection of theirs come from its
own address, because both are in one namespace, and one of the relay's come from CLIENT or CLIENT6.
"""

import dataclasses
import shutil
import socket
import subprocess
from pathlib import Path

import host
import programs
from harness import SERVER
from host6 import SERVER6

USER, PASSWORD = "alice", "it is; a # secret"
PLAIN_PASSWORD = "secret"  # for Tinyproxy, whose configuration takes letters and digits only

DANTE = """
logoutput: stderr
errorlog: stderr
debug: 0
internal: {SERVER} port = {port}
internal: {SERVER6} port = {port}
external: tproxy0
external.rotation: route
user.privileged: root
user.unprivileged: nobody
clientmethod: none
socksmethod: {method}
client pass {{ from: 0/0 to: 0/0 }}
client block {{ from: 0.0.0.0/32 to: 0/0 }}
socks block {{ from: 0/0 to: 0/0 port = {blocked} command: connect }}
socks pass {{ from: 0/0 to: 0/0 command: connect }}
"""

SQUID = """
http_port {port}
pid_filename none
cache deny all
access_log none
cache_log {directory}/cache.log
cache_store_log none
coredump_dir {directory}
logfile_rotate 0
pinger_enable off
shutdown_lifetime 0 seconds
connect_retries 0
max_filedescriptors 4096
acl blocked port {blocked}
http_access deny blocked
"""

SQUID_LOGIN = """
auth_param basic program /usr/lib/squid/basic_ncsa_auth {directory}/users
auth_param basic realm tproxy
acl known proxy_auth REQUIRED
http_access allow known
http_access deny all
"""

TINYPROXY = """
Port {port}
Timeout 600
MaxClients 200
LogLevel Info
Syslog Off
"""

HAPROXY = """
global
    maxconn 2000
    nbthread 1
defaults
    mode tcp
    timeout connect 10s
    timeout client 1m
    timeout server 1m
listen relay
{binds}
    server s {server}
"""

NGINX = """
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
master_process off;
user root;
error_log stderr;
pid {directory}/nginx.pid;
events {{ worker_connections 1024; }}
stream {{
    map $proxy_protocol_server_addr $destination {{
        default $proxy_protocol_server_addr;
        ~: [$proxy_protocol_server_addr];
    }}
    server {{
        listen {port} proxy_protocol;
        listen [::]:{port} proxy_protocol;
        listen unix:{directory}/socket proxy_protocol;
        proxy_pass $destination:$proxy_protocol_server_port;
    }}
}}
"""

SSHD = """
Port 22
ListenAddress {SERVER}
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/key.pub
PidFile none
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
"""

# The destination port that Dante and Squid are configured to refuse.
BLOCKED = 9999


@dataclasses.dataclass(frozen=True)
class Proxy:
    """A proxy that listens. @type is that of an upstream's section."""

    program: programs.Program
    directory: Path
    type: str
    port: int
    password: str | None = None

    @property
    def inet(self):
        return f"{SERVER}:{self.port}"

    @property
    def inet6(self):
        return f"[{SERVER6}]:{self.port}"

    @property
    def unix(self):
        return self.directory / "socket"


def _directory(bed, name):
    """A directory for one proxy, which its user may enter."""
    number = len(list(bed.directory.glob(f"{name}-*")))
    path = bed.directory / f"{name}-{number}"
    path.mkdir()
    return path


def _write(directory, name, text, **values):
    path = directory / name
    path.write_text(text.format(SERVER=SERVER, SERVER6=SERVER6, directory=directory, **values))
    return path


def _connects(address):
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    family = socket.AF_INET6 if ":" in address[0] else family
    with socket.socket(family) as sock:
        return sock.connect_ex(address) == 0


def start(bed, directory, type, port, *argv, password=None, addresses=(SERVER, SERVER6)):
    """Starts a proxy and waits until it listens."""
    program = bed._started.enter_context(programs.Program(
        *argv, place=bed.server, log=bed.directory / f"{directory.name}.log"))

    def listens():
        return all(_connects((address, port)) for address in addresses)

    host.wait_until(lambda: bed.run_in(listens, place=bed.server) or not program.running(),
                    f"{argv[0]} listens")
    assert program.running(), program.text()
    return Proxy(program, directory, type, port, password)


def dante(bed, port=1080, login=False):
    """Its passwords are those of the system, so it gets a system of its own."""
    directory = _directory(bed, "dante")
    config = _write(directory, "dante.conf", DANTE, port=port, blocked=BLOCKED,
                    method="username" if login else "none")
    argv = ["danted", "-f", config, "-p", directory / "pid"]
    if login:
        passwd = Path("/etc/passwd").read_text() + f"{USER}:x:60999:60999::/:/bin/false\n"
        (directory / "passwd").write_text(passwd)
        (directory / "shadow").write_text(f"{USER}:{_crypted()}:19000:0:99999:7:::\n")
        binds = [f'mount --bind "$0/{name}" /etc/{name}' for name in ("passwd", "shadow")]
        argv = ["unshare", "--mount", "sh", "-c", " && ".join([*binds, 'exec "$@"']), directory,
                *argv]
    return start(bed, directory, "socks5", port, *argv, password=PASSWORD if login else None)


def _crypted():
    return subprocess.run(["openssl", "passwd", "-6", "-stdin"], input=PASSWORD, text=True,
                          capture_output=True, check=True).stdout.strip()


def microsocks(bed, port=1080, login=False, source=None):
    """It connects from @source if that is set."""
    options = ["-u", USER, "-P", PASSWORD] if login else []
    options += ["-b", source] if source else []
    return start(bed, _directory(bed, "microsocks"), "socks5", port, "microsocks", "-i", "::", "-p",
                 port, *options, password=PASSWORD if login else None)


def squid(bed, port=3128, login=False):
    directory = _directory(bed, "squid")
    shutil.chown(directory, "proxy", "proxy")
    (directory / "users").write_text(f"{USER}:{_crypted()}\n")
    config = _write(directory, "squid.conf",
                    SQUID + (SQUID_LOGIN if login else "http_access allow all\n"), port=port,
                    blocked=BLOCKED)
    return start(bed, directory, "http", port, "squid", "-N", "-f", config,
                 password=PASSWORD if login else None)


def tinyproxy(bed, port=8888, login=False):
    directory = _directory(bed, "tinyproxy")
    config = _write(directory, "tinyproxy.conf",
                    TINYPROXY + (f"BasicAuth {USER} {PLAIN_PASSWORD}\n" if login else ""),
                    port=port)
    return start(bed, directory, "http", port, "tinyproxy", "-d", "-c", config,
                 password=PLAIN_PASSWORD if login else None)


def haproxy(bed, port=9000, server="0.0.0.0:0", options="accept-proxy"):
    """By default to the destination that a PROXY header names."""
    directory = _directory(bed, "haproxy")
    binds = "".join(f"    bind {address} {options}\n"
                    for address in (f":::{port} v4v6", f"unix@{directory}/socket mode 666"))
    config = _write(directory, "haproxy.cfg", HAPROXY, binds=binds, server=server)
    return start(bed, directory, "tcp", port, "haproxy", "-db", "-f", config)


def nginx(bed, port=9001):
    directory = _directory(bed, "nginx")
    config = _write(directory, "nginx.conf", NGINX, port=port)
    return start(bed, directory, "tcp", port, "nginx", "-p", directory, "-c", config, "-e",
                 "stderr")


def ssh(bed, port=1080):
    """ssh -D, with the server that it logs in to."""
    directory = _directory(bed, "ssh")
    for name in ("host_key", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name],
                       check=True)
    config = _write(directory, "sshd_config", SSHD)
    start(bed, directory, "ssh", 22, "/usr/sbin/sshd", "-D", "-e", "-f", config,
          addresses=[SERVER])
    return start(bed, directory, "socks5", port, "ssh", "-F", "none", "-N", "-D", f"*:{port}",
                 "-i", directory / "key", "-o", "StrictHostKeyChecking=no",
                 "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", f"root@{SERVER}")
