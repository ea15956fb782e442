// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * HTTP CONNECT (RFC 9110, 9.3.6), with Basic authentication if the upstream has a user.
 *
 * The request has the target's name if there is one, otherwise the destination's address. The
 * answer may have 16 KiB up to its blank line, interim (1xx) answers included. What follows the
 * blank line belongs to the tunnel. Every 2xx opens it.
 *
 * Another status becomes an errno of the destination:
 *
 *   403, 451                                    EACCES
 *   404, 500, 502                               EHOSTUNREACH
 *   503                                         ECONNREFUSED
 *   504                                         ETIMEDOUT
 *
 * tinyproxy 1.11 answers 500 and Squid 5 answers 503 whatever error connect() gave. So two header
 * fields that name the error take precedence over the status: X-Squid-Error, which Squid adds with
 * its errno, and Proxy-Status (RFC 9209). They are read with every status from 500 on.
 *
 * All other statuses, such as 400, 405 and 429, say that the upstream does not serve this request.
 * 407 says that it serves nothing, and 101 breaks the protocol: HANDSHAKE_UNUSABLE. Credentials are
 * sent with the first request, so no second one follows a 407.
 *
 * The answer is read byte by byte into one line, which is looked at when it is complete: the status
 * line, then each header field, up to the empty line. A longer line is cut: no field that is
 * looked at is that long. Lines end with CR LF, or with LF alone (RFC 9112, 2.2).
 */
#include "handshake.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "protocol.h"
#include "secret.h"
#include "upstream.h"
#include "util.h"

/* Bytes of the answer up to its blank line, interim answers included. */
#define ANSWER_MAX (16 * 1024)
#define LINE_KEPT  255
#define REASON_MAX 41
/* The beginning of each status line. A digit follows. */
#define VERSION "HTTP/1."

struct http_connect {
	bool sent;
	unsigned int status; /* 0: the status line is to come */
	int error;	     /* what a header field says, or 0 */
	size_t received;
	char reason[REASON_MAX + 1]; /* with the blank before it */
	size_t line_len;	     /* of which LINE_KEPT are in line */
	char line[LINE_KEPT + 1];
};

/* The authority: the name or the address, and the port. */
#define AUTHORITY_LEN (255 + 8)
_Static_assert(AUTHORITY_LEN >= FORMAT_ENDPOINT_LEN, "an address fits");

static void format_authority(const struct handshake_target *target, char buf[AUTHORITY_LEN])
{
	const char *name = protocol_name(target);
	union sockaddr_any v4 = { .in = { .sin_family = AF_INET } };
	const union sockaddr_any *dst = target->dst;

	if (name) {
		snprintf(buf, AUTHORITY_LEN, "%s:%u", name, ntohs(dst->in.sin_port));
		return;
	}
	if (dst->sa.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&dst->in6.sin6_addr)) {
		v4.in.sin_port = dst->in6.sin6_port;
		memcpy(&v4.in.sin_addr, dst->in6.sin6_addr.s6_addr + 12, sizeof(v4.in.sin_addr));
		dst = &v4;
	}
	format_endpoint(dst, buf);
}

/* Appends text. Returns false if it does not fit. */
static bool put(struct handshake_io *io, const char *text)
{
	const size_t len = strlen(text);

	if (len > sizeof(io->out) - io->out_len)
		return false;
	memcpy(io->out + io->out_len, text, len);
	io->out_len += len;
	return true;
}

/* "user:password" without a copy of it. */
struct credentials {
	const char *user;
	size_t user_len;
	const uint8_t *password;
	size_t len; /* of all */
};

static uint32_t credentials_byte(const struct credentials *c, size_t i)
{
	if (i >= c->len)
		return 0;
	if (i < c->user_len)
		return (uint8_t)c->user[i];
	return i == c->user_len ? ':' : c->password[i - c->user_len - 1];
}

/* Appends the base64 form (RFC 4648). Returns false if it does not fit. */
static bool put_base64(struct handshake_io *io, const struct credentials *c)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	if ((c->len + 2) / 3 * 4 > sizeof(io->out) - io->out_len)
		return false;
	for (size_t i = 0; i < c->len; i += 3) {
		const uint32_t group = credentials_byte(c, i) << 16 |
				       credentials_byte(c, i + 1) << 8 | credentials_byte(c, i + 2);

		for (size_t j = 0; j < 4; j++) {
			const char digit = digits[group >> (18 - 6 * j) & 63];

			io->out[io->out_len++] = (uint8_t)(i + j <= c->len ? digit : '=');
		}
	}
	return true;
}

