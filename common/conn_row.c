// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The parser of one line of the list of connections, see conn_row.h.
 *
 * The kernel half writes the lines, and their last columns hold names that any user may choose. So
 * a line is taken only if each column has the form that the kernel half writes. The line is cut
 * into columns first, in a copy.
 *
 * The rows of connections that are read from the maps are made here too.
 */
#include "conn_row.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util.h"

#define NSEC_PER_MSEC 1000000

enum column {
	COLUMN_ID,
	COLUMN_PID,
	COLUMN_UID,
	COLUMN_CGROUP_ID,
	COLUMN_NETNS,
	COLUMN_VERDICT,
	COLUMN_STATE,
	COLUMN_SOURCE,
	COLUMN_DESTINATION,
	COLUMN_TX,
	COLUMN_RX,
	COLUMN_RTT,
	COLUMN_AGE,
	COLUMN_RELAY,
	COLUMN_RULE,
	COLUMN_CGROUP,
	COLUMN_COMMAND,
	_COLUMN_MAX,
};

static const char *const verdict_names[_CONN_VERDICT_MAX] = {
	[CONN_REDIRECTED] = "redirected",
	[CONN_DIRECT] = "direct",
	[CONN_OBSERVED] = "observed",
	[CONN_REFUSED] = "refused",
};

/* As ss(8) prints them. */
static const char *const state_names[] = {
	[TCP_ESTABLISHED] = "established",
	[TCP_SYN_SENT] = "syn-sent",
	[TCP_SYN_RECV] = "syn-recv",
	[TCP_FIN_WAIT1] = "fin-wait-1",
	[TCP_FIN_WAIT2] = "fin-wait-2",
	[TCP_TIME_WAIT] = "time-wait",
	[TCP_CLOSE] = "close",
	[TCP_CLOSE_WAIT] = "close-wait",
	[TCP_LAST_ACK] = "last-ack",
	[TCP_LISTEN] = "listen",
	[TCP_CLOSING] = "closing",
};

static uint64_t age_ms(uint64_t started_ns, uint64_t now_ns)
{
	return now_ns > started_ns ? (now_ns - started_ns) / NSEC_PER_MSEC : 0;
}

void conn_row_of_redirected(uint64_t cookie, const struct tproxy_conn *conn, uint64_t now_ns,
			    struct conn_row *ret_row)
{
	*ret_row = (struct conn_row){
		.id = cookie,
		.cgroup_id = conn->cgroup_id,
		.netns_cookie = conn->netns_cookie,
		.age_ms = age_ms(conn->started_ns, now_ns),
		.started_ns = conn->started_ns,
		.pid = conn->pid,
		.uid = conn->uid,
		.verdict = CONN_REDIRECTED,
		.src = conn->src,
		.dst = conn->dst,
	};
	memcpy(ret_row->comm, conn->comm, sizeof(conn->comm));
}

void conn_row_of_observed(uint64_t cookie, const struct tproxy_observed *conn, uint64_t now_ns,
			  struct conn_row *ret_row)
{
	*ret_row = (struct conn_row){
		.id = cookie,
		.cgroup_id = conn->cgroup_id,
		.netns_cookie = conn->netns_cookie,
		.age_ms = age_ms(conn->started_ns, now_ns),
		.started_ns = conn->started_ns,
		.pid = conn->pid,
		.uid = conn->uid,
		.verdict = CONN_OBSERVED,
		.src = conn->src,
		.dst = conn->dst,
	};
	memcpy(ret_row->comm, conn->comm, sizeof(conn->comm));
}

char *conn_row_id(uint64_t id, char buf[CONN_ROW_ID_LEN])
{
	snprintf(buf, CONN_ROW_ID_LEN, "%" PRIx64, id);
	return buf;
}

const char *conn_verdict_name(enum conn_verdict verdict)
{
	return (unsigned int)verdict < _CONN_VERDICT_MAX ? verdict_names[verdict] : "?";
}

const char *conn_state_name(uint8_t state)
{
	return state < ARRAY_SIZE(state_names) && state_names[state] ? state_names[state] : "-";
}

int conn_verdict_parse(const char *name, enum conn_verdict *ret_verdict)
{
	size_t i;

	for (i = 0; i < _CONN_VERDICT_MAX; i++) {
		if (strcmp(name, verdict_names[i]) == 0) {
			*ret_verdict = (enum conn_verdict)i;
			return 0;
		}
	}
	return -EINVAL;
}

static int parse_state(const char *name, uint8_t *ret_state)
{
	size_t i;

	if (strcmp(name, "-") == 0) {
		*ret_state = 0;
		return 0;
	}
	for (i = 0; i < ARRAY_SIZE(state_names); i++) {
		if (state_names[i] && strcmp(name, state_names[i]) == 0) {
			*ret_state = (uint8_t)i;
			return 0;
		}
	}
	return -EINVAL;
}

/* Parses digits of that base only, without leading zeros. */
static int parse_number(const char *s, int base, uint64_t max, uint64_t *ret_value)
{
	unsigned long long value;
	const char *p;
	char *end;

	for (p = s; *p; p++) {
		if (base == 16 ? !strchr("0123456789abcdef", *p) : !isdigit((unsigned char)*p))
			return -EINVAL;
	}
	if (p == s || (*s == '0' && p - s > 1))
		return -EINVAL;
	errno = 0;
	value = strtoull(s, &end, base);
	if (errno || *end || value > max)
		return -EINVAL;
	*ret_value = value;
	return 0;
}

