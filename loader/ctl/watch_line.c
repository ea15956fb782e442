// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See watch_line.h. What follows the addresses is in the words and the order of the connection log
 * of tproxy-relay, and the id of the connection is the same. Members of JSON that the log has too
 * have its names.
 */
#include "watch_line.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "conn_row.h"
#include "escape.h"
#include "host/address.h"
#include "host/json.h"
#include "monotonic.h"
#include "parse.h"
#include "state/counters.h"
#include "tproxy_abi.h"
#include "util.h"
#include "watch_join.h"

#define NS_PER_S  INT64_C(1000000000)
#define NS_PER_MS 1000000

/* Why a connection was not decided by a rule, by counter; the others are decided by rules. */
static const char *const reasons[_TPROXY_STAT_MAX] = {
	[TPROXY_STAT_BYPASS_LOOPBACK] = "to loopback",
	[TPROXY_STAT_BYPASS_MULTICAST] = "to a multicast or broadcast address",
	[TPROXY_STAT_BYPASS_LISTENER] = "to the relay itself",
	[TPROXY_STAT_BYPASS_REPAIR] = "TCP_REPAIR",
	[TPROXY_STAT_BYPASS_PORT0] = "port 0",
	[TPROXY_STAT_NO_RELAY] = "no relay",
	[TPROXY_STAT_NO_LISTENER] = "the relay does not listen",
	[TPROXY_STAT_STALLED] = "the relay is stalled",
	[TPROXY_STAT_MAP_FULL] = "no room in the maps",
	[TPROXY_STAT_BOUND_DEVICE] = "bound to a device",
	[TPROXY_STAT_LINK_LOCAL] = "to a link-local address",
	[TPROXY_STAT_NEGATIVE_CACHE] = "the destination has just failed",
	[TPROXY_STAT_NO_STORAGE] = "no memory",
	[TPROXY_STAT_OVER_SHARE] = "over the share",
	[TPROXY_STAT_STRAYED] = "a SYN to the relay has strayed",
	[TPROXY_STAT_UNSUPPORTED] = "a socket option",
	[TPROXY_STAT_BLOCKED] = "by the block list",
};

static const char *reason_text(const struct watch_conn *conn)
{
	if (conn->reason == TPROXY_WATCH_BY_OTHER)
		return "by another program";
	return conn->reason < _TPROXY_STAT_MAX ? reasons[conn->reason] : NULL;
}

void watch_lines_set_clock(struct watch_lines *lines)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	lines->real_offset_ns =
		now.tv_sec * NS_PER_S + now.tv_nsec - (int64_t)monotonic_kernel_ns();
}

static struct timespec real_time(const struct watch_lines *lines, uint64_t ns)
{
	const int64_t real_ns = (int64_t)ns + lines->real_offset_ns;

	return (struct timespec){ .tv_sec = (time_t)(real_ns / NS_PER_S),
				  .tv_nsec = (long)(real_ns % NS_PER_S) };
}

/* --- text */

/* "16:05:01.123", in the local time zone. */
#define TIME_LEN 32
static char *format_time(const struct watch_lines *lines, uint64_t ns, char buf[TIME_LEN])
{
	const struct timespec time = real_time(lines, ns);
	char seconds[TIME_LEN - 8] = "?";
	struct tm local;

	if (localtime_r(&time.tv_sec, &local))
		strftime(seconds, sizeof(seconds), "%H:%M:%S", &local);
	snprintf(buf, TIME_LEN, "%s.%03d", seconds, (int)(time.tv_nsec / NS_PER_MS));
	return buf;
}

void watch_lines_print_head(const struct watch_lines *lines)
{
	if (!lines->json)
		printf("%-12s %8s %-16s %8s  %s\n", "TIME", "PID", "COMMAND", "UID", "CONNECTION");
}

