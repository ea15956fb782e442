// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests the parser of a ClientHello: hellos of real clients (tests/fuzz/corpus/tls_hello), and
 * hellos of every size, cut at every byte and split into records of every size.
 */
#include "unit.h"

#include <stdlib.h>

#include "hello.h"
#include "upstream/tls_hello.h"
#include "util.h"

static uint8_t bytes[HELLO_ROOM];
static struct hello hello;
static struct sniffed sniffed;

/* The result of the first len bytes, on the heap: ASan sees a read beyond them. */
static enum sniff_result parse(size_t len)
{
	uint8_t *copy = malloc(len + 1);
	enum sniff_result r;

	assert_non_null(copy);
	memcpy(copy, bytes, len);
	r = tls_hello_parse(copy, len, &sniffed);
	free(copy);
	return r;
}

/* Each beginning of the len bytes waits for more, for at most what there is. */
static void assert_waits_until(size_t len)
{
	size_t i;

	for (i = 0; i < len; i++) {
		assert_int_equal(parse(i), SNIFF_MORE);
		assert_in_range(sniffed.need, i + 1, len);
		assert_string_equal(sniffed.name, "");
	}
}

static void test_real_clients(void **state)
{
	static const struct {
		const char *file, *name;
		bool ech;
	} clients[] = {
		{ "openssl", "openssl.example.org", false },
		{ "openssl12", "openssl12.example.org", false },
		{ "openssl_nosni", "", false },
		{ "curl", "curl.example.org", false },
		{ "java", "java.example.org", false },
		{ "go", "go.example.org", false },
		{ "python", "python.example.org", false },
		/* 1,834 bytes, with X25519MLKEM768 and with ECH of random content. */
		{ "chromium", "chromium.example.org", true },
	};
	char path[64];
	size_t i, len;

	for (i = 0; i < ARRAY_SIZE(clients); i++) {
		snprintf(path, sizeof(path), "tls_hello/%s", clients[i].file);
		len = hello_read(path, bytes, sizeof(bytes));
		assert_waits_until(len);
		assert_int_equal(parse(len), *clients[i].name ? SNIFF_NAME : SNIFF_NONE);
		assert_string_equal(sniffed.name, clients[i].name);
		assert_int_equal(sniffed.ech, clients[i].ech);
		assert_string_equal(sniffed.protocol, "tls");
	}
}

static void test_records_of_every_size(void **state)
{
	size_t piece, len, i;

	hello_make(&hello, 1216, "split.example.org", false);
	for (piece = 1; piece <= hello.len; piece++) {
		len = hello_records(&hello, piece, bytes, sizeof(bytes));
		assert_int_equal(parse(len), SNIFF_NAME);
		assert_string_equal(sniffed.name, "split.example.org");
		/* To see it fail: let gather() return SNIFF_NONE when a record ends. */
		assert_int_equal(parse(len - 1), SNIFF_MORE);
		assert_int_equal(sniffed.need, len);
	}
	/* need tells where a record ends: no result changes before that. */
	len = hello_records(&hello, 100, bytes, sizeof(bytes));
	for (i = 0; i < len; i = sniffed.need)
		assert_int_equal(parse(i), SNIFF_MORE);
	assert_int_equal(i, len);
}

static void test_size_limit(void **state)
{
	const size_t least = HELLO_LEAST + 9 + strlen("a.example.org");
	size_t len;

	hello_make(&hello, 16384 - least, "a.example.org", false);
	assert_int_equal(hello.len, 4 + 16384);
	len = hello_records(&hello, 16384, bytes, sizeof(bytes));
	assert_true(len < SNIFF_MAX);
	assert_waits_until(len);
	assert_int_equal(parse(len), SNIFF_NAME);
	assert_string_equal(sniffed.name, "a.example.org");
	/* One byte more: it is refused when its length is known. */
	hello_make(&hello, 16385 - least, "a.example.org", false);
	hello_records(&hello, 16384, bytes, sizeof(bytes));
	assert_int_equal(parse(8), SNIFF_MORE);
	assert_int_equal(parse(9), SNIFF_NONE);
}

/* More of the record's bytes than the hello do not matter. */
static void test_bytes_behind(void **state)
{
	size_t len;

	hello_make(&hello, 32, "first.example.org", false);
	len = hello_records(&hello, 16384, bytes, sizeof(bytes));
	memset(bytes + len, 0xff, 100);
	assert_int_equal(parse(len + 100), SNIFF_NAME);
	assert_string_equal(sniffed.name, "first.example.org");
}

