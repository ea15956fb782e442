// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl explain. See gather.h. For each gather function of bpf/attempt.bpf.h there is one here
 * that reads the same facts from user space. The socket does not exist: it is taken for a new one.
 */
#include "gather.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "bpffs.h"
#include "host/address.h"
#include "log.h"
#include "monotonic.h"
#include "port.bpf.h"
#include "share.bpf.h"
#include "state/conns.h"
#include "state/direct.h"
#include "state/maps.h"
#include "state/pinned_link.h"
#include "state/policy.h"
#include "util.h"

void gather_prepare(struct gather *g, const char *pin_dir, const struct caller *caller)
{
	size_t i;

	*g = (struct gather){
		.pin_dir = pin_dir,
		.caller = caller,
		.programs = LISTENER_MARK_NULL,
		.rules = RULE_FACTS_SOURCE_NULL,
	};
	for (i = 0; i < ARRAY_SIZE(g->maps); i++)
		g->maps[i] = -1;
}

int gather_init(struct gather *g, const char *pin_dir, const struct caller *caller)
{
	int r;

	gather_prepare(g, pin_dir, caller);
	g->rules.pin_dir = pin_dir;
	r = policy_read_pinned(pin_dir, &g->policy);
	return r < 0 ? maps_log_error(pin_dir, PINNED_POLICY, r) : 0;
}

void gather_finish(struct gather *g)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(g->maps); i++)
		util_closep(&g->maps[i]);
	listener_mark_close(&g->programs);
	rule_facts_finish(&g->rules);
}

static int open_map(struct gather *g, enum pinned_map_id id)
{
	g->failed_map = id;
	if (g->other)
		return g->maps[id] < 0 ? -ESTALE : 0;
	return g->maps[id] < 0 ? bpffs_open_map(g->pin_dir, id, /* writable= */ false, &g->maps[id])
			       : 0;
}

/* Returns 0, -ENOENT if there is no such entry, or another -errno. */
static int lookup(struct gather *g, enum pinned_map_id id, const void *key, void *ret_value)
{
	int r = open_map(g, id);

	/* To callers -ENOENT means a missing entry. Return another error for a missing map. */
	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	return bpf_map_lookup_elem(g->maps[id], key, ret_value);
}

/*
 * Finds the cgroup, the caller's or one above it, that the hook is attached to. If the hook is
 * attached to none, but the link of one cannot be read, that cgroup counts as attached and
 * out->scope_error is set.
 */
static void find_scope(const struct gather *g, enum hook_id hook, struct gathered *out)
{
	const struct pins pins = { .path = g->pin_dir, .fd = -1 };
	struct pinned_link link;
	char name[PINS_LINK_LEN];
	int level, r;

	out->scope_level = -1;
	if (g->other) {
		out->scope_level =
			direct_level_of(g->other, &hooks[HOOK_CONNECT4], &g->caller->cgroup);
		return;
	}
	for (level = (int)g->caller->cgroup.level; level >= 0; level--) {
		pins_format_link(hooks[hook].name, g->caller->cgroup_ids[level], name);
		r = pinned_link_read(&pins, name, &link);
		if (r == 0 && link.attached) {
			out->scope_level = level;
			out->scope_error = 0;
			return;
		}
		if (r < 0 && r != -ENOENT && !out->scope_error) {
			out->scope_level = level;
			out->scope_error = r;
			strcpy(out->scope_link, name);
		}
	}
	if (out->scope_level < 0)
		out->scope_level = direct_level(g->pin_dir, &hooks[hook], &g->caller->cgroup);
}

static int gather_destination(struct gather *g, struct gathered *out)
{
	out->facts.dst_class = endpoint_class(&out->dst);
	out->facts.dst_port = out->dst.port;
	return 0;
}

static int gather_block(struct gather *g, struct gathered *out)
{
	struct block_facts_maps maps = { .allow = -1 };
	struct tproxy_block block;
	const __u32 key = 0;
	int slot, r;

	if (out->facts.dst_class == ENDPOINT_LOOPBACK)
		return 0;
	r = lookup(g, PINNED_BLOCK, &key, &block);
	if (r < 0 || !(block.state & TPROXY_BLOCK_ENTRIES))
		return r;
	slot = block.state & TPROXY_BLOCK_SLOT ? 1 : 0;
	r = open_map(g, PINNED_BLOCK_0 + TPROXY_BLOCK_TRIE(slot, TPROXY_BLOCK));
	if (r == 0 && block.state & TPROXY_BLOCK_ALLOWS) {
		r = open_map(g, PINNED_BLOCK_0 + TPROXY_BLOCK_TRIE(slot, TPROXY_ALLOW));
		maps.allow = g->maps[PINNED_BLOCK_0 + TPROXY_BLOCK_TRIE(slot, TPROXY_ALLOW)];
	}
	maps.block = g->maps[PINNED_BLOCK_0 + TPROXY_BLOCK_TRIE(slot, TPROXY_BLOCK)];
	if (r == 0)
		r = block_facts_find(&maps, &out->dst, &out->block);
	if (r == 0 && out->block.listed && !out->block.allowed)
		out->facts.block_error = block_facts_error(&block, block.state);
	return r == -ENOENT ? -ESTALE : r;
}