/* Prints the columns and the addresses of a line. */
static void print_columns(const struct watch_lines *lines, const struct watch_conn *conn,
			  uint64_t time_ns)
{
	char comm[ESCAPE_LEN(TPROXY_COMM_LEN)], time[TIME_LEN], pid[16] = "-";
	char src[ADDRESS_ENDPOINT_LEN], dst[ADDRESS_ENDPOINT_LEN];

	escape_text(conn->row.comm, TPROXY_COMM_LEN, comm, sizeof(comm));
	if (conn->row.pid)
		snprintf(pid, sizeof(pid), "%u", conn->row.pid);
	printf("%-12s %8s %-16s %8u  %s%s -> %s: ", format_time(lines, time_ns, time), pid,
	       *comm ? comm : "-", conn->row.uid, conn->inbound ? "from " : "",
	       conn->row.src.port ? address_format_endpoint(&conn->row.src, src) : "unconnected",
	       address_format_endpoint(&conn->row.dst, dst));
}

/* ", rule NAME", ", rule in line 7", ", default", or "". */
static char *format_rule(const struct watch_conn *conn, char buf[64])
{
	*buf = '\0';
	if (!*conn->row.rule)
		return buf;
	if (strncmp(conn->row.rule, "line:", 5) == 0)
		snprintf(buf, 64, ", rule in line %u", conn->rule_line);
	else if (strcmp(conn->row.rule, "default") == 0)
		snprintf(buf, 64, ", default");
	else
		snprintf(buf, 64, ", rule %s", conn->row.rule);
	return buf;
}

static void print_start(const struct watch_lines *lines, const struct watch_conn *conn)
{
	const char *reason = conn->inbound ? NULL : reason_text(conn);
	char rule[64], why[80] = "", moved[ADDRESS_ENDPOINT_LEN], id[CONN_ROW_ID_LEN];
	const char *upstream = conn->row.upstream;

	if (conn->error)
		snprintf(why, sizeof(why), " (%s)", strerror(conn->error));
	print_columns(lines, conn, conn->started_ns);
	printf("%s%s%s%s%s%s%s%s; id %s\n",
	       conn->inbound ? "accepted" : conn_verdict_name(conn->row.verdict),
	       *upstream ? " via " : "", upstream, why, reason ? ", " : "",
	       reason ? reason : format_rule(conn, rule), conn->moved ? ", sent to " : "",
	       conn->moved ? address_format_endpoint(&conn->sent_to, moved) : "",
	       conn_row_id(conn->row.id, id));
}

static uint64_t duration_ms(const struct watch_conn *conn, const struct tproxy_event *event)
{
	return event->ended_ns > conn->started_ns ? (event->ended_ns - conn->started_ns) / NS_PER_MS
						  : 0;
}

static void print_end(const struct watch_lines *lines, const struct watch_conn *conn,
		      const struct tproxy_event *event, const struct watch_fate *fate)
{
	char up[FORMAT_BYTES_LEN], down[FORMAT_BYTES_LEN], time[FORMAT_DURATION_LEN];
	char bytes[64] = "", why[80] = "", path[80] = "", id[CONN_ROW_ID_LEN];

	if (fate->measured)
		snprintf(bytes, sizeof(bytes), "up %s, down %s, ",
			 format_bytes(event->bytes_up, up), format_bytes(event->bytes_down, down));
	if (fate->error)
		snprintf(why, sizeof(why), " (%s)", strerror(fate->error));
	if (fate->measured && event->retransmits)
		snprintf(path, sizeof(path), ", retransmits %u", event->retransmits);
	print_columns(lines, conn, event->ended_ns);
	printf("%s%s, %s%s%s; id %s\n", bytes, format_duration_ms(duration_ms(conn, event), time),
	       fate->reason, why, path, conn_row_id(conn->row.id, id));
}

/* --- JSON */

/* As in RFC 3339. */
static void add_time(struct json_object *to, const struct timespec *time)
{
	char text[64], seconds[32];
	struct tm utc;

	if (!gmtime_r(&time->tv_sec, &utc) ||
	    !strftime(seconds, sizeof(seconds), "%Y-%m-%dT%H:%M:%S", &utc))
		return;
	snprintf(text, sizeof(text), "%s.%03dZ", seconds, (int)(time->tv_nsec / NS_PER_MS));
	json_add_string(to, "time", text);
}