static void test_names(void **state)
{
	static const struct {
		const char *sent, *name;
	} names[] = {
		{ "EXAMPLE.Org", "example.org" },
		{ "example.org.", "example.org" },
		{ "_srv.a-b.example", "_srv.a-b.example" },
		{ "localhost", "localhost" },
		{ "192.0.2.1", "" },
		{ "2001:db8::1", "" },
		{ "exa mple.org", "" },
		{ "ex\xc3\xa4mple.org", "" },
		{ "a..example.org", "" },
		{ ".example.org", "" },
		{ "*.example.org", "" },
	};
	size_t i, len;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		hello_make(&hello, 32, names[i].sent, false);
		len = hello_records(&hello, 16384, bytes, sizeof(bytes));
		assert_int_equal(parse(len), *names[i].name ? SNIFF_NAME : SNIFF_NONE);
		assert_string_equal(sniffed.name, names[i].name);
		assert_string_equal(sniffed.protocol, "tls");
	}
}

static void test_ech(void **state)
{
	size_t len;

	hello_make(&hello, 32, "outer.example.org", true);
	len = hello_records(&hello, 16384, bytes, sizeof(bytes));
	assert_int_equal(parse(len), SNIFF_NAME);
	assert_true(sniffed.ech);
	hello_make(&hello, 32, NULL, true);
	len = hello_records(&hello, 16384, bytes, sizeof(bytes));
	assert_int_equal(parse(len), SNIFF_NONE);
	assert_true(sniffed.ech);
}

/* The message is malformed: it tells nothing. */
static void assert_malformed(void)
{
	size_t len = hello_records(&hello, 16384, bytes, sizeof(bytes));

	assert_int_equal(parse(len), SNIFF_NONE);
	assert_string_equal(sniffed.name, "");
	assert_null(sniffed.protocol);
	assert_false(sniffed.ech);
}

static void test_malformed(void **state)
{
	/* Where each vector has the low byte of its length: one byte longer or shorter. */
	static const size_t lengths[] = { 38, 43, 46, 50, 86, 88, 91 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(lengths); i++) {
		hello_make(&hello, 32, "bad.example.org", false);
		hello.data[lengths[i]]++;
		assert_malformed();
		hello_make(&hello, 32, "bad.example.org", false);
		hello.data[lengths[i]]--;
		assert_malformed();
	}
	/* Two extensions server_name. */
	hello_make(&hello, 32, "one.example.org", false);
	hello_put_name(&hello, "two.example.org");
	hello_close(&hello, 47, 2);
	hello_close(&hello, 4, 3);
	assert_malformed();
}

static void test_other_protocols(void **state)
{
	static const struct {
		uint8_t data[12];
		size_t len; /* with this many bytes it is known */
	} others[] = {
		{ "GET / HTTP", 1 },
		{ { 0x17, 3, 1 }, 1 },			   /* application data */
		{ { 22, 2, 0 }, 2 },			   /* SSL 2 */
		{ { 22, 3, 5 }, 3 },			   /* no version */
		{ { 22, 3, 1, 0, 0 }, 5 },		   /* an empty record */
		{ { 22, 3, 1, 0x40, 1 }, 5 },		   /* longer than a record can be */
		{ { 22, 3, 1, 0, 50, 2 }, 6 },		   /* a ServerHello */
		{ { 22, 3, 1, 0, 50, 1, 0, 0x41, 0 }, 9 }, /* a hello of 16,640 bytes */
	};
	size_t i, n;

	for (i = 0; i < ARRAY_SIZE(others); i++) {
		memcpy(bytes, others[i].data, sizeof(others[i].data));
		for (n = 0; n < others[i].len; n++)
			assert_int_equal(parse(n), SNIFF_MORE);
		assert_int_equal(parse(n), SNIFF_NONE);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_real_clients), cmocka_unit_test(test_records_of_every_size),
		cmocka_unit_test(test_size_limit),   cmocka_unit_test(test_bytes_behind),
		cmocka_unit_test(test_names),	     cmocka_unit_test(test_ech),
		cmocka_unit_test(test_malformed),    cmocka_unit_test(test_other_protocols),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
