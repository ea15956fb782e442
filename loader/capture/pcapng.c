// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See pcapng.h. Numbers are in the byte order of the host, which the section header tells the
 * reader; only the LINUX_SLL2 header is in network byte order. A block has its length at both ends
 * and is padded to four bytes. block_begin() reserves the first length, block_end() writes both. If
 * memory runs out in between, the buffer is cut to the last whole block.
 */
#include "pcapng.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum block_type {
	BLOCK_SECTION = 0x0a0d0d0a,
	BLOCK_INTERFACE = 1,
	BLOCK_STATISTICS = 5,
	BLOCK_PACKET = 6,
	BLOCK_PROCESS = 0x80000001U, /* a local type, of Darwin */
};

#define BYTE_ORDER_MAGIC    0x1a2b3c4d
#define LENGTH_UNKNOWN	    (-1)
#define LINKTYPE_LINUX_SLL2 276
#define RESOLUTION_NS	    9

/* Codes of options; their meaning depends on the block. */
enum {
	OPTION_END = 0,
	OPTION_COMMENT = 1,
	SECTION_APPLICATION = 4,
	INTERFACE_NAME = 2,
	INTERFACE_RESOLUTION = 9,
	PROCESS_NAME = 2,
	PACKET_FLAGS = 2,
	PACKET_PROCESS = 0x8001, /* index of a process block */
	STATISTICS_BEGIN = 2,
	STATISTICS_END = 3,
	STATISTICS_ACCEPTED = 6, /* by the filter */
	STATISTICS_DROPPED = 7,	 /* by the operating system */
	STATISTICS_DELIVERED = 8,
};

/* Bits of PACKET_FLAGS. */
#define FLAGS_INBOUND  1
#define FLAGS_OUTBOUND 2

#define PAD(len) (-(len)&3)

struct pcapng_interface {
	int ifindex;
};

struct pcapng_process {
	uint32_t pid;
	char name[32];
};

/* The header of LINKTYPE_LINUX_SLL2, in network byte order. */
struct sll2 {
	uint16_t ether_type, reserved;
	uint32_t ifindex;
	uint16_t hardware;
	uint8_t packet_type, address_len, address[8];
};

_Static_assert(sizeof(struct sll2) == 20, "as in the file");

static void put(struct pcapng *p, const void *data, size_t len)
{
	size_t size = p->size ? p->size : 1 << 16;
	uint8_t *grown;

	while (size - p->used < len)
		size *= 2;
	if (size > p->size && !p->failed) {
		grown = realloc(p->data, size);
		p->failed = !grown;
		if (grown) {
			p->data = grown;
			p->size = size;
		}
	}
	if (p->failed || !len)
		return;
	memcpy(p->data + p->used, data, len);
	p->used += len;
}

static void put16(struct pcapng *p, uint16_t number)
{
	put(p, &number, sizeof(number));
}

static void put32(struct pcapng *p, uint32_t number)
{
	put(p, &number, sizeof(number));
}

/* A time has its upper half first, in either byte order. */
static void put_time(struct pcapng *p, uint64_t time_ns)
{
	put32(p, (uint32_t)(time_ns >> 32));
	put32(p, (uint32_t)time_ns);
}

static void pad(struct pcapng *p, size_t len)
{
	const uint8_t zeros[4] = {};

	put(p, zeros, PAD(len));
}

static void option(struct pcapng *p, uint16_t code, const void *data, size_t len)
{
	if (len > UINT16_MAX - 3)
		len = UINT16_MAX - 3;
	put16(p, code);
	put16(p, (uint16_t)len);
	put(p, data, len);
	pad(p, len);
}

static void option_text(struct pcapng *p, uint16_t code, const char *text)
{
	option(p, code, text, strlen(text));
}

static void option_time(struct pcapng *p, uint16_t code, uint64_t time_ns)
{
	put16(p, code);
	put16(p, sizeof(time_ns));
	put_time(p, time_ns);
}

/* Returns where the block begins, for block_end(). */
static size_t block_begin(struct pcapng *p, enum block_type type)
{
	const size_t at = p->used;

	put32(p, type);
	put32(p, 0); /* the length */
	return at;
}

static int block_end(struct pcapng *p, size_t at)
{
	const uint32_t len = (uint32_t)(p->used - at + sizeof(len));

	put32(p, len);
	if (p->failed) {
		p->used = at;
		return -ENOMEM;
	}
	memcpy(p->data + at + sizeof(uint32_t), &len, sizeof(len));
	return 0;
}

int pcapng_begin(struct pcapng *p, const char *application, uint32_t snap_length)
{
	const int64_t length = LENGTH_UNKNOWN;
	size_t at;

	p->n_interfaces = p->n_processes = 0;
	p->snap_length = snap_length;
	at = block_begin(p, BLOCK_SECTION);
	put32(p, BYTE_ORDER_MAGIC);
	put16(p, 1); /* the version, 1.0 */
	put16(p, 0);
	put(p, &length, sizeof(length));
	option_text(p, SECTION_APPLICATION, application);
	option(p, OPTION_END, NULL, 0);
	return block_end(p, at);
}

