// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl doctor: the registered relays.
 *
 * A connection to a relay's port would prove little, and would be one more for it to reset. Instead
 * each entry of map_config is compared with the process that it names. The process must exist and
 * run, be able to open the pins, and have renewed alive_ns. At each registered address one of its
 * own sockets must listen, in the registered network namespace, and carry tproxy's mark. A program
 * of these pins must answer on it (TPROXY_SO_WHOAMI).
 *
 * The listeners are duplicated with pidfd_getfd(2) (listeners.c), because only a process that holds
 * a socket can read its mark. A proxy that tproxyctl registered has an alive_ns of 0. The sockets
 * with which it connects have no mark, so it must be in the relay cgroup.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bpffs.h"
#include "doctor.h"
#include "host/address.h"
#include "host/cgroup.h"
#include "host/listeners.h"
#include "host/names.h"
#include "host/namespaces.h"
#include "host/process.h"
#include "monotonic.h"
#include "quote.h"
#include "state/relays.h"
#include "tproxy_abi.h"
#include "util.h"
#include "whoami.h"

enum process {
	PROCESS_RUNS,
	PROCESS_STOPPED,
	PROCESS_GONE,
};

/*
 * A relay that registers itself is restarted. A proxy that tproxyctl registered is registered
 * again.
 */
static void fix_relay(struct doctor *d, const struct tproxy_relay *relay)
{
	char quoted[SHELL_QUOTE_LEN(PATH_MAX)];

	if (relay->alive_ns)
		doctor_fix(d, "%s", doctor_fix_relay(d));
	else
		doctor_fix(d, "restart that proxy, then tproxyctl register --pid PID --pin-dir %s",
			   shell_quote(d->pin_dir, quoted, sizeof(quoted)));
}

/*
 * Returns true if tproxy's getsockopt program answers on this listener. The programs that run are
 * those of the cgroup where the socket was created. Another relay cgroup since then means other
 * programs.
 */
static bool is_answered(const struct listening_socket *l)
{
	struct tproxy_whoami who;

	return whoami_query(l->fd, &who) == 0;
}

/* Returns true if there is no finding. */
static bool check_answered(struct doctor *d, const struct tproxy_relay *relay,
			   const struct listeners *own)
{
	char text[ADDRESS_ENDPOINT_LEN], quoted[SHELL_QUOTE_LEN(PATH_MAX)];
	size_t i;

	for (i = 0; i < own->n && is_answered(&own->list[i]); i++)
		;
	if (i == own->n)
		return true;
	doctor_add(
		d, DOCTOR_ERROR, "relay",
		"relay %u: no program of these pins answers at %s, because it is outside of the relay cgroup: connections to it are reset",
		relay->pid, address_format_endpoint(&own->list[i].ep, text));
	doctor_fix(d, "start it in the relay cgroup, see tproxyctl status --pin-dir %s",
		   shell_quote(d->pin_dir, quoted, sizeof(quoted)));
	return false;
}

/* A proxy that does not know tproxy connects with sockets that have no mark. */
static void check_exempt(struct doctor *d, const struct tproxy_relay *relay)
{
	_cleanup_(cgroup_close) struct cgroup own = CGROUP_NULL, relays = CGROUP_NULL;

	if (relay->alive_ns || !d->relay_cgroup_id ||
	    cgroup_path_by_id(d->relay_cgroup_id, &relays.path) < 0 ||
	    cgroup_open_of((pid_t)relay->pid, &own) < 0 || cgroup_is_within(&own, &relays))
		return;
	doctor_add(
		d, DOCTOR_ERROR, "relay",
		"relay %u is at '%s', not in the relay cgroup '%s': its own connections may be redirected to itself",
		relay->pid, own.path, relays.path);
	fix_relay(d, relay);
}

/*
 * Returns true if there is no finding. Listeners that share a port (SO_REUSEPORT) must all be
 * marked.
 */
static bool check_marks(struct doctor *d, __u64 cookie, const struct tproxy_relay *relay,
			const struct tproxy_endpoint *ep, const struct listeners *own)
{
	char text[ADDRESS_ENDPOINT_LEN];
	_cleanup_close_ int fd = -1;
	size_t i;
	int r;

	address_format_endpoint(ep, text);
	r = bpffs_open_map(d->pin_dir, PINNED_MARKS, /* writable= */ false, &fd);
	for (i = 0; i < own->n; i++) {
		struct tproxy_mark mark = {};

		if (own->list[i].netns_cookie != cookie || !listeners_takes(&own->list[i], ep))
			continue;
		if (fd >= 0)
			r = bpf_map_lookup_elem(fd, &own->list[i].fd, &mark);
		if (r < 0 && r != -ENOENT) {
			doctor_add(d, DOCTOR_INFO, "relay",
				   "relay %u: cannot read the mark of %s: %s", relay->pid, text,
				   strerror(-r));
			return true;
		}
		if ((mark.flags & TPROXY_MARK_READY) == TPROXY_MARK_READY)
			continue;
		doctor_add(
			d, DOCTOR_ERROR, "relay",
			mark.flags & TPROXY_MARK_LISTENER
				? "relay %u: sockops is not attached where the listener at %s was created"
				: "relay %u: the listener at %s is not marked for these pins",
			relay->pid, text);
		fix_relay(d, relay);
		return false;
	}
	return true;
}

