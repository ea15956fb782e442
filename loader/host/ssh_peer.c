// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxyctl. See ssh_peer.h. */
#include "ssh_peer.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "address.h"
#include "process.h"
#include "util.h"

#define VARIABLE "SSH_CONNECTION="
/* Generations that are searched. */
#define ANCESTORS_MAX 64
/* The states of sockets in /proc/net/tcp. */
#define STATE_ESTABLISHED 1

bool ssh_peer_parse(const char *value, struct tproxy_endpoint *ret_addr)
{
	char text[INET6_ADDRSTRLEN], *zone;
	struct tproxy_endpoint addr = {};
	unsigned int port;
	__u8 ipv4[4];

	if (sscanf(value, "%45s %5u ", text, &port) != 2 || !port || port > UINT16_MAX)
		return false;
	zone = strchr(text, '%');
	if (zone)
		*zone = '\0';
	if (inet_pton(AF_INET, text, ipv4) == 1)
		address_map4(addr.addr, ipv4);
	else if (inet_pton(AF_INET6, text, addr.addr) != 1)
		return false;
	addr.port = (__u16)port;
	*ret_addr = addr;
	return true;
}

/* Looks for the variable in /proc/PID/environ, where strings end with NULs. */
static bool find_in_environ(pid_t pid, struct tproxy_endpoint *ret_addr)
{
	_cleanup_fclose_ FILE *f = NULL;
	_cleanup_free_ char *line = NULL;
	char path[64];
	size_t size = 0;
	bool found = false;

	snprintf(path, sizeof(path), "/proc/%d/environ", pid);
	f = fopen(path, "re");
	while (f && !found && getdelim(&line, &size, '\0', f) > 0)
		found = strncmp(line, VARIABLE, strlen(VARIABLE)) == 0 &&
			ssh_peer_parse(line + strlen(VARIABLE), ret_addr);
	return found;
}

/* Reads an address of /proc/net/tcp: words of 32 bits in hexadecimal, each in host byte order. */
static bool parse_hex(const char *text, __u8 ret_addr[16])
{
	const size_t words = strlen(text) / 8;
	__u32 word[4];
	size_t i;

	if (words != 1 && words != 4)
		return false;
	for (i = 0; i < words; i++) {
		if (sscanf(text + 8 * i, "%8" SCNx32, &word[i]) != 1)
			return false;
	}
	if (words == 1)
		address_map4(ret_addr, word);
	else
		memcpy(ret_addr, word, sizeof(word));
	return true;
}

struct search {
	bool (*matches)(const struct search *search, const struct tproxy_endpoint *remote,
			unsigned long inode);
	const struct tproxy_endpoint *remote;
	const unsigned long *inodes;
	size_t n_inodes;
};

/* Searches the established connections of the network namespace of @pid, "self" for our own. */
static bool search_file(const char *pid, const char *name, const struct search *search,
			struct tproxy_endpoint *ret_remote)
{
	_cleanup_fclose_ FILE *f = NULL;
	char path[64], line[512], addr[40];
	unsigned int port, state;
	unsigned long inode;

	snprintf(path, sizeof(path), "/proc/%s/net/%s", pid, name);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		struct tproxy_endpoint remote = {};

		if (sscanf(line, " %*u: %*[0-9A-F]:%*x %39[0-9A-F]:%x %x %*s %*s %*s %*u %*u %lu",
			   addr, &port, &state, &inode) != 4 ||
		    state != STATE_ESTABLISHED || !parse_hex(addr, remote.addr))
			continue;
		remote.port = (__u16)port;
		if (!search->matches(search, &remote, inode))
			continue;
		*ret_remote = remote;
		return true;
	}
	return false;
}

static bool search_connections(const char *pid, const struct search *search,
			       struct tproxy_endpoint *ret_remote)
{
	return search_file(pid, "tcp", search, ret_remote) ||
	       search_file(pid, "tcp6", search, ret_remote);
}

static bool has_remote(const struct search *search, const struct tproxy_endpoint *remote,
		       unsigned long inode)
{
	return remote->port == search->remote->port &&
	       memcmp(remote->addr, search->remote->addr, sizeof(remote->addr)) == 0;
}

/* Forwarded connections of a session go to loopback addresses, mostly: they are not its peer. */
static bool has_inode(const struct search *search, const struct tproxy_endpoint *remote,
		      unsigned long inode)
{
	size_t i;

	for (i = 0; i < search->n_inodes; i++) {
		if (search->inodes[i] == inode)
			return !address_is_loopback(remote->addr);
	}
	return false;
}

/* True if the process is one of sshd's: "sshd", or "sshd-session" since OpenSSH 9.8. */
static bool is_sshd(pid_t pid)
{
	_cleanup_fclose_ FILE *f = NULL;
	char path[64], name[32] = "";

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	f = fopen(path, "re");
	return f && fgets(name, sizeof(name), f) && strncmp(name, "sshd", 4) == 0 &&
	       (name[4] == '\n' || name[4] == '-');
}

/* Reads the inodes of the sockets of a process. */
static size_t read_sockets(pid_t pid, unsigned long *inodes, size_t max)
{
	char path[300], target[64];
	_cleanup_closedir_ DIR *dir = NULL;
	struct dirent *entry;
	size_t n = 0;
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	while (dir && n < max && (entry = readdir(dir))) {
		if (!isdigit((unsigned char)*entry->d_name))
			continue;
		len = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);
		target[len < 0 ? 0 : len] = '\0';
		n += sscanf(target, "socket:[%lu]", &inodes[n]) == 1;
	}
	return n;
}

static bool find_by_socket(pid_t pid, struct tproxy_endpoint *ret_addr)
{
	unsigned long inodes[64];
	struct search search = { .matches = has_inode, .inodes = inodes };
	char text[16];

	search.n_inodes = read_sockets(pid, inodes, ARRAY_SIZE(inodes));
	snprintf(text, sizeof(text), "%d", pid);
	return search_connections(text, &search, ret_addr);
}

static bool is_alive(const struct tproxy_endpoint *addr)
{
	const struct search search = { .matches = has_remote, .remote = addr };
	struct tproxy_endpoint found;

	return search_connections("self", &search, &found);
}

bool ssh_peer_find(struct ssh_peer *ret_peer)
{
	const char *own = getenv("SSH_CONNECTION");
	struct tproxy_endpoint addr;
	bool found = own && ssh_peer_parse(own, &addr);
	pid_t pid = getpid();
	int i;

	for (i = 0; i < ANCESTORS_MAX && !found && pid > 1; i++) {
		pid = process_parent(pid);
		found = pid > 1 && (find_in_environ(pid, &addr) ||
				    (is_sshd(pid) && find_by_socket(pid, &addr)));
	}
	if (!found)
		return false;
	*ret_peer = (struct ssh_peer){ .addr = addr, .alive = is_alive(&addr) };
	return true;
}
