// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The relay: the log of observed connections, see observed.h. */
#include "observed.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "conn_row.h"
#include "connlog.h"
#include "line.h"
#include "log.h"
#include "monotonic.h"
#include "observed_end.h"
#include "parse.h"
#include "tproxy_abi.h"

#define NS_PER_S  1000000000
#define NS_PER_MS 1000000
/* A line that is logged later than this after the end of its connection gives the delay. */
#define LATE_MS 1000

static uint64_t duration_ms(const struct tproxy_event *event)
{
	return (event->ended_ns - event->conn.started_ns) / NS_PER_MS;
}

static bool has_source(const struct tproxy_event *event)
{
	return event->conn.flags & TPROXY_OBSERVED_SENT;
}

/* Writes the name of the rule, or its line if it has no name. Returns buf. */
static char *format_rule(const struct tproxy_rule_text *rule, char buf[64])
{
	*buf = '\0';
	if (rule && rule->name[0])
		snprintf(buf, 64, ", rule %.*s", (int)sizeof(rule->name), rule->name);
	else if (rule)
		snprintf(buf, 64, ", rule in line %u", rule->line);
	return buf;
}

static char *format_path(const struct tproxy_event *event, char buf[80])
{
	*buf = '\0';
	if (event->rtt_us)
		snprintf(buf, 80, ", rtt %u.%03u ms, retransmits %u", event->rtt_us / 1000,
			 event->rtt_us % 1000, event->retransmits);
	else if (event->retransmits)
		snprintf(buf, 80, ", retransmits %u", event->retransmits);
	return buf;
}

/* "blocked connect to 192.0.2.1:443: Permission denied; pid 12 (curl), ...". */
static char *blocked_text(const struct tproxy_event *event, const char *late,
			  char buf[OBSERVED_TEXT_LEN])
{
	char dst[FORMAT_ENDPOINT_LEN], command[TPROXY_COMM_LEN + 1], id[CONN_ROW_ID_LEN];
	const struct tproxy_observed *conn = &event->conn;

	line_command(conn->comm, command);
	snprintf(buf, OBSERVED_TEXT_LEN,
		 "blocked connect to %s: %s; pid %u (%s), uid %u, cgroup %" PRIu64 ", id %s%s",
		 line_endpoint(&conn->dst, dst), strerror(event->error), conn->pid, command,
		 conn->uid, (uint64_t)conn->cgroup_id, conn_row_id(event->cookie, id), late);
	return buf;
}

char *observed_text(const struct tproxy_event *event, const struct tproxy_rule_text *rule,
		    uint64_t now_ns, char buf[OBSERVED_TEXT_LEN])
{
	const struct observed_end end = observed_end(event);
	const struct tproxy_observed *conn = &event->conn;
	const uint64_t late_ms = (now_ns - event->ended_ns) / NS_PER_MS;
	char src[FORMAT_ENDPOINT_LEN], dst[FORMAT_ENDPOINT_LEN], command[TPROXY_COMM_LEN + 1];
	char up[FORMAT_BYTES_LEN], down[FORMAT_BYTES_LEN], time[FORMAT_DURATION_LEN];
	char bytes[64] = "", why[80] = "", path[80] = "", late[64] = "", name[64];
	char id[CONN_ROW_ID_LEN];

	if (now_ns > event->ended_ns && late_ms > LATE_MS)
		snprintf(late, sizeof(late), ", ended %s ago", format_duration_ms(late_ms, time));
	if (event->state == TPROXY_EVENT_BLOCKED)
		return blocked_text(event, late, buf);
	line_command(conn->comm, command);
	if (end.measured) {
		snprintf(bytes, sizeof(bytes), "up %s, down %s, ",
			 format_bytes(event->bytes_up, up), format_bytes(event->bytes_down, down));
		format_path(event, path);
	}
	if (end.error)
		snprintf(why, sizeof(why), " (%s)", strerror(end.error));
	snprintf(buf, OBSERVED_TEXT_LEN,
		 "observed %s -> %s: %s%s, %s%s; pid %u (%s), uid %u, cgroup %" PRIu64
		 ", id %s%s%s%s",
		 has_source(event) ? line_endpoint(&conn->src, src) : "unconnected",
		 line_endpoint(&conn->dst, dst), bytes,
		 format_duration_ms(duration_ms(event), time), end.reason, why, conn->pid, command,
		 conn->uid, (uint64_t)conn->cgroup_id, conn_row_id(event->cookie, id), path,
		 format_rule(rule, name), late);
	return buf;
}

