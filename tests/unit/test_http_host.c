// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests the parsers of a request of HTTP/1 and HTTP/2, and of host names: requests of real clients
 * (tests/fuzz/corpus/http_host), and requests cut at every byte.
 */
#include "unit.h"

#include <stdlib.h>

#include "hello.h"
#include "upstream/http_host.h"
#include "upstream/sniff.h"
#include "util.h"

static struct sniffed sniffed;

/* The result of the first len bytes, on the heap: ASan sees a read beyond them. */
static enum sniff_result parse(const void *data, size_t len)
{
	uint8_t *copy = malloc(len + 1);
	enum sniff_result r;

	assert_non_null(copy);
	memcpy(copy, data, len);
	r = sniff_name(copy, len, &sniffed);
	free(copy);
	return r;
}

/* The request tells this name (empty: none), with its last byte and not before. */
static void assert_name(const void *data, size_t len, const char *name)
{
	size_t i;

	for (i = 0; i < len; i++) {
		assert_int_equal(parse(data, i), SNIFF_MORE);
		assert_in_range(sniffed.need, i + 1, len);
	}
	assert_int_equal(parse(data, len), *name ? SNIFF_NAME : SNIFF_NONE);
	assert_string_equal(sniffed.name, name);
	assert_non_null(sniffed.protocol);
}

static void test_real_clients(void **state)
{
	static const struct {
		const char *file, *name, *protocol;
	} clients[] = {
		{ "curl_http", "curl.example.org", "http" },
		{ "curl_upgrade", "h2.example.org", "http" },
		{ "curl_proxy", "proxied.example.org", "http" },
		{ "curl_connect", "", "http" },
		{ "curl_h2c", "h2.example.org", "h2c" },
	};
	uint8_t data[1024];
	char path[64];
	size_t i, len;

	for (i = 0; i < ARRAY_SIZE(clients); i++) {
		snprintf(path, sizeof(path), "http_host/%s", clients[i].file);
		len = hello_read(path, data, sizeof(data));
		if (strcmp(clients[i].protocol, "h2c") != 0)
			assert_name(data, len, clients[i].name);
		parse(data, len);
		assert_string_equal(sniffed.name, clients[i].name);
		assert_string_equal(sniffed.protocol, clients[i].protocol);
	}
}