static int add_interface(struct pcapng *p, int ifindex, const char *name)
{
	const uint8_t resolution = RESOLUTION_NS;
	struct pcapng_interface *grown;
	size_t at;
	int r;

	grown = realloc(p->interfaces, (p->n_interfaces + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	p->interfaces = grown;
	at = block_begin(p, BLOCK_INTERFACE);
	put16(p, LINKTYPE_LINUX_SLL2);
	put16(p, 0);
	put32(p, p->snap_length + (uint32_t)sizeof(struct sll2));
	option_text(p, INTERFACE_NAME, name);
	option(p, INTERFACE_RESOLUTION, &resolution, sizeof(resolution));
	option(p, OPTION_END, NULL, 0);
	r = block_end(p, at);
	if (r == 0)
		p->interfaces[p->n_interfaces++].ifindex = ifindex;
	return r;
}

/* Finds the number of an interface, and describes it if it is new. */
static int interface_of(struct pcapng *p, const struct pcapng_packet *packet, uint32_t *ret_number)
{
	size_t i;
	int r;

	for (i = 0; i < p->n_interfaces; i++) {
		if (p->interfaces[i].ifindex == packet->ifindex)
			break;
	}
	r = i < p->n_interfaces ? 0 : add_interface(p, packet->ifindex, packet->ifname);
	*ret_number = (uint32_t)i;
	return r;
}

static int add_process(struct pcapng *p, uint32_t pid, const char *name)
{
	struct pcapng_process *grown = p->processes;
	size_t at, size = p->processes_size;
	int r;

	if (p->n_processes == size) {
		size = size ? 2 * size : 64;
		grown = realloc(p->processes, size * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		p->processes = grown;
		p->processes_size = size;
	}
	at = block_begin(p, BLOCK_PROCESS);
	put32(p, pid);
	option_text(p, PROCESS_NAME, name);
	option(p, OPTION_END, NULL, 0);
	r = block_end(p, at);
	if (r < 0)
		return r;
	grown[p->n_processes].pid = pid;
	strncpy(grown[p->n_processes].name, name, sizeof(grown->name) - 1);
	grown[p->n_processes].name[sizeof(grown->name) - 1] = '\0';
	p->n_processes++;
	return 0;
}

/* Finds the number of a process, and describes it if it is new. The newest one is tried first. */
static int process_of(struct pcapng *p, const struct pcapng_packet *packet, uint32_t *ret_number)
{
	size_t i = p->n_processes;

	while (i > 0) {
		i--;
		if (p->processes[i].pid != packet->pid ||
		    strncmp(p->processes[i].name, packet->process, sizeof(p->processes->name) - 1))
			continue;
		*ret_number = (uint32_t)i;
		return 0;
	}
	*ret_number = (uint32_t)p->n_processes;
	return add_process(p, packet->pid, packet->process);
}

static void put_sll2(struct pcapng *p, const struct pcapng_packet *packet)
{
	struct sll2 header = {
		.ether_type = htons(packet->ether_type),
		.ifindex = htonl((uint32_t)packet->ifindex),
		.hardware = htons(packet->hardware),
		.packet_type = packet->packet_type,
		.address_len = packet->address_len,
	};

	memcpy(header.address, packet->address, sizeof(header.address));
	put(p, &header, sizeof(header));
}

int pcapng_packet(struct pcapng *p, const struct pcapng_packet *packet)
{
	const uint32_t flags = packet->outgoing ? FLAGS_OUTBOUND : FLAGS_INBOUND;
	uint32_t interface, process = 0;
	size_t at;
	int r;

	r = interface_of(p, packet, &interface);
	if (r == 0 && packet->pid)
		r = process_of(p, packet, &process);
	if (r < 0)
		return r;
	at = block_begin(p, BLOCK_PACKET);
	put32(p, interface);
	put_time(p, packet->time_ns);
	put32(p, packet->captured + (uint32_t)sizeof(struct sll2));
	put32(p, packet->len + (uint32_t)sizeof(struct sll2));
	put_sll2(p, packet);
	put(p, packet->data, packet->captured);
	pad(p, packet->captured + sizeof(struct sll2));
	if (packet->comment)
		option_text(p, OPTION_COMMENT, packet->comment);
	option(p, PACKET_FLAGS, &flags, sizeof(flags));
	if (packet->pid)
		option(p, PACKET_PROCESS, &process, sizeof(process));
	option(p, OPTION_END, NULL, 0);
	return block_end(p, at);
}

int pcapng_statistics(struct pcapng *p, const struct pcapng_statistics *s)
{
	const uint64_t delivered = s->received - s->dropped;
	size_t at;

	if (!p->n_interfaces)
		return 0;
	at = block_begin(p, BLOCK_STATISTICS);
	put32(p, 0); /* the interface */
	put_time(p, s->end_ns);
	option_text(p, OPTION_COMMENT, "all interfaces together");
	option_time(p, STATISTICS_BEGIN, s->begin_ns);
	option_time(p, STATISTICS_END, s->end_ns);
	option(p, STATISTICS_ACCEPTED, &s->received, sizeof(s->received));
	option(p, STATISTICS_DROPPED, &s->dropped, sizeof(s->dropped));
	option(p, STATISTICS_DELIVERED, &delivered, sizeof(delivered));
	option(p, OPTION_END, NULL, 0);
	return block_end(p, at);
}

void pcapng_clear(struct pcapng *p)
{
	p->used = 0;
}

void pcapng_finish(struct pcapng *p)
{
	free(p->data);
	free(p->interfaces);
	free(p->processes);
	*p = (struct pcapng){};
}
