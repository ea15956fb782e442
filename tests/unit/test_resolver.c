// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Tests proxy/upstream/resolve*.c with a name server in a thread of this test, on loopback. */
#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log.h"
#include "monotonic.h"
#include "unit.h"
#include "upstream/resolver.h"
#include "util.h"

#define WAIT_MS 20000
#define HOUR_MS (3600 * 1000)

enum mode {
	ANSWER,
	TURNED,	 /* as ANSWER, in the other order */
	ONLY_A,	 /* as ANSWER, without the address of IPv6 */
	NOWHERE, /* addresses that no server can have */
	NO_SUCH_NAME,
	SERVER_FAILS,
	SILENT
};

static struct fixture {
	struct resolver *resolver;
	struct event_base *base;
	struct resolver_port *port;
	/* The name server: */
	int fd;
	pthread_t thread;
	_Atomic int mode;
	_Atomic uint32_t ttl_s[3]; /* of the records for A, AAAA and CNAME */
	_Atomic uint32_t address;  /* of the A record: 192.0.2.x, and of AAAA: 2001:db8::x */
	_Atomic bool alias;	   /* the name stands for another one, which has the addresses */
	_Atomic int queries;	   /* for A */
	_Atomic int marked, mark_result;
	_Atomic bool stop;
	/* The last answer: */
	int answers, error;
	size_t n;
	union sockaddr_any addresses[RESOLVER_ADDRESSES_MAX];
} f;

/* The name server */

/* Positions in ttl_s. */
enum {
	TTL_A,
	TTL_AAAA,
	TTL_CNAME
};

static void set_ttl(uint32_t s)
{
	f.ttl_s[TTL_A] = f.ttl_s[TTL_AAAA] = f.ttl_s[TTL_CNAME] = s;
}

/* Appends a record for the name at this position. Returns the new length. */
static size_t add_record(uint8_t *packet, size_t len, size_t name, uint16_t type, const void *data,
			 size_t data_len)
{
	const uint32_t ttl = f.ttl_s[type == 1 ? TTL_A : type == 28 ? TTL_AAAA : TTL_CNAME];
	const uint8_t head[] = {
		0xc0,
		(uint8_t)name,
		0,
		(uint8_t)type,
		0,
		1,
		(uint8_t)(ttl >> 24),
		(uint8_t)(ttl >> 16),
		(uint8_t)(ttl >> 8),
		(uint8_t)ttl,
		0,
		(uint8_t)data_len,
	};

	memcpy(packet + len, head, sizeof(head));
	memcpy(packet + len + sizeof(head), data, data_len);
	packet[7]++; /* number of answers */
	return len + sizeof(head) + data_len;
}

static size_t make_answer(uint8_t *packet, size_t len, enum mode mode)
{
	uint8_t v4[4] = { 192, 0, 2, (uint8_t)f.address };
	uint8_t v6[16] = { 0x20, 1, 0xd, 0xb8, [15] = (uint8_t)f.address };
	static const uint8_t canonical[] = { 1, 'c', 0xc0, 12 }; /* "c." and the name */
	const uint8_t type = packet[len - 3];
	const bool turned = mode == TURNED;
	size_t name = 12;

	packet[2] = 0x84; /* an answer, of an authority */
	packet[3] = mode == NO_SUCH_NAME ? 3 : mode == SERVER_FAILS ? 2 : 0;
	if (mode == NOWHERE) {
		memset(v4, 0, sizeof(v4));
		memset(v6, 0, sizeof(v6));
	} else if (mode != ANSWER && mode != TURNED && mode != ONLY_A) {
		return len;
	}
	if (f.alias) {
		len = add_record(packet, len, name, 5, canonical, sizeof(canonical));
		name = len - sizeof(canonical);
	}
	if (type == 1) {
		v4[3] += turned;
		len = add_record(packet, len, name, 1, v4, sizeof(v4));
		v4[0] |= mode == NOWHERE ? 224 : 0; /* multicast */
		v4[3] += turned ? -1 : 1;
		return add_record(packet, len, name, 1, v4, sizeof(v4));
	}
	return mode == ONLY_A ? len : add_record(packet, len, name, 28, v6, sizeof(v6));
}

