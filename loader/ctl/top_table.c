// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxyctl top: columns, cells and rows. See top_table.h. */
#include "top_table.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "parse.h"
#include "util.h"

const char *const top_by_names[_TOP_BY_MAX + 1] = {
	[TOP_BY_CONNECTION] = "connection",
	[TOP_BY_PROGRAM] = "program",
	[TOP_BY_DESTINATION] = "destination",
	[TOP_BY_CGROUP] = "cgroup",
	[TOP_BY_USER] = "user",
	[TOP_BY_TRAFFIC] = "traffic",
};

const char *const top_column_names[_TOP_COLUMN_MAX + 1] = {
	[TOP_RATE] = "rate",
	[TOP_COMMAND] = "command",
	[TOP_DESTINATION] = "destination",
	[TOP_CGROUP] = "cgroup",
	[TOP_USER] = "user",
	[TOP_PID] = "pid",
	[TOP_CONNECTIONS] = "connections",
	[TOP_NEW_RATE] = "new",
	[TOP_TX_RATE] = "tx-rate",
	[TOP_RX_RATE] = "rx-rate",
	[TOP_TX] = "tx",
	[TOP_RX] = "rx",
	[TOP_TX_PACKET_RATE] = "tx-packet-rate",
	[TOP_RX_PACKET_RATE] = "rx-packet-rate",
	[TOP_TX_PACKETS] = "tx-packets",
	[TOP_RX_PACKETS] = "rx-packets",
	[TOP_RTT] = "rtt",
	[TOP_AGE] = "age",
	[TOP_VERDICT] = "verdict",
	[TOP_RULE] = "rule",
	[TOP_VIA] = "via",
	[TOP_STATE] = "state",
	[TOP_SOURCE] = "source",
	[TOP_ID] = "id",
};

static const struct {
	const char *title;
	size_t width;
	bool right;
} looks[_TOP_COLUMN_MAX] = {
	[TOP_RATE] = { "rate", 0, false },
	[TOP_COMMAND] = { "COMMAND", 15, false },
	[TOP_DESTINATION] = { "DESTINATION", 21, false },
	[TOP_CGROUP] = { "CGROUP", 6, false },
	[TOP_USER] = { "USER", 8, false },
	[TOP_PID] = { "PID", 7, true },
	[TOP_CONNECTIONS] = { "CONNS", 6, true },
	[TOP_NEW_RATE] = { "NEW/s", 7, true },
	[TOP_TX_RATE] = { "TX/s", 8, true },
	[TOP_RX_RATE] = { "RX/s", 8, true },
	[TOP_TX] = { "TX", 8, true },
	[TOP_RX] = { "RX", 8, true },
	[TOP_TX_PACKET_RATE] = { "TXPKT/s", 8, true },
	[TOP_RX_PACKET_RATE] = { "RXPKT/s", 8, true },
	[TOP_TX_PACKETS] = { "TXPKTS", 8, true },
	[TOP_RX_PACKETS] = { "RXPKTS", 8, true },
	[TOP_RTT] = { "RTT", 8, true },
	[TOP_AGE] = { "AGE", 8, true },
	[TOP_VERDICT] = { "VERDICT", 10, false },
	[TOP_RULE] = { "RULE", 8, false },
	[TOP_VIA] = { "VIA", 8, false },
	[TOP_STATE] = { "STATE", 11, false },
	[TOP_SOURCE] = { "SOURCE", 21, false },
	[TOP_ID] = { "ID", 8, false },
};

static const enum top_column of_connection[] = {
	TOP_PID,  TOP_COMMAND, TOP_USER,   TOP_TX_RATE, TOP_RX_RATE, TOP_DESTINATION,
	TOP_TX,	  TOP_RX,      TOP_RTT,	   TOP_AGE,	TOP_VERDICT, TOP_STATE,
	TOP_RULE, TOP_VIA,     TOP_SOURCE, TOP_ID,	TOP_CGROUP,
};
static const enum top_column of_program[] = {
	TOP_COMMAND, TOP_CONNECTIONS, TOP_NEW_RATE, TOP_TX_RATE, TOP_RX_RATE, TOP_TX, TOP_RX,
};
static const enum top_column of_destination[] = {
	TOP_DESTINATION, TOP_CONNECTIONS, TOP_NEW_RATE, TOP_TX_RATE, TOP_RX_RATE, TOP_TX, TOP_RX,
};
static const enum top_column of_cgroup[] = {
	TOP_CONNECTIONS, TOP_NEW_RATE, TOP_TX_RATE, TOP_RX_RATE, TOP_TX, TOP_RX, TOP_CGROUP,
};
static const enum top_column of_user[] = {
	TOP_USER, TOP_CONNECTIONS, TOP_NEW_RATE, TOP_TX_RATE, TOP_RX_RATE, TOP_TX, TOP_RX,
};
static const enum top_column of_traffic[] = {
	TOP_TX_RATE, TOP_RX_RATE,    TOP_TX_PACKET_RATE, TOP_RX_PACKET_RATE, TOP_TX,
	TOP_RX,	     TOP_TX_PACKETS, TOP_RX_PACKETS,	 TOP_CGROUP,
};

