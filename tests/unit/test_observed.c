// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* From the kernel half's report of an observed connection to its line in the log. */
#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <time.h>

#include "observed_end.h"
#include "report/line.h"
#include "report/observed.h"
#include "tproxy_abi.h"
#include "unit.h"
#include "util.h"

#define MS UINT64_C(1000000)

static const struct tproxy_rule_text named = { .generation = 1, .line = 7, .name = "build" };
static const struct tproxy_rule_text unnamed = { .generation = 1, .line = 7 };

static struct tproxy_event example(void)
{
	struct tproxy_event event = {
		.conn = {
			.started_ns = 1000 * MS,
			.netns_cookie = 5,
			.cgroup_id = 4711,
			.pid = 99,
			.uid = 1000,
			.comm = "curl",
			.src = { .port = 51000 },
			.dst = { .port = 443 },
			.flags = TPROXY_OBSERVED_SENT,
		},
		.cookie = 0x1a2b,
		.ended_ns = 2234 * MS,
		.bytes_up = 78,
		.bytes_down = 200000000,
		.rtt_us = 1042,
		.rtt_min_us = 950,
		.retransmits = 3,
		.state = TCP_LAST_ACK,
		.flags = TPROXY_EVENT_FIN | TPROXY_EVENT_ACKED,
	};

