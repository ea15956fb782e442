/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What c-ares says of one name, while it is asked for. /etc/hosts answers for both families at
 * once. For name servers A and AAAA are two questions, so that one that answers the first and drops
 * the second holds nothing up: one family is used alone RESOLVER_SETTLE_MS after its answer (RFC
 * 8305, section 3), until the other one's comes.
 */
#ifndef TPROXY_RESOLVER_ANSWER_H
#define TPROXY_RESOLVER_ANSWER_H

#include <ares.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "parse.h"
#include "resolver.h"

#define RESOLVER_SETTLE_MS 50

/* The answer of one family. */
struct answer_part {
	bool asking;
	int error; /* 0 or -errno as in resolved_state() */
	uint64_t ttl_ms;
	size_t n;
	union sockaddr_any addresses[RESOLVER_ADDRESSES_MAX];
};

enum {
	ANSWER_PART_INET,
	ANSWER_PART_INET6,
	_ANSWER_PART_MAX,
};

struct resolver_answer {
	struct answer_part parts[_ANSWER_PART_MAX];
};

/* Returns an answer of which both parts are asked for, or NULL. To be freed by free(). */
struct resolver_answer *resolver_answer_new(void);
/*
 * Takes over what the callback of ares_getaddrinfo() gets for one family, or for both (AF_UNSPEC),
 * but for info itself.
 */
void resolver_answer_note(struct resolver_answer *answer, int family, int status,
			  const struct ares_addrinfo *info);
/* Returns the part of AF_INET or AF_INET6, or NULL for another family. */
const struct answer_part *resolver_answer_part(const struct resolver_answer *answer, int family);
/* True while a part is asked for. */
bool resolver_answer_is_open(const struct resolver_answer *answer);
/* Copies the addresses of both families in turn. Returns their number. */
size_t resolver_answer_addresses(const struct resolver_answer *answer,
				 union sockaddr_any ret[RESOLVER_ADDRESSES_MAX]);
/* Returns 0 or -errno: why there is no address. 0 without an address: c-ares has ended. */
int resolver_answer_error(const struct resolver_answer *answer);
/* Returns -errno if it is not known whether there are addresses of some family, else 0. */
int resolver_answer_unknown(const struct resolver_answer *answer);
/* Takes old addresses, at most RESOLVER_ADDRESSES_MAX, for a family of which that is not known. */
void resolver_answer_keep(struct resolver_answer *answer, const union sockaddr_any *old, size_t n);
/* Returns the shortest TTL of the parts that were answered with addresses, or UINT64_MAX. */
uint64_t resolver_answer_ttl_ms(const struct resolver_answer *answer);

#endif
