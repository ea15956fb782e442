// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See parse.h. No strtoul(): it takes leading space, signs and, for some bases, prefixes. */
#include "parse.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "util.h"

#define DURATION_MAX_MS (UINT64_C(7) * 24 * 3600 * 1000)

/* Digits at the start of s, at least one. Moves *s behind them. */
static int parse_digits(const char **s, uint64_t max, uint64_t *ret_value)
{
	const char *p = *s;
	uint64_t value = 0;

	if (*p < '0' || *p > '9')
		return -EINVAL;
	for (; *p >= '0' && *p <= '9'; p++) {
		value = value * 10 + (uint64_t)(*p - '0');
		if (value > max)
			return -ERANGE;
	}
	*s = p;
	*ret_value = value;
	return 0;
}

int parse_u32(const char *s, uint32_t min, uint32_t max, uint32_t *ret_value)
{
	uint64_t value;
	int r;

	r = parse_digits(&s, max, &value);
	if (r < 0)
		return r;
	if (*s)
		return -EINVAL;
	if (value < min)
		return -ERANGE;
	*ret_value = (uint32_t)value;
	return 0;
}

int parse_duration_ms(const char *s, uint64_t *ret_ms)
{
	static const struct {
		const char *name;
		uint64_t ms;
	} units[] = {
		{ "", 1000 }, { "ms", 1 }, { "s", 1000 }, { "m", 60 * 1000 }, { "h", 3600 * 1000 },
	};
	uint64_t value;
	size_t i;
	int r;

	r = parse_digits(&s, DURATION_MAX_MS, &value);
	if (r < 0)
		return r;
	for (i = 0; i < ARRAY_SIZE(units); i++) {
		if (strcmp(s, units[i].name) != 0)
			continue;
		if (value == 0 || value > DURATION_MAX_MS / units[i].ms)
			return -ERANGE;
		*ret_ms = value * units[i].ms;
		return 0;
	}
	return -EINVAL;
}

int parse_endpoint4(const char *s, struct sockaddr_in *ret_addr)
{
	struct sockaddr_in addr = { .sin_family = AF_INET };
	const char *colon = strrchr(s, ':');
	char ip[INET_ADDRSTRLEN];
	uint32_t port;
	int r;

	if (!colon || (size_t)(colon - s) >= sizeof(ip))
		return -EINVAL;
	memcpy(ip, s, (size_t)(colon - s));
	ip[colon - s] = '\0';
	if (inet_pton(AF_INET, ip, &addr.sin_addr) != 1)
		return -EINVAL;
	r = parse_u32(colon + 1, 0, 65535, &port);
	if (r < 0)
		return r;
	addr.sin_port = htons((uint16_t)port);
	*ret_addr = addr;
	return 0;
}

char *format_endpoint4(const struct sockaddr_in *addr, char buf[FORMAT_ENDPOINT4_LEN])
{
	char ip[INET_ADDRSTRLEN];

	inet_ntop(AF_INET, &addr->sin_addr, ip, sizeof(ip));
	snprintf(buf, FORMAT_ENDPOINT4_LEN, "%s:%u", ip, ntohs(addr->sin_port));
	return buf;
}

char *format_bytes(uint64_t bytes, char buf[FORMAT_BYTES_LEN])
{
	static const char *const units[] = { "kB", "MB", "GB", "TB", "PB", "EB" };
	double value = (double)bytes / 1000;
	size_t i;

	if (bytes < 1000) {
		snprintf(buf, FORMAT_BYTES_LEN, "%" PRIu64 " B", bytes);
		return buf;
	}
	for (i = 0; value >= 999.95 && i + 1 < ARRAY_SIZE(units); i++)
		value /= 1000;
	snprintf(buf, FORMAT_BYTES_LEN, "%.1f %s", value, units[i]);
	return buf;
}

char *format_duration_ms(uint64_t ms, char buf[FORMAT_DURATION_LEN])
{
	uint64_t s = ms / 1000;

	if (s < 60)
		snprintf(buf, FORMAT_DURATION_LEN, "%" PRIu64 ".%03u s", s, (unsigned)(ms % 1000));
	else if (s < 3600)
		snprintf(buf, FORMAT_DURATION_LEN, "%" PRIu64 " min %" PRIu64 " s", s / 60, s % 60);
	else
		snprintf(buf, FORMAT_DURATION_LEN, "%" PRIu64 " h %" PRIu64 " min", s / 3600,
			 s / 60 % 60);
	return buf;
}
