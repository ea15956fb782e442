// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl explain: tells what connect() to an address would do now, and why. gather.c reads the
 * facts from /proc and the pins. decide() makes the decision from them, by decide_stage() and
 * decide_by(), which connect4 and connect6 call too. Facts about the socket are assumed: it is new.
 *
 * Each destination makes one JSON object. The text is printed from that object.
 */
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "caller.h"
#include "commands.h"
#include "decide.bpf.h"
#include "gather.h"
#include "host/address.h"
#include "host/json.h"
#include "instances.h"
#include "log.h"
#include "options.h"
#include "rules/prefix.h"
#include "rules/rules.h"
#include "state/counters.h"
#include "state/maps.h"
#include "state/target_list.h"
#include "util.h"

static const struct ctl_usage usage = {
	.command = CTL_EXPLAIN,
	.synopsis = "[-p DIR] [--json] [--batch] [--pid PID] ADDR:PORT...\n"
		    "       tproxyctl explain [-p DIR] [--json] [--batch] [--uid UID] [--gid GID]\n"
		    "                         [-c PATH] [--command NAME] ADDR:PORT...",
	.about =
		"Tells what connect(2) of a process to this address would do now (redirect, direct,\n"
		"observe or refuse), why, by which rule, and what that depends on. --pid names the\n"
		"process. Without it, options give facts, and this process has all others.\n"
		"Changes nothing. An IPv6 address stands in brackets.\n",
};

/* The reason that is not a counter: the hook does not run. */
#define OUT_OF_SCOPE "out_of_scope"

static const char *const verdict_names[] = {
	[VERDICT_DIRECT] = "direct",
	[VERDICT_OBSERVE] = "observe",
	[VERDICT_REDIRECT] = "redirect",
	[VERDICT_REFUSE] = "refuse",
};

static const char *const texts[_TPROXY_STAT_MAX] = {
	[TPROXY_STAT_REDIRECTED] = "a relay is registered here and alive",
	[TPROXY_STAT_BYPASS_RELAY] = "the process is in the relay cgroup",
	[TPROXY_STAT_BYPASS_LOOPBACK] =
		"a loopback destination, and the load had no --include-loopback",
	[TPROXY_STAT_BYPASS_MULTICAST] =
		"a multicast or broadcast destination, for which the kernel fails connect()",
	[TPROXY_STAT_BYPASS_PORT0] = "port 0, where nothing can listen",
	[TPROXY_STAT_BYPASS_REPAIR] = "the socket is in repair mode",
	[TPROXY_STAT_BYPASS_LISTENER] =
		"the destination is the relay itself; tproxy-relay resets such a connection",
	[TPROXY_STAT_LINK_LOCAL] = "a link-local destination cannot be redirected",
	[TPROXY_STAT_UNSUPPORTED] = "the socket has an option that a redirect would break",
	[TPROXY_STAT_NO_RELAY] =
		"no relay is registered for this network namespace and address family",
	[TPROXY_STAT_NO_LISTENER] =
		"a relay is registered, but no marked listener is at its address",
	[TPROXY_STAT_STALLED] = "the relay is registered, but stopped or hung: no heartbeat",
	[TPROXY_STAT_BOUND_DEVICE] = "the socket is bound to a device",
	[TPROXY_STAT_STRAYED] =
		"a SYN of this user to the relay would have left the host, moments ago",
	[TPROXY_STAT_NEGATIVE_CACHE] =
		"the relay could not reach this destination, moments ago (negative cache)",
	[TPROXY_STAT_NO_STORAGE] = "no memory for the socket's record",
	[TPROXY_STAT_OVER_SHARE] =
		"the user, cgroup or slice has used up its share of redirected connections",
	[TPROXY_STAT_MAP_FULL] = "there is no room for one more redirected connection",
	[TPROXY_STAT_RULE_DIRECT] = "the rules say direct",
	[TPROXY_STAT_RULE_OBSERVE] = "the rules say direct, and observe the connection",
	[TPROXY_STAT_RULE_REFUSED] = "the rules refuse it",
	[TPROXY_STAT_BLOCKED] = "the block list has its address",
};

static const char *const class_names[] = {
	[ENDPOINT_ORDINARY] = "ordinary",
	[ENDPOINT_LOOPBACK] = "loopback",
	[ENDPOINT_MULTICAST] = "multicast",
	[ENDPOINT_LINK_LOCAL] = "link-local",
};

static const char *const assumed[] = {
	"a new TCP socket",
	"no mark of a relay",
	"no source address, port or device bound",
	"no TCP_MD5SIG, TCP-AO, IP_MINTTL, IPV6_MINHOPCOUNT, source route or TCP_REPAIR",
	"memory for its record",
	"no program of others that changes the address",
};

