// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxyctl, for register and doctor. See listeners.h. */
#include "listeners.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "address.h"
#include "parse.h"
#include "process.h"
#include "process_sockets.h"
#include "util.h"

#define STATE_LISTEN 0x0a /* in /proc/net/tcp */

struct process {
	pid_t pid, parent;
	bool included;
};

static int get_option(int fd, int option, int *ret_value)
{
	socklen_t len = sizeof(*ret_value);

	return getsockopt(fd, SOL_SOCKET, option, ret_value, &len) < 0 ? -errno : 0;
}

/* Returns false if @fd is not a listening TCP socket. Does not take @fd. */
static bool describe(int fd, struct listening_socket *ret)
{
	struct listening_socket l = { .fd = -1 };
	int listens = 0, protocol = 0, domain = 0, v6only = 0;
	socklen_t len = sizeof(l.netns_cookie);
	union sockaddr_any addr = {};

	if (get_option(fd, SO_ACCEPTCONN, &listens) < 0 || !listens ||
	    get_option(fd, SO_DOMAIN, &domain) < 0 || (domain != AF_INET && domain != AF_INET6) ||
	    get_option(fd, SO_PROTOCOL, &protocol) < 0 ||
	    (protocol != IPPROTO_TCP && protocol != IPPROTO_MPTCP))
		return false;
	if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &l.netns_cookie, &len) < 0)
		return false;
	len = sizeof(addr);
	if (getsockname(fd, &addr.sa, &len) < 0)
		return false;
	if (domain == AF_INET6) {
		len = sizeof(v6only);
		if (getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, &len) < 0)
			return false;
		memcpy(l.ep.addr, &addr.in6.sin6_addr, sizeof(l.ep.addr));
	} else {
		address_map4(l.ep.addr, &addr.in.sin_addr);
	}
	l.ep.port = ntohs(addr.in.sin_port);
	l.only6 = v6only;
	l.mptcp = protocol == IPPROTO_MPTCP;
	*ret = l;
	return true;
}

static bool is_wanted(__u16 port, const __u16 *ports, size_t n_ports)
{
	size_t i;

	for (i = 0; i < n_ports; i++) {
		if (ports[i] == port)
			return true;
	}
	return n_ports == 0;
}

/* Appends @l. Takes @fd, on failure too. */
static int add(struct listeners *to, const struct listening_socket *l, int fd)
{
	struct listening_socket *list = reallocarray(to->list, to->n + 1, sizeof(*list));

	if (!list) {
		close(fd);
		return -ENOMEM;
	}
	to->list = list;
	list[to->n] = *l;
	list[to->n++].fd = fd;
	return 0;
}

struct wanted {
	pid_t pid;
	const __u16 *ports;
	size_t n_ports;
	struct listeners *to;
};

/* Called for each socket of a process. */
static int add_wanted(int fd, void *data)
{
	const struct wanted *wanted = data;
	struct listening_socket l;

	if (!describe(fd, &l) || !is_wanted(l.ep.port, wanted->ports, wanted->n_ports)) {
		close(fd);
		return 0;
	}
	l.pid = wanted->pid;
	return add(wanted->to, &l, fd);
}

/* Duplicates the listening sockets of this process alone. */
static int dup_from(pid_t pid, const __u16 *ports, size_t n_ports, struct listeners *to)
{
	struct wanted wanted = { .pid = pid, .ports = ports, .n_ports = n_ports, .to = to };

	return process_sockets_each(pid, add_wanted, &wanted);
}

/* Lists all processes. The caller frees *ret. */
static int list_processes(struct process **ret, size_t *ret_n)
{
	_cleanup_closedir_ DIR *dir = opendir("/proc");
	_cleanup_free_ struct process *list = NULL;
	struct dirent *entry;
	size_t n = 0;

	if (!dir)
		return -errno;
	while ((entry = readdir(dir))) {
		struct process *more;
		uint32_t pid;

		if (parse_u32(entry->d_name, 1, INT32_MAX, &pid) < 0)
			continue;
		more = reallocarray(list, n + 1, sizeof(*list));
		if (!more)
			return -ENOMEM;
		list = more;
		list[n++] =
			(struct process){ .pid = (pid_t)pid, .parent = process_parent((pid_t)pid) };
	}
	*ret = TAKE_PTR(list);
	*ret_n = n;
	return 0;
}

