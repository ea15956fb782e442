// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The files of tproxyctl capture: blocks of pcapng, headers of packets, and how output.c cuts a
 * file whose disk is full. Other programs read such files in tests/e2e/test_capture.py.
 */
#include "capture/output.h"
#include "capture/packet.h"
#include "capture/pcapng.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "sink.h"
#include "unit.h"

/* A SYN from 192.0.2.1:4660 to 198.51.100.2:443, with 4 bytes of options. */
static const uint8_t syn4[] = {
	0x45, 0,   0,	 44,   0,    0,	   0x40, 0,    64,   6,	   0,	 0,    192,  0,	   2,
	1,    198, 51,	 100,  2,    0x12, 0x34, 0x01, 0xbb, 0x11, 0x22, 0x33, 0x44, 0,	   0,
	0,    0,   0x60, 0x02, 0xff, 0xff, 0,	 0,    0,    0,	   2,	 4,    0x05, 0xb4,
};

static struct pcapng_packet make_packet(const char *ifname, int ifindex, uint32_t pid)
{
	return (struct pcapng_packet){
		.time_ns = 0x0123456789abcdefULL,
		.ifindex = ifindex,
		.ifname = ifname,
		.ether_type = 0x0800,
		.hardware = 1,
		.outgoing = true,
		.data = syn4,
		.captured = sizeof(syn4),
		.len = sizeof(syn4),
		.comment = "curl[1]",
		.pid = pid,
		.process = "curl",
	};
}

/* Returns the type of the block with this number, or 0, and where its body begins. */
static uint32_t block_at(const struct pcapng *p, unsigned int number, const uint8_t **ret_body)
{
	uint32_t head[2];
	size_t at = 0;

	for (;; at += head[1], number--) {
		if (at == p->used)
			return 0;
		memcpy(head, p->data + at, sizeof(head));
		assert_true(head[1] >= 12 && head[1] % 4 == 0 && at + head[1] <= p->used);
		assert_memory_equal(p->data + at + head[1] - 4, &head[1], 4);
		if (number == 0)
			break;
	}
	*ret_body = p->data + at + 8;
	return head[0];
}

static uint32_t word(const uint8_t *body, unsigned int i)
{
	uint32_t number;

	memcpy(&number, body + 4 * (size_t)i, sizeof(number));
	return number;
}

