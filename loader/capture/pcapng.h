/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Writes the pcapng file format, as far as captures need it (draft-ietf-opsawg-pcapng). The blocks
 * are built in memory; the caller writes pcapng->data to a file and calls pcapng_clear().
 *
 * A file is one section. Its interfaces and processes are described in a block each, before the
 * first packet that refers to them. All interfaces have the link type LINUX_SLL2, in which each
 * packet names its interface: libpcap reads a file only if all interfaces have one type, and does
 * not take 101 (raw IP) for more than one. All times are nanoseconds since 1970.
 *
 * Processes are described by Darwin Process Event Blocks. Wireshark shows these, and every other
 * reader skips them. The comment of a packet names its process too, which every reader shows.
 */
#ifndef TPROXY_CAPTURE_PCAPNG_H
#define TPROXY_CAPTURE_PCAPNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Longest data of a packet; Wireshark refuses longer ones. */
#define PCAPNG_SNAP_MAX 262144

struct pcapng_interface;
struct pcapng_process;

/* A zeroed one is valid, and pcapng_finish() frees it. */
struct pcapng {
	uint8_t *data; /* whole blocks, not written yet */
	size_t used, size;
	bool failed; /* out of memory: the section is not usable any more */
	struct pcapng_interface *interfaces;
	size_t n_interfaces;
	struct pcapng_process *processes;
	size_t n_processes, processes_size;
	uint32_t snap_length;
};

struct pcapng_packet {
	uint64_t time_ns;
	int ifindex;
	const char *ifname;
	uint16_t ether_type; /* of data */
	uint16_t hardware;   /* ARPHRD_* of the interface */
	uint8_t packet_type; /* PACKET_* of linux/if_packet.h */
	uint8_t address_len;
	uint8_t address[8];	/* of the sender, link layer */
	bool outgoing;		/* from the socket that has called connect() */
	const uint8_t *data;	/* from the network header on */
	uint32_t captured, len; /* bytes of data, and of the packet */
	const char *comment;	/* or NULL */
	uint32_t pid;		/* 0: the process is not known */
	const char *process;	/* its name */
};

struct pcapng_statistics {
	uint64_t begin_ns, end_ns;
	uint64_t received; /* packets that the filter let pass */
	uint64_t dropped;  /* some of these, for lack of room */
};

/*
 * Begins a section, with the name of the program that writes it. What was built before must have
 * been written. Returns 0 or -ENOMEM, as all functions here do that return int.
 */
int pcapng_begin(struct pcapng *p, const char *application, uint32_t snap_length);
/* Adds a packet, and before it its interface and process if they are new. */
int pcapng_packet(struct pcapng *p, const struct pcapng_packet *packet);
/*
 * Adds the statistics, at the end of a section. The numbers are those of all interfaces, so they
 * are added for the first one. Nothing is added to a section without packets.
 */
int pcapng_statistics(struct pcapng *p, const struct pcapng_statistics *statistics);
/* Forgets the blocks, after they were written. */
void pcapng_clear(struct pcapng *p);
void pcapng_finish(struct pcapng *p);

#endif
