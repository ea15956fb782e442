// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The PROXY header, byte by byte. */
#include "protocol.h"

#include "tproxy_abi.h"
#include "upstream/proxy_header.h"

static struct tproxy_conn conn;
static uint8_t header[PROXY_HEADER_MAX];
static size_t header_len;

static int setup(void **state)
{
	protocol_setup(state);
	conn = (struct tproxy_conn){
		.cookie = 0x1a2b,
		.netns_cookie = 1,
		.cgroup_id = 0x1234,
		.pid = 4242,
		.uid = 1000,
		.gid = 100,
		.comm = "curl",
	};
	target.conn = &conn;
	return 0;
}

static void write_header(enum proxy_header version, const char *cgroup_path)
{
	uint8_t *buf = malloc(PROXY_HEADER_MAX);

	assert_non_null(buf);
	header_len = proxy_header_write(version, &target, cgroup_path, buf);
	assert_true(header_len <= PROXY_HEADER_MAX);
	memcpy(header, buf, header_len);
	free(buf);
}

static void assert_line(const char *line)
{
	write_header(PROXY_HEADER_V1, NULL);
	assert_int_equal(header_len, strlen(line));
	assert_memory_equal(header, line, header_len);
}

static void test_v1(void **state)
{
	assert_line("PROXY TCP4 192.0.2.1 192.0.2.9 50000 443\r\n");
	set_address(&client, "[::ffff:192.0.2.1]:50000");
	assert_line("PROXY TCP4 192.0.2.1 192.0.2.9 50000 443\r\n");
	set_address(&dst, "[2001:db8::9]:443");
	assert_line("PROXY TCP6 ::ffff:c000:201 2001:db8::9 50000 443\r\n");
	set_address(&client, "[2001:db8::1]:1");
	assert_line("PROXY TCP6 2001:db8::1 2001:db8::9 1 443\r\n");
	set_address(&dst, "255.255.255.255:65535");
	set_address(&client, "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535");
	assert_line("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ::ffff:ffff:ffff 65535 "
		    "65535\r\n");
	target.client = NULL;
	assert_line("PROXY UNKNOWN\r\n");
	target.client = &client;
	client.sa.sa_family = AF_UNSPEC;
	assert_line("PROXY UNKNOWN\r\n");
}

/* CRC-32C by its definition, one bit at a time. */
static uint32_t crc32c_of(const uint8_t *data, size_t len)
{
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < len * 8; i++) {
		const uint32_t bit = (crc ^ data[i / 8] >> i % 8) & 1;

		crc = crc >> 1 ^ (bit ? 0x82f63b78 : 0);
	}
	return ~crc;
}

static unsigned int be16(const uint8_t *at)
{
	return (unsigned int)at[0] << 8 | at[1];
}

/* Returns the TLV's value in [at, end), or NULL. */
static const uint8_t *find(const uint8_t *at, const uint8_t *end, uint8_t type, size_t *ret_len)
{
	const uint8_t *found = NULL;

	while (at < end) {
		assert_true(end - at >= 3);
		assert_true((size_t)(end - at) >= 3U + be16(at + 1));
		if (*at == type) {
			assert_null(found); /* none is there twice */
			found = at + 3;
			*ret_len = be16(at + 1);
		}
		at += 3 + be16(at + 1);
	}
	assert_ptr_equal(at, end);
	return found;
}

static const uint8_t *find_tlv(uint8_t type, size_t *ret_len)
{
	const size_t addresses = header[13] == 0x11 ? 12 : 36;

	return find(header + 16 + addresses, header + header_len, type, ret_len);
}

static const uint8_t *find_ours(uint8_t type, size_t *ret_len)
{
	size_t len;
	const uint8_t *value = find_tlv(0xe4, &len);

	assert_non_null(value);
	assert_memory_equal(value, "tprx\1", 5);
	return find(value + 5, value + len, type, ret_len);
}

#define assert_tlv(finder, type, text)                                                             \
	do {                                                                                       \
		size_t len_;                                                                       \
		const uint8_t *value_ = finder(type, &len_);                                       \
		assert_non_null(value_);                                                           \
		assert_int_equal(len_, sizeof(text) - 1);                                          \
		assert_memory_equal(value_, text, sizeof(text) - 1);                               \
	} while (0)

static void assert_no_tlv(const uint8_t *(*finder)(uint8_t, size_t *), uint8_t type)
{
	size_t len;

	assert_null(finder(type, &len));
}

/* Writes a header of version 2, and checks what all of them have. */
static void write_v2(const char *cgroup_path)
{
	uint8_t copy[PROXY_HEADER_MAX];
	uint32_t crc;
	size_t len;
	const uint8_t *at;

	write_header(PROXY_HEADER_V2, cgroup_path);
	assert_memory_equal(header, "\r\n\r\n\0\r\nQUIT\n\x21", 13);
	assert_int_equal(be16(header + 14), header_len - 16);
	at = find_tlv(0x03, &len);
	assert_non_null(at);
	assert_int_equal(len, 4);
	memcpy(&crc, at, sizeof(crc));
	memcpy(copy, header, header_len);
	memset(copy + (at - header), 0, sizeof(crc));
	assert_int_equal(ntohl(crc), crc32c_of(copy, header_len));
}