static uint64_t cgroup_id_at(const struct caller *caller, uint32_t level)
{
	return level <= caller->cgroup.level ? caller->cgroup_ids[level] : 0;
}

static int gather_caller(struct gather *g, struct gathered *out)
{
	const struct tproxy_policy *policy = &g->policy;

	out->facts.exempt =
		policy->relay_cgroup_id &&
		cgroup_id_at(g->caller, policy->relay_cgroup_level) == policy->relay_cgroup_id;
	return 0;
}

/* A new socket has no option that matters, and is bound to nothing. */
static int gather_socket(struct gather *g, struct gathered *out)
{
	return 0;
}

static int gather_rules(struct gather *g, struct gathered *out)
{
	struct facts *facts = &out->facts;
	const struct tproxy_rules *rules;
	const struct tproxy_rule *row;
	int r;

	facts->rule_default = true;
	facts->named_only = is_named_only(facts, &g->policy);
	r = rule_facts_refresh(&g->rules, g->caller, &g->failed_map);
	if (r == 0)
		r = rule_facts_find(&g->rules, g->caller, &out->dst, facts->named_only, &out->rule,
				    &g->failed_map);
	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	rules = g->rules.rules;
	facts->rule_upstream = g->advised;
	if (!rules->generation)
		return 0;
	facts->rule_action = rules->default_action;
	facts->rule_error = rules->default_error;
	out->rule_flags = rules->default_flags;
	if (!g->advised)
		facts->rule_upstream = rules->default_upstream;
	if (out->rule.row < 0)
		return 0;
	row = &rules->rows[out->rule.row];
	facts->rule_default = false;
	facts->rule_action = row->action;
	facts->rule_error = row->error;
	out->rule_flags = row->flags;
	if (!g->advised)
		facts->rule_upstream = row->upstream;
	return 0;
}

/* As take_port() in bpf/target.bpf.h. Returns the index of the port. */
static __u32 choose_port(const struct tproxy_listen *listen, const struct tproxy_loads *loads)
{
	struct port_least least = { .loads = loads->n, .load = INT_MAX };
	__u32 i;

	for (i = 0; i < listen->n_ports; i++)
		port_compare(i, &least);
	return least.index % TPROXY_PORTS_MAX;
}

static const struct tproxy_listen *listen_of(const struct gathered *out)
{
	return &out->relay.listen[endpoint_is_mapped4(&out->dst) ? TPROXY_INET : TPROXY_INET6];
}

static int gather_relay(struct gather *g, struct gathered *out)
{
	const struct tproxy_listen *listen = listen_of(out);
	struct tproxy_loads loads;
	__u32 key;
	int r;

	out->facts.now_ns = monotonic_kernel_ns();
	r = lookup(g, PINNED_CONFIG, &g->caller->netns_cookie, &out->relay);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	out->facts.alive_ns = out->relay.alive_ns;
	out->facts.relay_strayed_ns = out->relay.strayed_ns;
	if (listen->n_ports == 0)
		return 0;
	key = port_loads_index(g->caller->netns_cookie, listen);
	r = lookup(g, PINNED_LOADS, &key, &loads);
	if (r < 0)
		return r;
	out->relay_ep = address_of_listen(listen, choose_port(listen, &loads));
	out->facts.has_relay = out->relay_ep.port && endpoint_is_mapped4(&out->relay_ep) ==
							     endpoint_is_mapped4(&out->dst);
	return 0;
}

static int find_listener(struct gather *g, const struct tproxy_endpoint *ep, bool *ret_found,
			 __u32 *ret_flags)
{
	int r = open_map(g, PINNED_MARKS);

	*ret_flags = 0;
	if (r == 0)
		r = listener_mark_read(&g->programs, g->maps[PINNED_MARKS], ep, ret_flags);
	*ret_found = (*ret_flags & TPROXY_MARK_READY) == TPROXY_MARK_READY;
	return r;
}

static __u32 index_of(const struct tproxy_listen *listen, __u16 port)
{
	__u32 i = 0;

	while (i < TPROXY_PORTS_MAX - 1 && listen->ports[i] != port)
		i++;
	return i;
}

