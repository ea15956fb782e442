// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * How tproxyctl shows untrusted text and the addresses in maps: common/escape.c against a model of
 * it, and endpoints of loader/host/address.c, which parse.c must read back unchanged. The first two
 * bytes of the input are the size of the buffer, the rest is an endpoint or text.
 */
#include "fuzz.h"

#include "../../common/parse.c"
#include "../../loader/host/address.c"
#include "endpoint.bpf.h"

static void check_escape(const char *text, size_t len, size_t size)
{
	char *buf = malloc(size), *whole = malloc(ESCAPE_LEN(len));
	size_t used, all = 0, i;
	const char *p;

	require(buf && whole);
	require(escape_text(text, len, buf, size) == buf);
	escape_text(text, len, whole, ESCAPE_LEN(len));
	used = strlen(buf);
	require(used < size);
	for (p = buf; *p; p++)
		require(*p >= ' ' && *p <= '~');
	/* The cut is between characters, and the next character would not have fitted. */
	require(strncmp(whole, buf, used) == 0);
	for (i = 0; i < len && text[i]; i++) {
		char one[5];
		size_t n;

		if (text[i] >= ' ' && text[i] <= '~')
			n = (size_t)sprintf(one, "%c", text[i]);
		else
			n = (size_t)sprintf(one, "\\x%02x", (unsigned int)(unsigned char)text[i]);
		require(memcmp(whole + all, one, n) == 0);
		require(all >= used || all + n <= used);
		require(all != used || used + n + 1 > size);
		all += n;
	}
	require(whole[all] == '\0');
	free(buf);
	free(whole);
}

static void check_endpoint(const uint8_t *data)
{
	struct tproxy_endpoint ep, again;
	char *text = malloc(ADDRESS_ENDPOINT_LEN);
	union sockaddr_any addr;
	__be32 words[4];

	require(text);
	memcpy(&ep, data, sizeof(ep));
	require(address_format_endpoint(&ep, text) == text);
	if (!ep.port) {
		require(strcmp(text + strlen(text) - 2, ":0") == 0);
		free(text);
		return;
	}
	require(parse_endpoint(text, &addr) == 0);
	require((addr.sa.sa_family == AF_INET) == !!endpoint_is_mapped4(&ep));
	memcpy(words, &addr.in6.sin6_addr, sizeof(words));
	if (addr.sa.sa_family == AF_INET)
		endpoint_set4(&again, addr.in.sin_addr.s_addr, ntohs(addr.in.sin_port));
	else
		endpoint_set6(&again, words, ntohs(addr.in6.sin6_port));
	require(endpoint_equal(&ep, &again));
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint16_t room;
	char *text;
	size_t len;

	if (size < sizeof(room))
		return 0;
	memcpy(&room, data, sizeof(room));
	data += sizeof(room);
	size -= sizeof(room);
	if (size >= sizeof(struct tproxy_endpoint))
		check_endpoint(data);
	/* Text without a NUL, as a full comm[] is. */
	text = malloc(size ? size : 1);
	require(text);
	memcpy(text, data, size);
	len = size;
	check_escape(text, len, 1 + room % (ESCAPE_LEN(len) + 8));
	free(text);
	return 0;
}
