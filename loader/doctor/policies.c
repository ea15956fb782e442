// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl doctor: foreign programs that filter packets by cgroup (cgroup_skb), such as those of
 * systemd's IPAddressDeny= and RestrictNetworkInterfaces=.
 *
 * Such a program sees the packets between a client and the relay, and not those between the relay
 * and the server. So a client that may reach only localhost reaches everything, and a client that
 * may not reach localhost reaches nothing. To the kernel a dropped packet is no error, so its
 * connect() waits.
 *
 * The cgroups of each scope are examined, those below it and those above, and the relay cgroup.
 * Their programs are run on made-up packets (filters.h, verdict.h). If packets to the relay are
 * dropped and others pass, that is an error. If the others are dropped too, or if a limit does not
 * hold for redirected connections, that is a warning. A limit that applies to the relay as well
 * still holds.
 */
#include <errno.h>
#include <fts.h>
#include <inttypes.h>
#include <limits.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bpffs.h"
#include "doctor.h"
#include "filters.h"
#include "host/address.h"
#include "host/cgroup.h"
#include "host/cgroup_programs.h"
#include "quote.h"
#include "state/pins.h"
#include "state/policy.h"
#include "state/relays.h"
#include "tproxy_abi.h"
#include "util.h"
#include "verdict.h"

/* A host has some hundred, and each takes some ten microseconds. */
#define CGROUPS_MAX 8192
/* Findings of this check that are printed; the rest is counted. */
#define REPORTED_MAX 24
/* The port of the relay in made-up packets if no relay is registered yet. */
#define USUAL_PORT 3128

struct scan {
	struct doctor *d;
	char *root;
	struct cgroup relay;		 /* the relay cgroup; path NULL: unknown */
	struct tproxy_endpoint where[2]; /* addresses of a relay; port 0: none */
	unsigned int ifindex;		 /* of an interface other than lo */
	unsigned int cgroups, reported, unreported, harmless;
	unsigned int connects, binds; /* cgroups with foreign programs there */
	char *first_connect, *first_bind;
	bool bounded; /* there are more than CGROUPS_MAX cgroups */
	/* cgroups with programs, so that one above two scopes is reported once */
	uint64_t *seen;
	size_t n_seen;
};

/* --- findings */

/*
 * Finds the unit of a cgroup: the innermost component that is the name of one, or the whole path if
 * there is none.
 */
static const char *unit_of(const char *path, char *buf, size_t size)
{
	static const char *const kinds[] = { ".service", ".scope", ".slice",
					     ".socket",	 ".mount", ".swap" };
	const char *end = path + strlen(path), *begin;
	size_t i, len;

	for (; end > path; end = begin - 1) {
		for (begin = end; begin > path && begin[-1] != '/';)
			begin--;
		len = (size_t)(end - begin);
		for (i = 0; i < ARRAY_SIZE(kinds); i++) {
			size_t tail = strlen(kinds[i]);

			if (len > tail && strncmp(end - tail, kinds[i], tail) == 0) {
				snprintf(buf, size, "%.*s", (int)len, begin);
				return buf;
			}
		}
		if (begin == path)
			break;
	}
	snprintf(buf, size, "%s", path);
	return buf;
}

static bool may_report(struct scan *scan)
{
	if (scan->reported == REPORTED_MAX) {
		scan->unreported++;
		return false;
	}
	scan->reported++;
	return true;
}

static void report_cut(struct scan *scan, const char *path, bool of_relays, const char *programs,
		       const struct filters_outcome *o)
{
	char text[ADDRESS_ENDPOINT_LEN], unit[NAME_MAX + 1], quoted[SHELL_QUOTE_LEN(NAME_MAX)];

	if (!may_report(scan))
		return;
	doctor_add(
		scan->d, o->some_pass ? DOCTOR_ERROR : DOCTOR_WARNING, "policy",
		"at '%s', packets to and from the relay at %s are dropped%s: redirected connections%s hang (%s)",
		path, address_format_endpoint(o->relay, text), o->some_pass ? ", others pass" : "",
		of_relays ? "" : " from there", programs);
	doctor_fix(
		scan->d,
		"let %s reach the relay's address (IPAddressAllow=localhost), or leave it out of the scope",
		shell_quote(unit_of(path, unit, sizeof(unit)), quoted, sizeof(quoted)));
}

static void report_not_held(struct scan *scan, const char *path, const char *programs,
			    const struct filters_outcome *o)
{
	char text[ADDRESS_LEN], unit[NAME_MAX + 1], quoted[SHELL_QUOTE_LEN(NAME_MAX)];

	if (!may_report(scan))
		return;
	doctor_add(
		scan->d, DOCTOR_WARNING, "policy",
		"packets at '%s' are dropped by address (to %s, for example), but those to the relay pass: this limit does not hold for redirected connections (%s)",
		path, address_format(&o->dropped, text), programs);
	doctor_fix(scan->d, "set such a limit for the relay's unit, or leave %s out of the scope",
		   shell_quote(unit_of(path, unit, sizeof(unit)), quoted, sizeof(quoted)));
}

