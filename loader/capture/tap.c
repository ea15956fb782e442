// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See tap.h. The socket is made with protocol 0, which receives nothing, gets its filter, and is
 * then bound to all protocols. So no packet is in the ring that the filter has not seen.
 *
 * The ring is that of TPACKET_V3 (Documentation/networking/packet_mmap.rst): the kernel fills
 * blocks with packets of any length, and hands a block over when it is full or RETIRE_MS old. Only
 * this file includes the skeleton of the filter.
 */
#include "tap.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "capture.skel.h"
#include "tproxy_abi.h"
#include "util.h"

/* A block holds at least one packet of the longest snap length. */
#define BLOCK_SIZE (1U << 19)
#define BLOCKS	   32U
#define FRAME_SIZE 2048U
#define RETIRE_MS  20

struct tap {
	int fd;
	struct capture_bpf *skel;
	uint8_t *ring;
	uint32_t block; /* that is read next */
	uint64_t delivered, received, dropped;
};

/* A command as two words and the mask of the bytes that must be equal. */
static void set_command(const char *command, __u64 ret_words[2], __u64 ret_masks[2])
{
	const size_t len = strlen(command);
	const bool is_prefix = len > 0 && command[len - 1] == '*';
	const size_t n = is_prefix ? len - 1 : len;
	char bytes[TPROXY_COMM_LEN] = "", mask[TPROXY_COMM_LEN] = "";

	memcpy(bytes, command, n < sizeof(bytes) ? n : sizeof(bytes));
	/* The NUL at the end too, unless anything may follow. */
	memset(mask, 0xff, n + !is_prefix < sizeof(mask) ? n + !is_prefix : sizeof(mask));
	memcpy(ret_words, bytes, sizeof(bytes));
	memcpy(ret_masks, mask, sizeof(mask));
}

static void set_filter(struct capture_bpf *skel, const struct tap_filter *filter)
{
	size_t i;

	skel->rodata->n_pids = (__u32)filter->n_pids;
	skel->rodata->n_uids = (__u32)filter->n_uids;
	skel->rodata->n_ports = (__u32)filter->n_ports;
	skel->rodata->n_commands = (__u32)filter->n_commands;
	for (i = 0; i < TAP_VALUES_MAX; i++) {
		skel->rodata->pids[i] = filter->pids[i];
		skel->rodata->uids[i] = filter->uids[i];
		skel->rodata->first_ports[i] = filter->first_ports[i];
		skel->rodata->last_ports[i] = filter->last_ports[i];
	}
	for (i = 0; i < filter->n_commands; i++)
		set_command(filter->commands[i], skel->rodata->commands[i],
			    skel->rodata->command_masks[i]);
}

static int open_filter(struct tap *tap, int flows_fd, uint64_t netns_cookie, uint32_t snap_length,
		       const struct tap_filter *filter)
{
	int r;

	tap->skel = capture_bpf__open();
	if (!tap->skel)
		return -errno;
	tap->skel->rodata->netns_cookie = netns_cookie;
	tap->skel->rodata->snap_length = snap_length;
	set_filter(tap->skel, filter);
	r = bpf_map__reuse_fd(tap->skel->maps.map_flows, flows_fd);
	return r < 0 ? r : capture_bpf__load(tap->skel);
}

static int open_ring(struct tap *tap)
{
	const struct tpacket_req3 request = {
		.tp_block_size = BLOCK_SIZE,
		.tp_block_nr = BLOCKS,
		.tp_frame_size = FRAME_SIZE,
		.tp_frame_nr = BLOCK_SIZE / FRAME_SIZE * BLOCKS,
		.tp_retire_blk_tov = RETIRE_MS,
	};
	const int version = TPACKET_V3;
	void *ring;

	if (setsockopt(tap->fd, SOL_PACKET, PACKET_VERSION, &version, sizeof(version)) < 0 ||
	    setsockopt(tap->fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof(request)) < 0)
		return -errno;
	ring = mmap(NULL, (size_t)BLOCK_SIZE * BLOCKS, PROT_READ | PROT_WRITE, MAP_SHARED, tap->fd,
		    0);
	if (ring == MAP_FAILED)
		return -errno;
	tap->ring = ring;
	return 0;
}

/* Attaches the filter, and binds the socket to all interfaces. */
static int start(struct tap *tap)
{
	const int prog_fd = bpf_program__fd(tap->skel->progs.tproxy_capture);
	const struct sockaddr_ll any = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
	};

	if (setsockopt(tap->fd, SOL_SOCKET, SO_ATTACH_BPF, &prog_fd, sizeof(prog_fd)) < 0 ||
	    bind(tap->fd, (const struct sockaddr *)&any, sizeof(any)) < 0)
		return -errno;
	return 0;
}

