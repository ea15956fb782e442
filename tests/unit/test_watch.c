// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Tests how tproxyctl watch joins events and adds up, without a kernel. */
#include "ctl/watch_join.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/watch_totals.h"
#include "unit.h"
#include "util.h"

#define COOKIE 0x1a2b

/* What the calls have said: one letter for each, and the last connection and end. */
static char said[64];
static struct watch_conn last;
static struct tproxy_event last_end;

static void on_started(struct watch_conn *conn, void *data)
{
	last = *conn;
	strcat(said, conn->row.verdict == CONN_REFUSED ? "R" : "S");
}

static void on_ended(struct watch_conn *conn, const struct tproxy_event *event, void *data)
{
	last = *conn;
	last_end = *event;
	strcat(said, "E");
}

static int make_join(void **state)
{
	const struct watch_join_calls calls = { on_started, on_ended, NULL };

	*said = '\0';
	*state = watch_join_new(&calls);
	return *state ? 0 : -1;
}

static int free_join(void **state)
{
	watch_join_free(*state);
	return 0;
}

static bool counts(const struct watch_conn *conn, void *data)
{
	return true;
}

/* A connect() to port @port. */
static void do_connect(struct watch_join *join, uint16_t port, enum tproxy_verdict verdict,
		       uint8_t reason)
{
	const struct tproxy_watch_start event = {
		.head = { .time_ns = 1000,
			  .cookie = COOKIE,
			  .kind = TPROXY_WATCH_CONNECT,
			  .verdict = (__u8)verdict,
			  .reason = reason,
			  .error = verdict == TPROXY_VERDICT_REFUSED ? EPERM : 0 },
		.conn = { .started_ns = 1000,
			  .pid = 99,
			  .comm = "0123456789abcde",
			  .dst = { .port = port } },
	};

	watch_join_event(join, &event.head, sizeof(event));
}

static void do_send(struct watch_join *join, uint16_t port)
{
	const struct tproxy_watch_sent event = {
		.head = { .cookie = COOKIE, .kind = TPROXY_WATCH_SENT },
		.src = { .port = 51000 },
		.dst = { .port = port },
	};

	watch_join_event(join, &event.head, sizeof(event));
}

static void do_end(struct watch_join *join, uint8_t flags)
{
	const struct tproxy_watch_end event = {
		.head = { .cookie = COOKIE, .kind = TPROXY_WATCH_ENDED, .flags = flags },
		.event = { .state = TCP_ESTABLISHED, .bytes_up = 7, .ended_ns = 5000 },
	};

	watch_join_event(join, &event.head, sizeof(event));
}

static void do_release(struct watch_join *join)
{
	const struct tproxy_watch_head event = { .cookie = COOKIE,
						 .kind = TPROXY_WATCH_RELEASED,
						 .time_ns = 2000 };

	watch_join_event(join, &event, sizeof(event));
}

/* The beginning is told at the SYN, when the source is known. */
static void a_connection(void **state)
{
	do_connect(*state, 443, TPROXY_VERDICT_REDIRECTED, TPROXY_STAT_REDIRECTED);
	assert_string_equal(said, "");
	do_send(*state, 8080);
	assert_string_equal(said, "S");
	assert_int_equal(last.row.id, COOKIE);
	assert_int_equal(last.row.src.port, 51000);
	assert_int_equal(last.row.dst.port, 443);
	assert_string_equal(last.row.comm, "0123456789abcde");
	assert_false(last.moved);
	watch_join_settle(*state);
	assert_int_equal(watch_join_count(*state, counts, NULL), 1);
	do_end(*state, TPROXY_WATCH_COUNTED);
	assert_string_equal(said, "SE");
	assert_int_equal(last_end.bytes_up, 7);
	assert_true(last_end.conn.flags & TPROXY_OBSERVED_SENT);
	assert_int_equal(watch_join_count(*state, counts, NULL), 0);
	/* Its end is over; this one's beginning is not known. */
	do_end(*state, 0);
	do_release(*state);
	assert_string_equal(said, "SE");
}

static void another_program_has_replaced_the_destination(void **state)
{
	do_connect(*state, 443, TPROXY_VERDICT_DIRECT, TPROXY_STAT_RULE_DIRECT);
	do_send(*state, 8080);
	assert_true(last.moved);
	assert_int_equal(last.sent_to.port, 8080);
}

