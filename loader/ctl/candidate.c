// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl register: checks of the proxy that is to be registered, see candidate.h.
 *
 * Its own sockets have no mark, so it must be in the relay cgroup, or outside of all scopes if
 * there is none. Otherwise its connections would be redirected to itself. A relay has one address
 * for each family; a listener at a wildcard is reached at the loopback address.
 */
#include "candidate.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "host/address.h"
#include "host/cgroup.h"
#include "log.h"
#include "options.h"
#include "state/pins.h"
#include "util.h"

static bool listens_at(const struct listeners *listeners, __u16 port)
{
	size_t i;

	for (i = 0; i < listeners->n; i++) {
		if (listeners->list[i].ep.port == port)
			return true;
	}
	return false;
}

/*
 * Duplicates the listening sockets, and checks that all --port options have one. Returns 0 or
 * -errno, logged.
 */
static int dup_listeners(struct candidate *c)
{
	const struct ctl_options *o = c->options;
	size_t i;
	int r;

	r = listeners_dup(o->pid, o->ports, o->n_ports, &c->listeners);
	if (r == -ESRCH)
		log_err("process %d does not exist", o->pid);
	else if (r == -EPERM || r == -EACCES)
		log_err("cannot duplicate the sockets of process %d: %s; this requires CAP_SYS_PTRACE, and kernel.yama.ptrace_scope below 3",
			o->pid, strerror(-r));
	else if (r < 0)
		log_err("cannot duplicate the sockets of process %d: %s", o->pid, strerror(-r));
	if (r < 0)
		return r;
	if (o->n_ports == 0 && c->listeners.n == 0) {
		log_err("neither process %d nor its children listen on a TCP port; start the proxy first",
			o->pid);
		return -ENOENT;
	}
	for (i = 0; i < o->n_ports; i++) {
		if (listens_at(&c->listeners, o->ports[i]))
			continue;
		log_err("neither process %d nor its children listen on TCP port %u; see 'ss -Hltnp'",
			o->pid, o->ports[i]);
		return -ENOENT;
	}
	return 0;
}

/*
 * A callback of pins_for_each(): returns nonzero if the cgroup @data is in the scope of this link.
 */
static int is_in_scope(struct pins *pins, const char *name, void *data)
{
	struct cgroup scope = { .fd = -1 };
	char hook[PINS_LINK_LEN];
	uint64_t id;
	bool within;

	if (pins_parse_link(name, hook, &id) < 0 || strcmp(hook, "connect4") != 0 ||
	    cgroup_path_by_id(id, &scope.path) < 0)
		return 0;
	within = cgroup_is_within(data, &scope);
	cgroup_close(&scope);
	return within;
}

/*
 * Checks that connections of the process are exempt, because otherwise they come back to it.
 * Returns 0 or -errno, logged.
 */
static int check_cgroup(const struct candidate *c, pid_t pid)
{
	_cleanup_(cgroup_close) struct cgroup own = CGROUP_NULL, relay = CGROUP_NULL;
	struct pins pins = { .path = c->options->pin_dir, .fd = -1 };
	int r;

	r = cgroup_open_of(pid, &own);
	if (r < 0) {
		log_err("cannot find the cgroup of process %d: %s", pid, strerror(-r));
		return r;
	}
	if (!c->relay_cgroup_id) {
		if (pins_for_each(&pins, is_in_scope, &own) == 0)
			return 0;
		log_err("process %d is in scope, at '%s', so its own connections would be redirected to itself; load with --relay-cgroup, and start the proxy in that cgroup",
			pid, own.path);
		return -ELOOP;
	}
	r = cgroup_path_by_id(c->relay_cgroup_id, &relay.path);
	if (r < 0) {
		log_err("cannot find the relay cgroup: %s; load again with --relay-cgroup",
			r == -ESTALE ? "it was removed" : strerror(-r));
		return r;
	}
	if (cgroup_is_within(&own, &relay))
		return 0;
	log_err("process %d is at '%s', not in the relay cgroup '%s', so its own connections could be redirected to itself; start it there, as with Slice= of its unit",
		pid, own.path, relay.path);
	return -ELOOP;
}

/*
 * Checks the cgroup of each process that holds listeners, and that all listeners are in one network
 * namespace. Returns 0 or -errno, logged.
 */
