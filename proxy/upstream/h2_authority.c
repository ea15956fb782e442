// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See h2_authority.h. Frames follow the preface (RFC 9113, 4). The first HEADERS frame has the
 * request, compressed by HPACK (RFC 7541). In a first block :authority is a literal, because the
 * static table has its name, but no value. The decoder therefore needs no table. It skips what
 * comes before, and decodes strings by Huffman's code only as far as a host name needs it.
 */
#include "h2_authority.h"

#include <string.h>

#define PREFACE	    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define PREFACE_LEN (sizeof(PREFACE) - 1)

#define FRAME_HEADER   9
#define FRAME_HEADERS  1
#define FRAME_SETTINGS 4
#define FLAG_PADDED    0x8
#define FLAG_PRIORITY  0x20

/* In the static table. */
#define INDEX_AUTHORITY 1
#define INDEX_HOST	38
#define NUMBER_MAX	(1 << 20)

struct block {
	const uint8_t *at, *end;
};

/*
 * The characters whose codes have 5 to 8 bits, in the order of their codes, and the first code of
 * each length (RFC 7541, appendix B). Longer codes are of characters that no host name has.
 */
static const struct {
	unsigned int bits, first;
	const char *chars;
} codes[] = {
	{ 5, 0x00, "012aceiost" },
	{ 6, 0x14, " %-./3456789=A_bdfghlmnpru" },
	{ 7, 0x5c, ":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz" },
	{ 8, 0xf8, "&*,;XZ" },
};

/* Returns the character with this code, or 0. */
static char character(unsigned int code, unsigned int bits)
{
	size_t i;

	for (i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		if (codes[i].bits == bits && code >= codes[i].first &&
		    code - codes[i].first < strlen(codes[i].chars))
			return codes[i].chars[code - codes[i].first];
	}
	return 0;
}

/* Decodes Huffman's code. Returns the length, or 0 if it does not fit or has other characters. */
static size_t decode(const uint8_t *data, size_t len, char *ret, size_t size)
{
	unsigned int code = 0, bits = 0;
	size_t i, n = 0;
	char c;

	for (i = 0; i < len * 8; i++) {
		code = code << 1 | (data[i / 8] >> (7 - i % 8) & 1);
		c = character(code, ++bits);
		if (bits > 8 || (c && n == size))
			return 0;
		if (!c)
			continue;
		ret[n++] = c;
		code = bits = 0;
	}
	/* Padding: fewer than 8 bits, all of them 1. */
	return bits < 8 && code == (1U << bits) - 1 ? n : 0;
}

/* Reads a number with a prefix of bits (5.1). Returns false if it does not fit. */
static bool take_number(struct block *b, unsigned int bits, uint32_t *ret)
{
	const uint32_t most = (1U << bits) - 1;
	unsigned int shift = 0;
	uint8_t byte;

	if (b->at == b->end)
		return false;
	*ret = *b->at++ & most;
	if (*ret < most)
		return true;
	do {
		if (b->at == b->end || shift > 14)
			return false;
		byte = *b->at++;
		*ret += (uint32_t)(byte & 0x7f) << shift;
		shift += 7;
	} while (byte & 0x80);
	return *ret < NUMBER_MAX;
}

/* A string (5.2), as it is written. */
struct string {
	const uint8_t *at;
	uint32_t len;
	bool coded;
};

static bool take_string(struct block *b, struct string *ret)
{
	if (b->at == b->end)
		return false;
	ret->coded = *b->at & 0x80;
	if (!take_number(b, 7, &ret->len) || ret->len > (size_t)(b->end - b->at))
		return false;
	ret->at = b->at;
	b->at += ret->len;
	return true;
}

/* Writes the string to buf. Returns its length, or 0 if buf is too small for it. */
static size_t string_text(const struct string *s, char *buf, size_t size)
{
	if (s->coded)
		return decode(s->at, s->len, buf, size);
	if (s->len > size)
		return 0;
	memcpy(buf, s->at, s->len);
	return s->len;
}

