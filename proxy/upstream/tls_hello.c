// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See tls_hello.h. gather() joins the parts of the first handshake message, which are in the
 * payloads of records (RFC 8446, 5.1). parse_hello() then reads the message (4.1.2). It is strict:
 * a vector that does not end where it should makes the hello malformed, and then it tells nothing.
 *
 * A part that is read through a cursor is never read beyond its end. A read that does not fit marks
 * the cursor as bad and returns zeros; the caller looks at the mark once, at the end.
 */
#include "tls_hello.h"

#include <stdbool.h>
#include <string.h>

#define RECORD_HEADER	 5
#define RECORD_MAX	 (16 * 1024)
#define RECORD_HANDSHAKE 22
#define MESSAGE_HEADER	 4
#define CLIENT_HELLO	 1
#define HELLO_MAX	 (MESSAGE_HEADER + 16 * 1024)

#define EXTENSION_SERVER_NAME 0
#define EXTENSION_ECH	      0xfe0d
#define NAME_TYPE_HOST	      0

struct cursor {
	const uint8_t *at;
	size_t left;
	bool bad;
};

static const uint8_t *take(struct cursor *c, size_t n)
{
	const uint8_t *at = c->at;

	if (c->bad || n > c->left) {
		*c = (struct cursor){ .bad = true };
		return NULL;
	}
	c->at += n;
	c->left -= n;
	return at;
}

/* Reads a number of n bytes, at most 4. */
static uint32_t take_number(struct cursor *c, size_t n)
{
	const uint8_t *at = take(c, n);
	uint32_t value = 0;
	size_t i;

	for (i = 0; at && i < n; i++)
		value = value << 8 | at[i];
	return value;
}

/* Reads a vector whose length has len_size bytes. It is bad if it does not fit. */
static struct cursor take_vector(struct cursor *c, size_t len_size)
{
	const size_t len = take_number(c, len_size);
	const uint8_t *at = take(c, len);

	return at ? (struct cursor){ .at = at, .left = len } : (struct cursor){ .bad = true };
}

/* Reads the extension server_name. Returns false if it is malformed. */
static bool parse_names(struct cursor *ext, struct sniffed *ret)
{
	struct cursor list = take_vector(ext, 2), name;
	bool found = false;
	uint32_t type;

	while (list.left > 0) {
		type = take_number(&list, 1);
		name = take_vector(&list, 2);
		if (name.bad)
			return false;
		if (type != NAME_TYPE_HOST)
			continue;
		/* A list has at most one name of a type. */
		if (found || name.left == 0)
			return false;
		found = true;
		/* Text that is no host name is as good as none. */
		host_name_copy(ret->name, name.at, name.left);
	}
	return !list.bad && ext->left == 0 && found;
}

static bool parse_extensions(struct cursor *list, struct sniffed *ret)
{
	bool has_names = false;
	struct cursor ext;
	uint32_t type;

	while (list->left > 0) {
		type = take_number(list, 2);
		ext = take_vector(list, 2);
		if (ext.bad)
			return false;
		if (type == EXTENSION_ECH)
			ret->ech = true;
		if (type != EXTENSION_SERVER_NAME)
			continue;
		/* A hello has at most one extension of a type. */
		if (has_names || !parse_names(&ext, ret))
			return false;
		has_names = true;
	}
	return !list->bad;
}

/* Reads the body of a ClientHello. Returns false if it is malformed. */
static bool parse_hello(const uint8_t *data, size_t len, struct sniffed *ret)
{
	struct cursor hello = { .at = data, .left = len }, extensions;

	take(&hello, 2 + 32);	/* legacy_version, random */
	take_vector(&hello, 1); /* legacy_session_id */
	take_vector(&hello, 2); /* cipher_suites */
	take_vector(&hello, 1); /* legacy_compression_methods */
	/* TLS 1.2 allows a hello without extensions. */
	if (hello.bad || hello.left == 0)
		return !hello.bad;
	extensions = take_vector(&hello, 2);
	return !extensions.bad && hello.left == 0 && parse_extensions(&extensions, ret);
}

/*
 * Checks the header of a record, or the part of it that is there. It must be one of a handshake,
 * of SSL 3.0 or later (clients write 3.1 or 3.3).
 */
static bool is_handshake_record(const uint8_t *data, size_t len)
{
	size_t n;

	if (len > 0 && data[0] != RECORD_HANDSHAKE)
		return false;
	if ((len > 1 && data[1] != 3) || (len > 2 && data[2] > 4))
		return false;
	if (len < RECORD_HEADER)
		return true;
	n = (size_t)data[3] << 8 | data[4];
	return n > 0 && n <= RECORD_MAX;
}

/* The first handshake message, as far as it is there. */
struct message {
	size_t len;
	uint8_t data[HELLO_MAX];
};

/* Returns the length of the message; 0 if it is not known yet, SIZE_MAX if it is no ClientHello. */
static size_t message_len(const struct message *m)
{
	size_t len;

	if (m->len > 0 && m->data[0] != CLIENT_HELLO)
		return SIZE_MAX;
	if (m->len < MESSAGE_HEADER)
		return 0;
	len = MESSAGE_HEADER + ((size_t)m->data[1] << 16 | (size_t)m->data[2] << 8 | m->data[3]);
	return len <= HELLO_MAX ? len : SIZE_MAX;
}

/*
 * Joins the parts of the message. Returns SNIFF_NAME when it is complete, whether it has a name or
 * not.
 */
static enum sniff_result gather(const uint8_t *data, size_t len, struct message *m,
				size_t *ret_need)
{
	size_t off = 0, n, payload, wanted;

	m->len = 0;
	for (;;) {
		if (!is_handshake_record(data + off, len - off))
			return SNIFF_NONE;
		*ret_need = len + 1;
		if (len - off < RECORD_HEADER)
			return SNIFF_MORE;
		payload = (size_t)data[off + 3] << 8 | data[off + 4];
		off += RECORD_HEADER;
		n = payload < len - off ? payload : len - off;
		if (n > HELLO_MAX - m->len)
			n = HELLO_MAX - m->len;
		memcpy(m->data + m->len, data + off, n);
		m->len += n;
		wanted = message_len(m);
		if (wanted == SIZE_MAX)
			return SNIFF_NONE;
		if (wanted > 0 && m->len >= wanted) {
			m->len = wanted;
			return SNIFF_NAME;
		}
		off += n;
		if (n < payload) {
			/* The end of the record, or of the message if that is in the record. */
			if (wanted > 0)
				*ret_need = off + (payload - n < wanted - m->len ? payload - n
										 : wanted - m->len);
			return SNIFF_MORE;
		}
	}
}

enum sniff_result tls_hello_parse(const uint8_t *data, size_t len, struct sniffed *ret)
{
	struct message message;
	enum sniff_result r;
	size_t need = 0;

	*ret = (struct sniffed){};
	r = gather(data, len, &message, &need);
	ret->need = need;
	if (r != SNIFF_NAME)
		return r;
	if (!parse_hello(message.data + MESSAGE_HEADER, message.len - MESSAGE_HEADER, ret)) {
		*ret = (struct sniffed){};
		return SNIFF_NONE;
	}
	ret->protocol = "tls";
	return *ret->name ? SNIFF_NAME : SNIFF_NONE;
}