static int check_holders(const struct candidate *c)
{
	const struct listening_socket *list = c->listeners.list;
	size_t i;
	int r;

	for (i = 0; i < c->listeners.n; i++) {
		if (list[i].netns_cookie != list[0].netns_cookie) {
			log_err("process %d listens in more than one network namespace; choose one with --port",
				c->options->pid);
			return -EXDEV;
		}
		if (i > 0 && list[i].pid == list[i - 1].pid)
			continue;
		r = check_cgroup(c, list[i].pid);
		if (r < 0)
			return r;
	}
	return 0;
}

/*
 * Adds a port, in host byte order, to those of one family. A relay has one address for each family.
 * Returns 0 or -errno, logged.
 */
static int add_port(const struct candidate *c, struct tproxy_listen *listen, const __u8 addr[16],
		    __u16 port)
{
	struct tproxy_endpoint one = { .port = port }, other = address_of_listen(listen, 0);
	char text[ADDRESS_ENDPOINT_LEN], other_text[ADDRESS_ENDPOINT_LEN];
	int i;

	memcpy(one.addr, addr, sizeof(one.addr));
	if (listen->n_ports && memcmp(one.addr, other.addr, sizeof(one.addr)) != 0) {
		log_err("process %d listens on %s and on %s, but a relay has one address per family; choose one with --port",
			c->options->pid, address_format_endpoint(&other, other_text),
			address_format_endpoint(&one, text));
		return -ENOTUNIQ;
	}
	for (i = 0; i < listen->n_ports; i++) {
		if (listen->ports[i] == port)
			return 0;
	}
	if (listen->n_ports == TPROXY_PORTS_MAX) {
		log_err("process %d listens on more than %d ports; choose some with --port",
			c->options->pid, TPROXY_PORTS_MAX);
		return -E2BIG;
	}
	memcpy(listen->addr, addr, sizeof(listen->addr));
	listen->ports[listen->n_ports++] = port;
	return 0;
}

/* True for a multicast address and for 255.255.255.255. bind() accepts both for IPv4. */
static bool is_multicast(const __u8 addr[16])
{
	if (address_is_ipv4(addr))
		return (addr[12] & 0xf0) == 0xe0 || memcmp(addr + 12, "\xff\xff\xff\xff", 4) == 0;
	return addr[0] == 0xff;
}

/*
 * Adds the address and port of a listener; for a wildcard the loopback address. Returns 0 or
 * -errno, logged.
 */
static int add_listener(const struct candidate *c, const struct listening_socket *l,
			struct tproxy_listen listen[_TPROXY_FAMILY_MAX])
{
	char text[ADDRESS_ENDPOINT_LEN];
	struct in6_addr ip;
	int r;

	if (l->mptcp) {
		log_err("process %d listens on %s with Multipath TCP, which tproxy cannot redirect to; disable it in the proxy (programs in Go: GODEBUG=multipathtcp=0)",
			c->options->pid, address_format_endpoint(&l->ep, text));
		return -EPROTONOSUPPORT;
	}
	if (is_multicast(l->ep.addr)) {
		log_err("process %d listens on %s, a multicast or broadcast address, to which no client can connect; choose another with --port",
			c->options->pid, address_format_endpoint(&l->ep, text));
		return -EADDRNOTAVAIL;
	}
	if (address_is_any4(l->ep.addr))
		return add_port(c, &listen[TPROXY_INET], address_loopback4, l->ep.port);
	if (address_is_any6(l->ep.addr)) {
		r = add_port(c, &listen[TPROXY_INET6], address_loopback6, l->ep.port);
		if (r < 0 || l->only6)
			return r;
		return add_port(c, &listen[TPROXY_INET], address_loopback4, l->ep.port);
	}
	if (address_is_ipv4(l->ep.addr))
		return add_port(c, &listen[TPROXY_INET], l->ep.addr, l->ep.port);
	/* The address in *l is aligned for bytes only; the macro reads words. */
	memcpy(&ip, l->ep.addr, sizeof(ip));
	if (IN6_IS_ADDR_LINKLOCAL(&ip)) {
		log_err("process %d listens on the link-local address %s, which tproxy cannot redirect to; choose another with --port",
			c->options->pid, address_format_endpoint(&l->ep, text));
		return -EADDRNOTAVAIL;
	}
	return add_port(c, &listen[TPROXY_INET6], l->ep.addr, l->ep.port);
}

int candidate_open(struct candidate *c)
{
	size_t i;
	int r;

	r = dup_listeners(c);
	if (r < 0)
		return r;
	r = check_holders(c);
	for (i = 0; r == 0 && i < c->listeners.n; i++)
		r = add_listener(c, &c->listeners.list[i], c->listen);
	return r;
}

void candidate_finish(struct candidate *c)
{
	listeners_finish(&c->listeners);
}