static bool string_is(const struct string *s, const char *wanted)
{
	const size_t len = strlen(wanted);
	char text[16];

	return string_text(s, text, len) == len && memcmp(text, wanted, len) == 0;
}

enum field {
	FIELD_OTHER,
	FIELD_AUTHORITY,
	FIELD_HOST
};

/* Takes a field off a block. Returns false at its end, or if there is a part of a field only. */
static bool take_field(struct block *b, enum field *ret, struct string *ret_value)
{
	struct string name = {};
	uint32_t index;
	uint8_t first;

	if (b->at == b->end)
		return false;
	first = *b->at;
	*ret = FIELD_OTHER;
	if (first & 0x80) /* indexed field: name and value are in a table */
		return take_number(b, 7, &index);
	if ((first & 0xe0) == 0x20) /* size of the table */
		return take_number(b, 5, &index);
	if (!take_number(b, first & 0x40 ? 6 : 4, &index) ||
	    (index == 0 && !take_string(b, &name)) || !take_string(b, ret_value))
		return false;
	if (index == INDEX_AUTHORITY || (index == 0 && string_is(&name, ":authority")))
		*ret = FIELD_AUTHORITY;
	else if (index == INDEX_HOST || (index == 0 && string_is(&name, "host")))
		*ret = FIELD_HOST;
	return true;
}

/*
 * Copies the name of :authority of a block, or of the beginning of one. A second :authority, or a
 * field host with another name, makes the request ambiguous. Returns false if there is no name.
 */
static bool copy_authority(struct block b, char ret_name[HOST_NAME_LEN])
{
	char text[HOST_NAME_LEN + 8], name[HOST_NAME_LEN];
	bool found = false;
	struct string value;
	enum field field;
	size_t len;

	while (take_field(&b, &field, &value)) {
		if (field == FIELD_OTHER)
			continue;
		len = string_text(&value, text, sizeof(text));
		if ((field == FIELD_HOST && !found) || !host_name_copy_authority(name, text, len) ||
		    (found && strcmp(name, ret_name) != 0))
			return false;
		strcpy(ret_name, name);
		found = true;
	}
	return found;
}

/* Reads the payload of a HEADERS frame. */
static enum sniff_result parse_headers(const uint8_t *payload, size_t len, uint8_t flags,
				       struct sniffed *ret)
{
	size_t skip = (flags & FLAG_PADDED ? 1 : 0) + (flags & FLAG_PRIORITY ? 5 : 0), padding = 0;

	if (flags & FLAG_PADDED && len > 0)
		padding = payload[0];
	if (skip + padding > len ||
	    !copy_authority((struct block){ payload + skip, payload + len - padding }, ret->name)) {
		*ret->name = '\0';
		return SNIFF_NONE;
	}
	return SNIFF_NAME;
}

static enum sniff_result more(struct sniffed *ret, size_t need)
{
	*ret = (struct sniffed){ .need = need };
	return SNIFF_MORE;
}

bool h2_may_begin(const uint8_t *data, size_t len)
{
	return len > 0 && memcmp(data, PREFACE, len < PREFACE_LEN ? len : PREFACE_LEN) == 0;
}

enum sniff_result h2_authority_parse(const uint8_t *data, size_t len, struct sniffed *ret)
{
	size_t off, payload;
	bool settings = false;

	*ret = (struct sniffed){ .protocol = "h2c" };
	if (len < PREFACE_LEN)
		return more(ret, len + 1);
	for (off = PREFACE_LEN;; off += FRAME_HEADER + payload) {
		if (settings && off == len)
			return SNIFF_NONE;
		if (len - off < FRAME_HEADER)
			return more(ret, off + FRAME_HEADER);
		payload = (size_t)data[off] << 16 | (size_t)data[off + 1] << 8 | data[off + 2];
		if (len - off - FRAME_HEADER < payload)
			return more(ret, off + FRAME_HEADER + payload);
		if (data[off + 3] == FRAME_HEADERS)
			return parse_headers(data + off + FRAME_HEADER, payload, data[off + 4],
					     ret);
		settings |= data[off + 3] == FRAME_SETTINGS;
	}
}
