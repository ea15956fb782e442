/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A name server on loopback, in a thread of the test, and a resolver that asks it. Tests say how it
 * answers: fixture::mode, ttl_s, address and alias. They run the event loop. Included by one file
 * of each test program.
 */
#ifndef TPROXY_NAME_SERVER_H
#define TPROXY_NAME_SERVER_H

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log.h"
#include "loop.h"
#include "monotonic.h"
#include "unit.h"
#include "upstream/resolver.h"
#include "util.h"

#define HOUR_MS (3600 * 1000)

enum mode {
	ANSWER,
	TURNED,	 /* as ANSWER, in the other order */
	ONLY_A,	 /* as ANSWER, without the address of IPv6 */
	NOWHERE, /* addresses that no server can have */
	NO_SUCH_NAME,
	SERVER_FAILS,
	SILENT,
	DROPS_AAAA, /* as ANSWER for A, and SILENT for AAAA */
	DROPS_A,    /* the other way round */
	TRUNCATES   /* says that the answer for "long" is too long, and is SILENT for other names */
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

static inline void set_ttl(uint32_t s)
{
	f.ttl_s[TTL_A] = f.ttl_s[TTL_AAAA] = f.ttl_s[TTL_CNAME] = s;
}

/* Appends a record for the name at this position. Returns the new length. */
static inline size_t add_record(uint8_t *packet, size_t len, size_t name, uint16_t type,
				const void *data, size_t data_len)
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

static inline size_t make_answer(uint8_t *packet, size_t len, enum mode mode)
{
	uint8_t v4[4] = { 192, 0, 2, (uint8_t)f.address };
	uint8_t v6[16] = { 0x20, 1, 0xd, 0xb8, [15] = (uint8_t)f.address };
	static const uint8_t canonical[] = { 1, 'c', 0xc0, 12 }; /* "c." and the name */
	const uint8_t type = packet[len - 3];
	const bool turned = mode == TURNED;
	size_t name = 12;

	packet[2] = mode == TRUNCATES ? 0x86 : 0x84; /* an answer, of an authority */
	packet[3] = mode == NO_SUCH_NAME ? 3 : mode == SERVER_FAILS ? 2 : 0;
	if (mode == NOWHERE) {
		memset(v4, 0, sizeof(v4));
		memset(v6, 0, sizeof(v6));
	} else if (mode == NO_SUCH_NAME || mode == SERVER_FAILS || mode == TRUNCATES) {
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

static inline void *server_main(void *arg)
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
		if (mode == SILENT || (mode == TRUNCATES && memcmp(packet + 13, "long", 4) != 0) ||
		    (f.mode == DROPS_A && packet[n - 3] == 1) ||
		    (f.mode == DROPS_AAAA && packet[n - 3] == 28))
			continue;
		n = (ssize_t)make_answer(packet, (size_t)n, mode);
		sendto(f.fd, packet, (size_t)n, 0, (struct sockaddr *)&from, from_len);
	}
	return NULL;
}

/* The resolver */

static inline int mark(void *data, int fd)
{
	assert_ptr_equal(data, &f);
	f.marked++;
	return f.mark_result;
}

/* timeout_ms: of a query, 0: the default. Answers are old after ttl_most_ms at the latest. */
static inline int setup_with(int timeout_ms, uint64_t ttl_most_ms)
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

static inline int setup(void **state)
{
	return setup_with(0, HOUR_MS);
}

/* For tests of a server that does not answer. */
static inline int setup_impatient(void **state)
{
	return setup_with(100, HOUR_MS);
}

/* No query is repeated. */
static inline int setup_patient(void **state)
{
	return setup_with(60000, HOUR_MS);
}

/* Every answer is old soon. */
static inline int setup_short(void **state)
{
	return setup_with(0, 60);
}

static inline int teardown(void **state)
{
	resolver_port_free(f.port);
	resolver_free(f.resolver);
	event_base_free(f.base);
	f.stop = true;
	pthread_join(f.thread, NULL);
	close(f.fd);
	return 0;
}

/* Runs the event loop until the condition is true. */
#define wait_until(condition) loop_until(f.base, condition)

static inline void on_answer(void *data, int error, const union sockaddr_any *addresses, size_t n)
{
	assert_ptr_equal(data, &f);
	f.answers++;
	f.error = error;
	f.n = n;
	memcpy(f.addresses, addresses, n * sizeof(addresses[0]));
}

/* Asks for addresses; the fixture gets the answer. */
static inline struct resolver_question *ask_for(const char *host, int family)
{
	struct resolver_question *q = resolver_ask(f.port, host, family, on_answer, &f);

	assert_non_null(q);
	assert_int_equal(f.answers, 0);
	return q;
}

static inline struct resolver_question *ask(const char *host)
{
	return ask_for(host, AF_UNSPEC);
}

static inline void assert_address(const union sockaddr_any *address, const char *wanted)
{
	char text[FORMAT_ENDPOINT_LEN];

	assert_string_equal(format_endpoint(address, text), wanted);
}

/* As resolved_state(). */
static inline int state_of(struct resolved *resolved)
{
	uint64_t age_ms;

	return resolved_state(resolved, &age_ms);
}

/* The last byte of the address of the first family, or 0. */
static inline unsigned int first_of(struct resolved *resolved)
{
	union sockaddr_any address;

	return resolved_addresses(resolved, &address, 1) ? address.in6.sin6_addr.s6_addr[15] : 0;
}

#define resolver_test(test)  cmocka_unit_test_setup_teardown(test, setup, teardown)
#define patient_test(test)   cmocka_unit_test_setup_teardown(test, setup_patient, teardown)
#define impatient_test(test) cmocka_unit_test_setup_teardown(test, setup_impatient, teardown)

#endif
