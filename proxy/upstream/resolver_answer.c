// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See resolver_answer.h. */
#include "resolver_answer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "server_address.h"

static int error_of(int status)
{
	switch (status) {
	case ARES_SUCCESS:
	case ARES_ENODATA:
	case ARES_ENOTFOUND:
	case ARES_ENONAME:
	case ARES_EBADNAME:
		return -ENOENT;
	case ARES_ETIMEOUT:
		return -ETIMEDOUT;
	case ARES_ECONNREFUSED:
		return -ECONNREFUSED;
	case ARES_ENOMEM:
		return -ENOMEM;
	case ARES_EDESTRUCTION: /* by resolver_free() */
		return 0;
	default:
		return -EIO;
	}
}

struct resolver_answer *resolver_answer_new(void)
{
	struct resolver_answer *answer = calloc(1, sizeof(*answer));
	size_t i;

	for (i = 0; answer && i < _ANSWER_PART_MAX; i++)
		answer->parts[i].asking = true;
	return answer;
}

static bool has_address(const struct ares_addrinfo *info, int family)
{
	const struct ares_addrinfo_node *node;

	for (node = info->nodes; node && node->ai_family != family; node = node->ai_next)
		;
	return node;
}

/* Copies the addresses of a family that a server can have. */
static size_t copy_addresses(const struct ares_addrinfo *info, int family,
			     union sockaddr_any ret[RESOLVER_ADDRESSES_MAX])
{
	const struct ares_addrinfo_node *node;
	size_t n = 0;

	for (node = info->nodes; node && n < RESOLVER_ADDRESSES_MAX; node = node->ai_next) {
		if (node->ai_family != family || node->ai_addrlen > sizeof(ret[n]))
			continue;
		memset(&ret[n], 0, sizeof(ret[n]));
		memcpy(&ret[n], node->ai_addr, node->ai_addrlen);
		ret[n].in.sin_port = 0;
		n += !why_no_server(&ret[n]);
	}
	return n;
}

static uint64_t ttl_ms(const struct ares_addrinfo *info)
{
	const struct ares_addrinfo_node *node;
	const struct ares_addrinfo_cname *cname;
	uint64_t ms = UINT64_MAX;

	for (node = info->nodes; node; node = node->ai_next) {
		if (node->ai_ttl >= 0 && (uint64_t)node->ai_ttl * 1000 < ms)
			ms = (uint64_t)node->ai_ttl * 1000;
	}
	for (cname = info->cnames; cname; cname = cname->next) {
		if (cname->ttl >= 0 && (uint64_t)cname->ttl * 1000 < ms)
			ms = (uint64_t)cname->ttl * 1000;
	}
	return ms;
}

static void note(struct answer_part *part, int family, int status, const struct ares_addrinfo *info)
{
	part->asking = false;
	part->error = error_of(status);
	if (status != ARES_SUCCESS || !info || !has_address(info, family))
		return;
	part->n = copy_addresses(info, family, part->addresses);
	part->ttl_ms = ttl_ms(info);
	part->error = part->n ? 0 : -EADDRNOTAVAIL;
}

void resolver_answer_note(struct resolver_answer *answer, int family, int status,
			  const struct ares_addrinfo *info)
{
	if (family != AF_INET6)
		note(&answer->parts[ANSWER_PART_INET], AF_INET, status, info);
	if (family != AF_INET)
		note(&answer->parts[ANSWER_PART_INET6], AF_INET6, status, info);
}

const struct answer_part *resolver_answer_part(const struct resolver_answer *answer, int family)
{
	if (family != AF_INET && family != AF_INET6)
		return NULL;
	return &answer->parts[family == AF_INET ? ANSWER_PART_INET : ANSWER_PART_INET6];
}

bool resolver_answer_is_open(const struct resolver_answer *answer)
{
	return answer->parts[ANSWER_PART_INET].asking || answer->parts[ANSWER_PART_INET6].asking;
}

/* IPv6 is first (RFC 8305, section 4). */
size_t resolver_answer_addresses(const struct resolver_answer *answer,
				 union sockaddr_any ret[RESOLVER_ADDRESSES_MAX])
{
	const struct answer_part *inet = &answer->parts[ANSWER_PART_INET];
	const struct answer_part *inet6 = &answer->parts[ANSWER_PART_INET6];
	size_t i, n = 0;

	for (i = 0; i < RESOLVER_ADDRESSES_MAX; i++) {
		if (i < inet6->n && n < RESOLVER_ADDRESSES_MAX)
			ret[n++] = inet6->addresses[i];
		if (i < inet->n && n < RESOLVER_ADDRESSES_MAX)
			ret[n++] = inet->addresses[i];
	}
	return n;
}

int resolver_answer_error(const struct resolver_answer *answer)
{
	const int error = answer->parts[ANSWER_PART_INET].error;

	/* A server that fails says more than one that knows no address of this family. */
	return error && error != -ENOENT ? error : answer->parts[ANSWER_PART_INET6].error;
}

/* The servers have failed, or were silent, so there may be addresses. */
static bool is_unknown(const struct answer_part *part)
{
	return part->error && part->error != -ENOENT && part->error != -EADDRNOTAVAIL;
}

int resolver_answer_unknown(const struct resolver_answer *answer)
{
	size_t i;

	for (i = 0; i < _ANSWER_PART_MAX; i++) {
		if (is_unknown(&answer->parts[i]))
			return answer->parts[i].error;
	}
	return 0;
}

void resolver_answer_keep(struct resolver_answer *answer, const union sockaddr_any *old, size_t n)
{
	static const int families[] = {
		[ANSWER_PART_INET] = AF_INET,
		[ANSWER_PART_INET6] = AF_INET6,
	};
	struct answer_part *part;
	size_t i, k;

	for (i = 0; i < _ANSWER_PART_MAX; i++) {
		part = &answer->parts[i];
		for (k = 0; is_unknown(part) && k < n; k++) {
			if (old[k].sa.sa_family == families[i])
				part->addresses[part->n++] = old[k];
		}
	}
}

uint64_t resolver_answer_ttl_ms(const struct resolver_answer *answer)
{
	uint64_t ms = UINT64_MAX;
	size_t i;

	for (i = 0; i < _ANSWER_PART_MAX; i++) {
		if (!answer->parts[i].error && answer->parts[i].ttl_ms < ms)
			ms = answer->parts[i].ttl_ms;
	}
	return ms;
}
