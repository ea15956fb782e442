// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See proxy_header.h. The fields that have a bounded length come first, and they fit together. The
 * path of the cgroup comes last, if there is room for it.
 */
#include "proxy_header.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "conn_row.h"
#include "kernel/process.h"
#include "tproxy_abi.h"

#define SIGNATURE_LEN 12
#define V2_LEN_OFFSET 14 /* of the 16-bit length of all that follows it */
#define V2_FIXED_LEN  16
#define V2_VERSION    0x20
#define COMMAND_LOCAL 0x0
#define COMMAND_PROXY 0x1
#define FAMILY_UNSPEC 0x00
#define FAMILY_TCP4   0x11
#define FAMILY_TCP6   0x21
#define AUTHORITY_MAX 255

struct writer {
	uint8_t *buf; /* PROXY_HEADER_MAX bytes */
	size_t len;
};

static bool has_room(const struct writer *w, size_t len)
{
	return len <= PROXY_HEADER_MAX - w->len;
}

static void put(struct writer *w, const void *data, size_t len)
{
	if (!has_room(w, len))
		return;
	memcpy(w->buf + w->len, data, len);
	w->len += len;
}

static void put_byte(struct writer *w, uint8_t byte)
{
	put(w, &byte, 1);
}

/* A TLV is written as a whole or not at all. */
static void put_tlv(struct writer *w, uint8_t type, const void *value, size_t len)
{
	const uint16_t be_len = htons((uint16_t)len);

	if (!has_room(w, 3 + len))
		return;
	put_byte(w, type);
	put(w, &be_len, sizeof(be_len));
	put(w, value, len);
}

static void put_tlv_u32(struct writer *w, uint8_t type, uint32_t value)
{
	const uint32_t be = htonl(value);

	put_tlv(w, type, &be, sizeof(be));
}

static void put_tlv_u64(struct writer *w, uint8_t type, uint64_t value)
{
	const uint32_t be[2] = { htonl((uint32_t)(value >> 32)), htonl((uint32_t)value) };

	put_tlv(w, type, be, sizeof(be));
}

static void write_be16(uint8_t *at, size_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

/* Half bytes at a time: the table is small, and a header is short. */
static uint32_t crc32c(const uint8_t *data, size_t len)
{
	static const uint32_t table[16] = {
		0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
		0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
		0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
	};
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < len; i++) {
		crc ^= data[i];
		crc = crc >> 4 ^ table[crc & 15];
		crc = crc >> 4 ^ table[crc & 15];
	}
	return ~crc;
}

/* The first bytes of a mapped address, ::ffff:a.b.c.d. */
static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

/* Both ends of the connection in one family. */
struct ends {
	sa_family_t family; /* AF_UNSPEC: not known */
	uint8_t src[16], dst[16];
	in_port_t src_port, dst_port; /* network byte order */
};

static bool is_ipv4(const union sockaddr_any *addr)
{
	return addr->sa.sa_family == AF_INET ||
	       (addr->sa.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&addr->in6.sin6_addr));
}

static void copy_address(uint8_t to[16], const union sockaddr_any *addr, sa_family_t family)
{
	const uint8_t *ipv4 = addr->sa.sa_family == AF_INET ? (const uint8_t *)&addr->in.sin_addr
							    : addr->in6.sin6_addr.s6_addr + 12;

	if (family == AF_INET) {
		memcpy(to, ipv4, 4);
	} else if (is_ipv4(addr)) {
		memcpy(to, mapped, sizeof(mapped));
		memcpy(to + sizeof(mapped), ipv4, 4);
	} else {
		memcpy(to, &addr->in6.sin6_addr, 16);
	}
}

static void find_ends(const struct handshake_target *target, struct ends *ends)
{
	const union sockaddr_any *src = target->client, *dst = target->dst;

	*ends = (struct ends){ .family = AF_UNSPEC };
	if (!src || src->sa.sa_family == AF_UNSPEC || dst->sa.sa_family == AF_UNSPEC)
		return;
	ends->family = is_ipv4(src) && is_ipv4(dst) ? AF_INET : AF_INET6;
	copy_address(ends->src, src, ends->family);
	copy_address(ends->dst, dst, ends->family);
	/* The port is at the same offset in both families. */
	ends->src_port = src->in.sin_port;
	ends->dst_port = dst->in.sin_port;
}

/*
 * The specification of version 1 knows groups of hexadecimal digits only, and inet_ntop() writes
 * mapped addresses with dots.
 */
static void address_text(sa_family_t family, const uint8_t addr[16], char buf[INET6_ADDRSTRLEN])
{
	if (family == AF_INET6 && memcmp(addr, mapped, sizeof(mapped)) == 0)
		snprintf(buf, INET6_ADDRSTRLEN, "::ffff:%x:%x", addr[12] << 8 | addr[13],
			 addr[14] << 8 | addr[15]);
	else
		inet_ntop(family, addr, buf, INET6_ADDRSTRLEN);
}

static size_t write_v1(const struct ends *ends, uint8_t *buf)
{
	char src[INET6_ADDRSTRLEN], dst[INET6_ADDRSTRLEN], line[128];
	int len;

	if (ends->family == AF_UNSPEC) {
		len = snprintf(line, sizeof(line), "PROXY UNKNOWN\r\n");
	} else {
		address_text(ends->family, ends->src, src);
		address_text(ends->family, ends->dst, dst);
		len = snprintf(line, sizeof(line), "PROXY TCP%c %s %s %u %u\r\n",
			       ends->family == AF_INET ? '4' : '6', src, dst, ntohs(ends->src_port),
			       ntohs(ends->dst_port));
	}
	memcpy(buf, line, (size_t)len);
	return (size_t)len;
}

