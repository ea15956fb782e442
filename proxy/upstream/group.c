// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See group.h. A member's score is weight / -ln(u), with u in (0, 1) from the hash: the member with
 * weight 3 has the highest score three times as often as one with weight 1.
 */
#include "group.h"

#include <math.h>
#include <string.h>

#include "parse.h"
#include "tproxy_abi.h"

/* Mixes v into the hash h: the finalizer of splitmix64. */
static uint64_t mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) + UINT64_C(0x9e3779b97f4a7c15);
	h = (h ^ (h >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	h = (h ^ (h >> 27)) * UINT64_C(0x94d049bb133111eb);
	return h ^ (h >> 31);
}

/* Without the port: all connections to a host go the same way. */
static uint64_t hash_address(const union sockaddr_any *addr)
{
	uint64_t words[2] = {};

	if (addr->sa.sa_family == AF_INET6)
		memcpy(words, &addr->in6.sin6_addr, sizeof(words));
	else
		memcpy(words, &addr->in.sin_addr, sizeof(addr->in.sin_addr));
	return mix(mix(addr->sa.sa_family, words[0]), words[1]);
}

static uint64_t hash_key(enum upstream_order order, const struct group_key *key)
{
	if (order == UPSTREAM_HASH_DESTINATION)
		return hash_address(key->dst);
	if (order == UPSTREAM_HASH_CLIENT)
		return key->conn && key->conn->cgroup_id ? mix(0, key->conn->cgroup_id)
							 : hash_address(key->client);
	/* The connection: its id, or the client's address and port. */
	return key->conn && key->conn->cookie
		       ? mix(1, key->conn->cookie)
		       : mix(hash_address(key->client), key->client->in.sin_port);
}

static double score(uint64_t key, const struct upstream *member, uint32_t weight)
{
	/* 53 bits, in (0, 1). */
	double u = ((double)(mix(key, member->conf.id) >> 11) + 0.5) / 9007199254740992.0;

	return weight / -log(u);
}

size_t group_order(const struct upstreams *set, struct upstream *upstream,
		   const struct group_key *key, struct upstream *ret_order[UPSTREAM_MEMBERS_MAX])
{
	const struct upstream_conf *conf = &upstream->conf;
	double scores[UPSTREAM_MEMBERS_MAX];
	struct upstream *const *members;
	uint64_t hash;
	size_t i, j;

	if (conf->type != UPSTREAM_GROUP) {
		ret_order[0] = upstream;
		return 1;
	}
	members = upstreams_members(set, upstream);
	if (conf->order == UPSTREAM_FAILOVER) {
		memcpy(ret_order, members, conf->n_members * sizeof(*members));
		return conf->n_members;
	}
	hash = hash_key(conf->order, key);
	/* Insertion sort, the highest score first. */
	for (i = 0; i < conf->n_members; i++) {
		double s = score(hash, members[i], conf->members[i].weight);

		for (j = i; j > 0 && scores[j - 1] < s; j--) {
			scores[j] = scores[j - 1];
			ret_order[j] = ret_order[j - 1];
		}
		scores[j] = s;
		ret_order[j] = members[i];
	}
	return conf->n_members;
}