static bool put_credentials(const struct upstream_conf *conf, struct handshake_io *io)
{
	struct credentials c = { .user = conf->user, .user_len = strlen(conf->user) };
	size_t password_len = 0;

	if (conf->secret)
		c.password = secret_bytes(conf->secret, &password_len);
	c.len = c.user_len + 1 + password_len;
	return put(io, "Proxy-Authorization: Basic ") && put_base64(io, &c) && put(io, "\r\n");
}

static enum handshake_result request(const struct handshake_target *target, struct handshake_io *io)
{
	char authority[AUTHORITY_LEN];

	format_authority(target, authority);
	if (put(io, "CONNECT ") && put(io, authority) && put(io, " HTTP/1.1\r\nHost: ") &&
	    put(io, authority) && put(io, "\r\n") &&
	    (!*target->upstream->user || put_credentials(target->upstream, io)) && put(io, "\r\n"))
		return HANDSHAKE_AGAIN;
	explicit_bzero(io->out, sizeof(io->out));
	io->out_len = 0;
	return protocol_break(io, EMSGSIZE, "HTTP: user and password are too long");
}

/* "HTTP/1.1 200 OK". Returns false if the line is no status line of HTTP/1. */
static bool parse_status(struct http_connect *http)
{
	const char *s = http->line;

	if (strncmp(s, VERSION, strlen(VERSION)) != 0)
		return false;
	s += strlen(VERSION);
	if (!isdigit((unsigned char)s[0]) || s[1] != ' ')
		return false;
	s += 2;
	if (s[0] < '1' || s[0] > '5' || !isdigit((unsigned char)s[1]) ||
	    !isdigit((unsigned char)s[2]) || (s[3] != ' ' && s[3] != '\0'))
		return false;
	http->status = (unsigned int)(s[0] - '0') * 100 + (unsigned int)(s[1] - '0') * 10 +
		       (unsigned int)(s[2] - '0');
	snprintf(http->reason, sizeof(http->reason), "%s", s + 3);
	for (char *c = http->reason; *c; c++) {
		if (*c < ' ' || *c > '~')
			*c = '?';
	}
	return true;
}

struct word_error {
	const char *word;
	int error;
};

/* Finds text that begins with one of the words, and does not go on as a word. */
static int find_error(const struct word_error *list, size_t n, const char *text)
{
	for (size_t i = 0; i < n; i++) {
		const size_t len = strlen(list[i].word);

		if (strncmp(text, list[i].word, len) == 0 && !isalnum((unsigned char)text[len]) &&
		    text[len] != '_')
			return list[i].error;
	}
	return 0;
}

/* "ERR_CONNECT_FAIL 111": the number is the errno of Squid's host. Those of Linux are taken. */
static int squid_error(const char *value)
{
	static const struct word_error errors[] = {
		{ "ERR_CONNECT_FAIL 101", ENETUNREACH },  { "ERR_CONNECT_FAIL 110", ETIMEDOUT },
		{ "ERR_CONNECT_FAIL 111", ECONNREFUSED }, { "ERR_CONNECT_FAIL 113", EHOSTUNREACH },
		{ "ERR_CANNOT_FORWARD", EHOSTUNREACH },	  { "ERR_DNS_FAIL", EHOSTUNREACH },
	};

	return find_error(errors, ARRAY_SIZE(errors), value);
}

/* Returns what follows a string of RFC 8941 (3.3.3), which begins with '"'. */
static const char *skip_string(const char *s)
{
	for (s++; *s && *s != '"'; s++) {
		if (*s == '\\' && s[1])
			s++;
	}
	return *s ? s + 1 : s;
}

/*
 * Returns the value of the parameter "error" in a list of RFC 8941 (3.1), or NULL. The first member
 * that has one counts: it is the one nearest to the destination. In a member the last one counts
 * (3.1.2).
 */
static const char *error_parameter(const char *s)
{
	static const char name[] = "error=";
	const char *found = NULL;

	while (*s && !(*s == ',' && found)) {
		if (*s == '"') {
			s = skip_string(s);
		} else if (*s++ == ';') {
			s += strspn(s, " \t");
			if (strncmp(s, name, strlen(name)) == 0)
				found = s + strlen(name);
		}
	}
	return found;
}