/* Returns true if there is no finding. */
static bool check_listener(struct doctor *d, __u64 cookie, const struct tproxy_relay *relay,
			   const struct tproxy_endpoint *ep, const struct listeners *own)
{
	const pid_t pid = (pid_t)relay->pid;
	char text[ADDRESS_ENDPOINT_LEN];
	bool elsewhere = false;
	size_t i;

	for (i = 0; i < own->n; i++) {
		if (!listeners_takes(&own->list[i], ep))
			continue;
		if (own->list[i].netns_cookie == cookie)
			return check_marks(d, cookie, relay, ep, own);
		elsewhere = true;
	}
	address_format_endpoint(ep, text);
	if (elsewhere) {
		doctor_add(
			d, DOCTOR_ERROR, "relay",
			"relay %d listens at %s in another network namespace than the one that it is registered for",
			pid, text);
		fix_relay(d, relay);
		return false;
	}
	if (!listeners_anybody(pid, ep)) {
		doctor_add(d, DOCTOR_ERROR, "relay", "relay %d: no socket listens at %s", pid,
			   text);
		fix_relay(d, relay);
		return false;
	}
	doctor_add(d, DOCTOR_ERROR, "relay",
		   "relay %d: the socket that listens at %s belongs to another process", pid, text);
	doctor_fix(d, "ss -Hltnp 'sport = :%u'; end that process, then %s", ep->port,
		   relay->alive_ns ? doctor_fix_relay(d) : "register its proxy again");
	return false;
}

/*
 * Returns the soft limit, which the relay has raised, or 0 if unknown. prlimit(2) would take
 * CAP_SYS_RESOURCE.
 */
static unsigned long open_files_max(pid_t pid)
{
	unsigned long limit = 0;
	_cleanup_fclose_ FILE *f = NULL;
	char path[64], line[128];

	snprintf(path, sizeof(path), "/proc/%d/limits", pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "Max open files %lu", &limit) == 1)
			break;
	}
	return limit;
}

static void check_limits(struct doctor *d, const struct tproxy_relay *relay)
{
	unsigned long limit = open_files_max((pid_t)relay->pid);

	if (!limit || limit >= DOCTOR_NOFILE_FEW)
		return;
	doctor_add(d, DOCTOR_WARNING, "nofile",
		   "relay %u may open only %lu files, two for each connection", relay->pid, limit);
	doctor_fix(d, "systemctl edit %s, set LimitNOFILE=65536 in [Service], restart it",
		   relay->alive_ns ? "tproxy-relay" : "its unit");
}

static enum process check_process(struct doctor *d, const struct tproxy_relay *relay)
{
	const pid_t pid = (pid_t)relay->pid;

	if (!namespaces_is_initial(NAMESPACES_PID)) {
		doctor_add(
			d, DOCTOR_INFO, "relay",
			"relay %d is registered; its process is not visible in this PID namespace",
			pid);
		return PROCESS_GONE;
	}
	if (!process_exists(pid)) {
		doctor_add(d, DOCTOR_ERROR, "relay",
			   "relay %d is registered, but its process does not exist: connections %s",
			   pid, d->fail_closed ? "are refused" : "go directly");
		fix_relay(d, relay);
		return PROCESS_GONE;
	}
	switch (process_state(pid)) {
	case 'Z':
	case 'X':
		doctor_add(d, DOCTOR_ERROR, "relay",
			   "relay %d has ended, but its parent has not waited for it", pid);
		fix_relay(d, relay);
		return PROCESS_GONE;
	case 'T':
	case 't':
		doctor_add(d, DOCTOR_ERROR, "relay", "relay %d is stopped", pid);
		doctor_fix(d, "kill -CONT %d", pid);
		return PROCESS_STOPPED;
	default:
		return PROCESS_RUNS;
	}
}

/*
 * Returns true if the relay has renewed alive_ns, as it does every second. Otherwise it gets no
 * connections. A proxy that tproxyctl registered has 0 there and never renews it.
 */
static bool is_alive(struct doctor *d, const struct tproxy_relay *relay)
{
	uint64_t now = monotonic_kernel_ns();

	if (!relay->alive_ns || now < relay->alive_ns + TPROXY_STALE_NS)
		return true;
	doctor_add(d, DOCTOR_ERROR, "relay",
		   "relay %u has sent no heartbeat for %" PRIu64 " s: connections %s", relay->pid,
		   (uint64_t)(now - relay->alive_ns) / 1000000000,
		   d->fail_closed ? "are refused" : "go directly");
	doctor_fix(d, "%s", doctor_fix_relay(d));
	return false;
}

