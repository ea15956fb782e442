// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * PROXY headers for any addresses, name, process and cgroup. Each fits into a segment, its lengths
 * agree, and it says the addresses that went in.
 */
#include "fuzz.h"

#include "../../proxy/upstream/proxy_header.c"

/* Names no cgroup; the path is part of the input. */
const char *process_cgroup(uint32_t pid, uint64_t cgroup_id, char buf[PROCESS_CGROUP_LEN])
{
	return NULL;
}

static union sockaddr_any take_address(const uint8_t **data, size_t *size)
{
	union sockaddr_any addr = { .sa = { .sa_family = AF_UNSPEC } };

	if (*size < 19)
		return addr;
	if ((*data)[0] & 1) {
		addr.in6.sin6_family = AF_INET6;
		memcpy(&addr.in6.sin6_addr, *data + 3, 16);
		if ((*data)[0] & 2)
			memcpy(&addr.in6.sin6_addr, mapped, sizeof(mapped));
	} else {
		addr.in.sin_family = AF_INET;
		memcpy(&addr.in.sin_addr, *data + 3, 4);
	}
	memcpy(&addr.in.sin_port, *data + 1, 2);
	*data += 19;
	*size -= 19;
	return addr;
}

/* As a receiver compares addresses: mapped ones are those that they map. */
static void as_ipv6(const union sockaddr_any *addr, uint8_t ret[16])
{
	copy_address(ret, addr, AF_INET6);
}

static void check_v1(const uint8_t *line, size_t len, const struct handshake_target *target)
{
	char text[128], family, src[64], dst[64], again[128];
	unsigned int src_port, dst_port;
	uint8_t addr[16], wanted[16] = {};

	require(len >= 15 && len <= 107);
	memcpy(text, line, len);
	text[len] = '\0';
	require(strlen(text) == len && strcmp(text + len - 2, "\r\n") == 0);
	require(strchr(text, '\r') == text + len - 2);
	if (strcmp(text, "PROXY UNKNOWN\r\n") == 0)
		return;
	require(sscanf(text, "PROXY TCP%c %63s %63s %u %u", &family, src, dst, &src_port,
		       &dst_port) == 5);
	snprintf(again, sizeof(again), "PROXY TCP%c %s %s %u %u\r\n", family, src, dst, src_port,
		 dst_port);
	require(strcmp(text, again) == 0);
	require(src_port == ntohs(target->client->in.sin_port));
	require(dst_port == ntohs(target->dst->in.sin_port));
	require(inet_pton(family == '4' ? AF_INET : AF_INET6, src, addr) == 1);
	copy_address(wanted, target->client, family == '4' ? AF_INET : AF_INET6);
	require(memcmp(addr, wanted, family == '4' ? 4 : 16) == 0);
	require(inet_pton(family == '4' ? AF_INET : AF_INET6, dst, addr) == 1);
	copy_address(wanted, target->dst, family == '4' ? AF_INET : AF_INET6);
	require(memcmp(addr, wanted, family == '4' ? 4 : 16) == 0);
}

/* Walks TLVs to the end. Returns their number. */
static unsigned int check_tlvs(const uint8_t *at, const uint8_t *end)
{
	unsigned int n = 0;

	for (; at < end; n++) {
		const size_t len = (size_t)at[1] << 8 | at[2];

		require(end - at >= 3 && (size_t)(end - at) - 3 >= len);
		if (at[0] == PROXY_TLV_TPROXY) {
			require(len >= 5 && memcmp(at + 3, "tprx\1", 5) == 0);
			require(check_tlvs(at + 8, at + 3 + len) >= 4);
		}
		at += 3 + len;
	}
	require(at == end);
	return n;
}

static void check_v2(const uint8_t *buf, size_t len, const struct handshake_target *target)
{
	const size_t size = buf[13] == FAMILY_TCP4 ? 4 : 16;
	uint8_t src[16], dst[16], wanted[16];

	require(len >= 16 && len == 16 + ((size_t)buf[14] << 8 | buf[15]));
	require(memcmp(buf, "\r\n\r\n\0\r\nQUIT\n", 12) == 0);
	if (buf[13] == FAMILY_UNSPEC) {
		require(buf[12] == 0x20 && len == 16);
		return;
	}
	require(buf[12] == 0x21 && (buf[13] == FAMILY_TCP4 || buf[13] == FAMILY_TCP6));
	memcpy(src, mapped, sizeof(mapped));
	memcpy(dst, mapped, sizeof(mapped));
	memcpy(src + 16 - size, buf + 16, size);
	memcpy(dst + 16 - size, buf + 16 + size, size);
	as_ipv6(target->client, wanted);
	require(memcmp(src, wanted, 16) == 0);
	as_ipv6(target->dst, wanted);
	require(memcmp(dst, wanted, 16) == 0);
	require(memcmp(buf + 16 + 2 * size, &target->client->in.sin_port, 2) == 0);
	require(memcmp(buf + 18 + 2 * size, &target->dst->in.sin_port, 2) == 0);
	require(check_tlvs(buf + 20 + 2 * size, buf + len) >= 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct upstream_conf *conf = calloc(1, sizeof(*conf));
	uint8_t *buf = malloc(PROXY_HEADER_MAX);
	union sockaddr_any src = take_address(&data, &size), dst = take_address(&data, &size);
	struct handshake_target target = { .dst = &dst, .client = &src, .upstream = conf };
	struct tproxy_conn conn;
	char *name = NULL, *path = NULL;
	size_t len;

	require(conf && buf);
	if (size > 0)
		conf->proxy_process = *data & 1;
	if (size >= sizeof(conn)) {
		memcpy(&conn, data, sizeof(conn));
		target.conn = &conn;
		data += sizeof(conn);
		size -= sizeof(conn);
	}
	if (size > 0) {
		len = *data < size ? *data : size;
		target.known_name = name = fuzz_string(data, len);
		path = fuzz_string(data + len, size - len);
	}
	len = proxy_header_write(PROXY_HEADER_V1, &target, path, buf);
	check_v1(buf, len, &target);
	len = proxy_header_write(PROXY_HEADER_V2, &target, path, buf);
	require(len <= PROXY_HEADER_MAX);
	check_v2(buf, len, &target);
	free(path);
	free(name);
	free(buf);
	free(conf);
	return 0;
}