static void report_unknown(struct scan *scan, const char *path, const struct filters *filters,
			   int error)
{
	char programs[1024], quoted[SHELL_QUOTE_LEN(PATH_MAX)];

	if (!may_report(scan))
		return;
	filters_describe(filters, programs, sizeof(programs));
	doctor_add(
		scan->d, DOCTOR_WARNING, "policy",
		"programs on packets at '%s' (%s) see the relay's address instead of the server's; the kernel cannot run them for a test: %s",
		path, programs, strerror(-error));
	doctor_fix(scan->d, "examine them: bpftool cgroup show %s",
		   shell_quote(path, quoted, sizeof(quoted)));
}

/* --- cgroups */

/* Returns true if what is decided at this cgroup applies to the relay too. */
static bool holds_for_relays(const struct scan *scan, const struct cgroup *cgroup)
{
	return scan->relay.path && cgroup_is_within(&scan->relay, cgroup);
}

static bool is_of_relays(const struct scan *scan, const struct cgroup *cgroup)
{
	return scan->relay.path && cgroup_is_within(cgroup, &scan->relay);
}

/* Returns true the first time. */
static bool first_time(struct scan *scan, uint64_t id)
{
	uint64_t *grown;
	size_t i;

	for (i = 0; i < scan->n_seen; i++) {
		if (scan->seen[i] == id)
			return false;
	}
	grown = reallocarray(scan->seen, scan->n_seen + 1, sizeof(*grown));
	if (grown) {
		scan->seen = grown;
		scan->seen[scan->n_seen++] = id;
	}
	return true;
}

/* Reports the worst outcome of both families. */
static void judge(struct scan *scan, const struct cgroup *cgroup, const struct filters *filters,
		  const struct filters_outcome outcomes[_TPROXY_FAMILY_MAX])
{
	const bool of_relays = is_of_relays(scan, cgroup);
	const struct filters_outcome *worst = NULL;
	char programs[1024];
	int i, rank = 0, r;

	for (i = 0; i < _TPROXY_FAMILY_MAX; i++) {
		const struct filters_outcome *o = &outcomes[i];

		if (o->cut)
			/* A service that can reach nothing without tproxy is not a finding. */
			r = o->some_pass ? 3 : filters_are_systemds(filters) ? 0 : 1;
		else
			r = o->some_drop && !of_relays && !holds_for_relays(scan, cgroup) ? 2 : 0;
		if (r > rank) {
			rank = r;
			worst = o;
		}
	}
	filters_describe(filters, programs, sizeof(programs));
	if (!worst)
		scan->harmless++;
	else if (worst->cut)
		report_cut(scan, cgroup->path, of_relays, programs, worst);
	else
		report_not_held(scan, cgroup->path, programs, worst);
}

static bool has_programs(int cgroup_fd, enum bpf_attach_type v4, enum bpf_attach_type v6)
{
	struct cgroup_programs programs;

	return (cgroup_programs_query(cgroup_fd, v4, 0, &programs) == 0 && programs.n > 0) ||
	       (cgroup_programs_query(cgroup_fd, v6, 0, &programs) == 0 && programs.n > 0);
}

/*
 * doctor_attached() reports programs on connect at the scope and above it, because tproxy's
 * programs are there too.
 */
static void count_others(struct scan *scan, const struct cgroup *cgroup, bool below)
{
	if (is_of_relays(scan, cgroup))
		return;
	if (below && has_programs(cgroup->fd, BPF_CGROUP_INET4_CONNECT, BPF_CGROUP_INET6_CONNECT) &&
	    scan->connects++ == 0)
		scan->first_connect = strdup(cgroup->path);
	if (has_programs(cgroup->fd, BPF_CGROUP_INET4_BIND, BPF_CGROUP_INET6_BIND) &&
	    scan->binds++ == 0)
		scan->first_bind = strdup(cgroup->path);
}

static void check_cgroup(struct scan *scan, const char *path, bool below)
{
	_cleanup_(cgroup_close) struct cgroup cgroup = CGROUP_NULL;
	_cleanup_(filters_finish) struct filters filters = {};
	struct filters_outcome outcomes[_TPROXY_FAMILY_MAX];
	struct verdict_samples samples = {};
	int r = 0, family;

	if (cgroup_open(path, &cgroup) < 0)
		return; /* removed meanwhile */
	scan->cgroups++;
	count_others(scan, &cgroup, below);
	filters_collect(cgroup.fd, &filters);
	if (filters.n == 0 || !first_time(scan, cgroup.id))
		return;
	filters_choose_samples(&filters, &samples);
	for (family = 0; family < _TPROXY_FAMILY_MAX && r == 0; family++)
		r = filters_try(&filters, &scan->where[family], &samples, scan->ifindex,
				&outcomes[family]);
	if (r < 0)
		report_unknown(scan, cgroup.path, &filters, r);
	else
		judge(scan, &cgroup, &filters, outcomes);
}

