// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See chaos.h. */
#include "chaos.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

static const char *const count_names[] = { "connects", "reached", "cut",  "refused",
					   "given_up", "again",	  "busy", "undone",
					   "reused",   "served",  "wrong" };
static _Atomic unsigned long counts[_COUNT_MAX];

void count(enum count what)
{
	atomic_fetch_add(&counts[what], 1);
}

void wrong(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (atomic_fetch_add(&counts[WRONG], 1) < 20) {
		vfprintf(stderr, format, args);
		fputc('\n', stderr);
	}
	va_end(args);
}

unsigned long print_counts(void)
{
	size_t i;

	for (i = 0; i < _COUNT_MAX; i++)
		printf("%s\"%s\": %lu", i ? ", " : "{", count_names[i], counts[i]);
	printf("}\n");
	return counts[WRONG];
}

/* xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators". */
uint64_t next_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dULL;
}

void fill_stream(uint8_t *stream, size_t size, uint64_t id, bool down)
{
	uint64_t state = (id << 1 | down) | 1ULL << 63;
	size_t i;

	for (i = 0; i < size; i++)
		stream[i] = next_random(&state) >> 56;
}

bool write_all(int fd, const void *data, size_t size)
{
	const char *at = data;
	ssize_t n;

	while (size > 0) {
		n = send(fd, at, size, MSG_NOSIGNAL);
		if (n < 0)
			return false;
		at += n;
		size -= n;
	}
	return true;
}

size_t read_some(int fd, void *data, size_t size, int *error)
{
	size_t got = 0;
	ssize_t n;

	*error = 0;
	while (got < size) {
		n = recv(fd, (char *)data + got, size - got, 0);
		if (n < 0)
			*error = errno;
		if (n <= 0)
			break;
		got += n;
	}
	return got;
}

void set_limit(int fd, unsigned int limit_us)
{
	const struct timeval limit = { limit_us / 1000000, limit_us % 1000000 };

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
}

void map_address(const union address *address, uint8_t mapped[16])
{
	static const uint8_t prefix[12] = { [10] = 0xff, [11] = 0xff };

	if (address->sa.sa_family == AF_INET6) {
		memcpy(mapped, &address->in6.sin6_addr, 16);
	} else {
		memcpy(mapped, prefix, 12);
		memcpy(mapped + 12, &address->in.sin_addr, 4);
	}
}