static const struct {
	const enum top_column *columns;
	size_t n;
} views[_TOP_BY_MAX] = {
	[TOP_BY_CONNECTION] = { of_connection, ARRAY_SIZE(of_connection) },
	[TOP_BY_PROGRAM] = { of_program, ARRAY_SIZE(of_program) },
	[TOP_BY_DESTINATION] = { of_destination, ARRAY_SIZE(of_destination) },
	[TOP_BY_CGROUP] = { of_cgroup, ARRAY_SIZE(of_cgroup) },
	[TOP_BY_USER] = { of_user, ARRAY_SIZE(of_user) },
	[TOP_BY_TRAFFIC] = { of_traffic, ARRAY_SIZE(of_traffic) },
};

const enum top_column *top_table_columns(enum top_by by, size_t *ret_n)
{
	*ret_n = views[by].n;
	return views[by].columns;
}

/* Position of a key of order: 0 is TOP_RATE, 1 the first column. */
static int position_of(enum top_by by, enum top_column column)
{
	size_t i;

	for (i = 0; i < views[by].n; i++) {
		if (views[by].columns[i] == column)
			return (int)i + 1;
	}
	return 0;
}

bool top_table_has(enum top_by by, enum top_column column)
{
	return column == TOP_RATE || position_of(by, column) > 0;
}

enum top_column top_table_move(enum top_by by, enum top_column column, int steps)
{
	int position = position_of(by, column) + steps;

	if (position <= 0)
		return TOP_RATE;
	if ((size_t)position > views[by].n)
		position = (int)views[by].n;
	return views[by].columns[position - 1];
}

const char *top_table_title(enum top_column column)
{
	return looks[column].title;
}

/* Formats bytes, or "-" if there is no such number. */
static const char *format_if(bool known, uint64_t bytes, char buf[TOP_TEXT_LEN])
{
	if (known)
		return format_bytes(bytes, buf);
	return strcpy(buf, "-");
}

static const char *format_count(uint64_t count, char buf[TOP_TEXT_LEN])
{
	snprintf(buf, TOP_TEXT_LEN, "%" PRIu64, count);
	return buf;
}

/* Formats a column of a line that is a number of bytes or packets, or a rate of them. */
static const char *amount_cell(const struct top_table *table, const struct top_line *line,
			       enum top_column column, char buf[TOP_TEXT_LEN])
{
	const struct top_model *model = table->model;
	const bool has_rates = top_model_interval_ms(model) > 0;
	const struct top_amount rate = {
		.tx = (uint64_t)top_model_per_second(model, line->recent.tx),
		.rx = (uint64_t)top_model_per_second(model, line->recent.rx),
		.tx_packets = (uint64_t)top_model_per_second(model, line->recent.tx_packets),
		.rx_packets = (uint64_t)top_model_per_second(model, line->recent.rx_packets),
	};

	switch (column) {
	case TOP_TX_RATE:
		return format_if(has_rates && table->has_bytes, rate.tx, buf);
	case TOP_RX_RATE:
		return format_if(has_rates && table->has_bytes, rate.rx, buf);
	case TOP_TX:
		return format_if(table->has_bytes, line->total.tx, buf);
	case TOP_RX:
		return format_if(table->has_bytes, line->total.rx, buf);
	case TOP_TX_PACKET_RATE:
		return has_rates ? format_count(rate.tx_packets, buf) : strcpy(buf, "-");
	case TOP_RX_PACKET_RATE:
		return has_rates ? format_count(rate.rx_packets, buf) : strcpy(buf, "-");
	case TOP_TX_PACKETS:
		return format_count(line->total.tx_packets, buf);
	default:
		return format_count(line->total.rx_packets, buf);
	}
}

static const char *cell(const struct top_table *table, const struct top_line *line,
			enum top_column column, char buf[TOP_TEXT_LEN])
{
	const struct top_model *model = table->model;
	const bool has_rates = top_model_interval_ms(model) > 0;