static bool is_included(const struct process *list, size_t n, pid_t pid)
{
	size_t i;

	for (i = 0; i < n; i++) {
		if (list[i].pid == pid)
			return list[i].included;
	}
	return false;
}

static int dup_from_descendants(pid_t pid, const __u16 *ports, size_t n_ports, struct listeners *to)
{
	_cleanup_free_ struct process *list = NULL;
	bool more = true;
	size_t n = 0, i;
	int r;

	r = list_processes(&list, &n);
	if (r < 0)
		return r;
	/* Each round descends by at least one generation. */
	while (more) {
		more = false;
		for (i = 0; i < n; i++) {
			if (list[i].included ||
			    !(list[i].parent == pid || is_included(list, n, list[i].parent)))
				continue;
			list[i].included = more = true;
			r = dup_from(list[i].pid, ports, n_ports, to);
			if (r < 0 && r != -ESRCH)
				return r;
		}
	}
	return 0;
}

int listeners_dup(pid_t pid, const __u16 *ports, size_t n_ports, struct listeners *ret)
{
	_cleanup_(listeners_finish) struct listeners found = {};
	int r;

	r = dup_from(pid, ports, n_ports, &found);
	if (r == 0 && found.n == 0)
		r = dup_from_descendants(pid, ports, n_ports, &found);
	if (r < 0)
		return r;
	*ret = found;
	found = (struct listeners){};
	return 0;
}

void listeners_finish(struct listeners *listeners)
{
	while (listeners->n > 0)
		close(listeners->list[--listeners->n].fd);
	free(listeners->list);
	listeners->list = NULL;
}

static bool takes(const __u8 addr[16], bool only6, const struct tproxy_endpoint *ep)
{
	bool is4 = address_is_ipv4(ep->addr);

	return memcmp(addr, ep->addr, sizeof(ep->addr)) == 0 || (address_is_any4(addr) && is4) ||
	       (address_is_any6(addr) && !(only6 && is4));
}

bool listeners_takes(const struct listening_socket *l, const struct tproxy_endpoint *ep)
{
	return l->ep.port == ep->port && takes(l->ep.addr, l->only6, ep);
}

/*
 * Addresses in /proc/net/tcp{,6} are 32-bit words, each printed in host byte order. @addr gets the
 * bytes in network order, an IPv4 address in its mapped form.
 */
static bool parse_address(const char *hex, __u8 addr[16])
{
	size_t n = strspn(hex, "0123456789ABCDEF") / 8, i;
	uint32_t words[4];

	if (n != 1 && n != 4)
		return false;
	for (i = 0; i < n; i++) {
		if (sscanf(hex + 8 * i, "%8" SCNx32, &words[i]) != 1)
			return false;
	}
	if (n == 1)
		address_map4(addr, words);
	else
		memcpy(addr, words, sizeof(words));
	return true;
}

static bool stands_in(pid_t pid, const char *table, const struct tproxy_endpoint *ep)
{
	char path[64], line[512], local[64];
	unsigned int port, state;
	_cleanup_fclose_ FILE *f = NULL;
	bool found = false;
	__u8 addr[16];

	snprintf(path, sizeof(path), "/proc/%d/net/%s", pid, table);
	f = fopen(path, "re");
	while (f && !found && fgets(line, sizeof(line), f)) {
		/* fields: sl, local, remote, state */
		found = sscanf(line, "%*d: %63[0-9A-F]:%x %*s %x", local, &port, &state) == 3 &&
			state == STATE_LISTEN && port == ep->port && parse_address(local, addr) &&
			takes(addr, /* only6= */ false, ep);
	}
	return found;
}

bool listeners_anybody(pid_t pid, const struct tproxy_endpoint *ep)
{
	return stands_in(pid, "tcp", ep) || stands_in(pid, "tcp6", ep);
}