static void add_error(struct json_object *to, int error)
{
	if (!error)
		return;
	json_add_number(to, "errno", (uint64_t)error);
	json_add_string(to, "error", strerrorname_np(error) ? strerrorname_np(error) : "?");
}

struct json_object *watch_lines_object(const struct watch_lines *lines, uint64_t time_ns,
				       const char *kind)
{
	struct json_object *object = json_new_document();
	const struct timespec time = real_time(lines, time_ns ? time_ns : monotonic_kernel_ns());

	add_time(object, &time);
	json_add_string(object, "event", kind);
	return object;
}

void watch_lines_print_object(struct json_object *object)
{
	printf("%s\n", json_object_to_json_string_ext(
			       object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(object);
}

/* The members that both lines of a connection have. */
static struct json_object *conn_object(const struct watch_lines *lines,
				       const struct watch_conn *conn, uint64_t time_ns,
				       const char *kind)
{
	struct json_object *object = watch_lines_object(lines, time_ns, kind);
	char id[CONN_ROW_ID_LEN];

	json_add_string(object, "id", conn_row_id(conn->row.id, id));
	if (conn->row.src.port)
		json_add_endpoint(object, "client", &conn->row.src);
	json_add_endpoint(object, "destination", &conn->row.dst);
	if (conn->row.pid)
		json_add_number(object, "pid", conn->row.pid);
	if (*conn->row.comm)
		json_add_string(object, "command", conn->row.comm);
	json_add_number(object, "uid", conn->row.uid);
	json_add_number(object, "cgroup_id", conn->row.cgroup_id);
	json_add_number(object, "netns_cookie", conn->row.netns_cookie);
	json_add_bool(object, "inbound", conn->inbound);
	if (!conn->inbound)
		json_add_string(object, "verdict", conn_verdict_name(conn->row.verdict));
	return object;
}

static void add_decision(struct json_object *to, const struct watch_conn *conn)
{
	const char *counter = conn->reason == TPROXY_WATCH_BY_OTHER ? "other_program"
								    : counters_name(conn->reason);

	if (counter)
		json_add_string(to, "counter", counter);
	if (*conn->row.rule && !reason_text(conn)) {
		json_add_string(to, "rule", conn->row.rule);
		if (conn->rule_line)
			json_add_number(to, "rule_line", conn->rule_line);
	}
	if (*conn->row.upstream)
		json_add_string(to, "upstream", conn->row.upstream);
	add_error(to, conn->error);
	if (conn->moved)
		json_add_endpoint(to, "sent_to", &conn->sent_to);
}

void watch_lines_print_start(const struct watch_lines *lines, const struct watch_conn *conn)
{
	struct json_object *object;

	if (!lines->json) {
		print_start(lines, conn);
		return;
	}
	object = conn_object(lines, conn, conn->started_ns, conn->inbound ? "accept" : "connect");
	if (!conn->inbound)
		add_decision(object, conn);
	watch_lines_print_object(object);
}

void watch_lines_print_end(const struct watch_lines *lines, const struct watch_conn *conn,
			   const struct tproxy_event *event, const struct watch_fate *fate)
{
	struct json_object *object;

	if (!lines->json) {
		print_end(lines, conn, event, fate);
		return;
	}
	object = conn_object(lines, conn, event->ended_ns, "end");
	if (fate->measured) {
		json_add_number(object, "bytes_up", event->bytes_up);
		json_add_number(object, "bytes_down", event->bytes_down);
		json_add_number(object, "retransmits", event->retransmits);
		if (event->rtt_us)
			json_add_number(object, "rtt_us", event->rtt_us);
	}
	json_add_number(object, "duration_ms", duration_ms(conn, event));
	json_add_string(object, "reason", fate->reason);
	add_error(object, fate->error);
	watch_lines_print_object(object);
}