/* Without a SYN the beginning is told one pass later. */
static void no_syn(void **state)
{
	do_connect(*state, 443, TPROXY_VERDICT_DIRECT, TPROXY_STAT_NO_RELAY);
	watch_join_settle(*state);
	assert_string_equal(said, "");
	watch_join_settle(*state);
	assert_string_equal(said, "S");
	do_release(*state);
	assert_string_equal(said, "SE");
	assert_int_equal(last_end.state, TPROXY_EVENT_NOT_SENT);
	/* A late SYN, of Fast Open, is not told again. */
	do_connect(*state, 443, TPROXY_VERDICT_DIRECT, TPROXY_STAT_NO_RELAY);
	watch_join_settle(*state);
	watch_join_settle(*state);
	do_send(*state, 443);
	do_end(*state, 0);
	assert_string_equal(said, "SESE");
}

static void refused(void **state)
{
	do_connect(*state, 443, TPROXY_VERDICT_REFUSED, TPROXY_STAT_RULE_REFUSED);
	assert_string_equal(said, "R");
	assert_int_equal(last.error, EPERM);
	/* The same program at a cgroup above sees that it is refused already. */
	do_connect(*state, 443, TPROXY_VERDICT_REFUSED, TPROXY_WATCH_BY_OTHER);
	do_release(*state);
	assert_string_equal(said, "R");
	watch_join_settle(*state);
	assert_int_equal(watch_join_count(*state, counts, NULL), 0);
	/* The next attempt is a connection of its own. */
	do_connect(*state, 443, TPROXY_VERDICT_REFUSED, TPROXY_WATCH_BY_OTHER);
	assert_string_equal(said, "RR");
}

/* The program is attached to two cgroups of the same process. */
static void decided_twice(void **state)
{
	do_connect(*state, 443, TPROXY_VERDICT_DIRECT, TPROXY_STAT_RULE_DIRECT);
	do_connect(*state, 443, TPROXY_VERDICT_REDIRECTED, TPROXY_STAT_REDIRECTED);
	do_send(*state, 8080);
	assert_string_equal(said, "S");
	assert_int_equal(last.row.verdict, CONN_REDIRECTED);
}

static void the_socket_connects_again(void **state)
{
	do_connect(*state, 443, TPROXY_VERDICT_DIRECT, TPROXY_STAT_NO_RELAY);
	do_connect(*state, 80, TPROXY_VERDICT_DIRECT, TPROXY_STAT_NO_RELAY);
	assert_string_equal(said, "SE");
	assert_int_equal(last_end.state, TPROXY_EVENT_NOT_SENT);
	do_send(*state, 80);
	/* The event of the end was lost. */
	do_connect(*state, 80, TPROXY_VERDICT_DIRECT, TPROXY_STAT_NO_RELAY);
	assert_string_equal(said, "SESE");
	assert_int_equal(last_end.state, TPROXY_EVENT_UNSEEN);
}

/* The kernel half has subtracted a SYN that this side has not sent. */
static void accepted(void **state)
{
	const struct tproxy_watch_start event = {
		.head = { .cookie = COOKIE, .kind = TPROXY_WATCH_ACCEPTED },
		.conn = { .src = { .port = 80 }, .dst = { .port = 51000 } },
	};

	watch_join_event(*state, &event.head, sizeof(event));
	assert_string_equal(said, "S");
	assert_true(last.inbound);
	assert_int_equal(last.row.src.port, 51000);
	assert_int_equal(last.row.dst.port, 80);
	do_end(*state, TPROXY_WATCH_COUNTED);
	assert_int_equal(last_end.bytes_up, 8);
}

static void begun_before(void **state)
{
	const struct conn_row row = { .id = COOKIE, .pid = 7, .verdict = CONN_REDIRECTED };

	watch_join_add(*state, &row, 500, /* watched_ns= */ 0);
	watch_join_drop_gone(*state);
	assert_int_equal(watch_join_count(*state, counts, NULL), 0);
	watch_join_add(*state, &row, 500, /* watched_ns= */ 0);
	watch_join_add(*state, &row, 600, /* watched_ns= */ 700);
	watch_join_drop_gone(*state);
	watch_join_settle(*state);
	assert_string_equal(said, "");
	assert_int_equal(watch_join_find(*state, COOKIE)->row.pid, 7);
	assert_null(watch_join_find(*state, COOKIE + 1));
	do_end(*state, 0);
	assert_string_equal(said, "E");
	assert_true(last.earlier);
	assert_int_equal(last_end.conn.started_ns, 500);
}

/*
 * It begins after the rings are opened and before the connections are read, so it is in both: it
 * counts once, at the same time too. To see it fail: leave out the comparison with listed_ns, or
 * compare with `<`.
 */
