/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A line of the table of `tproxyctl top`: a connection or a group of them, and its columns. A new
 * column is a member of enum top_column, its text or number in top_line.c, and its name and cell in
 * top_table.c. matches() in top_model.c lists the columns that the filter searches.
 */
#ifndef TPROXY_CTL_TOP_LINE_H
#define TPROXY_CTL_TOP_LINE_H

#include <stdint.h>

#include "conn_row.h"

/* Columns, and keys to sort by. TOP_RATE is the sum of both directions and has no column. */
enum top_column {
	TOP_RATE,
	TOP_COMMAND,
	TOP_DESTINATION,
	TOP_CGROUP,
	TOP_USER,
	TOP_PID,
	TOP_CONNECTIONS,
	TOP_NEW_RATE,
	TOP_TX_RATE,
	TOP_RX_RATE,
	TOP_TX,
	TOP_RX,
	TOP_TX_PACKET_RATE,
	TOP_RX_PACKET_RATE,
	TOP_TX_PACKETS,
	TOP_RX_PACKETS,
	TOP_RTT,
	TOP_AGE,
	TOP_VERDICT,
	TOP_RULE,
	TOP_VIA,
	TOP_STATE,
	TOP_SOURCE,
	TOP_ID,
	_TOP_COLUMN_MAX,
};

/* Packets are counted for TOP_BY_TRAFFIC only. */
struct top_amount {
	uint64_t tx, rx; /* bytes */
	uint64_t tx_packets, rx_packets;
};

struct top_line {
	const struct conn_row *conn; /* the connection, or one of the group */
	uint64_t connections;	     /* alive */
	uint64_t opened;	     /* new in the last interval */
	struct top_amount total;
	struct top_amount recent; /* in the last interval */
};

/* Names for people, in printable ASCII. A result is valid until the next sample. */
struct top_names {
	const char *(*user)(void *data, uint32_t uid);
	const char *(*cgroup)(void *data, const struct conn_row *conn);
	void *data;
};

/* Formats a column of a connection as text, without an end that does not fit. Returns @buf. */
#define TOP_TEXT_LEN 512
const char *top_line_text(const struct top_names *names, const struct conn_row *conn,
			  enum top_column column, char buf[TOP_TEXT_LEN]);

/*
 * Compare as for qsort(3), and return a number below, at or above 0. By a column: texts from A to
 * Z, numbers from the greatest one.
 */
int top_line_compare(const struct top_names *names, const struct top_line *a,
		     const struct top_line *b, enum top_column column);
int top_compare_numbers(uint64_t a, uint64_t b);
int top_compare_endpoints(const struct tproxy_endpoint *a, const struct tproxy_endpoint *b);

#endif
