/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Makes a ClientHello of TLS, and records for it. */
#ifndef TPROXY_HELLO_H
#define TPROXY_HELLO_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define HELLO_ROOM (40 * 1024)

struct hello {
	size_t len;
	uint8_t data[HELLO_ROOM];
};

static inline void hello_put(struct hello *h, size_t value, size_t bytes)
{
	for (; bytes > 0; bytes--)
		h->data[h->len++] = (uint8_t)(value >> 8 * (bytes - 1));
	assert(h->len < sizeof(h->data));
}

/* Reserves the length of a vector; hello_close() writes it. */
static inline size_t hello_open(struct hello *h, size_t bytes)
{
	hello_put(h, 0, bytes);
	return h->len;
}

static inline void hello_close(struct hello *h, size_t start, size_t bytes)
{
	size_t len = h->len - start, i;

	for (i = 0; i < bytes; i++)
		h->data[start - 1 - i] = (uint8_t)(len >> 8 * i);
}

static inline void hello_put_name(struct hello *h, const char *name)
{
	size_t ext, list, one;

	hello_put(h, 0, 2);
	ext = hello_open(h, 2);
	list = hello_open(h, 2);
	hello_put(h, 0, 1);
	one = hello_open(h, 2);
	memcpy(h->data + h->len, name, strlen(name));
	h->len += strlen(name);
	hello_close(h, one, 2);
	hello_close(h, list, 2);
	hello_close(h, ext, 2);
}

static inline void hello_put_filling(struct hello *h, unsigned int type, size_t bytes)
{
	hello_put(h, type, 2);
	hello_put(h, bytes, 2);
	memset(h->data + h->len, 0x5a, bytes);
	h->len += bytes;
}

/*
 * Makes the message: key_share before the name, with this many bytes (1,216 is that of
 * X25519MLKEM768), name (NULL: none), and encrypted_client_hello. The body then has
 * HELLO_LEAST + key_share bytes, and 9 and the length of the name, and 36 for ech.
 */
#define HELLO_LEAST 47
static inline void hello_make(struct hello *h, size_t key_share, const char *name, bool ech)
{
	size_t body, extensions;

	h->len = 0;
	hello_put(h, 1, 1);
	body = hello_open(h, 3);
	hello_put(h, 0x0303, 2);
	memset(h->data + h->len, 0xa5, 32);
	h->len += 32;
	hello_put(h, 0, 1);	 /* session id */
	hello_put(h, 2, 2);	 /* cipher suites */
	hello_put(h, 0x1301, 2); /* TLS_AES_128_GCM_SHA256 */
	hello_put(h, 0x0100, 2); /* compression: null */
	extensions = hello_open(h, 2);
	hello_put_filling(h, 51, key_share);
	if (name)
		hello_put_name(h, name);
	if (ech)
		hello_put_filling(h, 0xfe0d, 32);
	hello_close(h, extensions, 2);
	hello_close(h, body, 3);
}

/* Writes the message as records with at most piece bytes of it each. Returns the length. */
static inline size_t hello_records(const struct hello *h, size_t piece, uint8_t *ret, size_t room)
{
	size_t off, n, len = 0;

	for (off = 0; off < h->len; off += n) {
		n = h->len - off < piece ? h->len - off : piece;
		assert(len + 5 + n <= room);
		memcpy(ret + len, (uint8_t[]){ 22, 3, 1, (uint8_t)(n >> 8), (uint8_t)n }, 5);
		memcpy(ret + len + 5, h->data + off, n);
		len += 5 + n;
	}
	return len;
}

/* Reads a file of tests/fuzz/corpus. Returns the length. __FILE__ is relative to the build. */
static inline size_t hello_read(const char *name, uint8_t *ret, size_t room)
{
	const char *slash = strrchr(__FILE__, '/');
	char path[512];
	size_t len;
	FILE *file;

	snprintf(path, sizeof(path), "%.*s/../fuzz/corpus/%s", (int)(slash - __FILE__), __FILE__,
		 name);
	file = fopen(path, "r");
	if (!file)
		perror(path);
	assert(file);
	len = fread(ret, 1, room, file);
	fclose(file);
	return len;
}

#endif
