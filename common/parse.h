/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Strict parsers of what people write, for the command line and files alike, and the formatters
 * that go the other way. A parser takes the whole string or nothing: 0, or -EINVAL (not of the
 * form) or -ERANGE (of the form, too large or too small), with *ret_* left as it was.
 */
#ifndef TPROXY_PARSE_H
#define TPROXY_PARSE_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

/* Decimal digits only, within [min, max]. */
int parse_u32(const char *s, uint32_t min, uint32_t max, uint32_t *ret_value);

/*
 * A number and a unit: ms, s, m, h, without a space; a plain number is seconds. At least 1 ms, at
 * most 7 days.
 */
int parse_duration_ms(const char *s, uint64_t *ret_ms);

/* a.b.c.d:port, port 0 to 65535. */
int parse_endpoint4(const char *s, struct sockaddr_in *ret_addr);

/* "255.255.255.255:65535" and the terminating NUL. */
#define FORMAT_ENDPOINT4_LEN 22
char *format_endpoint4(const struct sockaddr_in *addr, char buf[FORMAT_ENDPOINT4_LEN]);

/* "1023 B", "12.3 kB", "200.0 MB", with powers of 1000. */
#define FORMAT_BYTES_LEN 16
char *format_bytes(uint64_t bytes, char buf[FORMAT_BYTES_LEN]);

/* "0.123 s", "12.000 s", "3 min 20 s", "5 h 2 min". */
#define FORMAT_DURATION_LEN 32
char *format_duration_ms(uint64_t ms, char buf[FORMAT_DURATION_LEN]);

#endif