static void test_v2_addresses(void **state)
{
	write_v2(NULL);
	assert_memory_equal(header + 13, "\x11", 1);
	assert_memory_equal(header + 16, "\300\0\2\1\300\0\2\x09\xc3\x50\x01\xbb", 12);
	set_address(&dst, "[::ffff:192.0.2.9]:443");
	write_v2(NULL);
	assert_memory_equal(header + 16, "\300\0\2\1\300\0\2\x09\xc3\x50\x01\xbb", 12);
	set_address(&dst, "[2001:db8::9]:443");
	write_v2(NULL);
	assert_memory_equal(header + 13, "\x21", 1);
	assert_memory_equal(header + 16,
			    "\0\0\0\0\0\0\0\0\0\0\xff\xff\300\0\2\1"
			    "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x09\xc3\x50\x01\xbb",
			    36);
}

/* A check of an upstream has no client. */
static void test_v2_local(void **state)
{
	target.client = NULL;
	target.conn = NULL;
	write_header(PROXY_HEADER_V2, NULL);
	assert_int_equal(header_len, 16);
	assert_memory_equal(header, "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", 16);
}

static void test_v2_standard_fields(void **state)
{
	target.known_name = "www.example.org";
	write_v2("/ignored");
	assert_tlv(find_tlv, 0x05, "1a2b");
	assert_tlv(find_tlv, 0x02, "www.example.org");
	assert_tlv(find_tlv, 0x30, "1");
	assert_no_tlv(find_tlv, 0xe4);
	target.known_name = NULL;
	write_v2(NULL);
	assert_no_tlv(find_tlv, 0x02);
	target.conn = NULL;
	write_v2(NULL);
	assert_no_tlv(find_tlv, 0x05);
	assert_no_tlv(find_tlv, 0x30);
}

static void test_v2_process(void **state)
{
	conf.proxy_process = true;
	write_v2("/user.slice/user-1000.slice");
	assert_tlv(find_ours, 1, "\0\0\x10\x92");
	assert_tlv(find_ours, 2, "\0\0\x03\xe8");
	assert_tlv(find_ours, 3, "\0\0\0\x64");
	assert_tlv(find_ours, 4, "curl");
	assert_tlv(find_ours, 5, "\0\0\0\0\0\0\x12\x34");
	assert_tlv(find_ours, 6, "/user.slice/user-1000.slice");
	memcpy(conn.comm, "exactly 16 bytes", 16);
	conn.cgroup_id = UINT64_C(0xfedcba9876543210);
	write_v2(NULL);
	assert_tlv(find_ours, 4, "exactly 16 bytes");
	assert_tlv(find_ours, 5, "\xfe\xdc\xba\x98\x76\x54\x32\x10");
	assert_no_tlv(find_ours, 6);
}

/* The example of tproxy-upstreams(5). */
static void test_example(void **state)
{
	static const char example[] = "\xe4\0\x2c"
				      "tprx\1"
				      "\1\0\4\0\0\x10\x92"
				      "\2\0\4\0\0\x03\xe8"
				      "\3\0\4\0\0\0\x64"
				      "\4\0\4curl"
				      "\5\0\x08\0\0\0\0\0\0\x12\x34";

	conf.proxy_process = true;
	write_v2(NULL);
	assert_memory_equal(header + header_len - (sizeof(example) - 1), example,
			    sizeof(example) - 1);
}

/* Everything else fits beside the longest name, and the path if there is room for all of it. */
static void test_v2_limit(void **state)
{
	char name[257], path[1024];
	size_t len, longest = 0;

	memset(name, 'n', sizeof(name));
	memset(path, 'p', sizeof(path));
	name[255] = '\0';
	target.known_name = name;
	set_address(&dst, "[2001:db8::9]:443");
	conn.cookie = conn.netns_cookie = UINT64_MAX;
	memcpy(conn.comm, "exactly 16 bytes", 16);
	conf.proxy_process = true;
	for (size_t n = 1; n < sizeof(path); n++) {
		path[n] = '\0';
		write_v2(path);
		path[n] = 'p';
		assert_tlv(find_ours, 4, "exactly 16 bytes");
		assert_non_null(find_tlv(0x02, &len));
		assert_int_equal(len, 255);
		if (!find_ours(6, &len))
			continue;
		assert_int_equal(len, n);
		assert_int_equal(longest, n - 1);
		longest = n;
	}
	assert_true(longest >= 64);
	name[255] = 'n';
	name[256] = '\0';
	write_v2(NULL);
	assert_no_tlv(find_tlv, 0x02);
}

/* The step writes the header and is done; a tunnel's bytes are not taken. */
static void test_step(void **state)
{
	struct outcome o;

	conf.proxy_header = PROXY_HEADER_V1;
	protocol_run(&proxy_header_ops, &target, "TUNNEL", 6, &o);
	assert_int_equal(o.result, HANDSHAKE_DONE);
	assert_int_equal(o.taken, 0);
	assert_int_equal(o.out_len, strlen("PROXY TCP4 192.0.2.1 192.0.2.9 50000 443\r\n"));
	conf.proxy_header = PROXY_HEADER_V2;
	conf.proxy_process = true;
	protocol_run(&proxy_header_ops, &target, "", 0, &o);
	assert_int_equal(o.result, HANDSHAKE_DONE);
	write_v2(NULL);
	assert_int_equal(o.out_len, header_len);
	assert_memory_equal(o.out, header, header_len);
}

#define header_test(test) cmocka_unit_test_setup_teardown(test, setup, protocol_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		header_test(test_v1),	      header_test(test_v2_addresses),
		header_test(test_v2_local),   header_test(test_v2_standard_fields),
		header_test(test_v2_process), header_test(test_example),
		header_test(test_v2_limit),   header_test(test_step),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