/* Adds a path above the caller's cgroup: that of the ancestor at this level. */
static void add_scope(struct json_object *to, const struct cgroup *cgroup, int level)
{
	_cleanup_free_ char *path = strdup(cgroup->path);
	uint32_t i;

	if (!path || level < 0) {
		json_add_string(to, "scope", "none");
		return;
	}
	for (i = cgroup->level; i > (uint32_t)level; i--)
		*strrchr(path, '/') = '\0';
	json_add_string(to, "scope", path);
}

static void add_caller(struct json_object *to, const struct gather *g, const struct gathered *found)
{
	const struct caller *caller = g->caller;

	if (caller->pid)
		json_add_number(to, "pid", (uint64_t)caller->pid);
	json_add_number(to, "uid", caller->uid);
	json_add_number(to, "gid", caller->gid);
	json_add_string(to, "command", caller->command);
	json_add_string(to, "cgroup", caller->cgroup.path);
	add_scope(to, &caller->cgroup, found->scope_level);
	if (g->n_others)
		json_add_number(to, "other_instances", g->n_others);
	json_add_number(to, "netns_cookie", caller->netns_cookie);
	json_add_string(to, "policy",
			g->policy.flags & TPROXY_FAIL_CLOSED ? "fail-closed" : "fail-open");
	json_add_bool(to, "include_loopback", g->policy.flags & TPROXY_INCLUDE_LOOPBACK);
}

/* Adds how long ago @then_ns was in milliseconds, or null for 0. */
static void add_age(struct json_object *to, const char *key, uint64_t then_ns, uint64_t now_ns)
{
	if (!then_ns)
		json_object_object_add(to, key, NULL);
	else
		json_add_number(to, key, now_ns > then_ns ? (now_ns - then_ns) / 1000000 : 0);
}

static void add_relay(struct json_object *to, const struct gathered *found)
{
	const struct facts *facts = &found->facts;

	json_add_bool(to, "relay_registered", facts->has_relay);
	if (!facts->has_relay)
		return;
	json_add_number(to, "relay_pid", found->relay.pid);
	add_age(to, "heartbeat_age_ms", facts->alive_ns, facts->now_ns);
	if (found->n_known <= STAGE_LISTENER)
		return;
	if (found->relay_ep.port)
		json_add_endpoint(to, "relay_address", &found->relay_ep);
	json_add_bool(to, "relay_listens", facts->has_listener);
	json_add_bool(to, "destination_is_relay", facts->dst_is_relay);
	if (found->n_known <= STAGE_HISTORY)
		return;
	add_age(to, "strayed_age_ms", facts->relay_strayed_ns ? facts->user_strayed_ns : 0,
		facts->now_ns);
	json_add_string(to, "negative_cache",
			cached_error(facts) ? strerrorname_np(cached_error(facts)) : "none");
}

static void add_room(struct json_object *to, const struct gathered *found)
{
	const __s64 *connections = found->facts.connections;
	enum tproxy_share share;
	static const char *const names[_TPROXY_SHARE_MAX][2] = {
		[TPROXY_SHARE_USER] = { "connections_of_user", "limit_of_user" },
		[TPROXY_SHARE_CGROUP] = { "connections_of_cgroup", "limit_of_cgroup" },
		[TPROXY_SHARE_SLICE] = { "connections_of_slice", "limit_of_slice" },
	};

	for (share = 0; found->n_known > STAGE_SHARES && share < _TPROXY_SHARE_MAX; share++) {
		json_add_number(to, names[share][0],
				connections[share] > 0 ? (uint64_t)connections[share] : 0);
		json_add_number(to, names[share][1], (uint64_t)share_limit(share));
	}
	if (found->n_known <= STAGE_ROOM)
		return;
	json_add_number(to, "connections", found->n_connections);
	json_add_number(to, "limit", TPROXY_CONNECTIONS_MAX);
}

/*
 * Returns true if the load named the caller's cgroup or one above it, and the named cgroup was
 * created again since.
 */
static bool is_replaced(const struct gather *g)
{
	_cleanup_free_ struct tproxy_target *list = NULL;
	size_t n = 0, i;

	if (target_list_read_pinned(g->pin_dir, &list, &n) < 0)
		return false;
	for (i = 0; i < n; i++) {
		const struct cgroup target = { .path = list[i].path, .fd = -1 };

		if (list[i].flags != TPROXY_TARGET_RELAY &&
		    cgroup_is_within(&g->caller->cgroup, &target) &&
		    target_state_of(&list[i]) == TARGET_REPLACED)
			return true;
	}
	return false;
}