static int parse_u64(const char *s, uint64_t *ret_value)
{
	return parse_number(s, 10, UINT64_MAX, ret_value);
}

static int parse_u32_or_dash(const char *s, uint32_t *ret_value)
{
	uint64_t value = 0;
	int r = strcmp(s, "-") == 0 ? 0 : parse_number(s, 10, UINT32_MAX, &value);

	if (r == 0)
		*ret_value = (uint32_t)value;
	return r;
}

/* Parses a.b.c.d:port or [v6]:port. Changes the text. */
static int parse_end(char *s, struct tproxy_endpoint *ret_ep)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	struct tproxy_endpoint ep = {};
	char *colon = strrchr(s, ':');
	uint64_t port;

	if (!colon || parse_number(colon + 1, 10, UINT16_MAX, &port) < 0)
		return -EINVAL;
	*colon = '\0';
	if (*s == '[') {
		if (colon == s + 1 || colon[-1] != ']')
			return -EINVAL;
		colon[-1] = '\0';
		if (inet_pton(AF_INET6, s + 1, ep.addr) != 1)
			return -EINVAL;
	} else {
		memcpy(ep.addr, mapped, sizeof(mapped));
		if (inet_pton(AF_INET, s, ep.addr + sizeof(mapped)) != 1)
			return -EINVAL;
	}
	ep.port = (uint16_t)port;
	*ret_ep = ep;
	return 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/*
 * Undoes the escapes of a name. Returns -EINVAL for a character that the kernel half would have
 * escaped, an escape that is cut, or a name that does not fit into @size with its NUL.
 */
static int unescape(const char *s, char *ret_name, size_t size)
{
	size_t n = 0;

	while (*s) {
		int high, low;

		if (n + 1 >= size || (unsigned char)*s <= ' ' || (unsigned char)*s >= 0x7f)
			return -EINVAL;
		if (*s != '\\') {
			ret_name[n++] = *s++;
			continue;
		}
		high = s[1] == 'x' ? hex_digit(s[2]) : -1;
		low = high < 0 ? -1 : hex_digit(s[3]);
		if (low < 0)
			return -EINVAL;
		ret_name[n++] = (char)(high << 4 | low);
		s += 4;
	}
	ret_name[n] = '\0';
	return 0;
}

/* As unescape(); "-" stands for no name. */
static int parse_name(const char *s, char *ret_name, size_t size)
{
	if (strcmp(s, "-") != 0)
		return unescape(s, ret_name, size);
	*ret_name = '\0';
	return 0;
}

/* Cuts a line at its blanks. Returns true if it has as many columns as a connection. */
static bool split(char *line, char *ret_columns[_COLUMN_MAX])
{
	size_t i;

	for (i = 0; i < _COLUMN_MAX; i++) {
		ret_columns[i] = strsep(&line, " ");
		if (!ret_columns[i] || !*ret_columns[i])
			return false;
	}
	return !line;
}

static int parse_numbers(char *const columns[], struct conn_row *row)
{
	if (parse_number(columns[COLUMN_ID], 16, UINT64_MAX, &row->id) < 0 ||
	    parse_u32_or_dash(columns[COLUMN_PID], &row->pid) < 0 ||
	    parse_u32_or_dash(columns[COLUMN_UID], &row->uid) < 0 ||
	    parse_u64(columns[COLUMN_CGROUP_ID], &row->cgroup_id) < 0 ||
	    parse_u64(columns[COLUMN_NETNS], &row->netns_cookie) < 0 ||
	    parse_u64(columns[COLUMN_TX], &row->tx_bytes) < 0 ||
	    parse_u64(columns[COLUMN_RX], &row->rx_bytes) < 0 ||
	    parse_u32_or_dash(columns[COLUMN_RTT], &row->rtt_us) < 0 ||
	    parse_u64(columns[COLUMN_AGE], &row->age_ms) < 0 ||
	    parse_u32_or_dash(columns[COLUMN_RELAY], &row->relay_pid) < 0)
		return -EINVAL;
	return 0;
}

int conn_row_parse(const char *line, struct conn_row *ret_row)
{
	char copy[CONN_ROW_LINE_MAX], *columns[_COLUMN_MAX];
	struct conn_row row = { .live = true };

	if (strlen(line) >= sizeof(copy))
		return -EINVAL;
	strcpy(copy, line);
	if (!split(copy, columns) || parse_numbers(columns, &row) < 0 ||
	    conn_verdict_parse(columns[COLUMN_VERDICT], &row.verdict) < 0 ||
	    parse_state(columns[COLUMN_STATE], &row.state) < 0 ||
	    parse_end(columns[COLUMN_SOURCE], &row.src) < 0 ||
	    parse_end(columns[COLUMN_DESTINATION], &row.dst) < 0 ||
	    parse_name(columns[COLUMN_RULE], row.rule, sizeof(row.rule)) < 0 ||
	    parse_name(columns[COLUMN_CGROUP], row.cgroup, sizeof(row.cgroup)) < 0 ||
	    unescape(columns[COLUMN_COMMAND], row.comm, sizeof(row.comm)) < 0)
		return -EINVAL;
	*ret_row = row;
	return 0;
}