static void begun_while_reading(void **state)
{
	const struct conn_row row = { .id = COOKIE, .verdict = CONN_REDIRECTED };

	watch_join_add(*state, &row, 500, /* watched_ns= */ 1000);
	do_connect(*state, 443, TPROXY_VERDICT_REDIRECTED, TPROXY_STAT_REDIRECTED);
	do_send(*state, 443);
	assert_string_equal(said, "S");
	assert_false(last.earlier);
	do_end(*state, 0);
	assert_string_equal(said, "SE");
	assert_int_equal(last_end.state, TCP_ESTABLISHED);
	/* The socket of a connection that was read connects again later. */
	watch_join_add(*state, &row, 500, /* watched_ns= */ 1);
	do_connect(*state, 443, TPROXY_VERDICT_REDIRECTED, TPROXY_STAT_REDIRECTED);
	assert_string_equal(said, "SEE");
	assert_int_equal(last_end.state, TPROXY_EVENT_UNSEEN);
}

/* The sizes are those of another version, or an event was overwritten. */
static void events_of_other_sizes(void **state)
{
	struct tproxy_watch_end event = { .head = { .cookie = COOKIE } };
	int kind;

	for (kind = 0; kind < 256; kind++) {
		if (kind == TPROXY_WATCH_RELEASED)
			continue;
		event.head.kind = (__u8)kind;
		watch_join_event(*state, &event.head, sizeof(event.head));
	}
	assert_string_equal(said, "");
	assert_int_equal(watch_join_count(*state, counts, NULL), 0);
}

/* The rest of a known connection is cut. To see it fail: take any size in watch_join_event(). */
static void cut_events_of_a_connection(void **state)
{
	struct tproxy_watch_head event = { .cookie = COOKIE, .kind = TPROXY_WATCH_SENT };

	do_connect(*state, 80, TPROXY_VERDICT_DIRECT, 0);
	watch_join_event(*state, &event, sizeof(event));
	assert_string_equal(said, "");
	do_send(*state, 80);
	event.kind = TPROXY_WATCH_ENDED;
	watch_join_event(*state, &event, sizeof(event));
	assert_string_equal(said, "S");
}

static void totals(void **state)
{
	struct watch_totals sums = {};
	char key[32];
	int i;

	for (i = 0; i < 70000; i++) {
		snprintf(key, sizeof(key), "192.0.2.1:%d", i);
		watch_totals_at(&sums, key)->connections++;
		watch_totals_at(&sums, key)->bytes_up += (uint64_t)i;
	}
	assert_int_equal(sums.n, 65536);
	assert_int_equal(watch_totals_at(&sums, "192.0.2.1:65535")->bytes_up, 65535);
	assert_int_equal(sums.others.connections, 70000 - 65536);
	watch_totals_finish(&sums);
	watch_totals_at(&sums, "")->connections++;
	assert_int_equal(watch_totals_at(&sums, "-")->connections, 1);
	watch_totals_finish(&sums);
}

/* A program chooses its name, and the sums go to a terminal. */
static void totals_are_printable(void **state)
{
	struct watch_totals sums = {};
	FILE *before = stdout;
	char *text = NULL;
	size_t len = 0, i;

	watch_totals_at(&sums, "\033[31m\n\377")->connections++;
	stdout = open_memstream(&text, &len);
	assert_non_null(stdout);
	watch_totals_print(&sums, "PROGRAM", 10);
	fclose(stdout);
	stdout = before;
	assert_non_null(strstr(text, "\n\\x1b[31m\\x0a\\xff "));
	for (i = 0; i < len; i++)
		assert_true(text[i] == '\n' || (text[i] >= ' ' && text[i] <= '~'));
	free(text);
	watch_totals_finish(&sums);
}

int main(void)
{
#define WITH_JOIN(f) cmocka_unit_test_setup_teardown(f, make_join, free_join)
	const struct CMUnitTest tests[] = {
		WITH_JOIN(a_connection),
		WITH_JOIN(another_program_has_replaced_the_destination),
		WITH_JOIN(no_syn),
		WITH_JOIN(refused),
		WITH_JOIN(decided_twice),
		WITH_JOIN(the_socket_connects_again),
		WITH_JOIN(accepted),
		WITH_JOIN(begun_before),
		WITH_JOIN(begun_while_reading),
		WITH_JOIN(events_of_other_sizes),
		WITH_JOIN(cut_events_of_a_connection),
		cmocka_unit_test(totals),
		cmocka_unit_test(totals_are_printable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