	switch (column) {
	case TOP_CONNECTIONS:
		return format_count(line->connections, buf);
	case TOP_NEW_RATE:
		if (!has_rates)
			return strcpy(buf, "-");
		snprintf(buf, TOP_TEXT_LEN, "%.1f", top_model_per_second(model, line->opened));
		return buf;
	case TOP_TX_RATE:
	case TOP_RX_RATE:
	case TOP_TX:
	case TOP_RX:
	case TOP_TX_PACKET_RATE:
	case TOP_RX_PACKET_RATE:
	case TOP_TX_PACKETS:
	case TOP_RX_PACKETS:
		return amount_cell(table, line, column, buf);
	case TOP_RTT:
		if (!line->conn->rtt_us)
			return strcpy(buf, "-");
		snprintf(buf, TOP_TEXT_LEN, "%.2f ms", (double)line->conn->rtt_us / 1000);
		return buf;
	case TOP_AGE:
		return format_duration_ms(line->conn->age_ms, buf);
	default:
		return top_line_text(table->names, line->conn, column, buf);
	}
}

void top_table_measure(struct top_table *table, const struct top_line *lines, size_t n)
{
	char buf[TOP_TEXT_LEN];
	size_t i, k;

	for (k = 0; k < views[table->by].n; k++) {
		enum top_column column = views[table->by].columns[k];

		table->width[column] = looks[column].width;
		for (i = 0; i < n; i++) {
			size_t len = strlen(cell(table, &lines[i], column, buf));

			if (len > table->width[column])
				table->width[column] = len;
		}
	}
}

/* Appends a cell, and a space before it unless it is the first one. Returns the new end. */
static size_t append(const struct top_table *table, enum top_column column, const char *text,
		     char row[TOP_ROW_LEN], size_t end)
{
	int width = (int)table->width[column], n;

	if (end >= TOP_ROW_LEN - 1)
		return end;
	n = snprintf(row + end, TOP_ROW_LEN - end, looks[column].right ? "%s%*s" : "%s%-*s",
		     end ? " " : "", width, text);
	end += n > 0 ? (size_t)n : 0;
	return end < TOP_ROW_LEN - 1 ? end : TOP_ROW_LEN - 1;
}

/* Removes the spaces that pad the last column. */
static char *trim(char row[TOP_ROW_LEN], size_t end)
{
	while (end && row[end - 1] == ' ')
		end--;
	row[end] = '\0';
	return row;
}

char *top_table_head(const struct top_table *table, char row[TOP_ROW_LEN])
{
	size_t k, end = 0;

	for (k = 0; k < views[table->by].n; k++) {
		enum top_column column = views[table->by].columns[k];

		end = append(table, column, looks[column].title, row, end);
	}
	return trim(row, end);
}

char *top_table_row(const struct top_table *table, const struct top_line *line,
		    char row[TOP_ROW_LEN])
{
	char buf[TOP_TEXT_LEN];
	size_t k, end = 0;

	for (k = 0; k < views[table->by].n; k++) {
		enum top_column column = views[table->by].columns[k];

		end = append(table, column, cell(table, line, column, buf), row, end);
	}
	return trim(row, end);
}

char *top_table_sum(const struct top_table *table, const struct top_line *sum,
		    char row[TOP_ROW_LEN])
{
	char rate[TOP_TEXT_LEN], tx_rate[TOP_TEXT_LEN], rx_rate[TOP_TEXT_LEN];
	char tx[TOP_TEXT_LEN], rx[TOP_TEXT_LEN];
	int used;

	if (table->by == TOP_BY_TRAFFIC) {
		snprintf(row, TOP_ROW_LEN,
			 "TX %s/s, RX %s/s; total TX %s, %" PRIu64 " packets, RX %s, %" PRIu64
			 " packets",
			 cell(table, sum, TOP_TX_RATE, tx_rate),
			 cell(table, sum, TOP_RX_RATE, rx_rate), cell(table, sum, TOP_TX, tx),
			 sum->total.tx_packets, cell(table, sum, TOP_RX, rx),
			 sum->total.rx_packets);
		return row;
	}
	used = snprintf(row, TOP_ROW_LEN, "%" PRIu64 " connection%s, %s new/s", sum->connections,
			sum->connections == 1 ? "" : "s", cell(table, sum, TOP_NEW_RATE, rate));
	if (table->has_bytes)
		snprintf(row + used, TOP_ROW_LEN - (size_t)used,
			 "; TX %s/s, RX %s/s; total TX %s, RX %s",
			 cell(table, sum, TOP_TX_RATE, tx_rate),
			 cell(table, sum, TOP_RX_RATE, rx_rate), cell(table, sum, TOP_TX, tx),
			 cell(table, sum, TOP_RX, rx));
	return row;
}