static void add_numbers(struct line *line, const struct tproxy_event *event)
{
	line_add_number(line, "bytes_up", event->bytes_up);
	line_add_number(line, "bytes_down", event->bytes_down);
	line_add_number(line, "retransmits", event->retransmits);
	if (event->rtt_us)
		line_add_number(line, "rtt_us", event->rtt_us);
	if (event->rtt_min_us != UINT32_MAX)
		line_add_number(line, "rtt_min_us", event->rtt_min_us);
}

static void add_rule(struct line *line, const struct tproxy_rule_text *rule)
{
	char name[sizeof(rule->name) + 1];

	if (!rule)
		return;
	snprintf(name, sizeof(name), "%.*s", (int)sizeof(rule->name), rule->name);
	line_add_string(line, "rule", *name ? name : NULL);
	line_add_number(line, "rule_line", rule->line);
}

bool observed_json(const struct tproxy_event *event, const struct tproxy_rule_text *rule,
		   const struct timespec *ended, struct line *line)
{
	const struct observed_end end = observed_end(event);
	const struct tproxy_observed *conn = &event->conn;
	char src_text[FORMAT_ENDPOINT_LEN], dst[FORMAT_ENDPOINT_LEN];
	char command[TPROXY_COMM_LEN + 1];
	const char *src = has_source(event) ? line_endpoint(&conn->src, src_text) : NULL;

	line_begin(line);
	line_add_number(line, "version", CONNLOG_JSON_VERSION);
	line_add_time(line, ended);
	line_add_true(line, event->state == TPROXY_EVENT_BLOCKED ? "blocked" : "observed");
	line_add_string(line, "client", src);
	line_add_string(line, "destination", line_endpoint(&conn->dst, dst));
	line_add_string(line, "from", src);
	if (end.measured)
		add_numbers(line, event);
	line_add_number(line, "duration_ms", duration_ms(event));
	line_add_string(line, "reason", end.reason);
	if (end.error)
		line_add_error(line, end.error);
	line_command(conn->comm, command);
	line_add_number(line, "pid", conn->pid);
	line_add_string(line, "command", command);
	line_add_number(line, "uid", conn->uid);
	line_add_number(line, "cgroup_id", conn->cgroup_id);
	line_add_id(line, event->cookie);
	line_add_number(line, "netns_cookie", conn->netns_cookie);
	add_rule(line, rule);
	return line_end(line);
}

/* Returns the CLOCK_REALTIME of a moment of monotonic_kernel_ns(). */
static struct timespec real_time_of(uint64_t ns, uint64_t now_ns)
{
	struct timespec now;
	int64_t real_ns;

	clock_gettime(CLOCK_REALTIME, &now);
	real_ns = (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec - (int64_t)(now_ns - ns);
	return (struct timespec){ .tv_sec = (time_t)(real_ns / NS_PER_S),
				  .tv_nsec = (long)(real_ns % NS_PER_S) };
}

void observed_print(const struct tproxy_event *event, const struct tproxy_rule_text *rule)
{
	const enum connlog_format format = connlog_wanted();
	const uint64_t now_ns = monotonic_kernel_ns();
	struct timespec ended = real_time_of(event->ended_ns, now_ns);
	char text[OBSERVED_TEXT_LEN];
	struct line line;

	if (format == CONNLOG_TEXT)
		log_info("%s", observed_text(event, rule, now_ns, text));
	else if (format == CONNLOG_JSON && observed_json(event, rule, &ended, &line))
		connlog_print_json(&line);
}