static void *server_main(void *arg)
{
	struct pollfd fds = { .fd = f.fd, .events = POLLIN };
	struct sockaddr_in from;
	uint8_t packet[512];
	socklen_t from_len;
	enum mode mode = f.mode;
	ssize_t n;

	while (!f.stop) {
		if (poll(&fds, 1, 10) <= 0)
			continue;
		from_len = sizeof(from);
		n = recvfrom(f.fd, packet, sizeof(packet) - 100, 0, (struct sockaddr *)&from,
			     &from_len);
		if (n < 17)
			continue;
		/*
		 * The resolver asks for A first. Both queries of a question are answered in one
		 * mode: else a question could get records of the one, and none of the other.
		 */
		if (packet[n - 3] == 1) {
			mode = f.mode;
			f.queries++;
		}
		if (mode == SILENT)
			continue;
		n = (ssize_t)make_answer(packet, (size_t)n, mode);
		sendto(f.fd, packet, (size_t)n, 0, (struct sockaddr *)&from, from_len);
	}
	return NULL;
}

static int mark(void *data, int fd)
{
	assert_ptr_equal(data, &f);
	f.marked++;
	return f.mark_result;
}

static int setup_with(int timeout_ms, uint64_t ttl_most_ms)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof(addr);
	char servers[32];
	const struct resolver_config config = {
		.mark = mark,
		.mark_data = &f,
		.servers = servers,
		.ttl_least_ms = 50,
		.ttl_most_ms = ttl_most_ms,
		.retry_ms = 20,
		.timeout_ms = timeout_ms,
	};

	f = (struct fixture){ .address = 1 };
	set_ttl(3600);
	f.fd = socket(AF_INET, SOCK_DGRAM, 0);
	assert_int_equal(bind(f.fd, (struct sockaddr *)&addr, len), 0);
	assert_int_equal(getsockname(f.fd, (struct sockaddr *)&addr, &len), 0);
	snprintf(servers, sizeof(servers), "127.0.0.1:%u", ntohs(addr.sin_port));
	assert_int_equal(pthread_create(&f.thread, NULL, server_main, NULL), 0);
	assert_int_equal(resolver_new(&config, &f.resolver), 0);
	f.base = event_base_new();
	f.port = resolver_port_new(f.resolver, f.base);
	assert_non_null(f.port);
	return 0;
}

static int setup(void **state)
{
	return setup_with(0, HOUR_MS);
}

/* For tests of a server that does not answer. */
static int setup_impatient(void **state)
{
	return setup_with(100, HOUR_MS);
}

/* Every answer is old soon. */
static int setup_short(void **state)
{
	return setup_with(0, 60);
}

static int teardown(void **state)
{
	resolver_port_free(f.port);
	resolver_free(f.resolver);
	event_base_free(f.base);
	f.stop = true;
	pthread_join(f.thread, NULL);
	close(f.fd);
	return 0;
}