/* Checks a scope, all cgroups below it, and each above it. */
static void check_scope(struct scan *scan, const char *path)
{
	char copy[PATH_MAX], *end;
	char *const paths[] = { copy, NULL };
	FTSENT *entry;
	FTS *fts;

	snprintf(copy, sizeof(copy), "%s", path);
	fts = fts_open(paths, FTS_PHYSICAL | FTS_XDEV | FTS_NOCHDIR | FTS_NOSTAT, NULL);
	while (fts && (entry = fts_read(fts))) {
		if (entry->fts_info != FTS_D)
			continue;
		if (scan->cgroups >= CGROUPS_MAX) {
			scan->bounded = true;
			break;
		}
		check_cgroup(scan, entry->fts_path, entry->fts_level > 0);
	}
	if (fts)
		fts_close(fts);
	while (strlen(copy) > strlen(scan->root) && (end = strrchr(copy, '/'))) {
		*end = '\0';
		check_cgroup(scan, *copy ? copy : "/", /* below= */ false);
	}
}

static int check_link(struct pins *pins, const char *name, void *data)
{
	char hook[PINS_LINK_LEN];
	_cleanup_free_ char *path = NULL;
	uint64_t id;

	if (pins_parse_link(name, hook, &id) == 0 && strcmp(hook, "connect4") == 0 &&
	    cgroup_path_by_id(id, &path) == 0)
		check_scope(data, path);
	return 0;
}

/* Finds the addresses and the cgroup of the first registered relay. */
static void find_relay(struct scan *scan)
{
	struct doctor *d = scan->d;
	_cleanup_free_ struct relays_entry *list = NULL;
	struct tproxy_policy policy = {};
	struct tproxy_relay relay = {};
	size_t n = 0;
	int i;

	if (relays_read_pinned(d->pin_dir, &list, &n) == 0 && n > 0)
		relay = list[0].relay;
	for (i = 0; i < _TPROXY_FAMILY_MAX && relay.pid; i++) {
		scan->where[i] = address_of_listen(&relay.listen[i], 0);
		if (!relay.listen[i].n_ports)
			scan->where[i].port = 0;
	}
	policy_read_pinned(d->pin_dir, &policy);
	if (policy.relay_cgroup_id)
		cgroup_path_by_id(policy.relay_cgroup_id, &scan->relay.path);
	if (!scan->relay.path && relay.pid)
		cgroup_open_of((pid_t)relay.pid, &scan->relay);
}

static unsigned int some_interface(void)
{
	struct if_nameindex *list = if_nameindex(), *entry;
	unsigned int found = 0;

	for (entry = list; entry && entry->if_index && !found; entry++) {
		if (strcmp(entry->if_name, "lo") != 0)
			found = entry->if_index;
	}
	if (list)
		if_freenameindex(list);
	return found;
}

static void sum_up(struct scan *scan)
{
	struct doctor *d = scan->d;

	if (scan->unreported)
		doctor_add(d, DOCTOR_WARNING, "policy", "the same holds for %u more cgroups",
			   scan->unreported);
	if (scan->bounded)
		doctor_add(d, DOCTOR_INFO, "policy",
			   "only %u cgroups were examined, there are more", scan->cgroups);
	if (scan->harmless)
		doctor_add(
			d, DOCTOR_INFO, "policy",
			"programs on packets at %u cgroups change nothing for redirected connections",
			scan->harmless);
	if (scan->connects)
		doctor_add(
			d, DOCTOR_INFO, "policy",
			"%u cgroups below, such as '%s', have foreign programs on connect, which run before tproxy's: their decisions by destination hold",
			scan->connects, scan->first_connect ? scan->first_connect : "?");
	if (scan->binds)
		doctor_add(
			d, DOCTOR_INFO, "policy",
			"%u cgroups, such as '%s', have foreign programs on bind: a source address that they choose does not apply to the relay's connection",
			scan->binds, scan->first_bind ? scan->first_bind : "?");
	if (!scan->reported && !scan->harmless)
		doctor_add(d, DOCTOR_OK, "policy",
			   "no foreign programs see the packets of the scope");
}

void doctor_policies(struct doctor *d)
{
	struct scan scan = {
		.d = d,
		.relay = CGROUP_NULL,
		.where = { { .addr = { [10] = 0xff, 0xff, 127, 0, 0, 1 }, .port = USUAL_PORT },
			   { .addr = { [15] = 1 }, .port = USUAL_PORT } },
		.ifindex = some_interface(),
	};
	struct pins pins = { .path = d->pin_dir, .fd = -1 };

	if (!d->privileged || !d->has_cgroup2 || (!d->loaded && !d->cgroup) ||
	    cgroup_root(&scan.root) < 0)
		return;
	if (d->loaded) {
		find_relay(&scan);
		pins_for_each(&pins, check_link, &scan);
	}
	if (d->cgroup)
		check_scope(&scan, d->cgroup);
	if (scan.relay.path)
		check_scope(&scan, scan.relay.path);
	sum_up(&scan);
	cgroup_close(&scan.relay);
	free(scan.root);
	free(scan.seen);
	free(scan.first_connect);
	free(scan.first_bind);
}