static void add_reason(struct json_object *root, const struct gather *g,
		       const struct gathered *found, enum tproxy_stat reason)
{
	const char *text = texts[reason];

	if (found->scope_level < 0) {
		json_add_string(root, "reason", OUT_OF_SCOPE);
		text = is_replaced(g)
			       ? "a cgroup of the load, this one or one above it, was created again since, and nothing is attached to it; see 'tproxyctl status'"
			       : "tproxy is not attached to this cgroup or one above it";
	} else {
		json_add_string(root, "reason", counters_name(reason));
		if (reason == TPROXY_STAT_NO_RELAY && found->relay.pid)
			text = "the relay that is registered here does not serve this address family: it does not listen there, or has no route";
	}
	json_add_string(root, "text", text);
}

/* Adds the entry of the block list that decides about the destination, if it has one. */
static void add_block(struct json_object *root, const struct gathered *found)
{
	struct json_object *block;
	char prefix[PREFIX_FORMAT_LEN];

	if (found->n_known <= STAGE_BLOCK || !found->block.listed)
		return;
	block = json_object_new_object();
	json_add_string(block, "cidr", prefix_format(&found->block.prefix, prefix, sizeof(prefix)));
	json_add_string(block, "action", found->block.allowed ? "allow" : "block");
	json_object_object_add(root, "block", block);
}

/* Returns true if the verdict depends on the rules, so that no earlier stage decides. */
static bool is_by_rules(const struct gather *g, const struct gathered *found)
{
	const struct facts *facts = &found->facts;

	return found->scope_level >= 0 && found->n_known > STAGE_RULES &&
	       g->rules.rules->generation && !(facts->rule_default && facts->named_only) &&
	       decide(facts, &g->policy, STAGE_SOCKET).verdict == VERDICT_MORE;
}

/* Returns the name of the upstream with this id, or NULL. */
static const char *upstream_name(const struct gather *g, __u32 id)
{
	if (g->advised)
		return *g->advised_name ? g->advised_name : NULL;
	return rules_find_upstream(g->rules.rules, id);
}

/* Adds the upstream that the relay is told to use, by its name, and by its id if that is unknown.
 */
static void add_upstream(struct json_object *root, const struct gather *g, __u32 id)
{
	const char *name = upstream_name(g, id);
	char number[16];

	if (!id)
		return;
	snprintf(number, sizeof(number), "#%08x", id);
	json_add_string(root, "upstream", name ? name : number);
}

/* Adds when a redirected connect() succeeds, and what decides that. See map_pending. */
static void add_connect(struct json_object *root, const struct gathered *found)
{
	const bool capable = found->mark_flags & TPROXY_MARK_HONEST,
		   by_default = found->mark_flags & TPROXY_MARK_HONEST_DEFAULT;
	const __u32 rule = found->rule_flags;
	const bool honest = capable && (rule & TPROXY_RULE_HONEST ||
					(by_default && !(rule & TPROXY_RULE_EAGER)));

	json_add_string(root, "connect", honest ? "honest" : "accepted_first");
	json_add_string(root, "connect_by", !capable ? "not_available" : rule ? "rule" : "relay");
}

static struct json_object *object_of(const struct gather *g, const union sockaddr_any *dst,
				     const struct gathered *found, const struct decision *decision)
{
	struct json_object *root = json_new_document(), *facts = json_object_new_object(),
			   *array = json_object_new_array();
	char destination[FORMAT_ENDPOINT_LEN];
	size_t i;

	/* The address as given: connect6 runs for an IPv4-mapped address. */
	json_add_string(root, "destination", format_endpoint(dst, destination));
	json_add_string(root, "verdict", verdict_names[decision->verdict]);
	add_reason(root, g, found, decision->reason);
	if (g->other)
		json_add_bool(root, "other_instance", true);
	if (decision->verdict == VERDICT_REFUSE) {
		json_add_string(root, "errno", strerrorname_np(decision->error));
		json_add_bool(root, "fail_closed", decision->fail_closed);
	}
	if (decision->verdict == VERDICT_REDIRECT) {
		json_add_endpoint(root, "relay", &found->relay_ep);
		add_upstream(root, g, decision->upstream);
		add_connect(root, found);
	}
	add_block(root, found);
	if (is_by_rules(g, found))
		rule_facts_add_rule(root, &g->rules, &found->rule);
	add_caller(facts, g, found);
	json_add_string(facts, "destination_class", class_names[found->facts.dst_class]);
	json_add_bool(facts, "in_relay_cgroup", found->facts.exempt);
	if (found->n_known > STAGE_RULES && g->rules.rules->generation) {
		json_add_number(facts, "rules_generation", g->rules.rules->generation);
		rule_facts_add_sets(facts, &g->rules, &found->rule);
	}
	if (found->n_known > STAGE_RELAY)
		add_relay(facts, found);
	add_room(facts, found);
	json_object_object_add(root, "facts", facts);
	for (i = 0; i < ARRAY_SIZE(assumed); i++)
		json_object_array_add(array, json_object_new_string(assumed[i]));
	json_object_object_add(root, "assumed", array);
	return root;
}