/* "proxy.example; error=connection_refused; details=...", RFC 9209, 2.3. */
static int proxy_status_error(const char *value)
{
	static const struct word_error errors[] = {
		{ "connection_refused", ECONNREFUSED },
		{ "connection_timeout", ETIMEDOUT },
		{ "destination_ip_prohibited", EACCES },
		{ "destination_ip_unroutable", ENETUNREACH },
		{ "destination_not_found", EHOSTUNREACH },
		{ "destination_unavailable", EHOSTUNREACH },
		{ "dns_error", EHOSTUNREACH },
		{ "dns_timeout", EHOSTUNREACH },
		{ "http_request_denied", EACCES },
	};

	value = error_parameter(value);
	return value ? find_error(errors, ARRAY_SIZE(errors), value) : 0;
}

static void header_field(struct http_connect *http)
{
	char *colon = strchr(http->line, ':');
	const char *value;
	int error = 0;

	if (!colon || http->status < 500)
		return;
	*colon = '\0';
	value = colon + 1 + strspn(colon + 1, " \t");
	if (strcasecmp(http->line, "X-Squid-Error") == 0)
		error = squid_error(value);
	else if (strcasecmp(http->line, "Proxy-Status") == 0)
		error = proxy_status_error(value);
	if (error)
		http->error = error;
}

/* Returns the errno of the destination that a status stands for, or 0. */
static int status_error(unsigned int status)
{
	switch (status) {
	case 403: /* Forbidden */
	case 451: /* Unavailable For Legal Reasons */
		return EACCES;
	case 404: /* Not Found */
	case 500: /* Internal Server Error */
	case 502: /* Bad Gateway */
		return EHOSTUNREACH;
	case 503: /* Service Unavailable */
		return ECONNREFUSED;
	case 504: /* Gateway Timeout */
		return ETIMEDOUT;
	default:
		return 0;
	}
}

/* The answer is complete. */
static enum handshake_result blank_line(struct http_connect *http, struct handshake_io *io)
{
	const unsigned int status = http->status;
	const int error = http->error ? http->error : status_error(status);

	if (status >= 200 && status < 300)
		return HANDSHAKE_DONE;
	/* The final answer follows an interim one, but 101 would switch to another protocol. */
	if (status < 200 && status != 101) {
		http->status = 0;
		return HANDSHAKE_AGAIN;
	}
	if (error)
		return protocol_refuse(io, error, "HTTP %u%s", status, http->reason);
	if (status == 407)
		return protocol_break(io, EACCES, "HTTP 407%s", http->reason);
	if (status == 101)
		return protocol_break(io, EPROTO, "HTTP 101%s", http->reason);
	return protocol_decline(io, EPROTO, "HTTP %u%s", status, http->reason);
}

static enum handshake_result end_of_line(struct http_connect *http, struct handshake_io *io)
{
	const size_t len = http->line_len < LINE_KEPT ? http->line_len : LINE_KEPT;
	const bool cut = http->line_len > LINE_KEPT;

	http->line[len] = '\0';
	http->line_len = 0;
	if (!cut && len > 0 && http->line[len - 1] == '\r')
		http->line[len - 1] = '\0';
	if (!http->status) {
		if (!parse_status(http))
			return protocol_break(io, EPROTO, "not an HTTP proxy");
		return HANDSHAKE_AGAIN;
	}
	if (*http->line == '\0')
		return blank_line(http, io);
	header_field(http);
	return HANDSHAKE_AGAIN;
}

static enum handshake_result next_byte(struct http_connect *http, char byte,
				       struct handshake_io *io)
{
	/* At once, because another protocol may send no newline: the line would not end. */
	if (!http->status && http->line_len < strlen(VERSION) && byte != VERSION[http->line_len])
		return protocol_break(io, EPROTO, "not an HTTP proxy");
	if (byte == '\n')
		return end_of_line(http, io);
	/* A NUL would hide what follows it. */
	if (http->line_len < LINE_KEPT)
		http->line[http->line_len] = byte ? byte : '?';
	http->line_len++;
	return HANDSHAKE_AGAIN;
}

static enum handshake_result http_connect_step(void *state, const struct handshake_target *target,
					       struct handshake_io *io)
{
	struct http_connect *http = state;
	enum handshake_result result = HANDSHAKE_AGAIN;

	if (!http->sent) {
		http->sent = true;
		result = request(target, io);
	}
	while (result == HANDSHAKE_AGAIN && io->taken < io->in_len) {
		if (http->received++ == ANSWER_MAX)
			return protocol_break(io, EPROTO, "HTTP: the answer is too long");
		result = next_byte(http, (char)io->in[io->taken++], io);
	}
	/* After an interim answer both are 0. */
	io->partial = http->status || http->line_len > 0;
	return result;
}

const struct handshake_ops http_connect_ops = {
	.name = "HTTP CONNECT",
	.state_size = sizeof(struct http_connect),
	.step = http_connect_step,
};
