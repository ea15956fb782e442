// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See connlog.h. The kernel half has recorded the client's process. Reading this record is one more
 * getsockopt(), made only if the line will be printed. A command name may hold any byte: both
 * formats print a '?' for each byte that is not printable ASCII.
 */
#include "connlog.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "conn_row.h"
#include "kernel/origdst.h"
#include "line.h"
#include "log.h"
#include "monotonic.h"
#include "parse.h"
#include "sink.h"
#include "tproxy_abi.h"
#include "upstream_id.h"

#define NAME_TEXT_LEN 280 /* for a name of 253 bytes */

static _Atomic enum connlog_format connlog_format;

void connlog_init(enum connlog_format format)
{
	atomic_store_explicit(&connlog_format, format, memory_order_relaxed);
}

enum connlog_format connlog_wanted(void)
{
	return atomic_load_explicit(&connlog_format, memory_order_relaxed);
}

struct tproxy_conn *connlog_read_client(int client_fd)
{
	struct tproxy_conn *info;

	if (connlog_wanted() == CONNLOG_NONE)
		return NULL;
	info = malloc(sizeof(*info));
	if (info && origdst_get_conn(client_fd, info) < 0) {
		free(info);
		return NULL;
	}
	return info;
}

struct tproxy_conn *connlog_copy_client(const struct tproxy_conn *conn)
{
	struct tproxy_conn *info;

	if (connlog_wanted() == CONNLOG_NONE)
		return NULL;
	info = malloc(sizeof(*info));
	if (info)
		*info = *conn;
	return info;
}

/*
 * Formats the local address of the server's socket, by which the server's logs identify the
 * connection. Returns false if the socket was never connected, or is a UNIX socket.
 */
static bool local_address(const struct conn_report *r, char text[FORMAT_ENDPOINT_LEN])
{
	union sockaddr_any addr = {};
	socklen_t len = sizeof(addr);

	if (r->upstream_fd < 0 || getsockname(r->upstream_fd, &addr.sa, &len) < 0 ||
	    addr.sa.sa_family == AF_UNIX)
		return false;
	format_endpoint(&addr, text);
	return true;
}

static bool destination(const struct conn_report *r, char text[FORMAT_ENDPOINT_LEN])
{
	if (r->dst->sa.sa_family == AF_UNSPEC)
		return false;
	format_endpoint(r->dst, text);
	return true;
}

/* Formats more details about the reason, or an empty string. */
static void explain(const struct conn_report *r, char text[128])
{
	*text = '\0';
	if (r->error && r->upstream && r->why)
		snprintf(text, 128, " (%s: %s)", strerror(r->error), r->why);
	else if (r->error)
		snprintf(text, 128, " (%s)", strerror(r->error));
	else if (r->reason == CLOSE_NO_DESTINATION)
		snprintf(
			text, 128,
			" (the client connected to the relay's port itself, or the relay is out of scope)");
}

/* Formats the name of the destination, or an empty string. It has only characters of host names. */
static char *name_text(const struct conn_report *r, char text[NAME_TEXT_LEN])
{
	*text = '\0';
	if (r->name)
		snprintf(text, NAME_TEXT_LEN, ", name \"%s\"%s", r->name, r->ech ? " (ECH)" : "");
	return text;
}

static void print_text(const struct conn_report *r, uint64_t duration_ms, uint64_t left_out)
{
	char client[FORMAT_ENDPOINT_LEN], dst[FORMAT_ENDPOINT_LEN], from[FORMAT_ENDPOINT_LEN];
	char name[NAME_TEXT_LEN], up[FORMAT_BYTES_LEN], down[FORMAT_BYTES_LEN],
		duration[FORMAT_DURATION_LEN];
	char via[sizeof(", via ") + UPSTREAM_NAME_LEN] = "";
	char command[TPROXY_COMM_LEN + 1], id[CONN_ROW_ID_LEN], who[128] = "", why[128],
								more[48] = "";
	const bool connected = local_address(r, from);

	if (r->client_info) {
		line_command(r->client_info->comm, command);
		snprintf(who, sizeof(who), "; pid %u (%s), uid %u, cgroup %" PRIu64 ", id %s",
			 r->client_info->pid, command, r->client_info->uid,
			 (uint64_t)r->client_info->cgroup_id,
			 conn_row_id(r->client_info->cookie, id));
	}
	explain(r, why);
	if (r->upstream)
		snprintf(via, sizeof(via), ", via %s", r->upstream);
	if (left_out)
		snprintf(more, sizeof(more), " (%" PRIu64 " like this were left out)", left_out);
	log_info("connection %s -> %s%s%s: up %s, down %s, %s, %s%s%s%s%s%s",
		 format_endpoint(r->client, client), destination(r, dst) ? dst : "unknown",
		 name_text(r, name), via, format_bytes(r->bytes_up, up),
		 format_bytes(r->bytes_down, down), format_duration_ms(duration_ms, duration),
		 close_reason_name(r->reason), why, who,
		 r->client_info && connected ? ", from " : "",
		 r->client_info && connected ? from : "", more);
}

