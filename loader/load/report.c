// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxy-load. See report.h. */
#include "report.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "escape.h"
#include "host/names.h"
#include "options.h"
#include "state/pins.h"
#include "targets.h"
#include "util.h"

/* How many paths of a list are printed. */
#define SHOWN_MAX 4

static void print_path(const char *path)
{
	char text[ESCAPE_LEN(PATH_MAX)];

	printf("'%s'", escape_text(path, strlen(path), text, sizeof(text)));
}

/*
 * Prints path @i of @n. The root, whose id is 1, stands for all processes. After SHOWN_MAX paths
 * the rest is only counted.
 */
static void print_scope(size_t i, size_t n, uint64_t id, const char *path)
{
	if (i == SHOWN_MAX && n > SHOWN_MAX + 1)
		printf(" and %zu more", n - SHOWN_MAX);
	if (i >= SHOWN_MAX && n > SHOWN_MAX + 1)
		return;
	printf("%s%s", i > 0 ? ", " : "", id == 1 ? "ALL processes (" : "");
	print_path(path);
	if (id == 1)
		printf(")");
}

static void print_now(const struct targets *t)
{
	size_t n = t->n_scopes + t->n_absent, i;

	for (i = 0; i < t->n_scopes; i++)
		print_scope(i, n, t->scopes[i].id, t->scopes[i].path);
	for (; i < n; i++)
		print_scope(i, n, 0, t->absent[i - t->n_scopes]);
}

static size_t count(const struct report_before *b, __u32 flag)
{
	size_t n = 0, i;

	for (i = 0; i < b->n; i++)
		n += b->list[i].flags == flag;
	return n;
}

static void print_before(const struct report_before *b)
{
	size_t n = count(b, TPROXY_TARGET_SCOPE), shown = 0, i;

	for (i = 0; i < b->n; i++) {
		if (b->list[i].flags == TPROXY_TARGET_SCOPE)
			print_scope(shown++, n, b->list[i].cgroup_id, b->list[i].path);
	}
}

static bool was(const struct report_before *b, __u32 flag, const char *path)
{
	size_t i;

	for (i = 0; i < b->n; i++) {
		if (b->list[i].flags == flag && strcmp(b->list[i].path, path) == 0)
			return true;
	}
	return false;
}

static bool scopes_moved(const struct report_before *b, const struct targets *t)
{
	size_t i;

	if (count(b, TPROXY_TARGET_SCOPE) != t->n_scopes + t->n_absent)
		return true;
	for (i = 0; i < t->n_scopes; i++) {
		if (!was(b, TPROXY_TARGET_SCOPE, t->scopes[i].path))
			return true;
	}
	for (i = 0; i < t->n_absent; i++) {
		if (!was(b, TPROXY_TARGET_SCOPE, t->absent[i]))
			return true;
	}
	return false;
}

static bool relay_moved(const struct report_before *b, const struct targets *t)
{
	if (t->relay.fd < 0)
		return count(b, TPROXY_TARGET_RELAY) > 0;
	return !was(b, TPROXY_TARGET_RELAY, t->relay.path);
}

bool report_moved(const struct report_before *b, const struct targets *t)
{
	if (!b->loaded)
		return false;
	return !b->list || relay_moved(b, t) || (t->relay.fd < 0 && scopes_moved(b, t));
}

static const char *policy_name(__u32 flags)
{
	return flags & TPROXY_FAIL_CLOSED ? "fail-closed" : "fail-open";
}

static void print_relay_cgroup(const struct report_before *b, const struct targets *t)
{
	size_t i;

	printf("; relay cgroup was ");
	for (i = 0; i < b->n && b->list[i].flags != TPROXY_TARGET_RELAY; i++)
		;
	if (i < b->n)
		print_path(b->list[i].path);
	else
		printf("none");
	printf(", now ");
	if (t->relay.fd >= 0)
		print_path(t->relay.path);
	else
		printf("none");
}

/* Prints the state now. Where it differs from the previous one, prints that too. */
static void print_state(const struct report_before *b, const struct targets *t, __u32 flags)
{
	const __u32 changed = b->loaded ? b->policy.flags ^ flags : 0;

	if (b->list && scopes_moved(b, t)) {
		printf("; was ");
		print_before(b);
		printf(", now ");
	} else {
		printf(": ");
	}
	print_now(t);
	if (changed & TPROXY_FAIL_CLOSED)
		printf("; %s -> %s", policy_name(b->policy.flags), policy_name(flags));
	else
		printf(", %s", policy_name(flags));
	if (changed & TPROXY_INCLUDE_LOOPBACK)
		printf("; loopback destinations %s", flags & TPROXY_INCLUDE_LOOPBACK
							     ? "bypassed -> included"
							     : "included -> bypassed");
	if (b->list && relay_moved(b, t))
		print_relay_cgroup(b, t);
}

static void print_group(gid_t gid)
{
	_cleanup_free_ char *text = names_group(gid);

	printf("%s", text ? text : "(out of memory)");
}

static void print_shut_out(unsigned int pid, gid_t gid)
{
	printf("relay %u can no longer renew its registration and gets no connections; load with its group (--relay-group), or start it ",
	       pid);
	printf(gid ? "in group " : "as ");
	print_group(gid);
	printf("\n");
}

static void print_outside(const struct targets *t, const struct withdrawn *outside, gid_t gid)
{
	size_t i;

	for (i = 0; i < outside->n; i++) {
		if (outside->list[i].shut_out) {
			print_shut_out(outside->list[i].relay.pid, gid);
			continue;
		}
		printf("relay %u is outside of these cgroups and gets no connections; start it in ",
		       outside->list[i].relay.pid);
		if (t->relay.fd >= 0)
			print_path(t->relay.path);
		else
			print_now(t);
		printf("\n");
	}
}

void report_load(const struct report_before *b, const struct targets *t,
		 const struct tproxy_policy *policy, const struct load_options *options,
		 size_t n_relays, const struct withdrawn *outside)
{
	char again[PINS_AGAIN_LEN];
	size_t i;

	printf("%s", b->loaded ? "loaded again, live state kept" : "loaded");
	print_state(b, t, policy->flags);
	if (b->loaded && b->relay_gid != options->relay_gid) {
		printf("; relay group was ");
		print_group(b->relay_gid);
		printf(", now ");
		print_group(options->relay_gid);
	}
	if (n_relays == 0)
		printf("; no relay%s: their connections %s", b->loaded ? "" : " yet",
		       policy->flags & TPROXY_FAIL_CLOSED ? "are refused" : "go out directly");
	printf("; pinned in ");
	print_path(options->pin_dir);
	printf("\n");
	pins_format_again(options->pin_dir, again);
	for (i = 0; i < t->n_absent; i++) {
		print_path(t->absent[i]);
		printf(" does not exist; once it does, attach with: %s\n", again);
	}
	print_outside(t, outside, options->relay_gid);
}

void report_check(const struct targets *t, bool fail_closed, const char *pin_dir)
{
	printf("good: would attach to ");
	print_now(t);
	printf(", %s; pin in ", fail_closed ? "fail-closed" : "fail-open");
	print_path(pin_dir);
	printf("\n");
}
