// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The parser of a ClientHello. The input is read as it is, and again as a message without records,
 * which are made here: as many as the last byte says. They must not change what the hello tells.
 */
#include "fuzz.h"

#include "../../proxy/upstream/host_name.c"
#include "../../proxy/upstream/tls_hello.c"

#include "sniffed.h"

static size_t make_records(const uint8_t *message, size_t len, size_t piece, uint8_t *ret)
{
	size_t off, n, used = 0;

	for (off = 0; off < len; off += n) {
		n = len - off < piece ? len - off : piece;
		memcpy(ret + used, (uint8_t[]){ 22, 3, 1, (uint8_t)(n >> 8), (uint8_t)n }, 5);
		memcpy(ret + used + 5, message + off, n);
		used += 5 + n;
	}
	return used;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sniffed one, many;
	enum sniff_result r;
	uint8_t *records;
	size_t piece, len;

	fuzz_check_sniff(tls_hello_parse, data, size);
	if (size < 2 || size > RECORD_MAX)
		return 0;
	piece = 1 + data[size - 1];
	records = malloc(size * 6);
	require(records);
	len = make_records(data, size, size, records);
	r = fuzz_sniff(tls_hello_parse, records, len, &one);
	len = make_records(data, size, piece, records);
	require(fuzz_sniff(tls_hello_parse, records, len, &many) == r);
	require(strcmp(one.name, many.name) == 0 && one.ech == many.ech);
	free(records);
	return 0;
}