void connlog_report_lost(void)
{
	static struct log_limit limit;
	uint64_t lost;
	int error;

	lost = sink_take_lost(STDOUT_FILENO, &error);
	if (lost > 0)
		log_limited(&limit, LOG_LEVEL_WARNING,
			    "%" PRIu64 " lines for connections were dropped from stdout: %s", lost,
			    sink_why(error));
}

void connlog_print_json(const struct line *line)
{
	sink_write(STDOUT_FILENO, line->text, line->len);
	connlog_report_lost();
}

bool connlog_has_room(void)
{
	return sink_has_room(connlog_wanted() == CONNLOG_JSON ? STDOUT_FILENO : STDERR_FILENO);
}

static void print_json(const struct conn_report *r, uint64_t duration_ms, uint64_t left_out)
{
	char text[FORMAT_ENDPOINT_LEN], command[TPROXY_COMM_LEN + 1];
	struct timespec now;
	struct line line;

	clock_gettime(CLOCK_REALTIME, &now);
	line_begin(&line);
	line_add_number(&line, "version", CONNLOG_JSON_VERSION);
	line_add_time(&line, &now);
	line_add_string(&line, "client", format_endpoint(r->client, text));
	line_add_string(&line, "destination", destination(r, text) ? text : NULL);
	if (r->name)
		line_add_string(&line, "name", r->name);
	if (r->ech)
		line_add_true(&line, "ech");
	if (r->protocol)
		line_add_string(&line, "protocol", r->protocol);
	if (r->upstream)
		line_add_string(&line, "upstream", r->upstream);
	if (r->upstream && r->why)
		line_add_string(&line, "upstream_error", r->why);
	line_add_string(&line, "from", local_address(r, text) ? text : NULL);
	line_add_number(&line, "bytes_up", r->bytes_up);
	line_add_number(&line, "bytes_down", r->bytes_down);
	line_add_number(&line, "duration_ms", duration_ms);
	line_add_string(&line, "reason", close_reason_name(r->reason));
	if (r->error)
		line_add_error(&line, r->error);
	if (left_out)
		line_add_number(&line, "left_out", left_out);
	if (r->client_info) {
		line_command(r->client_info->comm, command);
		line_add_number(&line, "pid", r->client_info->pid);
		line_add_string(&line, "command", command);
		line_add_number(&line, "uid", r->client_info->uid);
		line_add_number(&line, "cgroup_id", r->client_info->cgroup_id);
		line_add_id(&line, r->client_info->cookie);
	}
	if (line_end(&line))
		connlog_print_json(&line);
}

/*
 * True if the line is suppressed. Connections to the relay's own port are rate limited, because a
 * client could fill the log with them. *ret_left_out is the number of lines suppressed before.
 */
static bool is_left_out(enum close_reason reason, uint64_t *ret_left_out)
{
	static struct log_limit limit;

	*ret_left_out = 0;
	return reason == CLOSE_NO_DESTINATION &&
	       !log_limit_take(&limit, monotonic_coarse_ms(), ret_left_out);
}

void connlog_print(const struct conn_report *report)
{
	const enum connlog_format format = connlog_wanted();
	uint64_t duration_ms, left_out;

	if (format == CONNLOG_NONE || is_left_out(report->reason, &left_out))
		return;
	duration_ms = report->ended_ms - report->started_ms;
	if (format == CONNLOG_TEXT)
		print_text(report, duration_ms, left_out);
	else
		print_json(report, duration_ms, left_out);
}
