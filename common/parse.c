// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See parse.h. strtoul() is not used: it accepts leading space, signs and, for some bases,
 * prefixes.
 */
#include "parse.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "util.h"

/* Reads at least one digit at the start of *s and moves *s behind the digits. */
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
		{ "", 1000 },	    { "ms", 1 },	  { "s", 1000 },
		{ "m", 60 * 1000 }, { "h", 3600 * 1000 }, { "d", 24 * 3600 * 1000 },
	};
	uint64_t value;
	size_t i;
	int r;

	r = parse_digits(&s, PARSE_DURATION_MAX_MS, &value);
	if (r < 0)
		return r;
	for (i = 0; i < ARRAY_SIZE(units); i++) {
		if (strcmp(s, units[i].name) != 0)
			continue;
		if (value > PARSE_DURATION_MAX_MS / units[i].ms)
			return -ERANGE;
		*ret_ms = value * units[i].ms;
		return 0;
	}
	return -EINVAL;
}

int parse_size(const char *s, uint32_t min, uint32_t max, uint32_t *ret_bytes)
{
	static const char letters[] = { 'k', 'm', 'g' };
	unsigned int shift = 0;
	uint64_t value;
	size_t i;
	int r;

	r = parse_digits(&s, UINT32_MAX, &value);
	if (r < 0)
		return r;
	for (i = 0; i < ARRAY_SIZE(letters); i++) {
		if (*s && tolower((unsigned char)*s) == letters[i])
			shift = 10 * (unsigned int)(i + 1);
	}
	if (shift > 0)
		s++;
	if (*s && strcasecmp(s, "b") != 0 && (shift == 0 || strcasecmp(s, "ib") != 0))
		return -EINVAL;
	value <<= shift;
	if (value < min || value > max)
		return -ERANGE;
	*ret_bytes = (uint32_t)value;
	return 0;
}

int parse_bool(const char *s, bool *ret_value)
{
	static const char *const words[][2] = {
		{ "no", "yes" },
		{ "false", "true" },
		{ "off", "on" },
		{ "0", "1" },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(words); i++) {
		if (strcasecmp(s, words[i][0]) != 0 && strcasecmp(s, words[i][1]) != 0)
			continue;
		*ret_value = strcasecmp(s, words[i][1]) == 0;
		return 0;
	}
	return -EINVAL;
}

socklen_t sockaddr_len(const union sockaddr_any *addr)
{
	return addr->sa.sa_family == AF_INET6 ? sizeof(addr->in6) : sizeof(addr->in);
}

int parse_endpoint(const char *s, union sockaddr_any *ret_addr)
{
	union sockaddr_any addr = {};
	const char *colon = strrchr(s, ':');
	bool v6 = *s == '[';
	char ip[INET6_ADDRSTRLEN];
	uint32_t port;
	size_t len;
	int r;

	if (!colon || (v6 && (colon == s || colon[-1] != ']')))
		return -EINVAL;
	len = (size_t)(colon - s) - (v6 ? 2 : 0);
	if (len >= sizeof(ip))
		return -EINVAL;
	memcpy(ip, s + v6, len);
	ip[len] = '\0';
	addr.sa.sa_family = v6 ? AF_INET6 : AF_INET;
	if (inet_pton(addr.sa.sa_family, ip,
		      v6 ? (void *)&addr.in6.sin6_addr : (void *)&addr.in.sin_addr) != 1)
		return -EINVAL;
	r = parse_u32(colon + 1, 0, 65535, &port);
	if (r < 0)
		return r;
	/* sin_port and sin6_port are at the same offset (RFC 3493, 3.10). */
	addr.in.sin_port = htons((uint16_t)port);
	*ret_addr = addr;
	return 0;
}

char *format_endpoint(const union sockaddr_any *addr, char buf[FORMAT_ENDPOINT_LEN])
{
	char ip[INET6_ADDRSTRLEN];

	if (addr->sa.sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &addr->in6.sin6_addr, ip, sizeof(ip));
		snprintf(buf, FORMAT_ENDPOINT_LEN, "[%s]:%u", ip, ntohs(addr->in6.sin6_port));
	} else {
		inet_ntop(AF_INET, &addr->in.sin_addr, ip, sizeof(ip));
		snprintf(buf, FORMAT_ENDPOINT_LEN, "%s:%u", ip, ntohs(addr->in.sin_port));
	}
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