static int open_all(struct tap *tap, int flows_fd, uint64_t netns_cookie, uint32_t snap_length,
		    const struct tap_filter *filter, const char **ret_what)
{
	int r;

	*ret_what = "cannot open a packet socket";
	tap->fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (tap->fd < 0)
		return -errno;
	*ret_what = "cannot load the filter of packets";
	r = open_filter(tap, flows_fd, netns_cookie, snap_length, filter);
	if (r < 0)
		return r;
	*ret_what = "cannot make the ring of packets";
	r = open_ring(tap);
	if (r < 0)
		return r;
	*ret_what = "cannot attach the filter of packets";
	return start(tap);
}

int tap_open(int flows_fd, uint64_t netns_cookie, uint32_t snap_length,
	     const struct tap_filter *filter, struct tap **ret_tap, const char **ret_what)
{
	struct tap *tap = calloc(1, sizeof(*tap));
	int r;

	*ret_what = "cannot capture";
	if (!tap)
		return -ENOMEM;
	tap->fd = -1;
	r = open_all(tap, flows_fd, netns_cookie, snap_length, filter, ret_what);
	if (r < 0) {
		tap_close(tap);
		return r;
	}
	*ret_tap = tap;
	return 0;
}

void tap_close(struct tap *tap)
{
	if (!tap)
		return;
	if (tap->ring)
		munmap(tap->ring, (size_t)BLOCK_SIZE * BLOCKS);
	util_closep(&tap->fd);
	capture_bpf__destroy(tap->skel);
	free(tap);
}

int tap_fd(const struct tap *tap)
{
	return tap->fd;
}

/* Returns the block that is read next if it belongs to this process, or NULL. */
static struct tpacket_hdr_v1 *ready_block(const struct tap *tap)
{
	struct tpacket_block_desc *block =
		(struct tpacket_block_desc *)(tap->ring + (size_t)tap->block * BLOCK_SIZE);

	if (!(__atomic_load_n(&block->hdr.bh1.block_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER))
		return NULL;
	return &block->hdr.bh1;
}

static int read_packet(const struct tpacket3_hdr *header, tap_fn fn, void *data)
{
	const uint8_t *at = (const uint8_t *)header;
	const struct tap_packet packet = {
		.time_ns = (uint64_t)header->tp_sec * 1000000000 + header->tp_nsec,
		.link = (const struct sockaddr_ll *)(at + TPACKET_ALIGN(sizeof(*header))),
		.data = at + header->tp_net,
		.captured = header->tp_snaplen,
		.len = header->tp_len,
	};

	return fn(&packet, data);
}

int tap_read(struct tap *tap, tap_fn fn, void *data)
{
	struct tpacket_hdr_v1 *block;
	const struct tpacket3_hdr *header;
	uint32_t i;
	int r;

	while ((block = ready_block(tap))) {
		header = (const struct tpacket3_hdr *)(tap->ring + (size_t)tap->block * BLOCK_SIZE +
						       block->offset_to_first_pkt);
		for (i = 0; i < block->num_pkts; i++) {
			r = read_packet(header, fn, data);
			tap->delivered++;
			if (r)
				return r;
			header = (const struct tpacket3_hdr *)((const uint8_t *)header +
							       header->tp_next_offset);
		}
		__atomic_store_n(&block->block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
		tap->block = (tap->block + 1) % BLOCKS;
	}
	return 0;
}

void tap_refuse(struct tap *tap, uint64_t cookie)
{
	const __u32 one = 1;

	bpf_map_update_elem(bpf_map__fd(tap->skel->maps.map_unwanted), &cookie, &one, BPF_ANY);
}

int tap_stop(struct tap *tap)
{
	struct sock_filter refuse = BPF_STMT(BPF_RET | BPF_K, 0);
	const struct sock_fprog filter = { .len = 1, .filter = &refuse };

	if (setsockopt(tap->fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)) < 0)
		return -errno;
	return 0;
}

void tap_count(struct tap *tap, uint64_t *ret_received, uint64_t *ret_dropped)
{
	struct tpacket_stats_v3 since = {};
	socklen_t len = sizeof(since);

	/* Reading resets these counters. */
	if (getsockopt(tap->fd, SOL_PACKET, PACKET_STATISTICS, &since, &len) == 0) {
		tap->received += since.tp_packets;
		tap->dropped += since.tp_drops;
	}
	*ret_received = tap->received;
	*ret_dropped = tap->dropped;
}

bool tap_is_drained(struct tap *tap)
{
	uint64_t received, dropped;

	tap_count(tap, &received, &dropped);
	return tap->delivered + dropped >= received;
}
