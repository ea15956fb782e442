// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-packets: packets for the workloads packets and drops (packets.py). It prints one JSON
 * object.
 *
 *   run   runs a pinned program with BPF_PROG_TEST_RUN, as if packets came from an interface. From
 *         one source the kernel repeats the run in a loop, with the code and the entry in the
 *         caches. From random sources each packet is a run of its own: its time includes reading
 *         the clock twice, and the code is cold.
 *   send  sends UDP packets out of a veth device for some time, from given sources in turn. The
 *         frames are made in the kernel (BPF_F_TEST_XDP_LIVE_FRAMES) and need no socket buffers,
 *         so sending takes little of the core, which receives too.
 *   poll  makes a veth device poll (NAPI), without which its peer sends no such frames
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/bpf.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ether.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define DESTINATION 0xc6336402 /* 198.51.100.2 */
#define PORT	    9
#define BATCH	    64
#define FRAMES	    500000 /* of one call, whose start takes some milliseconds */
#define SOURCES	    256

struct frame {
	struct ether_header ethernet;
	struct iphdr ip;
	struct udphdr udp;
	uint8_t data[18]; /* to the shortest frame */
} __attribute__((packed));

_Noreturn static void fail(const char *what)
{
	fprintf(stderr, "tproxy-packets: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* The checksum of the IP header, whose own field is 0. */
static uint16_t checksum(const struct frame *frame)
{
	const uint8_t *bytes = (const uint8_t *)frame + offsetof(struct frame, ip);
	uint32_t sum = 0;
	size_t i;

	for (i = 0; i < sizeof(frame->ip); i += 2)
		sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static void make_frame(struct frame *frame)
{
	*frame = (struct frame){
		.ethernet.ether_type = htons(ETHERTYPE_IP),
		.ip = {
			.version = 4,
			.ihl = 5,
			.ttl = 64,
			.protocol = IPPROTO_UDP,
			.tot_len = htons(sizeof(*frame) - sizeof(frame->ethernet)),
			.daddr = htonl(DESTINATION),
		},
		.udp = {
			.source = htons(PORT),
			.dest = htons(PORT),
			.len = htons(sizeof(frame->udp) + sizeof(frame->data)),
		},
	};
}

static void set_source(struct frame *frame, uint32_t source)
{
	frame->ip.saddr = htonl(source);
	frame->ip.check = 0;
	frame->ip.check = checksum(frame);
}

/* --- run */

static uint32_t next_random(void)
{
	static uint64_t state = 88172645463325252;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)state;
}

/* Returns the nanoseconds of a run, as the kernel measures them. */
static uint64_t run_once(int fd, bool xdp, int ifindex, const struct frame *frame, int repeat,
			 uint32_t *ret_verdict)
{
	struct xdp_md md = { .data_end = sizeof(*frame), .ingress_ifindex = (uint32_t)ifindex };
	struct __sk_buff skb = { .ifindex = (uint32_t)ifindex };
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame, .data_size_in = sizeof(*frame),
		    .repeat = repeat);

	options.ctx_in = xdp ? (void *)&md : (void *)&skb;
	options.ctx_size_in = xdp ? sizeof(md) : sizeof(skb);
	if (bpf_prog_test_run_opts(fd, &options) < 0)
		fail("BPF_PROG_TEST_RUN");
	*ret_verdict = options.retval;
	return options.duration;
}

/* run PIN xdp|skb IFACE SOURCE|random COUNT */
static void run(char **argv)
{
	const bool xdp = strcmp(argv[1], "xdp") == 0, any = strcmp(argv[3], "random") == 0;
	const int ifindex = (int)if_nametoindex(argv[2]), count = atoi(argv[4]);
	const int fd = bpf_obj_get(argv[0]);
	uint32_t verdict = 0;
	struct frame frame;
	uint64_t sum = 0;
	int i;

	if (fd < 0)
		fail(argv[0]);
	if (!ifindex)
		fail(argv[2]);
	make_frame(&frame);
	if (!any) {
		set_source(&frame, ntohl(inet_addr(argv[3])));
		sum = run_once(fd, xdp, ifindex, &frame, count, &verdict);
		printf("{\"ns\": %" PRIu64 ", \"verdict\": %u}\n", sum, verdict);
		return;
	}
	for (i = 0; i < count; i++) {
		set_source(&frame, next_random());
		sum += run_once(fd, xdp, ifindex, &frame, 1, &verdict);
	}
	printf("{\"ns\": %.1f}\n", (double)sum / count);
}

/* --- send */

#define MOV_K(dst, k)                                                                              \
	{                                                                                          \
		.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = (dst), .imm = (k)                  \
	}
#define MOV_X(dst, src)                                                                            \
	{                                                                                          \
		.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = (dst), .src_reg = (src)            \
	}
#define ALU_K(op, dst, k)                                                                          \
	{                                                                                          \
		.code = BPF_ALU64 | (op) | BPF_K, .dst_reg = (dst), .imm = (k)                     \
	}
#define ADD_X(dst, src)                                                                            \
	{                                                                                          \
		.code = BPF_ALU64 | BPF_ADD | BPF_X, .dst_reg = (dst), .src_reg = (src)            \
	}
#define TO_BE16(dst)                                                                               \
	{                                                                                          \
		.code = BPF_ALU | BPF_END | BPF_TO_BE, .dst_reg = (dst), .imm = 16                 \
	}
#define LOAD32(dst, offset)                                                                        \
	{                                                                                          \
		.code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = (dst), .src_reg = BPF_REG_1,         \
		.off = (offset)                                                                    \
	}
#define STORE16(offset, src)                                                                       \
	{                                                                                          \
		.code = BPF_STX | BPF_MEM | BPF_H, .dst_reg = BPF_REG_6, .src_reg = (src),         \
		.off = (offset)                                                                    \
	}
#define CALL(helper)                                                                               \
	{                                                                                          \
		.code = BPF_JMP | BPF_CALL, .imm = (helper)                                        \
	}
#define EXIT                                                                                       \
	{                                                                                          \
		.code = BPF_JMP | BPF_EXIT                                                         \
	}

/*
 * Loads a program that sends each frame out of an interface, from one of SOURCES addresses at
 * random: the last byte of the source. @sum is the checksum without these, not inverted.
 */
static int load_sender(int ifindex, uint16_t sum)
{
	const struct bpf_insn code[] = {
		LOAD32(BPF_REG_6, offsetof(struct xdp_md, data)),
		LOAD32(BPF_REG_2, offsetof(struct xdp_md, data_end)),
		MOV_X(BPF_REG_3, BPF_REG_6),
		ALU_K(BPF_ADD, BPF_REG_3, offsetof(struct frame, udp)),
		{ .code = BPF_JMP | BPF_JGT | BPF_X,
		  .dst_reg = BPF_REG_3,
		  .src_reg = BPF_REG_2,
		  .off = 15 },
		CALL(BPF_FUNC_get_prandom_u32),
		ALU_K(BPF_AND, BPF_REG_0, SOURCES - 1),
		MOV_X(BPF_REG_7, BPF_REG_0),
		TO_BE16(BPF_REG_0),
		STORE16(offsetof(struct frame, ip.saddr) + 2, BPF_REG_0),
		ALU_K(BPF_ADD, BPF_REG_7, sum),
		MOV_X(BPF_REG_8, BPF_REG_7),
		ALU_K(BPF_RSH, BPF_REG_8, 16),
		ALU_K(BPF_AND, BPF_REG_7, 0xffff),
		ADD_X(BPF_REG_7, BPF_REG_8),
		ALU_K(BPF_XOR, BPF_REG_7, 0xffff),
		TO_BE16(BPF_REG_7),
		STORE16(offsetof(struct frame, ip.check), BPF_REG_7),
		MOV_K(BPF_REG_1, ifindex),
		MOV_K(BPF_REG_2, 0),
		CALL(BPF_FUNC_redirect),
		EXIT,
	};
	const int fd = bpf_prog_load(BPF_PROG_TYPE_XDP, "tproxy_send", "GPL", code,
				     sizeof(code) / sizeof(*code), NULL);

	if (fd < 0)
		fail("cannot load a program");
	return fd;
}

/* Makes a veth device poll: GRO switches NAPI on. */
static void poll_device(const char *name)
{
	struct ethtool_value value = { .cmd = ETHTOOL_SGRO, .data = 1 };
	struct ifreq request = { .ifr_data = (void *)&value };
	const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	if (fd < 0 || ioctl(fd, SIOCETHTOOL, &request) < 0)
		fail("GRO");
	close(fd);
	printf("{}\n");
}

/* send IFACE MAC SECONDS FIRST: at least for so long, from SOURCES addresses */
static void send_for(char **argv)
{
	const struct ether_addr *to = ether_aton(argv[1]);
	const int ifindex = (int)if_nametoindex(argv[0]);
	const double seconds = atof(argv[2]);
	uint64_t sent = 0, ns = 0;
	struct frame frame;
	int fd;

	if (!ifindex || !to)
		fail(argv[0]);
	make_frame(&frame);
	memcpy(frame.ethernet.ether_dhost, to, sizeof(frame.ethernet.ether_dhost));
	set_source(&frame, ntohl(inet_addr(argv[3])));
	fd = load_sender(ifindex, (uint16_t)~ntohs(frame.ip.check));
	while ((double)ns < seconds * 1e9) {
		LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = &frame,
			    .data_size_in = sizeof(frame), .repeat = FRAMES, .batch_size = BATCH,
			    .flags = BPF_F_TEST_XDP_LIVE_FRAMES);

		if (bpf_prog_test_run_opts(fd, &options) < 0)
			fail("BPF_F_TEST_XDP_LIVE_FRAMES");
		sent += FRAMES;
		ns += (uint64_t)options.duration * FRAMES;
	}
	printf("{\"sent\": %" PRIu64 ", \"seconds\": %.6f}\n", sent, (double)ns / 1e9);
}

int main(int argc, char **argv)
{
	if (argc == 7 && strcmp(argv[1], "run") == 0)
		run(argv + 2);
	else if (argc == 6 && strcmp(argv[1], "send") == 0)
		send_for(argv + 2);
	else if (argc == 3 && strcmp(argv[1], "poll") == 0)
		poll_device(argv[2]);
	else
		return 2;
	return 0;
}
