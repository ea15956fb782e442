/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What c-ares says of one name, while it is asked for. /etc/hosts answers for both families at
 * once. For name servers A and AAAA are two questions, so that one that answers the first and drops
 * the second holds nothing up: one family is used alone NAME_ANSWER_SETTLE_MS after its answer (RFC
 * 8305, section 3), until the other one's comes.
 */
#ifndef TPROXY_UPSTREAM_NAME_ANSWER_H
#define TPROXY_UPSTREAM_NAME_ANSWER_H

#include <ares.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "parse.h"
#include "resolver.h"

#define NAME_ANSWER_SETTLE_MS 50

/* The answer of one family. */
struct name_part {
	bool asking;
	int error; /* 0 or -errno as in resolved_state() */
	uint64_t ttl_ms;
	size_t n;
	union sockaddr_any addresses[RESOLVER_ADDRESSES_MAX];
};

enum {
	NAME_PART_INET,
	NAME_PART_INET6,
	_NAME_PART_MAX,
};

struct name_answer {
	struct name_part parts[_NAME_PART_MAX];
};

/* Returns an answer of which both parts are asked for, or NULL. To be freed by free(). */
struct name_answer *name_answer_new(void);
/*
 * Takes over what the callback of ares_getaddrinfo() gets for one family, or for both (AF_UNSPEC),
 * but for info itself.
 */
void name_answer_note(struct name_answer *answer, int family, int status,
		      const struct ares_addrinfo *info);
/* Returns the part of AF_INET or AF_INET6, or NULL for another family. */
const struct name_part *name_answer_part(const struct name_answer *answer, int family);
/* True while a part is asked for. */
bool name_answer_is_open(const struct name_answer *answer);
/* Copies the addresses of both families in turn. Returns their number. */
size_t name_answer_addresses(const struct name_answer *answer,
			     union sockaddr_any ret[RESOLVER_ADDRESSES_MAX]);
/* Returns 0 or -errno: why there is no address. 0 without an address: c-ares has ended. */
int name_answer_error(const struct name_answer *answer);
/* Returns the shortest TTL of the parts that have addresses, or UINT64_MAX. */
uint64_t name_answer_ttl_ms(const struct name_answer *answer);

#endif