static void put_ends(struct writer *w, const struct ends *ends)
{
	const size_t size = ends->family == AF_INET ? 4 : 16;

	if (ends->family == AF_UNSPEC)
		return;
	put(w, ends->src, size);
	put(w, ends->dst, size);
	put(w, &ends->src_port, sizeof(ends->src_port));
	put(w, &ends->dst_port, sizeof(ends->dst_port));
}

static void put_process(struct writer *w, const struct tproxy_conn *conn, const char *cgroup_path)
{
	const size_t begin = w->len;
	const uint8_t version = PROXY_TPROXY_VERSION;

	put_tlv(w, PROXY_TLV_TPROXY, PROXY_TPROXY_MAGIC, strlen(PROXY_TPROXY_MAGIC));
	put(w, &version, sizeof(version));
	put_tlv_u32(w, PROXY_TPROXY_PID, conn->pid);
	put_tlv_u32(w, PROXY_TPROXY_UID, conn->uid);
	put_tlv_u32(w, PROXY_TPROXY_GID, conn->gid);
	put_tlv(w, PROXY_TPROXY_COMMAND, conn->comm, strnlen(conn->comm, sizeof(conn->comm)));
	put_tlv_u64(w, PROXY_TPROXY_CGROUP_ID, conn->cgroup_id);
	if (cgroup_path)
		put_tlv(w, PROXY_TPROXY_CGROUP_PATH, cgroup_path, strlen(cgroup_path));
	write_be16(w->buf + begin + 1, w->len - begin - 3);
}

static void put_tlvs(struct writer *w, const struct handshake_target *target,
		     const char *cgroup_path)
{
	const struct tproxy_conn *conn = target->conn;
	const char *name = target->known_name;
	char id[CONN_ROW_ID_LEN], netns[24];

	if (conn) {
		conn_row_id(conn->cookie, id);
		put_tlv(w, PROXY_TLV_UNIQUE_ID, id, strlen(id));
	}
	if (name && *name && strlen(name) <= AUTHORITY_MAX)
		put_tlv(w, PROXY_TLV_AUTHORITY, name, strlen(name));
	if (!conn)
		return;
	snprintf(netns, sizeof(netns), "%" PRIu64, (uint64_t)conn->netns_cookie);
	put_tlv(w, PROXY_TLV_NETNS, netns, strlen(netns));
	if (target->upstream->proxy_process)
		put_process(w, conn, cgroup_path);
}

static size_t write_v2(const struct ends *ends, const struct handshake_target *target,
		       const char *cgroup_path, uint8_t *buf)
{
	static const uint8_t signature[SIGNATURE_LEN] = "\r\n\r\n\0\r\nQUIT\n";
	static const uint8_t no_crc[4];
	const bool local = ends->family == AF_UNSPEC;
	struct writer w = { .buf = buf };
	size_t crc_at;
	uint32_t crc;

	put(&w, signature, sizeof(signature));
	put_byte(&w, V2_VERSION | (local ? COMMAND_LOCAL : COMMAND_PROXY));
	put_byte(&w, local ? FAMILY_UNSPEC : ends->family == AF_INET ? FAMILY_TCP4 : FAMILY_TCP6);
	put(&w, no_crc, 2); /* the length, see below */
	put_ends(&w, ends);
	if (!local) {
		put_tlv(&w, PROXY_TLV_CRC32C, no_crc, sizeof(no_crc));
		crc_at = w.len - sizeof(crc);
		put_tlvs(&w, target, cgroup_path);
	}
	write_be16(buf + V2_LEN_OFFSET, w.len - V2_FIXED_LEN);
	if (!local) {
		crc = htonl(crc32c(buf, w.len));
		memcpy(buf + crc_at, &crc, sizeof(crc));
	}
	return w.len;
}

size_t proxy_header_write(enum proxy_header version, const struct handshake_target *target,
			  const char *cgroup_path, uint8_t buf[PROXY_HEADER_MAX])
{
	struct ends ends;

	find_ends(target, &ends);
	return version == PROXY_HEADER_V1 ? write_v1(&ends, buf)
					  : write_v2(&ends, target, cgroup_path, buf);
}

static enum handshake_result proxy_header_step(void *state, const struct handshake_target *target,
					       struct handshake_io *io)
{
	const struct upstream_conf *conf = target->upstream;
	char path[PROCESS_CGROUP_LEN];
	const char *cgroup_path = NULL;

	if (target->conn && conf->proxy_process && conf->proxy_header == PROXY_HEADER_V2)
		cgroup_path = process_cgroup(target->conn->pid, target->conn->cgroup_id, path);
	io->out_len = proxy_header_write(conf->proxy_header, target, cgroup_path, io->out);
	return HANDSHAKE_DONE;
}

_Static_assert(HANDSHAKE_OUT_MAX >= PROXY_HEADER_MAX, "a header fits");

const struct handshake_ops proxy_header_ops = {
	.name = "PROXY header",
	.one_way = true,
	.state_size = 0,
	.step = proxy_header_step,
};
