/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Properties of every parser of a client's first bytes. The caller includes fuzz.h and the parsers.
 */
#ifndef TPROXY_FUZZ_SNIFFED_H
#define TPROXY_FUZZ_SNIFFED_H

#include "upstream/host_name.h"
#include "upstream/sniffed.h"

typedef enum sniff_result (*fuzz_parser)(const uint8_t *data, size_t len, struct sniffed *ret);

/* Parses a copy of the exact size, so that ASan detects a read beyond its end. */
static inline enum sniff_result fuzz_sniff(fuzz_parser parser, const uint8_t *data, size_t len,
					   struct sniffed *ret)
{
	uint8_t *copy = malloc(len ? len : 1);
	enum sniff_result r;
	char name[HOST_NAME_LEN];

	require(copy);
	if (len > 0)
		memcpy(copy, data, len);
	r = parser(copy, len, ret);
	free(copy);
	require(r == SNIFF_MORE || r == SNIFF_NAME || r == SNIFF_NONE);
	require((r == SNIFF_NAME) == (ret->name[0] != '\0'));
	require(r != SNIFF_MORE || ret->need > len);
	if (r == SNIFF_NAME) {
		require(host_name_copy(name, ret->name, strlen(ret->name)));
		require(strcmp(name, ret->name) == 0);
	}
	return r;
}

/*
 * What a beginning of the input tells is what the whole tells, unless it waits for more; and it
 * waits for as many bytes as it says.
 */
static inline void fuzz_check_sniff(fuzz_parser parser, const uint8_t *data, size_t size)
{
	struct sniffed whole, part;
	enum sniff_result r = fuzz_sniff(parser, data, size, &whole), before;
	size_t len, need = 0;

	for (len = 0; len < size; len += size / 64 + 1) {
		before = fuzz_sniff(parser, data, len, &part);
		require(before == SNIFF_MORE || len >= need);
		if (before == SNIFF_MORE) {
			need = part.need > need ? part.need : need;
			continue;
		}
		require(before == r && strcmp(part.name, whole.name) == 0 && part.ech == whole.ech);
	}
}

#endif