	memcpy(event.conn.src.addr, "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\2\x09", 16);
	memcpy(event.conn.dst.addr, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1", 16);
	return event;
}

static void test_ends(void **state)
{
	static const struct {
		uint8_t state, flags;
		int error;
		const char *reason;
		int told;
		bool measured;
	} cases[] = {
		{ TCP_LAST_ACK, TPROXY_EVENT_FIN | TPROXY_EVENT_ACKED, 0, "closed", 0, true },
		{ TCP_CLOSING, TPROXY_EVENT_FIN | TPROXY_EVENT_ACKED, 0, "closed", 0, true },
		/* It closed with data unread, or without waiting, before its FIN was acknowledged.
		 */
		{ TCP_LAST_ACK, TPROXY_EVENT_FIN, 0, "reset by client", 0, true },
		{ TCP_FIN_WAIT2, TPROXY_EVENT_FIN, 0, "closed", 0, true },
		/* The program is gone, and the kernel waits for the server's FIN. */
		{ TCP_FIN_WAIT2, TPROXY_EVENT_CLOSED, 0, "closed", 0, true },
		/* It closed a half-closed socket with data unread. */
		{ TCP_FIN_WAIT2, 0, 0, "reset by client", 0, true },
		{ TCP_FIN_WAIT1, 0, 0, "reset by client", 0, true },
		{ TCP_ESTABLISHED, 0, 0, "reset by client", 0, true },
		{ TCP_CLOSE_WAIT, TPROXY_EVENT_FIN, 0, "reset by client", 0, true },
		{ TCP_ESTABLISHED, 0, ECONNRESET, "reset by server", 0, true },
		{ TCP_FIN_WAIT1, TPROXY_EVENT_CLOSED, ECONNRESET, "reset by server", 0, true },
		{ TCP_CLOSE_WAIT, TPROXY_EVENT_FIN, EPIPE, "reset by server", 0, true },
		{ TCP_ESTABLISHED, 0, ETIMEDOUT, "timed out", ETIMEDOUT, true },
		{ TCP_LAST_ACK, TPROXY_EVENT_FIN, EHOSTUNREACH, "timed out", EHOSTUNREACH, true },
		{ TCP_ESTABLISHED, 0, ECONNABORTED, "aborted", 0, true },
		{ TCP_SYN_SENT, 0, ECONNREFUSED, "destination failed", ECONNREFUSED, true },
		{ TCP_SYN_SENT, 0, ETIMEDOUT, "destination failed", ETIMEDOUT, true },
		{ TCP_SYN_SENT, 0, 0, "given up", 0, true },
		{ TCP_SYN_SENT, TPROXY_EVENT_CLOSED, 0, "given up", 0, true },
		{ TPROXY_EVENT_NOT_SENT, 0, 0, "not sent", 0, false },
		{ TPROXY_EVENT_BLOCKED, 0, EACCES, "blocked", EACCES, false },
		{ TPROXY_EVENT_UNSEEN, 0, 0, "end not seen", 0, false },
		/*
		 * Not a state of the kernel: another member of the group may have moved the
		 * position of the ring.
		 */
		{ 200, 0xff, 0, "reset by client", 0, true },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		struct tproxy_event event = example();
		struct observed_end end;

		event.state = cases[i].state;
		event.flags = cases[i].flags;
		event.error = (uint16_t)cases[i].error;
		end = observed_end(&event);
		assert_string_equal(end.reason, cases[i].reason);
		assert_int_equal(end.error, cases[i].told);
		assert_int_equal(end.measured, cases[i].measured);
	}
}

static void test_text(void **state)
{
	struct tproxy_event event = example();
	char buf[OBSERVED_TEXT_LEN];

	assert_string_equal(
		observed_text(&event, &named, event.ended_ns + 50 * MS, buf),
		"observed 192.0.2.9:51000 -> [2001:db8::1]:443: up 78 B, down 200.0 MB, 1.234 s, closed; "
		"pid 99 (curl), uid 1000, cgroup 4711, id 1a2b, rtt 1.042 ms, retransmits 3, rule build");
	event.state = TCP_SYN_SENT;
	event.error = ECONNREFUSED;
	event.bytes_down = event.rtt_us = event.retransmits = 0;
	event.bytes_up = 0;
	assert_string_equal(
		observed_text(&event, &unnamed, event.ended_ns - 1, buf),
		"observed 192.0.2.9:51000 -> [2001:db8::1]:443: up 0 B, down 0 B, 1.234 s, destination "
		"failed (Connection refused); pid 99 (curl), uid 1000, cgroup 4711, id 1a2b, rule in line 7");
	event = example();
	event.state = TPROXY_EVENT_BLOCKED;
	event.conn.flags = 0;
	event.error = EACCES;
	assert_string_equal(
		observed_text(&event, NULL, event.ended_ns, buf),
		"blocked connect to [2001:db8::1]:443: Permission denied; pid 99 (curl), uid 1000, "
		"cgroup 4711, id 1a2b");
	assert_string_equal(
		observed_text(&event, NULL, event.ended_ns + 5000 * MS, buf),
		"blocked connect to [2001:db8::1]:443: Permission denied; pid 99 (curl), uid 1000, "
		"cgroup 4711, id 1a2b, ended 5.000 s ago");
	event = example();
	event.state = TPROXY_EVENT_NOT_SENT;
	event.conn.flags = 0;
	memcpy(event.conn.comm,
	       "a\n\x1b\xff"
	       "0123456789ab",
	       16);
	assert_string_equal(
		observed_text(&event, NULL, event.ended_ns + 12000 * MS, buf),
		"observed unconnected -> [2001:db8::1]:443: 1.234 s, not sent; pid 99 "
		"(a???0123456789ab), uid 1000, cgroup 4711, id 1a2b, ended 12.000 s ago");
}

/* The longest values of all fit. */
static void test_longest_text(void **state)
{
	const struct timespec ended = { .tv_sec = 1000000000, .tv_nsec = 999999999 };
	struct tproxy_rule_text rule = { .line = 1 };
	struct tproxy_event event;
	char buf[OBSERVED_TEXT_LEN];
	struct line line;

	memset(&event, 0xff, sizeof(event));
	memset(rule.name, 'r', sizeof(rule.name));
	event.state = TCP_ESTABLISHED;
	event.error = EHOSTUNREACH;
	event.conn.started_ns = event.ended_ns = 0;
	observed_text(&event, &rule, UINT64_MAX, buf);
	assert_true(strlen(buf) < sizeof(buf) - 1);
	assert_non_null(strstr(buf, " ago"));
	memset(event.conn.comm, '"', sizeof(event.conn.comm));
	memset(rule.name, 1, sizeof(rule.name));
	assert_true(observed_json(&event, &rule, &ended, &line));
}

static void assert_json(const struct tproxy_event *event, const struct tproxy_rule_text *rule,
			const char *expected)
{
	const struct timespec ended = { .tv_sec = 1000000000, .tv_nsec = 5000000 };
	struct line line;

	assert_true(observed_json(event, rule, &ended, &line));
	assert_int_equal(line.text[line.len - 1], '\n');
	line.text[line.len - 1] = '\0';
	assert_string_equal(line.text, expected);
}

static void test_json(void **state)
{
	struct tproxy_event event = example();

	assert_json(
		&event, &named,
		"{\"version\":1,\"time\":\"2001-09-09T01:46:40.005Z\",\"observed\":true,"
		"\"client\":\"192.0.2.9:51000\",\"destination\":\"[2001:db8::1]:443\","
		"\"from\":\"192.0.2.9:51000\",\"bytes_up\":78,\"bytes_down\":200000000,"
		"\"retransmits\":3,\"rtt_us\":1042,\"rtt_min_us\":950,\"duration_ms\":1234,"
		"\"reason\":\"closed\",\"pid\":99,\"command\":\"curl\",\"uid\":1000,\"cgroup_id\":4711,\"id\":\"1a2b\","
		"\"netns_cookie\":5,\"rule\":\"build\",\"rule_line\":7}");
	event.state = TPROXY_EVENT_UNSEEN;
	event.conn.flags = 0;
	assert_json(
		&event, NULL,
		"{\"version\":1,\"time\":\"2001-09-09T01:46:40.005Z\",\"observed\":true,"
		"\"client\":null,\"destination\":\"[2001:db8::1]:443\",\"from\":null,"
		"\"duration_ms\":1234,\"reason\":\"end not seen\",\"pid\":99,\"command\":\"curl\","
		"\"uid\":1000,\"cgroup_id\":4711,\"id\":\"1a2b\",\"netns_cookie\":5}");
	event = example();
	event.state = TCP_ESTABLISHED;
	event.error = ETIMEDOUT;
	event.rtt_us = 0;
	event.rtt_min_us = UINT32_MAX;
	assert_json(
		&event, &unnamed,
		"{\"version\":1,\"time\":\"2001-09-09T01:46:40.005Z\",\"observed\":true,"
		"\"client\":\"192.0.2.9:51000\",\"destination\":\"[2001:db8::1]:443\","
		"\"from\":\"192.0.2.9:51000\",\"bytes_up\":78,\"bytes_down\":200000000,"
		"\"retransmits\":3,\"duration_ms\":1234,\"reason\":\"timed out\",\"errno\":110,"
		"\"error\":\"ETIMEDOUT\",\"pid\":99,\"command\":\"curl\",\"uid\":1000,"
		"\"cgroup_id\":4711,\"id\":\"1a2b\",\"netns_cookie\":5,\"rule\":null,\"rule_line\":7}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_longest_text),
		cmocka_unit_test(test_json),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