/* Prints "rule 2 (databases), line 7: direct to @corp", or "default, line 9: default redirect". */
static void print_rule(struct json_object *rule)
{
	const char *name = json_get_string(rule, "name"), *text = json_get_string(rule, "text");
	struct json_object *line = json_object_object_get(rule, "line");

	if (json_get_bool(rule, "default"))
		printf("no rule applies; default");
	else
		printf("rule %s", json_object_get_string(json_object_object_get(rule, "number")));
	if (name)
		printf(" (%s)", name);
	if (line)
		printf(", line %s", json_object_get_string(line));
	printf(": %s\n", text && *text ? text : json_get_string(rule, "action"));
}

/* Prints when connect() succeeds, if the connection is redirected. */
static void print_connect(struct json_object *root)
{
	const char *connect = json_get_string(root, "connect"),
		   *by = json_get_string(root, "connect_by");

	if (!connect)
		return;
	printf("connect(): %s, %s\n",
	       strcmp(connect, "honest") ? "accepted at once, before the destination is reached"
					 : "honest, succeeds when the destination is reached",
	       strcmp(by, "rule") == 0	  ? "by the rule"
	       : strcmp(by, "relay") == 0 ? "by the relay's default"
					  : "because the relay does not offer honest connect");
}

static void print_text(struct json_object *root)
{
	struct json_object *facts = json_object_object_get(root, "facts"),
			   *array = json_object_object_get(root, "assumed"),
			   *block = json_object_object_get(root, "block"),
			   *rule = json_object_object_get(root, "rule");
	const char *error = json_get_string(root, "errno"), *relay = json_get_string(root, "relay"),
		   *upstream = json_get_string(root, "upstream");
	size_t i;

	printf("%s: %s", json_get_string(root, "destination"), json_get_string(root, "verdict"));
	if (error)
		printf(" with %s", error);
	if (relay)
		printf(" to %s", relay);
	if (upstream)
		printf(" via %s", upstream);
	printf("\n%s: %s%s\n", json_get_string(root, "reason"), json_get_string(root, "text"),
	       json_get_bool(root, "fail_closed") ? "; --fail-closed refuses it" : "");
	print_connect(root);
	if (block)
		printf("block list: %s %s\n", json_get_string(block, "action"),
		       json_get_string(block, "cidr"));
	if (json_object_object_get(root, "other_instance"))
		printf("decided by another instance of tproxy, as of tproxyctl run\n");
	if (rule)
		print_rule(rule);
	printf("\n");
	json_object_object_foreach(facts, key, value)
		printf("%-22s %s\n", key, value ? json_object_get_string(value) : "none");
	for (i = 0; i < json_object_array_length(array); i++)
		printf("%-22s %s\n", i ? "" : "assumed",
		       json_object_get_string(json_object_array_get_idx(array, i)));
}

/* Logs that the pin @name cannot be read, without which there is no verdict. Returns @r. */
static int log_unknown(const struct gather *g, const union sockaddr_any *dst, const char *name,
		       int r)
{
	char text[FORMAT_ENDPOINT_LEN], why[MAPS_ERROR_LEN];

	log_err("the verdict for %s depends on '%s/%s', which cannot be read: %s",
		format_endpoint(dst, text), g->pin_dir, name,
		maps_strerror(g->pin_dir, name, r, why));
	return r;
}

/* What one instance decides. Returns 0 or -errno, logged. */
static int decide_by_instance(struct gather *g, const union sockaddr_any *dst,
			      struct gathered *ret_found, struct decision *ret_decision)
{
	struct decision decision = { .verdict = VERDICT_DIRECT };

	gather_facts(g, dst, ret_found);
	if (ret_found->scope_level >= 0)
		decision = decide(&ret_found->facts, &g->policy, ret_found->n_known - 1);
	if (decision.verdict == VERDICT_MORE)
		return log_unknown(g, dst, pinned_maps[g->failed_map].name, ret_found->error);
	/* The link decides whether the caller is in scope. Out of scope a connection is direct. */
	if (ret_found->scope_error && decision.verdict != VERDICT_DIRECT)
		return log_unknown(g, dst, ret_found->scope_link, ret_found->scope_error);
	*ret_decision = decision;
	return 0;
}

