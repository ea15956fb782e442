// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The parsers of a request of HTTP/1 and of HTTP/2 without TLS, and of host names. */
#include "fuzz.h"

#include "../../proxy/upstream/host_name.c"
#include "../../proxy/upstream/http_host.c"

#include "sniffed.h"
#include "upstream/h2_authority.h"

static void check_host_name(const uint8_t *data, size_t size)
{
	char *text = malloc(size ? size : 1);
	char name[HOST_NAME_LEN], again[HOST_NAME_LEN];

	require(text);
	memcpy(text, data, size);
	if (host_name_copy(name, text, size)) {
		require(host_name_copy(again, name, strlen(name)));
		require(strcmp(name, again) == 0);
		require(host_name_copy_authority(again, text, size));
		require(strcmp(name, again) == 0);
	}
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fuzz_check_sniff(http_host_parse, data, size);
	check_host_name(data, size);
	/* A client may end after its settings, so beginnings may tell less. */
	if (h2_may_begin(data, size)) {
		struct sniffed sniffed;

		fuzz_sniff(h2_authority_parse, data, size, &sniffed);
	}
	return 0;
}