#define wait_until(condition)                                                                      \
	do {                                                                                       \
		uint64_t until = monotonic_coarse_ms() + WAIT_MS;                                  \
		while (!(condition)) {                                                             \
			event_base_loop(f.base, EVLOOP_NONBLOCK);                                  \
			if (monotonic_coarse_ms() > until)                                         \
				fail_msg("waited in vain for " #condition);                        \
			usleep(500);                                                               \
		}                                                                                  \
	} while (0)

static void on_answer(void *data, int error, const union sockaddr_any *addresses, size_t n)
{
	assert_ptr_equal(data, &f);
	f.answers++;
	f.error = error;
	f.n = n;
	memcpy(f.addresses, addresses, n * sizeof(addresses[0]));
}

static struct resolver_question *ask(const char *host)
{
	struct resolver_question *q = resolver_ask(f.port, host, on_answer, &f);

	assert_non_null(q);
	assert_int_equal(f.answers, 0);
	return q;
}

static void assert_address(const union sockaddr_any *address, const char *wanted)
{
	char text[FORMAT_ENDPOINT_LEN];

	assert_string_equal(format_endpoint(address, text), wanted);
}

static int state_of(struct resolved *resolved)
{
	uint64_t age_ms;

	return resolved_state(resolved, &age_ms);
}

/* The last byte of the address of the first family, or 0. */
static unsigned int first_of(struct resolved *resolved)
{
	union sockaddr_any address;

	return resolved_addresses(resolved, &address, 1) ? address.in6.sin6_addr.s6_addr[15] : 0;
}

/* Both families, in turn; sockets are marked. To see it fail: leave mark() out. */
static void test_added(void **state)
{
	struct resolved *resolved = resolver_add(f.resolver, "one.example.org");
	union sockaddr_any addresses[RESOLVER_ADDRESSES_MAX];

	wait_until(state_of(resolved) == 0);
	assert_int_equal(resolved_addresses(resolved, addresses, RESOLVER_ADDRESSES_MAX), 3);
	assert_address(&addresses[0], "[2001:db8::1]:0");
	assert_address(&addresses[1], "192.0.2.1:0");
	assert_address(&addresses[2], "192.0.2.2:0");
	assert_true(f.marked > 0);
	assert_ptr_equal(resolver_add(f.resolver, "one.example.org"), resolved);
	assert_int_equal(resolved_addresses(resolved, addresses, 1), 1);
	resolver_remove(f.resolver, resolved);
	resolver_remove(f.resolver, resolved);
}

/* A socket that cannot be marked is not used. To see it fail: return 0 in on_new_socket(). */
static void test_not_marked(void **state)
{
	f.mark_result = -EPERM;
	ask("one.example.org");
	wait_until(f.answers);
	assert_true(f.error < 0);
	assert_int_equal(f.queries, 0);
}

/* Asked again when the TTL ends, and not before. To see it fail: let ttl_ms() return least. */
static void test_ttl(void **state)
{
	struct resolved *resolved;

	set_ttl(0);
	resolved = resolver_add(f.resolver, "one.example.org");
	wait_until(state_of(resolved) == 0);
	f.address = 7;
	wait_until(first_of(resolved) == 7);
	set_ttl(3600);
	resolved = resolver_add(f.resolver, "two.example.org");
	wait_until(state_of(resolved) == 0);
	f.address = 9;
	usleep(200000);
	assert_int_equal(first_of(resolved), 7);
}

/* Waits until a name whose records have these TTLs is asked for again. */
static void assert_ends_by(const char *host, int record)
{
	struct resolved *resolved;

	set_ttl(3600);
	f.ttl_s[record] = 0;
	f.queries = 0;
	resolved = resolver_add(f.resolver, host);
	wait_until(f.queries >= 3);
	resolver_remove(f.resolver, resolved);
}

/* The shortest TTL counts. To see it fail: look at one family only in ttl_ms(), or at no alias. */
static void test_shortest_ttl(void **state)
{
	assert_ends_by("one.example.org", TTL_A);
	assert_ends_by("two.example.org", TTL_AAAA);
	f.alias = true;
	assert_ends_by("three.example.org", TTL_CNAME);
}

/* To see it fail: leave ttl_most_ms out of ttl_ms(). */
static void test_longest_ttl(void **state)
{
	resolver_add(f.resolver, "one.example.org");
	wait_until(f.queries >= 3);
}

/*
 * After failures the interval is doubled. To see it fail: set retry_ms to the first one in
 * resolved_note_failure().
 */
static void test_retries(void **state)
{
	uint64_t start_ms = monotonic_coarse_ms();
	struct resolved *resolved;

	f.mode = NO_SUCH_NAME;
	resolved = resolver_add(f.resolver, "one.example.org");
	wait_until(f.queries >= 5);
	/* 20, 40, 80 and 160 ms, and the resolution of the clock. */
	assert_true(monotonic_coarse_ms() - start_ms + 10 >= 300);
	assert_int_equal(state_of(resolved), -ENOENT);
}

/*
 * While a name server is silent, a question gets the old addresses at once, not when the server's
 * time is over. To see it fail: have resolver_ask() look at resolved::due_ms only.
 */
static void test_old_are_answered_meanwhile(void **state)
{
	struct resolved *resolved;
	int queries;

	set_ttl(0);
	resolved = resolver_add(f.resolver, "one.example.org");
	wait_until(state_of(resolved) == 0);
	f.mode = SILENT;
	usleep(60000);
	queries = f.queries;
	wait_until(f.queries > queries || state_of(resolved) < 0);
	ask("one.example.org");
	wait_until(f.answers);
	assert_int_equal(f.n, 3);
	assert_int_equal(state_of(resolved), 0);
}

/*
 * Whatever fails, the old addresses stay, and nobody waits. When the server is back there are new
 * ones. To see it fail: set n to 0 in resolved_note_failure().
 */
static void old_stay(int mode, int error /* 0: any */)
{
	struct resolved *resolved;
	int queries;

	set_ttl(0);
	resolved = resolver_add(f.resolver, "one.example.org");
	wait_until(state_of(resolved) == 0);
	f.mode = mode;
	wait_until(error ? state_of(resolved) == error : state_of(resolved) < 0);
	queries = f.queries;
	wait_until(f.queries > queries);
	assert_int_equal(first_of(resolved), 1);
	ask("one.example.org");
	wait_until(f.answers);
	assert_int_equal(f.error, 0);
	assert_int_equal(f.n, 3);
	f.address = 5;
	f.mode = ANSWER;
	wait_until(first_of(resolved) == 5);
	assert_int_equal(state_of(resolved), 0);
}

static void test_old_stay_silent(void **state)
{
	old_stay(SILENT, -ETIMEDOUT);
}

static void test_old_stay_no_name(void **state)
{
	old_stay(NO_SUCH_NAME, -ENOENT);
}

/* To see it fail: let why_no_server() return NULL. */
static void test_old_stay_nowhere(void **state)
{
	old_stay(NOWHERE, -ENOENT);
}

/*
 * An answer with the same addresses changes nothing, so that the one that answered last stays the
 * first. To see it fail: let same_addresses() return false.
 */
static void test_order_stays(void **state)
{
	union sockaddr_any addresses[RESOLVER_ADDRESSES_MAX];
	struct resolved *resolved;
	int queries;

	set_ttl(0);
	resolved = resolver_add(f.resolver, "one.example.org");
	wait_until(state_of(resolved) == 0);
	f.mode = TURNED;
	queries = f.queries;
	wait_until(f.queries > queries + 2);
	assert_int_equal(resolved_addresses(resolved, addresses, RESOLVER_ADDRESSES_MAX), 3);
	assert_address(&addresses[1], "192.0.2.1:0");
	assert_address(&addresses[2], "192.0.2.2:0");
	/* If one is gone, it is not used. To see it fail: do not compare n in same_addresses(). */
	f.mode = ONLY_A;
	wait_until(resolved_addresses(resolved, addresses, RESOLVER_ADDRESSES_MAX) == 2);
	assert_address(&addresses[0], "192.0.2.1:0");
	assert_address(&addresses[1], "192.0.2.2:0");
}

static void test_old_stay_fails(void **state)
{
	/* c-ares 1.18 reports this as ECONNREFUSED. */
	old_stay(SERVER_FAILS, 0);
}

/* Answers are remembered by their TTL. To see it fail: never answer in resolver_ask() itself. */
static void test_asked(void **state)
{
	ask("one.example.org");
	wait_until(f.answers);
	assert_int_equal(f.error, 0);
	assert_int_equal(f.n, 3);
	assert_address(&f.addresses[1], "192.0.2.1:0");
	f.answers = 0;
	f.mode = SILENT;
	ask("one.example.org");
	wait_until(f.answers);
	assert_int_equal(f.n, 3);
	assert_int_equal(f.queries, 1);
}

/* When the TTL of a name that was not added has ended, a failure is the answer. */
static void test_asked_expired(void **state)
{
	set_ttl(0);
	ask("one.example.org");
	wait_until(f.answers);
	usleep(60000);
	f.mode = NO_SUCH_NAME;
	f.answers = 0;
	ask("one.example.org");
	wait_until(f.answers);
	assert_int_equal(f.error, -ENOENT);
	assert_int_equal(f.n, 0);
}

/* A dead server: the answer is a failure in the end, and the rest goes on meanwhile. */
static void test_dead_server(void **state)
{
	f.mode = SILENT;
	ask("one.example.org");
	wait_until(f.answers);
	assert_int_equal(f.error, -ETIMEDOUT);
}

/* Many ask for one name. A question that was cancelled gets no answer. */
static void test_together(void **state)
{
	struct resolver_question *second;

	f.mode = SILENT;
	ask("one.example.org");
	second = ask("one.example.org");
	ask("one.example.org");
	resolver_cancel(second);
	wait_until(f.queries);
	f.mode = ANSWER;
	wait_until(f.answers == 2);
	event_base_loop(f.base, EVLOOP_NONBLOCK);
	assert_int_equal(f.answers, 2);
}

/* A question that has its answer, but was not told yet, is cancelled. */
static void test_cancel_answered(void **state)
{
	struct resolved *resolved = resolver_add(f.resolver, "one.example.org");

	wait_until(state_of(resolved) == 0);
	resolver_cancel(ask("one.example.org"));
	event_base_loop(f.base, EVLOOP_NONBLOCK);
	assert_int_equal(f.answers, 0);
}

/* All ends while questions are open; teardown() frees the port and the resolver. */
static void test_end_open(void **state)
{
	f.mode = SILENT;
	resolver_add(f.resolver, "one.example.org");
	ask("two.example.org");
	wait_until(f.queries == 2);
	ask("three.example.org");
}

/* Names beyond the limit replace older ones. */
static void test_limit(void **state)
{
	char name[64];
	int i;

	for (i = 0; i < RESOLVER_REMEMBERED_MAX + 100; i += 20) {
		int j;

		for (j = 0; j < 20; j++) {
			snprintf(name, sizeof(name), "n%d.example.org", i + j);
			assert_non_null(resolver_ask(f.port, name, on_answer, &f));
		}
		wait_until(f.answers >= i + 20);
	}
	f.queries = f.answers = 0;
	ask("n1.example.org");
	wait_until(f.answers);
	assert_int_equal(f.queries, 1);
	f.answers = 0;
	ask(name);
	wait_until(f.answers);
	assert_int_equal(f.queries, 1);
}

/* A name of /etc/hosts, if there is one. */
static void test_hosts(void **state)
{
	struct resolved *resolved = resolver_add(f.resolver, "localhost");

	wait_until(state_of(resolved) != -EINPROGRESS);
	assert_int_equal(f.queries, 0);
}

#define resolver_test(test)  cmocka_unit_test_setup_teardown(test, setup, teardown)
#define impatient_test(test) cmocka_unit_test_setup_teardown(test, setup_impatient, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		resolver_test(test_added),
		resolver_test(test_not_marked),
		resolver_test(test_ttl),
		resolver_test(test_shortest_ttl),
		cmocka_unit_test_setup_teardown(test_longest_ttl, setup_short, teardown),
		resolver_test(test_retries),
		resolver_test(test_old_are_answered_meanwhile),
		impatient_test(test_old_stay_silent),
		resolver_test(test_old_stay_no_name),
		resolver_test(test_old_stay_nowhere),
		resolver_test(test_order_stays),
		resolver_test(test_old_stay_fails),
		resolver_test(test_asked),
		resolver_test(test_asked_expired),
		impatient_test(test_dead_server),
		impatient_test(test_together),
		resolver_test(test_cancel_answered),
		impatient_test(test_end_open),
		resolver_test(test_limit),
		resolver_test(test_hosts),
	};

	log_init("test_resolver", LOG_LEVEL_ERR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
