// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Captured packets: the headers that loader/capture/packet.c reads from them, and the blocks that
 * pcapng.c makes of them. The first two bytes of the input are the length of the whole packet
 * beyond the captured bytes, the third one its comment's length; the rest is the packet.
 */
#include "fuzz.h"

#include "../../loader/capture/packet.c"
#include "../../loader/capture/pcapng.c"

static uint32_t number_at(const struct pcapng *p, size_t at)
{
	uint32_t number;

	require(at + sizeof(number) <= p->used);
	memcpy(&number, p->data + at, sizeof(number));
	return number;
}

/* The data are whole blocks, each with its length at both ends. Returns how many. */
static unsigned int count_blocks(const struct pcapng *p)
{
	unsigned int n = 0;
	uint32_t len;
	size_t at;

	for (at = 0; at < p->used; at += len, n++) {
		len = number_at(p, at + 4);
		require(len >= 12 && len % 4 == 0 && len <= p->used - at);
		require(number_at(p, at + len - 4) == len);
	}
	return n;
}

static void check_parse(const uint8_t *data, size_t captured, size_t len)
{
	struct packet packet = { .payload = 1 }, cut;
	char flags[PACKET_FLAGS_LEN];

	if (!packet_parse(data, captured, len, &packet)) {
		require(packet.payload == 1);
		return;
	}
	require(captured >= 24 && packet.payload <= len);
	require(packet.ipv6 == (data[0] >> 4 == 6));
	packet_format_flags(packet.flags, flags);
	require(strlen(flags) >= 1);
	/* What a shorter snap length leaves of the headers is the same. */
	if (captured > 64 && packet_parse(data, 64, len, &cut)) {
		require(memcmp(&cut.src, &packet.src, sizeof(cut.src)) == 0);
		require(memcmp(&cut.dst, &packet.dst, sizeof(cut.dst)) == 0);
	}
}

static void check_blocks(const uint8_t *data, size_t captured, size_t len, const char *comment)
{
	struct pcapng_packet packet = {
		.time_ns = 1700000000ULL * 1000000000,
		.ifindex = 1,
		.ifname = "lo",
		.ether_type = 0x800,
		.data = data,
		.captured = (uint32_t)captured,
		.len = (uint32_t)len,
		.comment = comment,
		.pid = 4711,
		.process = comment,
	};
	const struct pcapng_statistics statistics = { .received = 2 };
	struct pcapng p = {};

	require(pcapng_begin(&p, "fuzz", 262144) == 0);
	require(pcapng_packet(&p, &packet) == 0);
	require(count_blocks(&p) == 4);
	packet.pid = 0;
	packet.ifindex = 2;
	require(pcapng_packet(&p, &packet) == 0);
	require(count_blocks(&p) == 6);
	require(pcapng_statistics(&p, &statistics) == 0);
	require(count_blocks(&p) == 7);
	pcapng_clear(&p);
	require(count_blocks(&p) == 0);
	pcapng_finish(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t more, text;
	uint8_t *packet;
	char *comment;

	if (size < 3)
		return 0;
	more = (size_t)data[0] << 8 | data[1];
	text = data[2];
	data += 3;
	size -= 3;
	/* Of the exact size, for ASan. */
	packet = malloc(size ? size : 1);
	require(packet);
	memcpy(packet, data, size);
	check_parse(packet, size, size + more);
	comment = fuzz_string(data, text < size ? text : size);
	check_blocks(packet, size, size + more, comment);
	free(comment);
	free(packet);
	return 0;
}
