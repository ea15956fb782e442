// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See top_line.h. A column is a text or a number, and that decides how lines are compared by it. */
#include "top_line.h"

#include <stdio.h>
#include <string.h>

#include "escape.h"
#include "host/address.h"

const char *top_line_text(const struct top_names *names, const struct conn_row *conn,
			  enum top_column column, char buf[TOP_TEXT_LEN])
{
	switch (column) {
	case TOP_COMMAND:
		return escape_text(conn->comm, sizeof(conn->comm), buf, TOP_TEXT_LEN);
	case TOP_DESTINATION:
		return address_format_endpoint(&conn->dst, buf);
	case TOP_SOURCE:
		return conn->src.port ? address_format_endpoint(&conn->src, buf) : "-";
	case TOP_CGROUP:
		snprintf(buf, TOP_TEXT_LEN, "%s", names->cgroup(names->data, conn));
		return buf;
	case TOP_USER:
		snprintf(buf, TOP_TEXT_LEN, "%s", names->user(names->data, conn->uid));
		return buf;
	case TOP_RULE:
		snprintf(buf, TOP_TEXT_LEN, "%s", *conn->rule ? conn->rule : "-");
		return buf;
	case TOP_VIA:
		snprintf(buf, TOP_TEXT_LEN, "%s", *conn->upstream ? conn->upstream : "-");
		return buf;
	case TOP_VERDICT:
		snprintf(buf, TOP_TEXT_LEN, "%s", conn_verdict_name(conn->verdict));
		return buf;
	case TOP_STATE:
		snprintf(buf, TOP_TEXT_LEN, "%s", conn_state_name(conn->state));
		return buf;
	case TOP_PID:
		snprintf(buf, TOP_TEXT_LEN, "%u", conn->pid);
		return buf;
	case TOP_ID:
		return conn_row_id(conn->id, buf);
	default:
		*buf = '\0';
		return buf;
	}
}

int top_compare_numbers(uint64_t a, uint64_t b)
{
	return (a > b) - (a < b);
}

int top_compare_endpoints(const struct tproxy_endpoint *a, const struct tproxy_endpoint *b)
{
	int r = memcmp(a->addr, b->addr, sizeof(a->addr));

	return r ? r : top_compare_numbers(a->port, b->port);
}

static uint64_t number_of(const struct top_line *line, enum top_column column)
{
	switch (column) {
	case TOP_PID:
		return line->conn->pid;
	case TOP_CONNECTIONS:
		return line->connections;
	case TOP_NEW_RATE:
		return line->opened;
	case TOP_TX_RATE:
		return line->recent.tx;
	case TOP_RX_RATE:
		return line->recent.rx;
	case TOP_TX:
		return line->total.tx;
	case TOP_RX:
		return line->total.rx;
	case TOP_TX_PACKET_RATE:
		return line->recent.tx_packets;
	case TOP_RX_PACKET_RATE:
		return line->recent.rx_packets;
	case TOP_TX_PACKETS:
		return line->total.tx_packets;
	case TOP_RX_PACKETS:
		return line->total.rx_packets;
	case TOP_RTT:
		return line->conn->rtt_us;
	case TOP_AGE:
		return UINT64_MAX - line->conn->started_ns;
	case TOP_ID:
		return line->conn->id;
	default:
		return line->recent.tx + line->recent.rx;
	}
}

static int compare_texts(const struct top_names *names, const struct conn_row *a,
			 const struct conn_row *b, enum top_column column)
{
	switch (column) {
	case TOP_COMMAND:
		return strncmp(a->comm, b->comm, sizeof(a->comm));
	case TOP_USER:
		return strcmp(names->user(names->data, a->uid), names->user(names->data, b->uid));
	case TOP_CGROUP:
		return strcmp(names->cgroup(names->data, a), names->cgroup(names->data, b));
	case TOP_RULE:
		return strcmp(a->rule, b->rule);
	case TOP_VIA:
		return strcmp(a->upstream, b->upstream);
	case TOP_VERDICT:
		return strcmp(conn_verdict_name(a->verdict), conn_verdict_name(b->verdict));
	case TOP_STATE:
		return strcmp(conn_state_name(a->state), conn_state_name(b->state));
	case TOP_SOURCE:
		return top_compare_endpoints(&a->src, &b->src);
	default:
		return top_compare_endpoints(&a->dst, &b->dst);
	}
}

static bool is_text(enum top_column column)
{
	switch (column) {
	case TOP_COMMAND:
	case TOP_DESTINATION:
	case TOP_CGROUP:
	case TOP_USER:
	case TOP_VERDICT:
	case TOP_RULE:
	case TOP_VIA:
	case TOP_STATE:
	case TOP_SOURCE:
		return true;
	default:
		return false;
	}
}

int top_line_compare(const struct top_names *names, const struct top_line *a,
		     const struct top_line *b, enum top_column column)
{
	if (is_text(column))
		return compare_texts(names, a->conn, b->conn, column);
	return top_compare_numbers(number_of(b, column), number_of(a, column));
}
