/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Strict parsers for the command line and files, and the formatters for the other direction. A
 * parser takes the whole string or nothing. It returns 0, -EINVAL (wrong form) or -ERANGE (right
 * form, too large or too small), and leaves *ret_* unchanged on failure. Nothing here logs.
 */
#ifndef TPROXY_PARSE_H
#define TPROXY_PARSE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Parses decimal digits only, within [min, max]. */
int parse_u32(const char *s, uint32_t min, uint32_t max, uint32_t *ret_value);

/*
 * Parses a size within [min, max] bytes: a number, with K, M or G for KiB, MiB or GiB. Either case;
 * KB and KiB mean K.
 */
int parse_size(const char *s, uint32_t min, uint32_t max, uint32_t *ret_bytes);

/*
 * Parses a number and a unit (ms, s, m, h, d) without a space between; a plain number is seconds.
 * At most 7 days. 0 is accepted, in any unit; its meaning is the caller's.
 */
#define PARSE_DURATION_MAX_MS (UINT64_C(7) * 24 * 3600 * 1000)
int parse_duration_ms(const char *s, uint64_t *ret_ms);

/* Parses yes, true, on, 1 or no, false, off, 0, in either case. */
int parse_bool(const char *s, bool *ret_value);

/* A socket address of either family, port in network byte order. */
union sockaddr_any {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

/* Returns the address length for bind(2) and connect(2). */
socklen_t sockaddr_len(const union sockaddr_any *addr);

/* Parses a.b.c.d:port or [v6]:port, port 0 to 65535. */
int parse_endpoint(const char *s, union sockaddr_any *ret_addr);

/*
 * Formats an address as parse_endpoint() reads it. The longest has INET6_ADDRSTRLEN, "[]:" and five
 * digits. Returns buf, as do the formatters below.
 */
#define FORMAT_ENDPOINT_LEN (INET6_ADDRSTRLEN + 8)
char *format_endpoint(const union sockaddr_any *addr, char buf[FORMAT_ENDPOINT_LEN]);

/* "1023 B", "12.3 kB", "200.0 MB", with powers of 1000. */
#define FORMAT_BYTES_LEN 16
char *format_bytes(uint64_t bytes, char buf[FORMAT_BYTES_LEN]);

/* "0.123 s", "12.000 s", "3 min 20 s", "5 h 2 min". */
#define FORMAT_DURATION_LEN 32
char *format_duration_ms(uint64_t ms, char buf[FORMAT_DURATION_LEN]);

#endif