/* Notes for the pinned instance what @g tells it, see advise() in bpf/attempt.bpf.h. */
static void take_advice(struct gather *pinned, const struct gather *g, const struct gathered *found)
{
	const struct facts *facts = &found->facts;
	const char *name;

	if (!(g->policy.flags & TPROXY_ADVISES) || found->scope_level < 0 ||
	    found->n_known <= STAGE_RULES)
		return;
	pinned->advised = facts->rule_default && facts->named_only ? 0 : facts->rule_upstream;
	name = upstream_name(g, pinned->advised);
	snprintf(pinned->advised_name, sizeof(pinned->advised_name), "%s", name ? name : "");
}

/*
 * What all instances decide. One that lets a connection go direct leaves it to those above. If the
 * pinned one is not among these, the first one tells how the connection goes direct. Returns 0 and
 * the instance, or -errno, logged.
 */
static int decide_by_all(struct instances *all, const union sockaddr_any *dst,
			 struct gather **ret_by, struct gathered *ret_found,
			 struct decision *ret_decision)
{
	unsigned int i;
	int r;

	all->pinned.advised = 0;
	for (i = 0; i < all->n_others; i++) {
		*ret_by = &all->others[i];
		r = decide_by_instance(*ret_by, dst, ret_found, ret_decision);
		if (r < 0 || ret_decision->verdict == VERDICT_REFUSE ||
		    ret_decision->verdict == VERDICT_REDIRECT)
			return r;
		take_advice(&all->pinned, *ret_by, ret_found);
	}
	*ret_by = &all->pinned;
	r = decide_by_instance(*ret_by, dst, ret_found, ret_decision);
	if (r < 0 || ret_found->scope_level >= 0 || all->n_others == 0)
		return r;
	*ret_by = &all->others[0];
	return decide_by_instance(*ret_by, dst, ret_found, ret_decision);
}

/* Explains one destination. Returns 0 or -errno, logged. */
static int explain(struct instances *all, const union sockaddr_any *dst, bool json, bool first)
{
	_cleanup_(json_put) struct json_object *root = NULL;
	struct decision decision;
	struct gathered found;
	struct gather *by;
	int r;

	r = decide_by_all(all, dst, &by, &found, &decision);
	if (r < 0)
		return r;
	root = object_of(by, dst, &found, &decision);
	if (json) {
		json_print(root);
		return 0;
	}
	if (!first)
		printf("\n");
	print_text(root);
	return 0;
}

/* Explains the destinations on stdin. Returns 0 or -errno, logged. */
static int explain_batch(struct instances *all, bool json, bool first)
{
	_cleanup_free_ char *line = NULL;
	unsigned int number = 0;
	union sockaddr_any dst;
	size_t size = 0;
	ssize_t len;
	int r;

	while ((len = getline(&line, &size, stdin)) >= 0) {
		number++;
		if (len > 0 && line[len - 1] == '\n')
			line[--len] = '\0';
		if (len == 0)
			continue;
		if (strlen(line) != (size_t)len || parse_endpoint(line, &dst) < 0) {
			log_err("line %u of stdin is not ADDR:PORT, such as 192.0.2.1:443 or [2001:db8::1]:443",
				number);
			return -EINVAL;
		}
		r = explain(all, &dst, json, first);
		if (r < 0)
			return r;
		first = false;
	}
	if (ferror(stdin)) {
		r = -errno;
		log_err("cannot read stdin: %s", strerror(-r));
		return r;
	}
	return 0;
}

int ctl_explain(int argc, char **argv)
{
	_cleanup_(caller_finish) struct caller caller = CALLER_NULL;
	struct ctl_options options;
	struct instances all = {};
	size_t i;
	int r;

	r = ctl_options_parse(argc, argv, &usage, &options);
	if (r)
		return r < 0 ? 2 : EXIT_SUCCESS;
	r = maps_check_loaded(options.pin_dir);
	if (r == 0)
		r = caller_read(&options, &caller);
	if (r == 0)
		r = instances_init(&all, options.pin_dir, &caller);
	if (r < 0)
		return EXIT_FAILURE;
	for (i = 0; i < options.n_destinations && r == 0; i++)
		r = explain(&all, &options.destinations[i], options.json, /* first= */ i == 0);
	if (r == 0 && options.batch)
		r = explain_batch(&all, options.json, /* first= */ i == 0);
	instances_finish(&all);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