/* Interfaces and processes are described once each, before the first packet that names them. */
static void blocks_come_in_order(void **state)
{
	static const uint32_t types[] = { 0x0a0d0d0a, 1, 0x80000001, 6, 6, 0x80000001, 6, 1, 6, 5 };
	struct pcapng_packet packet = make_packet("lo", 1, 7);
	const struct pcapng_statistics statistics = { .received = 5, .dropped = 2 };
	struct pcapng p = {};
	const uint8_t *body;
	unsigned int i;

	assert_int_equal(pcapng_begin(&p, "test", 65535), 0);
	assert_int_equal(pcapng_statistics(&p, &statistics), 0); /* no interface: no block */
	assert_int_equal(pcapng_packet(&p, &packet), 0);
	assert_int_equal(pcapng_packet(&p, &packet), 0);
	packet.process = "wget"; /* the same process has called execve(2) */
	assert_int_equal(pcapng_packet(&p, &packet), 0);
	packet.ifname = "eth0";
	packet.ifindex = 9;
	packet.pid = 0;
	assert_int_equal(pcapng_packet(&p, &packet), 0);
	assert_int_equal(pcapng_statistics(&p, &statistics), 0);
	for (i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		assert_int_equal(block_at(&p, i, &body), types[i]);
	assert_int_equal(block_at(&p, i, &body), 0);
	block_at(&p, 8, &body);
	assert_int_equal(word(body, 0), 1); /* the interface */
	pcapng_finish(&p);
}

/* To see it fail: swap the halves of the time. */
static void packet_is_as_it_was(void **state)
{
	static const uint8_t sll2[20] = { 0x08, 0, 0, 0, 0, 0, 0, 1, 0, 1 };
	const struct pcapng_packet packet = make_packet("lo", 1, 7);
	struct pcapng p = {};
	const uint8_t *body;

	assert_int_equal(pcapng_begin(&p, "test", 65535), 0);
	assert_int_equal(pcapng_packet(&p, &packet), 0);
	assert_int_equal(block_at(&p, 1, &body), 1);
	assert_int_equal(word(body, 0), 276);
	assert_int_equal(word(body, 1), 65535 + sizeof(sll2));
	assert_int_equal(block_at(&p, 3, &body), 6);
	assert_int_equal(word(body, 1), 0x01234567);
	assert_int_equal(word(body, 2), 0x89abcdef);
	assert_int_equal(word(body, 3), sizeof(sll2) + sizeof(syn4));
	assert_int_equal(word(body, 4), sizeof(sll2) + sizeof(syn4));
	assert_memory_equal(body + 20, sll2, sizeof(sll2));
	assert_memory_equal(body + 40, syn4, sizeof(syn4));
	pcapng_finish(&p);
}

static void ipv4_headers_are_read(void **state)
{
	uint8_t data[sizeof(syn4) + 8];
	struct packet packet;
	size_t i;

	assert_true(packet_parse(syn4, sizeof(syn4), sizeof(syn4), &packet));
	assert_false(packet.ipv6);
	assert_int_equal(packet.src.port, 4660);
	assert_int_equal(packet.dst.port, 443);
	assert_memory_equal(&packet.dst.addr[12], &syn4[16], 4);
	assert_true(packet.has_tcp);
	assert_int_equal(packet.flags, PACKET_SYN);
	assert_int_equal(packet.seq, 0x11223344);
	assert_int_equal(packet.payload, 0);
	/* Ethernet pads short frames: the padding is no payload. */
	memset(data, 0, sizeof(data));
	memcpy(data, syn4, sizeof(syn4));
	assert_true(packet_parse(data, sizeof(data), sizeof(data), &packet));
	assert_int_equal(packet.payload, 0);
	/* A packet that a device will split has a length of 0 in its header. */
	data[2] = data[3] = 0;
	assert_true(packet_parse(data, sizeof(data), sizeof(data), &packet));
	assert_int_equal(packet.payload, 8);
	/* Cut before the ports: no packet. Cut after them: no header of TCP. */
	for (i = 0; i < sizeof(syn4); i++) {
		assert_int_equal(packet_parse(syn4, i, sizeof(syn4), &packet), i >= 24);
		if (i >= 24)
			assert_int_equal(packet.has_tcp, i >= 40);
	}
	data[7] = 1; /* a later fragment */
	assert_false(packet_parse(data, sizeof(data), sizeof(data), &packet));
	data[7] = 0;
	data[9] = IPPROTO_UDP;
	assert_false(packet_parse(data, sizeof(data), sizeof(data), &packet));
}

static void ipv6_headers_are_read(void **state)
{
	uint8_t data[40 + 8 + 20 + 3] = { 0x60 };
	struct packet packet;

	data[5] = 8 + 20 + 3;
	data[6] = IPPROTO_HOPOPTS;
	data[8] = 0xfd;
	data[24] = 0xfe;
	data[40] = IPPROTO_TCP;
	data[48] = 0x12;
	data[49] = 0x34;
	data[51] = 80;
	data[60] = 5 << 4;
	data[61] = PACKET_PSH | PACKET_ACK;
	assert_true(packet_parse(data, sizeof(data), sizeof(data), &packet));
	assert_true(packet.ipv6);
	assert_int_equal(packet.src.addr[0], 0xfd);
	assert_int_equal(packet.dst.addr[0], 0xfe);
	assert_int_equal(packet.src.port, 4660);
	assert_int_equal(packet.dst.port, 80);
	assert_int_equal(packet.payload, 3);
	data[40] = IPPROTO_FRAGMENT;
	assert_false(packet_parse(data, sizeof(data), sizeof(data), &packet));
}

static void flags_are_those_of_tcpdump(void **state)
{
	char buf[PACKET_FLAGS_LEN];

	assert_string_equal(packet_format_flags(PACKET_SYN, buf), "S");
	assert_string_equal(packet_format_flags(PACKET_SYN | PACKET_ACK, buf), "S.");
	assert_string_equal(packet_format_flags(PACKET_FIN | PACKET_PSH | PACKET_ACK, buf), "FP.");
	assert_string_equal(packet_format_flags(PACKET_ACK, buf), ".");
	assert_string_equal(packet_format_flags(0, buf), "-");
}

/*
 * RLIMIT_FSIZE stands for a full disk. The file ends with its last whole block.
 *
 * To see it fail: leave out cut().
 */
static void failed_write_leaves_whole_blocks(void **state)
{
	char path[] = "/tmp/test_capture_XXXXXX";
	const struct output_options options = { .path = path,
						.program = "test",
						.snap_length = 65535 };
	const struct pcapng_packet packet = make_packet("lo", 1, 7);
	struct rlimit before, small = { .rlim_cur = 3001 };
	struct output output;
	struct pcapng read = {};
	const uint8_t *body;
	unsigned int i;
	int fd = mkstemp(path), r = 0;
	uint8_t data[4096];

	assert_true(fd >= 0);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	small.rlim_max = before.rlim_max;
	assert_int_equal(output_open(&options, &output), 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	for (i = 0; i < 100 && r == 0; i++) {
		r = output_packet(&output, &packet);
		if (r == 0)
			r = output_flush(&output);
	}
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(r, -EFBIG);
	output_close(&output);
	read.data = data;
	read.used = (size_t)pread(fd, data, sizeof(data), 0);
	assert_true(read.used > 2000 && read.used <= 3001);
	for (i = 0; block_at(&read, i, &body); i++)
		;
	assert_true(i > 10);
	close(fd);
	unlink(path);
}

/* A ring of three: the names have as many digits as the last one, and each file begins again. */
static void files_are_replaced_in_turn(void **state)
{
	char dir[] = "/tmp/test_capture_XXXXXX", path[64], name[80];
	const struct output_options options = {
		.path = path, .program = "test", .n_files = 11, .snap_length = 65535
	};
	const struct pcapng_statistics statistics = {};
	const struct pcapng_packet packet = make_packet("lo", 1, 7);
	struct output output;
	struct stat st;
	unsigned int i;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/c", dir);
	assert_int_equal(output_open(&options, &output), 0);
	for (i = 0; i < 25; i++) {
		assert_int_equal(output_packet(&output, &packet), 0);
		assert_int_equal(output_next(&output, &statistics), 0);
	}
	assert_int_equal(output_flush(&output), 0);
	output_close(&output);
	for (i = 0; i < 11; i++) {
		snprintf(name, sizeof(name), "%s%02u", path, i);
		assert_int_equal(stat(name, &st), 0);
		assert_int_equal(st.st_mode & 0777, 0600);
		assert_true(st.st_size > 0);
		unlink(name);
	}
	assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_come_in_order),
		cmocka_unit_test(packet_is_as_it_was),
		cmocka_unit_test(ipv4_headers_are_read),
		cmocka_unit_test(ipv6_headers_are_read),
		cmocka_unit_test(flags_are_those_of_tcpdump),
		cmocka_unit_test(failed_write_leaves_whole_blocks),
		cmocka_unit_test(files_are_replaced_in_turn),
	};

	sink_init();
	log_init("test", LOG_LEVEL_ERR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
