// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See address.h. A path may name a file of another program. So a file is replaced only if it is a
 * socket of the relay's own user, and if no other program is seen to listen there: a listening
 * process (SO_PEERCRED) with another command name. With PrivateUsers= and ProtectProc=, as in
 * the unit, an earlier relay cannot be seen.
 */
#include "address.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log.h"
#include "util.h"

/* A client that finds it full sends its SYN again, after 1, 2 and 4 s. */
#define BACKLOG	 1024
#define COMM_LEN 32

const char *admin_address_parse(const char *text, struct admin_address *ret_address)
{
	struct admin_address address = {};
	const struct in6_addr *a6 = &address.tcp.in6.sin6_addr;

	if (*text == '/') {
		/* The socket is made under a longer name first. */
		if (strlen(text) + sizeof(".new") > sizeof(address.path))
			return "too long for the path of a UNIX socket";
		snprintf(address.path, sizeof(address.path), "%s", text);
		*ret_address = address;
		return NULL;
	}
	if (parse_endpoint(text, &address.tcp) < 0)
		return "neither an absolute path nor ADDR:PORT with a loopback address";
	if (address.tcp.sa.sa_family == AF_INET6
		    ? !IN6_IS_ADDR_LOOPBACK(a6)
		    : ntohl(address.tcp.in.sin_addr.s_addr) >> 24 != IN_LOOPBACKNET)
		return "no loopback address: whoever reaches it sees every connection of this host";
	if (address.tcp.in.sin_port == 0)
		return "without a port";
	*ret_address = address;
	return NULL;
}

static void read_comm(pid_t pid, char comm[COMM_LEN])
{
	_cleanup_fclose_ FILE *file = NULL;
	char path[64];

	*comm = '\0';
	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	file = fopen(path, "re");
	if (file && !fgets(comm, COMM_LEN, file))
		*comm = '\0';
}

static struct sockaddr_un unix_address(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	memcpy(addr.sun_path, path, strnlen(path, sizeof(addr.sun_path) - 1));
	return addr;
}

/* True if a program that is no relay listens at the path. */
static bool is_taken(const char *path)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	const struct sockaddr_un addr = unix_address(path);
	char theirs[COMM_LEN], ours[COMM_LEN];
	socklen_t len = sizeof(struct ucred);
	struct ucred peer;

	if (fd < 0)
		return false;
	if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		/* EPROTOTYPE: a socket of another type. EAGAIN: its backlog is full. */
		return errno == EPROTOTYPE || errno == EAGAIN;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return true;
	read_comm(peer.pid, theirs);
	read_comm(getpid(), ours);
	return *theirs && strcmp(theirs, ours) != 0;
}

/* Returns 0 if there is nothing at the path, or a socket that may be replaced. */
static int check_path(const char *path)
{
	struct stat st;

	if (lstat(path, &st) < 0) {
		if (errno == ENOENT)
			return 0;
		log_err("--admin %s: %m", path);
		return -errno;
	}
	if (!S_ISSOCK(st.st_mode)) {
		log_err("--admin %s: there is a file that is no socket", path);
		return -EEXIST;
	}
	if (st.st_uid != geteuid() || is_taken(path)) {
		log_err("--admin %s: there is a socket of another %s", path,
			st.st_uid != geteuid() ? "user" : "program");
		return -EADDRINUSE;
	}
	return 0;
}

static int bind_unix(const char *path, const char *temporary, int fd, struct stat *ret_stat)
{
	const struct sockaddr_un addr = unix_address(temporary);

	/* A relay that was killed here has left it. */
	unlink(temporary);
	if (bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	/* Nobody can connect before listen(). */
	if (chmod(temporary, 0660) < 0 || lstat(temporary, ret_stat) < 0)
		return -errno;
	/* Only in a directory that gives its own group: the unit's filter refuses chown(). */
	if (ret_stat->st_gid != getegid() && lchown(temporary, (uid_t)-1, getegid()) < 0)
		return -errno;
	return listen(fd, BACKLOG) < 0 || rename(temporary, path) < 0 ? -errno : 0;
}

static int open_unix(const char *path, int fd, struct stat *ret_stat)
{
	char temporary[sizeof(((struct admin_address *)0)->path) + sizeof(".new")];
	int r = check_path(path);

	if (r < 0)
		return r;
	snprintf(temporary, sizeof(temporary), "%s.new", path);
	r = bind_unix(path, temporary, fd, ret_stat);
	if (r < 0) {
		log_err("--admin %s: %s", path, strerror(-r));
		unlink(temporary);
	}
	return r;
}

/* True if a socket listens at the address: without SO_REUSEPORT nothing else can bind to it. */
static bool is_shared(const union sockaddr_any *addr)
{
	_cleanup_close_ int fd = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const int on = 1;

	return fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
	       bind(fd, &addr->sa, sockaddr_len(addr)) < 0 && errno == EADDRINUSE;
}

static int open_tcp(const union sockaddr_any *addr, int fd)
{
	const bool shared = is_shared(addr);
	const int on = 1;
	char text[FORMAT_ENDPOINT_LEN];
	int r = 0;

	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0 ||
	    bind(fd, &addr->sa, sockaddr_len(addr)) < 0 || listen(fd, BACKLOG) < 0)
		r = -errno;
	if (r < 0)
		log_err("--admin %s: %s", format_endpoint(addr, text), strerror(-r));
	else if (shared)
		log_info(
			"--admin %s: another relay listens there too; with the same pins it stops within some seconds, with others each needs an address",
			format_endpoint(addr, text));
	return r;
}

/* Returns 0 if this process can make files in the directory of the path. */
static int check_directory(const char *path)
{
	char directory[sizeof(((struct admin_address *)0)->path)];
	const size_t len = (size_t)(strrchr(path, '/') - path);
	int r;

	snprintf(directory, sizeof(directory), "%.*s", len ? (int)len : 1, path);
	/* The systemd unit makes it at its start. */
	if (faccessat(AT_FDCWD, directory, W_OK | X_OK, AT_EACCESS) == 0 || errno == ENOENT)
		return 0;
	r = -errno;
	log_err("--admin %s: %s", path, strerror(-r));
	return r;
}

int admin_path_check(const char *path)
{
	int r = check_path(path);

	return r < 0 ? r : check_directory(path);
}

int admin_socket_open(const struct admin_address *address, struct admin_socket *ret_socket)
{
	const int family = *address->path ? AF_UNIX : address->tcp.sa.sa_family;
	_cleanup_close_ int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st = {};
	int r;

	if (fd < 0) {
		log_err("--admin: %m");
		return -errno;
	}
	r = *address->path ? open_unix(address->path, fd, &st) : open_tcp(&address->tcp, fd);
	if (r < 0)
		return r;
	*ret_socket = (struct admin_socket){
		.fd = TAKE_FD(fd),
		.address = *address,
		.dev = st.st_dev,
		.ino = st.st_ino,
	};
	return 0;
}

bool admin_socket_is_gone(const struct admin_socket *socket)
{
	struct stat st;

	return *socket->address.path && lstat(socket->address.path, &st) < 0 && errno == ENOENT;
}

void admin_socket_close(struct admin_socket *socket)
{
	struct stat st;

	if (socket->fd < 0)
		return;
	if (*socket->address.path && lstat(socket->address.path, &st) == 0 &&
	    st.st_dev == socket->dev && st.st_ino == socket->ino)
		unlink(socket->address.path);
	util_closep(&socket->fd);
	socket->fd = -1;
}