static int gather_listener(struct gather *g, struct gathered *out)
{
	const struct tproxy_listen *listen = listen_of(out);
	__u32 unused;
	int r;

	r = find_listener(g, &out->relay_ep, &out->facts.has_listener, &out->mark_flags);
	if (r == 0 && !out->facts.has_listener) {
		__u32 next = port_next(listen, index_of(listen, out->relay_ep.port));

		out->relay_ep.port = listen->ports[next];
		r = find_listener(g, &out->relay_ep, &out->facts.has_listener, &out->mark_flags);
	}
	if (r == 0 && port_is_relays(listen, &out->dst))
		r = find_listener(g, &out->dst, &out->facts.dst_is_relay, &unused);
	return r;
}

static int gather_history(struct gather *g, struct gathered *out)
{
	const struct tproxy_strayed_key strayed_key = { .netns_cookie = g->caller->netns_cookie,
							.uid = g->caller->uid };
	const struct tproxy_failed_key failed_key = { .netns_cookie = g->caller->netns_cookie,
						      .dst = out->dst,
						      .upstream = out->facts.rule_upstream };
	struct tproxy_failed failed;
	int r;

	if (is_recent_stray(out->facts.relay_strayed_ns, out->facts.now_ns)) {
		r = lookup(g, PINNED_STRAYED, &strayed_key, &out->facts.user_strayed_ns);
		if (r < 0 && r != -ENOENT)
			return r;
	}
	r = lookup(g, PINNED_FAILED, &failed_key, &failed);
	if (r == 0) {
		out->facts.failed_until_ns = failed.expires_ns;
		out->facts.failed_error = failed.error;
	}
	return r == -ENOENT ? 0 : r;
}

static int gather_shares(struct gather *g, struct gathered *out)
{
	const uint64_t ids[_TPROXY_SHARE_MAX] = {
		[TPROXY_SHARE_USER] = g->caller->uid,
		[TPROXY_SHARE_CGROUP] = g->caller->cgroup.id,
		[TPROXY_SHARE_SLICE] = cgroup_id_at(g->caller, SLICE_LEVEL),
	};
	enum tproxy_share share;
	int r = 0;

	out->facts.has_storage = true;
	for (share = 0; share < _TPROXY_SHARE_MAX && r == 0; share++) {
		__u32 key = share_index(g->policy.seed, share, ids[share]);

		r = lookup(g, PINNED_SHARES, &key, &out->facts.connections[share]);
	}
	return r;
}

static int gather_room(struct gather *g, struct gathered *out)
{
	int r = open_map(g, PINNED_SOCKS);

	if (r == 0)
		r = conns_count(g->maps[PINNED_SOCKS], &out->n_connections);
	out->facts.has_room = out->n_connections < TPROXY_CONNECTIONS_MAX;
	return r;
}

/* Writes a socket address as the hooks see it. A mapped IPv4 address stays one. */
static void endpoint_from(const union sockaddr_any *addr, struct tproxy_endpoint *ret)
{
	__be32 ip[4];

	if (addr->sa.sa_family == AF_INET) {
		endpoint_set4(ret, addr->in.sin_addr.s_addr, ntohs(addr->in.sin_port));
		return;
	}
	memcpy(ip, &addr->in6.sin6_addr, sizeof(ip));
	endpoint_set6(ret, ip, ntohs(addr->in6.sin6_port));
}

void gather_facts(struct gather *g, const union sockaddr_any *dst, struct gathered *ret)
{
	static int (*const stages[_STAGE_MAX])(struct gather * g, struct gathered * out) = {
		[STAGE_DESTINATION] = gather_destination,
		[STAGE_BLOCK] = gather_block,
		[STAGE_CALLER] = gather_caller,
		[STAGE_SOCKET] = gather_socket,
		[STAGE_RULES] = gather_rules,
		[STAGE_RELAY] = gather_relay,
		[STAGE_LISTENER] = gather_listener,
		[STAGE_HISTORY] = gather_history,
		[STAGE_SHARES] = gather_shares,
		[STAGE_ROOM] = gather_room,
	};

	*ret = (struct gathered){};
	endpoint_from(dst, &ret->dst);
	find_scope(g, dst->sa.sa_family == AF_INET ? HOOK_CONNECT4 : HOOK_CONNECT6, ret);
	while (ret->n_known < _STAGE_MAX) {
		/* Without a relay the later stages have no facts. */
		if (ret->n_known > STAGE_RELAY && !ret->facts.has_relay)
			return;
		ret->error = stages[ret->n_known](g, ret);
		if (ret->error < 0)
			return;
		ret->n_known++;
	}
}
