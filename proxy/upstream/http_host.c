// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See http_host.h. The request line comes first (RFC 9112, 3). Bytes that cannot begin one end the
 * parsing at once, so that another protocol waits for nothing. The lines of the header follow, up
 * to the empty one. A line that servers read in different ways, as a folded one, makes the request
 * ambiguous: it tells no name then.
 */
#include "http_host.h"

#include <string.h>
#include <strings.h>

#define METHOD_MAX 24

struct text {
	const char *at;
	size_t len;
};

struct request {
	struct text method, target;
	bool has_host, ambiguous;
	char host[HOST_NAME_LEN]; /* of the field Host; empty: no name */
};

static bool text_is(struct text t, const char *s)
{
	return t.len == strlen(s) && memcmp(t.at, s, t.len) == 0;
}

static bool is_method_char(char c)
{
	return (c >= 'A' && c <= 'Z') || c == '-' || c == '_';
}

/* The characters of a token (RFC 9110, 5.6.2), such as a field's name. */
static bool is_token_char(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
	       (c && strchr("!#$%&'*+-.^_`|~", c));
}

static struct text trim(struct text t)
{
	while (t.len > 0 && (t.at[0] == ' ' || t.at[0] == '\t')) {
		t.at++;
		t.len--;
	}
	while (t.len > 0 && (t.at[t.len - 1] == ' ' || t.at[t.len - 1] == '\t'))
		t.len--;
	return t;
}

/*
 * Takes the next line off *rest, without its end. Returns false if its end is not there; *line is
 * then what is there.
 */
static bool next_line(struct text *rest, struct text *ret_line)
{
	const char *end = memchr(rest->at, '\n', rest->len);

	*ret_line = *rest;
	if (!end)
		return false;
	ret_line->len = (size_t)(end - rest->at);
	rest->at = end + 1;
	rest->len -= ret_line->len + 1;
	if (ret_line->len > 0 && ret_line->at[ret_line->len - 1] == '\r')
		ret_line->len--;
	return true;
}

/*
 * Reads the request line, or what is there of it. Returns SNIFF_NAME if it is complete, SNIFF_MORE
 * if it may become one.
 */
static enum sniff_result parse_request_line(struct text line, bool complete, struct request *r)
{
	static const char version[] = "HTTP/1.";
	const size_t version_len = sizeof(version) - 1;
	size_t i, start;

	for (i = 0; i < line.len && line.at[i] != ' '; i++) {
		if (!is_method_char(line.at[i]) || i == METHOD_MAX)
			return SNIFF_NONE;
	}
	r->method = (struct text){ line.at, i };
	if (i == 0)
		return line.len == 0 && !complete ? SNIFF_MORE : SNIFF_NONE;
	start = i < line.len ? i + 1 : i;
	for (i = start; i < line.len && line.at[i] != ' '; i++) {
		/* Bytes beyond ASCII are wrong here, but clients send them. */
		if ((unsigned char)line.at[i] < ' ' || line.at[i] == 0x7f)
			return SNIFF_NONE;
	}
	r->target = (struct text){ line.at + start, i - start };
	if (i < line.len && r->target.len == 0)
		return SNIFF_NONE;
	start = i < line.len ? i + 1 : i;
	for (i = start; i < line.len && i - start < version_len; i++) {
		if (line.at[i] != version[i - start])
			return SNIFF_NONE;
	}
	if (!complete)
		return line.len - start <= version_len + 2 ? SNIFF_MORE : SNIFF_NONE;
	return line.len - start == version_len + 1 ? SNIFF_NAME : SNIFF_NONE;
}

static void parse_field(struct text line, struct request *r)
{
	struct text name = { line.at, 0 }, value;
	char host[HOST_NAME_LEN] = "";

	while (name.len < line.len && is_token_char(line.at[name.len]))
		name.len++;
	/* Some servers take a carriage return alone for the end of a line. */
	if (name.len == 0 || name.len == line.len || line.at[name.len] != ':' ||
	    memchr(line.at, '\r', line.len)) {
		r->ambiguous = true;
		return;
	}
	if (name.len != 4 || strncasecmp(name.at, "host", 4) != 0)
		return;
	value = trim((struct text){ line.at + 5, line.len - 5 });
	host_name_copy_authority(host, value.at, value.len);
	if (r->has_host && strcmp(r->host, host) != 0)
		r->ambiguous = true;
	r->has_host = true;
	strcpy(r->host, host);
}

/* Returns the host of a URL with a scheme of HTTP. Empty text: the target has none. */
static struct text url_authority(struct text target)
{
	static const char *const schemes[] = { "http://", "https://" };
	size_t i, len;

	for (i = 0; i < 2; i++) {
		len = strlen(schemes[i]);
		if (target.len <= len || strncasecmp(target.at, schemes[i], len) != 0)
			continue;
		target.at += len;
		target.len -= len;
		for (len = 0; len < target.len && !strchr("/?#", target.at[len]); len++)
			;
		return (struct text){ target.at, len };
	}
	return (struct text){ target.at, 0 };
}

/* All is read. Finds the name. */
static enum sniff_result choose_name(const struct request *r, struct sniffed *ret)
{
	struct text authority = url_authority(r->target);

	ret->protocol = "http";
	/* The target of CONNECT is that of a tunnel, behind the destination. */
	if (r->ambiguous || text_is(r->method, "CONNECT"))
		return SNIFF_NONE;
	if (authority.len > 0)
		host_name_copy_authority(ret->name, authority.at, authority.len);
	else
		strcpy(ret->name, r->host);
	/* The URL decides (RFC 9112, 3.2.2), but not for all servers. */
	if (r->has_host && strcmp(ret->name, r->host) != 0)
		*ret->name = '\0';
	return *ret->name ? SNIFF_NAME : SNIFF_NONE;
}

enum sniff_result http_host_parse(const uint8_t *data, size_t len, struct sniffed *ret)
{
	struct text rest = { (const char *)data, len }, line;
	struct request request = {};
	bool complete = next_line(&rest, &line);
	enum sniff_result r;

	*ret = (struct sniffed){};
	r = parse_request_line(line, complete, &request);
	while (r == SNIFF_NAME && next_line(&rest, &line)) {
		if (line.len == 0)
			return choose_name(&request, ret);
		parse_field(line, &request);
	}
	if (r == SNIFF_NONE)
		return SNIFF_NONE;
	ret->need = len + 1;
	return SNIFF_MORE;
}
