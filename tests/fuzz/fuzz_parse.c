// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * common/parse.c: an accepted value is within its limits, refused input leaves the result
 * unchanged, and parse(format(x)) is x. The first 8 bytes of the input are numbers, the rest is a
 * string.
 */
#include "fuzz.h"

#include "../../common/parse.c"

#define POISON 0xa5

static void check_u32(const char *s, uint32_t min, uint32_t max)
{
	uint32_t value = 0xdeadbeef, again;
	char text[16];
	int r;

	r = parse_u32(s, min, max, &value);
	if (r < 0) {
		require(r == -EINVAL || r == -ERANGE);
		require(value == 0xdeadbeef);
		return;
	}
	require(r == 0 && value >= min && value <= max);
	require(*s && strspn(s, "0123456789") == strlen(s));
	require(strtoull(s, NULL, 10) == value);
	snprintf(text, sizeof(text), "%" PRIu32, value);
	require(parse_u32(text, min, max, &again) == 0 && again == value);
}

static void check_duration(const char *s)
{
	uint64_t ms = 0xdeadbeef, again;
	char text[32];
	int r;

	r = parse_duration_ms(s, &ms);
	if (r < 0) {
		require(r == -EINVAL || r == -ERANGE);
		require(ms == 0xdeadbeef);
		return;
	}
	require(r == 0 && ms <= PARSE_DURATION_MAX_MS);
	snprintf(text, sizeof(text), "%" PRIu64 "ms", ms);
	require(parse_duration_ms(text, &again) == 0 && again == ms);
}

static void check_format_endpoint(const union sockaddr_any *addr)
{
	union sockaddr_any again;
	/* Of the documented size, so that ASan detects a write beyond it. */
	char *text = malloc(FORMAT_ENDPOINT_LEN), *twice = malloc(FORMAT_ENDPOINT_LEN);

	require(text && twice);
	require(format_endpoint(addr, text) == text);
	require(parse_endpoint(text, &again) == 0);
	require(memcmp(&again, addr, sizeof(again)) == 0);
	require(strcmp(format_endpoint(&again, twice), text) == 0);
	free(text);
	free(twice);
}

static void check_endpoint(const char *s)
{
	union sockaddr_any addr, poison;
	int r;

	memset(&poison, POISON, sizeof(poison));
	addr = poison;
	r = parse_endpoint(s, &addr);
	if (r < 0) {
		require(r == -EINVAL || r == -ERANGE);
		require(memcmp(&addr, &poison, sizeof(addr)) == 0);
		return;
	}
	require(r == 0);
	require(addr.sa.sa_family == (*s == '[' ? AF_INET6 : AF_INET));
	check_format_endpoint(&addr);
}

/* Every address has a text form that parse_endpoint() accepts. */
static void check_addresses(const uint8_t *data, size_t size)
{
	union sockaddr_any addr = {};

	if (size < sizeof(addr.in6.sin6_addr) + sizeof(addr.in6.sin6_port))
		return;
	addr.in6.sin6_family = AF_INET6;
	memcpy(&addr.in6.sin6_addr, data, sizeof(addr.in6.sin6_addr));
	memcpy(&addr.in6.sin6_port, data + 16, sizeof(addr.in6.sin6_port));
	check_format_endpoint(&addr);
	addr = (union sockaddr_any){};
	addr.in.sin_family = AF_INET;
	memcpy(&addr.in.sin_addr, data, sizeof(addr.in.sin_addr));
	memcpy(&addr.in.sin_port, data + 4, sizeof(addr.in.sin_port));
	check_format_endpoint(&addr);
}

/* The text must be complete: a cut one would lack its unit. */
static void check_formats(uint64_t number)
{
	char *bytes = malloc(FORMAT_BYTES_LEN), *duration = malloc(FORMAT_DURATION_LEN);
	size_t len;

	require(bytes && duration);
	len = strlen(format_bytes(number, bytes));
	require(len + 1 <= FORMAT_BYTES_LEN && bytes[len - 1] == 'B');
	/* One form for each size: "1.0 MB", never "1000.0 kB". */
	require(strtod(bytes, NULL) < 1000);
	len = strlen(format_duration_ms(number, duration));
	require(len + 1 <= FORMAT_DURATION_LEN);
	require(strcmp(duration + len - 2, " s") == 0 || strcmp(duration + len - 4, " min") == 0);
	free(bytes);
	free(duration);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t number;
	char *s;

	if (size < sizeof(number))
		return 0;
	memcpy(&number, data, sizeof(number));
	check_formats(number);
	check_formats(number >> (number & 63));
	check_addresses(data, size);
	s = fuzz_string(data + sizeof(number), size - sizeof(number));
	check_u32(s, (uint32_t)number, (uint32_t)(number >> 32));
	check_u32(s, 0, UINT32_MAX);
	check_duration(s);
	check_endpoint(s);
	free(s);
	return 0;
}
