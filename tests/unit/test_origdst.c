// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Tests proxy/kernel/origdst.c: which connections are served. Makes the kernel half's answer. */
#include "kernel/origdst.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "tproxy_abi.h"
#include "unit.h"

static struct tproxy_conn answer;
static socklen_t answer_len;
static int answer_errno;

/* In place of the C library's, which asks the kernel half. */
int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	if (answer_errno) {
		errno = answer_errno;
		return -1;
	}
	memcpy(value, &answer, answer_len < *len ? answer_len : *len);
	*len = answer_len;
	return 0;
}

static struct tproxy_endpoint endpoint(const char *ip, uint16_t port)
{
	struct tproxy_endpoint made = { .port = htons(port) };

	assert_int_equal(inet_pton(AF_INET6, ip, made.addr), 1);
	return made;
}

static int setup(void **state)
{
	answer = (struct tproxy_conn){
		.dst = endpoint("::ffff:198.51.100.2", 80),
		.relay = endpoint("::ffff:127.0.0.1", 4000),
	};
	answer_len = sizeof(answer);
	answer_errno = 0;
	return 0;
}

static int get(sa_family_t family)
{
	union sockaddr_any dst;
	struct tproxy_conn conn;

	return origdst_get(0, family, &dst, &conn);
}

static void test_redirected(void **state)
{
	assert_int_equal(get(AF_INET), ORIGDST_FOUND);
	answer.dst = endpoint("2001:db8::2", 80);
	assert_int_equal(get(AF_INET6), ORIGDST_FOUND);
}

/* To see it fail: do not compare dst with relay. The relay would connect to itself. */
static void test_relay_itself(void **state)
{
	answer.dst = answer.relay;
	assert_int_equal(get(AF_INET), ORIGDST_NOT_REDIRECTED);
}

/* To see it fail: do not look at the port, or at the family. */
static void test_no_destination(void **state)
{
	assert_int_equal(get(AF_INET6), ORIGDST_NOT_REDIRECTED);
	answer.dst.port = 0;
	assert_int_equal(get(AF_INET), ORIGDST_NOT_REDIRECTED);
	setup(state);
	answer_errno = ENOPROTOOPT;
	assert_int_equal(get(AF_INET), ORIGDST_NOT_REDIRECTED);
}

/* A record of another size is another version's. To see it fail: ignore len. */
static void test_other_size(void **state)
{
	answer_len = sizeof(answer) - 8;
	assert_int_equal(get(AF_INET), ORIGDST_NOT_REDIRECTED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_redirected, setup),
		cmocka_unit_test_setup(test_relay_itself, setup),
		cmocka_unit_test_setup(test_no_destination, setup),
		cmocka_unit_test_setup(test_other_size, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