static void test_requests(void **state)
{
	static const struct {
		const char *request, *name;
	} requests[] = {
		{ "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n", "example.org" },
		{ "GET / HTTP/1.1\nhost:Example.ORG.  \n\n", "example.org" },
		{ "GET / HTTP/1.1\r\nA: b\r\nHOST:\t example.org:8080\r\nC: d\r\n\r\n",
		  "example.org" },
		{ "GET / HTTP/1.0\r\n\r\n", "" },
		{ "GET / HTTP/1.1\r\nHost:\r\n\r\n", "" },
		{ "GET / HTTP/1.1\r\nHost: 192.0.2.1:80\r\n\r\n", "" },
		{ "GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n", "" },
		{ "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "" },
		{ "GET / HTTP/1.1\r\nHost: u@example.org\r\n\r\n", "" },
		{ "GET / HTTP/1.1\r\nX-Host: example.org\r\n\r\n", "" },
		/* Servers disagree on these. */
		{ "GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n", "" },
		{ "GET / HTTP/1.1\r\nHost: a.example\r\nHost: ?\r\n\r\n", "" },
		{ "GET / HTTP/1.1\r\nHost: ?\r\nHost: a.example\r\n\r\n", "" },
		{ "GET / HTTP/1.1\r\nHost: a.example\r\n b.example\r\n\r\n", "" },
		{ "GET / HTTP/1.1\r\nHost : a.example\r\n\r\n", "" },
		{ "GET / HTTP/1.1\r\nHost\r\nHost: a.example\r\n\r\n", "" },
		{ "GET / HTTP/1.1\r\nX: \rHost: b.example\r\nHost: a.example\r\n\r\n", "" },
		{ "GET / HTTP/1.1\r\nHost: a.example\r\nHost: A.example:80\r\n\r\n", "a.example" },
		/* The host of the target counts, unless the field has another one. */
		{ "GET http://a.example HTTP/1.1\r\nHost: b.example\r\n\r\n", "" },
		{ "GET http://a.example HTTP/1.1\r\nHost: A.example:80\r\n\r\n", "a.example" },
		{ "GET http://a.example HTTP/1.1\r\n\r\n", "a.example" },
		{ "PROPFIND HTTP://a.example:81/x?y HTTP/1.1\r\n\r\n", "a.example" },
		{ "GET https://a.example?http://b.example/ HTTP/1.1\r\n\r\n", "a.example" },
		{ "GET http://192.0.2.1/ HTTP/1.1\r\nHost: b.example\r\n\r\n", "" },
		{ "GET http:/// HTTP/1.1\r\nHost: b.example\r\n\r\n", "b.example" },
		{ "OPTIONS * HTTP/1.1\r\nHost: b.example\r\n\r\n", "b.example" },
		{ "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n", "" },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(requests); i++)
		assert_name(requests[i].request, strlen(requests[i].request), requests[i].name);
}

/* What is no request ends the parsing with the first byte that shows it. */
static void test_other_protocols(void **state)
{
	static const struct {
		const char *data;
		size_t len;
	} others[] = {
		{ "\r\n", 1 },
		{ "SSH-2.0-x", 4 },
		{ "EHLO a.example\r\n", 15 },
		{ "GET /\r\n", 6 },
		{ "GET  / HTTP/1.1\r\n", 5 },
		{ "GET / HTTP/2.0\r\n", 12 },
		{ "GET / HTTP/1.1 \r\n", 16 },
		{ "GET /\x01 HTTP/1.1\r\n", 6 },
		{ "get / HTTP/1.1\r\n", 1 },
		{ "ABCDEFGHIJKLMNOPQRSTUVWXYZ / HTTP/1.1\r\n", 25 },
		{ "{\"jsonrpc\"", 1 },
	};
	size_t i, n;

	for (i = 0; i < ARRAY_SIZE(others); i++) {
		for (n = 0; n < others[i].len; n++)
			assert_int_equal(parse(others[i].data, n), SNIFF_MORE);
		assert_int_equal(parse(others[i].data, n), SNIFF_NONE);
		assert_string_equal(sniffed.name, "");
	}
	parse("SSH-2.0", 7);
	assert_string_equal(sniffed.protocol, "ssh");
	assert_int_equal(parse("GET /\0x", 7), SNIFF_NONE);
}

static void test_size_limit(void **state)
{
	static char request[SNIFF_MAX + 2];
	static const char begin[] = "GET / HTTP/1.1\r\nHost: example.org\r\nCookie: ";

	memset(request, 'c', sizeof(request));
	memcpy(request, begin, strlen(begin));
	assert_int_equal(parse(request, SNIFF_MAX - 1), SNIFF_MORE);
	assert_int_equal(sniffed.need, SNIFF_MAX);
	assert_int_equal(parse(request, SNIFF_MAX), SNIFF_NONE);
	assert_int_equal(parse(request, SNIFF_MAX + 1), SNIFF_NONE);
	memcpy(request + SNIFF_MAX - 4, "\r\n\r\n", 4);
	assert_int_equal(parse(request, SNIFF_MAX), SNIFF_NAME);
	assert_string_equal(sniffed.name, "example.org");
}

#define PREFACE	 "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define SETTINGS "\0\0\0\4\0\0\0\0\0"

struct h2 {
	const char *block;
	size_t len;
	uint8_t flags;
	const char *name;
};

static void check_h2(const struct h2 *h2, bool with_settings)
{
	uint8_t data[512];
	size_t len = strlen(PREFACE), settings;

	memcpy(data, PREFACE, len);
	if (with_settings) {
		memcpy(data + len, SETTINGS, 9);
		len += 9;
	}
	settings = len;
	memcpy(data + len, (uint8_t[]){ 0, 0, (uint8_t)h2->len, 1, h2->flags, 0, 0, 0, 1 }, 9);
	memcpy(data + len + 9, h2->block, h2->len);
	len += 9 + h2->len;
	for (size_t i = 0; i < len; i++)
		assert_int_equal(parse(data, i),
				 with_settings && i == settings ? SNIFF_NONE : SNIFF_MORE);
	assert_int_equal(parse(data, len), *h2->name ? SNIFF_NAME : SNIFF_NONE);
	assert_string_equal(sniffed.name, h2->name);
	assert_string_equal(sniffed.protocol, "h2c");
}

static void test_h2(void **state)
{
	/* Examples of RFC 7541, C.3.1 and C.4.1, and what other encoders do. */
	static const struct h2 blocks[] = {
		{ "\x82\x86\x84\x41\x0fwww.example.com", 20, 4, "www.example.com" },
		{ "\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff", 17, 4,
		  "www.example.com" },
		{ "\x20\x82\x01\x0fwww.example.com", 19, 4, "www.example.com" },
		{ "\x10\x0a:authority\x0b"
		  "a.example:8",
		  24, 4, "a.example" },
		/* The name in Huffman's code. */
		{ "\x10\x88\xb8\x3b\x53\x39\xec\x32\x7d\x7f\x0b"
		  "a.example:8",
		  22, 4, "a.example" },
		{ "\x3f\xe1\x1f\x82\x41\x03"
		  "a.b",
		  9, 4, "a.b" },
		/* Padded, with a priority. */
		{ "\x02\0\0\0\0\x10\x41\x03"
		  "a.b\0\0",
		  13, 0x2c, "a.b" },
		/* A field host with the same name, by its index and by its name. */
		{ "\x41\x03"
		  "a.b\x66\x03"
		  "A.b\x10\x04host\x05"
		  "a.b:8",
		  22, 4, "a.b" },
		/* Two names. */
		{ "\x41\x03"
		  "a.b\x41\x03"
		  "a.c",
		  10, 4, "" },
		{ "\x41\x03"
		  "a.b\x66\x03"
		  "a.c",
		  10, 4, "" },
		{ "\x41\x03"
		  "a.b\x10\x04host\x01?",
		  13, 4, "" },
		/* Not in the block, no name, cut, numbers that do not fit, padding that does not.
		 */
		{ "\x82\x86\x84", 3, 4, "" },
		{ "\x41\x09"
		  "192.0.2.1",
		  11, 4, "" },
		{ "\x41\x0f"
		  "www.example",
		  13, 4, "" },
		{ "\x41\x7f\xff\xff\xff\xff\x7f", 7, 4, "" },
		{ "\x05\x41\x03"
		  "a.b",
		  6, 0x0c, "" },
		{ "", 0, 0x2c, "" },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(blocks); i++) {
		check_h2(&blocks[i], false);
		check_h2(&blocks[i], true);
	}
}

static void test_host_name(void **state)
{
	char name[HOST_NAME_LEN] = "untouched", longest[300];
	static const char *const bad[] = {
		"",	  ".",	 "a..",	 "..a",	 "1.2.3.4", "0x7f.1", "2130706433", "a.0xff",
		"a.b.08", "a/b", "a:80", "a%62", "a\xff",   "[::1]",  "a.0x",
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(host_name_copy(name, bad[i], strlen(bad[i])));
	assert_string_equal(name, "untouched");
	assert_false(host_name_copy(name, "a\0b", 3));
	memset(longest, 'a', sizeof(longest));
	for (i = 63; i < sizeof(longest); i += 64)
		longest[i] = '.';
	assert_true(host_name_copy(name, longest, 253));
	assert_int_equal(strlen(name), 253);
	longest[253] = '.';
	assert_true(host_name_copy(name, longest, 254));
	longest[253] = 'a';
	assert_false(host_name_copy(name, longest, 254));
	/* A label of 64 bytes. */
	longest[63] = 'a';
	assert_false(host_name_copy(name, longest, 64));
	assert_true(host_name_copy(name, longest, 63));
	assert_true(host_name_copy(name, "1.2.3.a", 7));
	assert_true(host_name_copy(name, "a.0xg", 5));
	assert_true(host_name_copy_authority(name, "a.b:", 4));
	assert_string_equal(name, "a.b");
	assert_false(host_name_copy_authority(name, ":80", 3));
	assert_true(host_name_copy_authority(name, "80.a", 4));
	assert_false(host_name_copy_authority(name, "80", 2));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_real_clients),
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_other_protocols),
		cmocka_unit_test(test_size_limit),
		cmocka_unit_test(test_h2),
		cmocka_unit_test(test_host_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