/* Checks all ports of one family. Returns true if there is no finding. */
static bool check_listeners(struct doctor *d, __u64 cookie, const struct tproxy_relay *relay,
			    const struct tproxy_listen *listen)
{
	_cleanup_(listeners_finish) struct listeners own = {};
	bool serves = true;
	__u32 i;
	int r;

	r = listeners_dup((pid_t)relay->pid, listen->ports, listen->n_ports, &own);
	if (r < 0) {
		doctor_add(d, DOCTOR_INFO, "relay", "relay %u: cannot duplicate its sockets: %s",
			   relay->pid, strerror(-r));
		return true;
	}
	for (i = 0; i < listen->n_ports; i++) {
		const struct tproxy_endpoint ep = address_of_listen(listen, i);

		serves &= check_listener(d, cookie, relay, &ep, &own);
	}
	return serves && check_answered(d, relay, &own);
}

static void report_listeners(struct doctor *d, __u64 cookie, const struct tproxy_relay *relay,
			     const struct tproxy_listen *listen)
{
	char text[ADDRESS_ENDPOINT_LEN], more[32] = "";
	const struct tproxy_endpoint ep = address_of_listen(listen, 0);

	if (listen->n_ports > 1)
		snprintf(more, sizeof(more), " and %d more ports", listen->n_ports - 1);
	doctor_add(d, DOCTOR_OK, "relay",
		   "relay %u of network namespace %" PRIu64 " listens at %s%s, uid %u%s",
		   relay->pid, (uint64_t)cookie, address_format_endpoint(&ep, text), more,
		   relay->uid, relay->alive_ns ? "" : ", registered by tproxyctl");
}

/* Returns true if the relay may open the pins, as it does by name every second. */
static bool check_group(struct doctor *d, const struct tproxy_relay *relay)
{
	_cleanup_free_ char *group = names_group(d->relay_gid);

	if (relays_can_open(relay, d->relay_gid))
		return true;
	doctor_add(
		d, DOCTOR_ERROR, "relay",
		"relay %u may not open the pins, which belong to group %s: its registration ends",
		relay->pid, group ? group : "?");
	doctor_fix(d,
		   "load with --relay-group and the relay's group, or start the relay in group %s",
		   group ? group : "?");
	return false;
}

static void check_relay(struct doctor *d, __u64 cookie, const struct tproxy_relay *relay)
{
	bool serves, well = true;
	enum process process;
	int i;

	process = check_process(d, relay);
	if (process == PROCESS_GONE)
		return;
	serves = process == PROCESS_RUNS && check_group(d, relay) && is_alive(d, relay);
	/* A fault of one family is mostly a fault of both: report it once. */
	for (i = 0; i < _TPROXY_FAMILY_MAX && well; i++) {
		struct tproxy_listen listen = relay->listen[i];

		/* The map may contain any number. */
		if (listen.n_ports > TPROXY_PORTS_MAX)
			listen.n_ports = TPROXY_PORTS_MAX;
		if (!listen.n_ports)
			continue;
		well = check_listeners(d, cookie, relay, &listen);
		if (serves && well)
			report_listeners(d, cookie, relay, &listen);
	}
	if (!relay->listen[TPROXY_INET6].n_ports)
		doctor_add(d, DOCTOR_INFO, "relay", "relay %u does not offer IPv6%s", relay->pid,
			   relay->alive_ns ? "; it does while there are IPv6 routes" : "");
	if (relay->unreachable) {
		doctor_add(d, DOCTOR_WARNING, "relay",
			   "relay %u: %" PRIu64 " connections found no listener of this relay",
			   relay->pid, (uint64_t)relay->unreachable);
		fix_relay(d, relay);
	}
	check_exempt(d, relay);
	check_limits(d, relay);
}

void doctor_relay(struct doctor *d)
{
	_cleanup_free_ struct relays_entry *list = NULL;
	_cleanup_free_ char *group = NULL;
	size_t n = 0, i;
	int r;

	if (!d->loaded)
		return;
	r = relays_read_pinned(d->pin_dir, &list, &n);
	if (r < 0) {
		doctor_add(d, DOCTOR_ERROR, "relay", "cannot read '%s/map_config': %s", d->pin_dir,
			   strerror(-r));
		doctor_fix(d, "%s", doctor_fix_load(d));
		return;
	}
	for (i = 0; i < n; i++)
		check_relay(d, list[i].netns_cookie, &list[i].relay);
	if (n > 0)
		return;
	group = names_group(d->relay_gid);
	doctor_add(d, d->fail_closed ? DOCTOR_ERROR : DOCTOR_WARNING, "relay",
		   "none is registered: connections %s",
		   d->fail_closed ? "are refused" : "go directly");
	doctor_fix(d, "%s; a relay runs as root or in group %s (--relay-group)",
		   doctor_fix_relay(d), group ? group : "?");
}
